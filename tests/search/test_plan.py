"""The search of a cell: the same whatever the timing, and whole again after an interruption."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import yaml

from rem_study.errors import InputError
from rem_study.search.jobs import OriginalJob, TrialJob
from rem_study.search.plan import GridPlan
from rem_study.search.suggest import CellSearch, Score
from rem_study.spec.resolve import resolve
from rem_study.spec.search import PrunerSpec, SamplerSpec
from rem_study.spec.space import known_methods, load_space

TRIALS = 12


def search(in_flight: int, seed: object = 0) -> CellSearch:
    return CellSearch(load_space("rem"), SamplerSpec(startup_trials=3), TRIALS, in_flight, (seed, "cell", "rem"))


def score(configuration: dict) -> list[Score] | None:
    if configuration["erase_mode"] == "mean":
        return None  # a trial that fails
    value = -abs(configuration["mask_density"] - 0.5) - abs(configuration["lr"] - 0.02)
    return [Score(value, (value, 1.0))]


def trajectory(in_flight: int, workers: int, timing: int) -> list[dict]:
    """Run a search on simulated workers that finish in an order drawn from `timing`."""
    rng, one, running, asked = random.Random(timing), search(in_flight), {}, {}
    while not one.done:
        while len(running) < workers and one.may_ask():
            number, configuration = one.ask()
            running[number] = asked[number] = configuration
        finished = rng.choice(list(running))
        one.tell(finished, score(running.pop(finished)))
    return [asked[n] for n in range(TRIALS)]


@pytest.mark.parametrize("in_flight", [1, 3])
def test_the_trajectory_does_not_depend_on_workers_or_timing(in_flight):
    expected = trajectory(in_flight, workers=1, timing=0)
    for workers, timing in [(1, 5), (2, 1), (2, 2), (4, 3), (4, 4)]:
        assert trajectory(in_flight, workers, timing) == expected


def test_more_in_flight_is_another_search_and_uses_results():
    assert trajectory(1, 1, 0) != trajectory(3, 1, 0)


def test_never_more_than_k_trials_are_out():
    one = search(2)
    one.ask()
    one.ask()
    assert not one.may_ask()
    one.tell(1, [Score(0.5, (0.5, 1.0))])  # the later one first: trial 2 may see results up to 0 only
    assert not one.may_ask()
    one.tell(0, [Score(0.4, (0.4, 1.0))])
    assert one.may_ask()


def test_the_default_configuration_comes_first():
    number, configuration = search(1).ask()
    assert number == 0
    assert configuration == load_space("rem").defaults


def test_cells_do_not_share_their_start_up_points():
    first, second = search(4, seed="a"), search(4, seed="b")
    first.ask(), second.ask()
    assert first.ask() != second.ask()


def study(methods: tuple[str, ...] = ("npo", "retrain"), **fields):
    budget = {"trials": 4, "replicates": 2} | fields.pop("budget", {})
    document = {
        "name": "t",
        "corruptions": ["poison", "random_label"],
        "discovery_rates": [0.5, 1.0],
        "methods": {name: {} for name in methods} | (methods if isinstance(methods, dict) else {}),
        "budget": budget,
    }
    fresh = {"race": {"replicates": 0}, "confirm": {"replicates": 0}}
    return resolve(document | fresh | fields, "t.yaml", Path())


def outcome(job: TrialJob) -> dict:
    """A row that depends on nothing but the job: what a replicate that trains nothing gives."""
    value = job.configuration.get("lr", 0.5) + job.replicate / 10
    row = {name: getattr(job, name) for name in ("cell", "method", "phase", "trial", "replicate", "proposed_by")}
    row |= {"config": job.configuration, "state": "complete", "sample_passes": 10, "seconds": 1.0}
    return row | {"score": value, "score_healed": value, "score_utility": 1.0}


def run(plan: GridPlan, stop_after: int | None = None, workers: int = 1, timing: int = 0) -> list[dict]:
    """Run a plan on simulated workers that finish in an order drawn from `timing`."""
    rng, rows, running = random.Random(timing), [], []
    while not plan.done() and (stop_after is None or len(rows) < stop_after):
        while len(running) < workers and (job := plan.next_job()):
            running.append(job)
        assert running, "nothing runs and nothing may start"
        job = running.pop(rng.randrange(len(running)))
        if isinstance(job, OriginalJob):
            plan.original_done(job)
        else:
            row = outcome(job)
            plan.replicate_done(row)
            rows.append(row)
    return rows


def keyed(rows: list[dict]) -> dict:
    place = ("cell", "method", "phase", "trial", "replicate")
    return {tuple(r[name] for name in place): (r["config"], r["proposed_by"]) for r in rows}


ORIGINALS = [OriginalJob(c, r) for c in ("poison", "random_label") for r in range(2)]
EVERYTHING = {
    "budget": {"trials": 8, "replicates": 3, "in_flight": 2},
    "pruner": {"name": "median", "startup_trials": 2},
    "neighbours": {"from_trial": 3},
    "race": {"replicates": 3, "top": 2},
    "confirm": {"replicates": 2, "everywhere": True},
}


def test_a_plan_runs_exactly_the_rows_that_the_study_promises():
    rows = run(GridPlan(study(), [], []))
    assert len(rows) == len(keyed(rows)) == 4 * (4 + 1) * 2


def test_no_trial_starts_before_its_own_originals_are_ready_and_others_do_not_wait():
    plan = GridPlan(study(), [], [])
    jobs = [plan.next_job() for _ in range(4)]
    assert all(isinstance(job, OriginalJob) for job in jobs)
    assert plan.next_job() is None
    for job in jobs:
        if job.corruption == "random_label":
            plan.original_done(job)
    assert plan.next_job().cell.startswith("random_label")


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 23])
@pytest.mark.parametrize("fields", [{}, EVERYTHING], ids=["plain", "everything"])
def test_a_resumed_plan_runs_what_is_missing_and_ends_in_the_same_rows(cut, fields):
    whole = run(GridPlan(study(**fields), [], []))
    before = run(GridPlan(study(**fields), [], []), stop_after=cut, workers=2)  # cuts inside a trial too
    after = run(GridPlan(study(**fields), ORIGINALS, before))
    assert not keyed(before).keys() & keyed(after).keys()
    assert keyed(before) | keyed(after) == keyed(whole)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc", "nsga2"])
def test_the_whole_study_is_the_same_on_any_number_of_workers_and_after_a_stop(sampler):
    fields = EVERYTHING | {"sampler": {"name": sampler, "startup_trials": 2}}
    if sampler == "nsga2":
        fields |= {"pruner": {"name": "none"}}
    whole = keyed(run(GridPlan(study(**fields), [], [])))
    assert {key[2] for key in whole} == {"search", "race", "confirm", "transfer"}
    for workers, timing in [(2, 1), (4, 2), (4, 3)]:
        assert keyed(run(GridPlan(study(**fields), [], []), workers=workers, timing=timing)) == whole
    rows = run(GridPlan(study(**fields), [], []), stop_after=40, workers=3, timing=4)
    random.Random(0).shuffle(rows)  # the log's order is that of finishing, which says nothing
    rows += run(GridPlan(study(**fields), ORIGINALS, rows), workers=3, timing=5)
    assert keyed(rows) == whole


def test_what_is_confirmed_in_one_cell_runs_in_every_cell_on_the_same_fresh_replicates():
    places = {}
    for one in run(GridPlan(study(**EVERYTHING), [], [])):
        if one["phase"] in ("confirm", "transfer"):
            key = one["method"], json.dumps(one["config"], sort_keys=True)
            places.setdefault(key, []).append((one["cell"], one["replicate"]))
    cells = GridPlan(study(**EVERYTHING), [], []).cells
    assert all(sorted(ran) == sorted((cell, r) for cell in cells for r in (6, 7)) for ran in places.values())


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc", "nsga2"])
def test_every_sampler_suggests_what_the_space_allows_after_the_default(sampler):
    space = load_space("npo")
    one = CellSearch(space, SamplerSpec(name=sampler, startup_trials=3), TRIALS, 1, ("study", "cell", "npo"))
    tried = []
    while not one.done:
        number, configuration = one.ask()
        assert space.complete(configuration) == configuration
        tried.append(configuration)
        one.tell(number, [Score(-abs(configuration["lr"] - 0.01), (configuration["lr"], 1.0))])
    assert tried[0] == space.defaults
    if sampler != "nsga2":  # whose crossover may give what was there already
        assert all(tried.count(configuration) == 1 for configuration in tried)


@pytest.mark.parametrize(
    ("pruner", "share"), [({"name": "median"}, 50), ({"name": "percentile", "percentile": 30.0}, 30)]
)
def test_a_trial_outside_the_best_share_is_pruned_after_its_first_replicate_and_costs_no_more(pruner, share):
    searched = study(methods=("npo",), budget={"trials": 12, "replicates": 3}, pruner=pruner)
    rows = run(GridPlan(searched, [], []))
    plan = GridPlan(searched, [], rows)
    assert plan.done() and plan.pruned > 4
    for cell in plan.cells:
        firsts = [r["score"] for r in rows if r["cell"] == cell and r["replicate"] == 0]  # in order of trials
        whole = {r["trial"] for r in rows if r["cell"] == cell and r["replicate"] == 2}
        for number in range(12):
            state = plan.state((cell, "npo", "search", number))
            seen = [firsts[n] for n in range(number) if n in whole]
            expected = len(seen) >= 4 and firsts[number] < np.percentile(seen, 100 - share)
            assert state == ("pruned" if expected else "complete")
            ran = [r for r in rows if r["cell"] == cell and r["trial"] == number]
            assert len(ran) == (1 if expected else 3)


def test_wilcoxon_prunes_what_is_worse_on_every_replicate_and_spares_what_is_better():
    pruner = PrunerSpec(name="wilcoxon", p_threshold=0.1)
    one = CellSearch(load_space("npo"), SamplerSpec(), 3, 1, (0,), pruner)
    good = [Score(0.8 + i / 100, (1.0, 1.0)) for i in range(6)]
    one.tell(one.ask()[0], good)
    number, _ = one.ask()
    worse = [Score(0.5 + i / 90, (1.0, 1.0)) for i in range(5)]
    assert not one.prunes(number, worse[:2])  # two replicates prove nothing
    assert one.prunes(number, worse)
    assert not one.prunes(number, [Score(score.value + 0.1, score.factors) for score in good[:5]])


def test_what_came_in_since_the_suggestion_does_not_prune():
    one = CellSearch(load_space("npo"), SamplerSpec(), 8, 2, (0,), PrunerSpec(name="median", startup_trials=1))
    one.ask(), one.ask()
    one.tell(0, [Score(0.1, (1.0, 1.0))] * 2)
    one.tell(1, [Score(0.9, (1.0, 1.0))] * 2)
    number, _ = one.ask()  # trial 2 with k = 2: sees trial 0 only
    assert not one.prunes(number, [Score(0.5, (1.0, 1.0))])
    later, _ = one.ask()  # trial 3 sees 0 and 1
    one.tell(number, [Score(0.9, (1.0, 1.0))] * 2)
    assert one.prunes(later, [Score(0.4, (1.0, 1.0))])


def test_no_trial_begins_once_the_sample_passes_are_spent():
    rows = run(GridPlan(study(methods=("npo",), budget={"trials": 50, "replicates": 2, "sample_passes": 100}), [], []))
    for cell in {row["cell"] for row in rows}:
        assert sum(row["sample_passes"] for row in rows if row["cell"] == cell) == 100


def test_the_best_of_the_adjacent_cells_first_trials_are_tried_at_a_fixed_place():
    rows = run(GridPlan(study(methods=("npo",), neighbours={"from_trial": 2}), [], []), workers=4, timing=1)
    mine = {r["trial"]: r for r in rows if r["cell"] == "poison@0.5" and r["replicate"] == 0}
    assert mine[0]["proposed_by"] == "default" and mine[1]["proposed_by"] == "tpe"
    adopted = {mine[n]["proposed_by"]: mine[n]["config"] for n in (2, 3) if mine[n]["proposed_by"] != "tpe"}
    tried = [mine[0]["config"], mine[1]["config"]]
    for neighbour in ("poison@1", "random_label@0.5"):
        first = [r for r in rows if r["cell"] == neighbour and r["trial"] < 2 and r["replicate"] == 0]
        best = max(first, key=lambda row: (row["score"], -row["trial"]))["config"]
        assert adopted.get(neighbour) == best if best not in tried else neighbour not in adopted
        tried.append(best)
    assert adopted


def test_the_selected_and_the_default_are_confirmed_on_fresh_replicates_and_winners_run_everywhere():
    confirm = {"replicates": 2, "everywhere": True}
    rows = run(GridPlan(study(methods=("npo",), confirm=confirm), [], []))
    search = [row for row in rows if row["phase"] == "search"]
    assert {row["replicate"] for row in search} == {0, 1}
    assert {row["replicate"] for row in rows if row["phase"] != "search"} == {2, 3}
    default = load_space("npo").defaults
    winners = {}
    for cell in {row["cell"] for row in rows}:
        winner = max((r for r in search if r["cell"] == cell), key=lambda r: (r["score"], -r["trial"]))
        winners[cell] = winner["config"]
        confirmed = {r["trial"]: r for r in rows if r["cell"] == cell and r["phase"] == "confirm"}
        assert set(confirmed) == {winner["trial"], 0}
        assert confirmed[winner["trial"]]["config"] == winner["config"] and confirmed[0]["config"] == default
    for cell in winners:  # on the fresh replicates, each candidate once in each cell
        run_there = [r["config"] for r in rows if r["cell"] == cell and r["phase"] != "search" and r["replicate"] == 2]
        wanted = [default, *winners.values()]
        assert all(run_there.count(config) == 1 for config in wanted)
        assert all(config in wanted for config in run_there)


def test_a_lost_replicate_runs_once_more_under_its_number_then_fails():
    plan = GridPlan(study(), ORIGINALS, [])
    job = plan.next_job()
    assert plan.lost(job)
    assert plan.next_job() == job
    assert not plan.lost(job)


def test_a_failed_replicate_ends_its_trial_and_the_study_goes_on():
    plan = GridPlan(study(), ORIGINALS, [])
    job = plan.next_job()
    failure = {"state": "failed", "error": "NaN", "score": None, "score_healed": None, "score_utility": None}
    plan.replicate_done(outcome(job) | failure)
    rows = run(plan)
    assert plan.done() and plan.failed == 1
    assert job.trial_key not in {(r["cell"], r["method"], r["phase"], r["trial"]) for r in rows}


def test_a_cell_whose_every_trial_fails_is_told_and_confirms_nothing():
    plan = GridPlan(study(methods=("npo",), confirm={"replicates": 1}), ORIGINALS, [])
    while job := plan.next_job():
        if isinstance(job, OriginalJob):
            plan.original_done(job)
            continue
        bad = {"state": "failed"} if job.cell == "poison@1" else {}
        plan.replicate_done(outcome(job) | bad)
    assert plan.done() and plan.hopeless() == [("poison@1", "npo")]


@pytest.mark.parametrize("method", known_methods())
def test_what_is_modelled_jointly_is_what_optuna_finds_in_all_trials(method):
    space = load_space(method)
    trials = int(min(8, space.cardinality()))
    one = CellSearch(space, SamplerSpec(startup_trials=3), trials, 1, ("study", "cell", method))
    for number in range(trials):
        one.tell(one.ask()[0], [Score(float(number), (float(number), 1.0))])
    one._catch_up(trials)
    found = optuna.search_space.intersection_search_space(one._study.get_trials())
    assert one._shared == {name: found[name] for name in found if not found[name].single()}


def test_replicate_scores_that_are_not_finite_count_as_failures():
    one = search(1)
    number, _ = one.ask()
    one.tell(number, [Score(float("nan"), (0.5, 0.5))])
    one.ask()
    assert [t.state.name for t in one._study.trials] == ["FAIL", "RUNNING"]


def test_a_warm_start_is_tried_right_after_the_default_and_neighbours_after_it(tmp_path):
    better = load_space("npo").defaults | {"lr": 0.004}
    everywhere = load_space("npo").defaults | {"lr": 0.005}
    best = {
        "format": 1,
        "universal": {"npo": {"config": everywhere}},
        "cells": [{"corruption": "poison", "discovery_rate": 0.6, "methods": {"npo": {"config": better}}}],
    }
    (tmp_path / "best.yaml").write_text(yaml.safe_dump(best))
    fields = {"warm_start": str(tmp_path / "best.yaml"), "neighbours": {"from_trial": 1}, "budget": {"trials": 6}}
    rows = run(GridPlan(study(methods=("npo",), **fields), [], []))
    tried = {(r["cell"], r["trial"]): (r["proposed_by"], r["config"]) for r in rows}
    assert tried["poison@0.5", 1] == ("warm start: poison@0.6", better)
    assert tried["poison@1", 2] == ("warm start: universal", everywhere)
    assert tried["random_label@1", 1] == ("warm start: universal", everywhere)  # a corruption that it has not
    assert tried["poison@0.5", 3][0] != "warm start: universal"


def test_a_warm_start_out_of_this_studys_reach_is_named(tmp_path):
    config = load_space("npo").defaults | {"lr": 0.004, "beta": 0.3}
    best = {
        "format": 1,
        "cells": [{"corruption": "poison", "discovery_rate": 0.5, "methods": {"npo": {"config": config}}}],
    }
    (tmp_path / "best.yaml").write_text(yaml.safe_dump(best))
    narrow = {"npo": {"ranges": {"lr": {"low": 0.01, "high": 0.1, "default": 0.02}}}}
    with pytest.raises(InputError, match=r"warm_start: npo\.poison@0\.5 \(poison@0\.5\): lr: 0\.004 is not in"):
        study(methods=narrow, warm_start=str(tmp_path / "best.yaml"))
    fixed = study(methods={"npo": {"fixed": {"lr": 0.02}}}, warm_start=str(tmp_path / "best.yaml"))
    (point,) = fixed.spec.warm_start["npo"]["poison@0.5"]
    assert point.config == config | {"lr": 0.02}
    assert resolve(fixed.spec.plain(), "study.yaml", Path()).spec == fixed.spec  # as a study's folder keeps it


@pytest.mark.parametrize("name", ["tpe", "gp", "random"])
def test_resuming_asks_the_sampler_for_nothing_that_the_log_has_already(name, monkeypatch):
    fields = EVERYTHING | {"sampler": {"name": name, "startup_trials": 2}}
    whole = run(GridPlan(study(**fields), [], []))
    asked = []
    monkeypatch.setattr(CellSearch, "_ask_optuna", lambda *arguments: asked.append(arguments))
    plan = GridPlan(study(**fields), ORIGINALS, whole)
    assert plan.done() and not asked


def test_what_was_pruned_or_went_on_is_not_decided_again_on_resuming(monkeypatch):
    plan = GridPlan(study(**EVERYTHING), [], [])
    ended = {}
    plan.settled = ended.__setitem__
    rows = run(plan)
    pruned = {key for key, state in ended.items() if state == "pruned" and key[2] == "search"}
    assert pruned
    monkeypatch.setattr(CellSearch, "prunes", lambda *arguments: pytest.fail("it was decided before"))
    again = GridPlan(study(**EVERYTHING), ORIGINALS, rows, pruned=pruned)
    assert again.done() and {key: again.state(key) for key in ended} == ended


def test_the_search_is_counted_apart_from_what_runs_on_fresh_replicates_and_alike_after_a_stop():
    plan = GridPlan(study(**EVERYTHING), [], [])
    ended: dict[Any, str] = {}
    plan.settled = ended.__setitem__
    rows = run(plan)
    fresh = Counter(state for key, state in ended.items() if key[2] != "search")
    assert plan.fresh_finished == plan.fresh_total == fresh.total() > 0
    assert plan.eliminated == fresh["pruned"] > 0
    assert plan.pruned == Counter(ended.values())["pruned"] - fresh["pruned"] > 0

    pruned = {key for key, state in ended.items() if state == "pruned" and key[2] == "search"}
    stored = {OriginalJob(row["cell"].split("@")[0], row["replicate"]) for row in rows}
    again = GridPlan(study(**EVERYTHING), stored, rows, pruned=pruned)
    assert counts(again) == counts(plan)


def counts(plan: GridPlan) -> dict[str, int]:
    names = "finished trials_total fresh_finished fresh_total pruned eliminated originals_ready originals_total"
    return {name: getattr(plan, name) for name in names.split()}
