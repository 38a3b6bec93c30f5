"""Who wins a cell: the rule's cases by hand, its symmetry, and how often it names a winner among equals."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy import stats

from rem_study.results.student import half_width
from rem_study.results.winners import Scored, Standing, compare, judge, sentence


def scored(*replicates: float, healed: float | None = None, utility: float = 1.0, samples: int | None = 30) -> Scored:
    """Utility × healed by replicate, from 0; utility 1 and `samples` healed samples and test images a replicate."""
    mean = sum(replicates) / len(replicates)
    count = None if samples is None else samples * len(replicates)
    return Scored(dict(enumerate(replicates)), mean / utility if healed is None else healed, utility, count, count)


def standings(**scores: Scored) -> dict[str, str]:
    return {method: one.standing for method, one in judge(scores).items()}


def told(leader: str, **scores: Scored) -> str:
    one = judge(scores)[leader]
    return sentence(leader, one.standing, one.lead)


def test_one_test_image_more_is_level() -> None:
    rem = Scored({0: 0.895}, healed=27 / 30, utility=0.895 / 0.9, healed_samples=30, utility_samples=180)
    retrain = Scored({0: 0.900}, healed=27 / 30, utility=1.0, healed_samples=30, utility_samples=180)
    assert standings(rem=rem, retrain=retrain) == {"rem": "level", "retrain": "level"}
    text = told("retrain", rem=rem, retrain=retrain)
    assert text.startswith("level, one replicate: retrain leads rem by 0.005, within the noise of 30 samples (-0.1")


def test_on_one_replicate_a_lead_counts_beyond_two_standard_errors_of_its_samples() -> None:
    # 29 and 19 of 30, one added to either side: .9375 and .625 of 32, utility 31 / 32; errors by hand
    error = math.sqrt(
        (0.9375 * 0.0625 + 0.625 * 0.375 + (29 / 30) ** 2 * (31 / 32) / 32 + (19 / 30) ** 2 * (31 / 32) / 32) / 32
    )
    lead = compare(scored(29 / 30), scored(19 / 30), "other")
    assert lead.value == pytest.approx(1 / 3)
    assert (lead.low, lead.high) == (pytest.approx(1 / 3 - 2 * error), pytest.approx(1 / 3 + 2 * error))
    assert standings(a=scored(29 / 30), b=scored(19 / 30)) == {"a": "won", "b": "behind"}
    assert standings(a=scored(29 / 30), b=scored(25 / 30)) == {"a": "level", "b": "level"}


def test_without_the_number_of_samples_one_replicate_names_no_winner() -> None:
    scores = {"a": scored(0.9, samples=None), "b": scored(0.1, samples=None)}
    assert standings(**scores) == {"a": "level", "b": "level"}
    assert told("a", **scores) == ("level, one replicate: a leads b by 0.800; on how many samples was not recorded")


def test_replicates_are_paired() -> None:
    """A hard set of seeds is hard for both: the scores overlap, their differences do not."""
    hard_and_easy = (0.5, 0.7, 0.9)
    ahead = scored(*(one + gain for one, gain in zip(hard_and_easy, (0.09, 0.10, 0.11), strict=True)))
    lead = compare(ahead, scored(*hard_and_easy), "b")
    half = 4.302653 * 0.01 / math.sqrt(3)  # Student's t of two degrees of freedom
    assert (lead.value, lead.low, lead.high) == tuple(pytest.approx(x, abs=1e-6) for x in (0.1, 0.1 - half, 0.1 + half))
    assert lead.replicates == 3
    assert standings(a=ahead, b=scored(*hard_and_easy)) == {"a": "won", "b": "behind"}
    assert told("a", a=ahead, b=scored(*hard_and_easy)) == (
        "a wins: 0.100 above b, 95 % interval over 3 replicates +0.075 to +0.125"
    )


def test_a_lead_within_the_interval_over_replicates_is_level_however_many_samples() -> None:
    scores = {"a": scored(0.9, 0.7, 0.8, samples=10_000), "b": scored(0.6, 0.8, 0.7, samples=10_000)}
    assert standings(**scores) == {"a": "level", "b": "level"}


def test_the_same_sample_more_in_each_of_two_replicates_is_no_win() -> None:
    one_more = {"a": scored(28 / 30, 27 / 30), "b": scored(27 / 30, 26 / 30)}
    assert compare(one_more["a"], one_more["b"], "b").low == pytest.approx(1 / 30)
    assert standings(**one_more) == {"a": "level", "b": "level"}
    assert "worth 2 samples, fewer than 6" in told("a", **one_more)
    three_more = {"a": scored(28 / 30, 27 / 30), "b": scored(25 / 30, 24 / 30)}
    assert standings(**three_more) == {"a": "won", "b": "behind"}


def test_test_images_speak_for_a_lead_as_healed_samples_do() -> None:
    def of(utility: float) -> Scored:
        return Scored({n: 0.9 * utility for n in range(3)}, 0.9, utility, healed_samples=90, utility_samples=540)

    assert compare(of(1.0), of(534 / 540), "b").worth == pytest.approx(6)
    assert standings(a=of(1.0), b=of(534 / 540)) == {"a": "won", "b": "behind"}
    assert standings(a=of(1.0), b=of(535 / 540)) == {"a": "level", "b": "level"}


def test_no_lead_on_few_samples_is_won() -> None:
    assert standings(a=scored(1.0, samples=9), b=scored(0.0, samples=9)) == {"a": "level", "b": "level"}
    assert standings(a=scored(1.0, samples=10), b=scored(0.0, samples=10)) == {"a": "won", "b": "behind"}
    assert "on 9 samples, which are too few" in told("a", a=scored(1.0, samples=9), b=scored(0.0, samples=9))


def test_a_winner_leads_every_other_beyond_noise_and_the_beaten_are_told_apart() -> None:
    scores = {"a": scored(29 / 30), "b": scored(27 / 30), "c": scored(3 / 30)}
    assert standings(**scores) == {"a": "level", "b": "level", "c": "behind"}
    verdict = judge(scores)
    assert verdict["a"].lead.rival == "b" and verdict["b"].lead.rival == "a"
    assert verdict["c"].lead.rival == "a" and verdict["c"].lead.value == pytest.approx(-26 / 30)


def test_a_third_with_noisy_replicates_may_keep_the_cell_open() -> None:
    scores = {"a": scored(0.9, 0.9, 0.9), "b": scored(0.7, 0.7, 0.7), "c": scored(0.1, 0.95, 0.3)}
    verdict = judge(scores)
    assert {name: one.standing for name, one in verdict.items()} == {"a": "level", "b": "behind", "c": "level"}
    assert verdict["a"].lead.rival == "c"


def test_a_tie_has_no_leader() -> None:
    scores = {"a": scored(0.9), "b": scored(0.9), "c": scored(0.1)}
    assert standings(**scores) == {"a": "level", "b": "level", "c": "behind"}
    assert told("a", **scores) == "level: a and b have the same score"


def test_who_has_no_rival_has_won_nothing() -> None:
    assert judge({"a": scored(0.9)}) == {"a": Standing("alone", None)}
    assert told("a", a=scored(0.9)) == "only a has a result"
    assert judge({}) == {}


def test_other_replicates_than_the_rivals_decide_nothing() -> None:
    fresh = Scored({2: 0.9, 3: 0.9}, 0.9, 1.0, 60, 60)
    assert standings(a=fresh, b=scored(0.1, 0.1)) == {"a": "level", "b": "level"}
    assert "with no two replicates in common" in told("a", a=fresh, b=scored(0.1, 0.1))


@pytest.mark.parametrize("seed", range(40))
def test_two_methods_that_swap_their_scores_swap_the_verdict(seed: int) -> None:
    rng = random.Random(seed)
    replicates, samples = rng.choice([1, 1, 2, 3, 5]), rng.choice([None, 8, 30, 200])

    def any_scores() -> Scored:
        utility = rng.choice([0.9, 1.0])
        return scored(*(rng.randint(15, 30) / 30 * utility for _ in range(replicates)), utility=utility,
                      samples=samples)  # fmt: skip

    scores = {name: any_scores() for name in ("a", "b", "c", "d")[: rng.randint(2, 4)]}
    swapped = scores | {"a": scores["b"], "b": scores["a"]}
    other = {"a": "b", "b": "a"}
    before, after = judge(scores), judge(swapped)
    for method, one in before.items():
        twin = after[other.get(method, method)]
        assert twin.standing == one.standing
        assert twin.lead.value == pytest.approx(one.lead.value)
        assert (twin.lead.low, twin.lead.high) == pytest.approx((one.lead.low, one.lead.high), nan_ok=True)
    assert sum(one.standing == "won" for one in before.values()) <= 1
    reordered = judge(dict(reversed(scores.items())))
    assert {name: one.standing for name, one in reordered.items()} == {n: one.standing for n, one in before.items()}


@pytest.mark.parametrize("seed", range(20))
def test_a_lead_is_its_rivals_the_other_way_round(seed: int) -> None:
    rng = random.Random(seed)
    one, other = (scored(*(rng.random() for _ in range(seed % 3 + 1))) for _ in range(2))
    there, back = compare(one, other, "b"), compare(other, one, "a")
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert there.worth == pytest.approx(back.worth)


@pytest.mark.parametrize("replicates", [1, 2, 3, 5])
@pytest.mark.parametrize("share", [0.7, 0.93])
def test_among_equals_hardly_ever_one_wins(replicates: int, share: float) -> None:
    rng = np.random.default_rng(replicates)
    won = 0
    for _ in range(600):
        networks = np.clip(rng.normal(share, 0.03, (2, replicates)), 0, 1)
        scores = {name: scored(*rng.binomial(30, row) / 30) for name, row in zip("ab", networks, strict=True)}
        won += any(one.standing == "won" for one in judge(scores).values())
    assert won / 600 <= 0.08  # two-sided .05, and what seeds add to a single replicate's samples


def test_the_half_width_is_that_of_students_interval() -> None:
    values = [0.3, 0.5, 0.4, 0.8]
    low, high = stats.t.interval(0.95, 3, loc=0.5, scale=stats.sem(values))
    assert half_width(values) == pytest.approx((high - low) / 2)
