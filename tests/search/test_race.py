"""The final race: what beats the default beyond its noise is exported, and the default otherwise."""

import random
import statistics

import pytest

from rem_study.results.confirmation import interval
from rem_study.search.race import Race, beyond_noise, longest_race


def run(scores: dict[int, list[float | None]], rounds: int = 4, default: int | None = 0, seed: int = 0) -> Race:
    """Race the trials of `scores` in their order; each round's scores are told in an order drawn from `seed`."""
    race, rng = Race([trial for trial in scores if trial != default], default, rounds), random.Random(seed)
    while not race.over:
        wanted = race.wanted()
        rng.shuffle(wanted)
        round_number = race.rounds_run
        for trial in wanted:
            race.tell(trial, scores[trial][round_number])
    return race


def test_a_challenger_that_is_ahead_beyond_its_noise_wins():
    race = run({1: [0.6, 0.7, 0.65, 0.7], 0: [0.5, 0.55, 0.5, 0.6]})
    assert race.winner == 1 and race.rounds_run == 4
    assert race.out == {1: "complete", 0: "complete"}


def test_one_whose_lead_is_within_its_noise_does_not():
    scores = {1: [0.9, 0.2, 0.9, 0.25], 0: [0.5, 0.5, 0.5, 0.5]}
    assert statistics.fmean(scores[1]) > statistics.fmean(scores[0])
    assert run(scores).winner == 0


def test_differences_are_paired_so_that_a_hard_replicate_is_nobodys_fault():
    hard = {1: [0.92, 0.12, 0.72, 0.32], 0: [0.9, 0.1, 0.69, 0.3]}
    assert run(hard).winner == 1


def test_who_falls_behind_the_default_goes_out_and_with_the_last_one_the_race_ends():
    race = run({1: [0.4, 0.7, 0.4], 2: [0.6, 0.3], 3: [0.3], 0: [0.5, 0.5, 0.6]}, rounds=4)
    assert race.winner == 0 and race.rounds_run == 3  # trial 1 was behind after one round, ahead after two
    assert race.out == {1: "pruned", 2: "pruned", 3: "pruned", 0: "complete"}


def test_the_last_in_the_order_of_means_go_out_at_even_steps():
    scores = {n: [0.5 + n / 10] * 5 for n in (1, 2, 3, 4)} | {0: [0.5] * 5}
    race, still_in = Race([1, 2, 3, 4], 0, 5), []
    while not race.over:
        still_in.append(race.wanted())
        for trial in race.wanted():
            race.tell(trial, scores[trial][race.rounds_run])
    assert still_in == [[1, 2, 3, 4, 0], [4, 3, 2, 0], [4, 3, 0], [4, 0], [4, 0]]
    assert race.winner == 4
    assert sum(map(len, still_in)) == longest_race(4, 5)


def test_a_failure_takes_out_whoever_it_happens_to():
    assert run({1: [0.9, None], 2: [0.8, 0.8, 0.8, 0.85], 0: [0.1] * 4}).out[1] == "failed"
    race = run({1: [0.6] * 4, 2: [0.7] * 4, 0: [None]})  # without the default, the best mean wins
    assert race.winner == 2 and race.out[0] == "failed"
    race = run({1: [None], 0: [0.5]})
    assert race.winner == 0 and race.out == {1: "failed", 0: "complete"}
    assert run({1: [None], 2: [0.3, None], 0: [None]}).winner == 2  # the only one that is left
    assert run({1: [None], 2: [None], 0: [None]}).winner == 1  # all failed: what the search found best
    assert run({1: [float("nan")], 0: [0.5]}).winner == 0


def test_without_a_race_and_without_challengers_nothing_runs():
    assert Race([3, 1], 0, 0).winner == 3
    assert Race([], 0, 4).winner == 0 and Race([], 0, 4).size == 0
    assert Race([3], None, 4).winner == 3 and Race([3], None, 4).out == {}
    with pytest.raises(ValueError, match="nobody"):
        Race([], None, 4)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_a_rounds_scores_come_in_says_nothing(seed):
    rng = random.Random(42)
    for _ in range(50):
        scores = {trial: [rng.random() for _ in range(6)] for trial in (1, 2, 3, 0)}
        first, other = run(scores, 6), run(scores, 6, seed=seed)
        assert (first.winner, first.out, first.rounds_run) == (other.winner, other.out, other.rounds_run)


def test_of_differences_that_are_noise_alone_a_fifth_is_taken_for_a_lead():
    rng = random.Random(1)
    taken = [beyond_noise([rng.gauss(0, 0.1) for _ in range(4)]) for _ in range(4000)]
    assert 0.17 < statistics.fmean(taken) < 0.23
    assert not beyond_noise([0.0, 0.0]) and beyond_noise([0.1, 0.1])


def test_over_simulated_cells_exports_are_seldom_worse_than_the_default_and_their_intervals_hold():
    """Selection included: of twelve configurations the best of one noisy score each race, and fresh replicates report.
    Replicates are easier or harder for all alike (spread 0.03), and each run differs by 0.05 beyond that."""
    rng = random.Random(7)
    worse, held, gained, flattered, taken_best = [], [], [], [], []
    for _ in range(600):
        truth = [0.7] + [0.7 + rng.gauss(-0.05, 0.06) for _ in range(11)]
        shared: list[float] = [rng.gauss(0, 0.03) for _ in range(8)]

        def score(trial: int, replicate: int, truth=truth, shared=shared) -> float:
            return truth[trial] + shared[replicate] + rng.gauss(0, 0.05)

        found = [score(trial, 0) for trial in range(12)]
        order = sorted(range(12), key=lambda trial: -found[trial])
        challengers = [trial for trial in order if found[trial] > found[0]][:3]
        race = Race(challengers, 0, 4)
        while not race.over:
            for trial in race.wanted():
                race.tell(trial, score(trial, 1 + race.rounds_run))
        reported = [score(race.winner, 5 + n) for n in range(3)]
        low, high = interval(reported, 0, 1)
        worse.append(truth[race.winner] < truth[0] - 0.01)
        held.append(low <= truth[race.winner] <= high)
        gained.append(truth[race.winner] - truth[0])
        flattered.append(statistics.fmean(reported) - truth[race.winner])
        taken_best.append(truth[order[0]] - truth[0])
    assert statistics.fmean(worse) <= 0.05
    assert 0.90 <= statistics.fmean(held) <= 0.99
    assert abs(statistics.fmean(flattered)) < 0.005
    assert statistics.fmean(gained) > max(0.0, statistics.fmean(taken_best)) + 0.002
