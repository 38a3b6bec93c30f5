"""The search of a cell: the same whatever the timing, and whole again after an interruption."""

import random

import optuna
import pytest

from rem_study.search.plan import GridPlan, OriginalJob, TrialJob
from rem_study.search.suggest import CellSearch
from rem_study.space import known_methods, load_space
from rem_study.spec import SamplerSpec, resolve

TRIALS = 12


def search(in_flight: int, seed: object = 0) -> CellSearch:
    return CellSearch(load_space("rem"), SamplerSpec(startup_trials=3), TRIALS, in_flight, (seed, "cell", "rem"))


def score(configuration: dict) -> float | None:
    if configuration["erase_mode"] == "mean":
        return None  # a trial that fails
    return -abs(configuration["mask_density"] - 0.5) - abs(configuration["lr"] - 0.02)


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
    one.tell(1, 0.5)  # the later one first: trial 2 may see results up to 0 only
    assert not one.may_ask()
    one.tell(0, 0.4)
    assert one.may_ask()


def test_the_default_configuration_comes_first():
    number, configuration = search(1).ask()
    assert number == 0
    assert configuration == load_space("rem").defaults


def test_cells_do_not_share_their_start_up_points():
    first, second = search(4, seed="a"), search(4, seed="b")
    first.ask(), second.ask()
    assert first.ask() != second.ask()


def study(trials: int = 4, replicates: int = 2):
    return resolve(
        {
            "name": "t",
            "corruptions": ["poison", "random_label"],
            "discovery_rates": [0.5, 1.0],
            "methods": ["npo", "retrain"],
            "budget": {"trials": trials, "replicates": replicates},
        },
        "t.yaml",
        None,
    )


def finish(plan: GridPlan, job: TrialJob) -> list[dict]:
    rows = []
    for replicate in job.replicates:
        value = job.configuration.get("lr", 0.5) + replicate
        row = {"cell": job.cell, "method": job.method, "trial": job.trial, "replicate": replicate}
        row |= {"config": job.configuration, "state": "complete", "score": value, "seconds": 1.0}
        plan.replicate_done(row)
        rows.append(row)
    return rows


def run(plan: GridPlan, stop_after: int | None = None) -> list[dict]:
    rows = []
    while not plan.done() and (stop_after is None or len(rows) < stop_after):
        job = plan.next_job()
        if isinstance(job, OriginalJob):
            plan.original_done(job)
        else:
            rows += finish(plan, job)
    return rows


def keyed(rows: list[dict]) -> dict:
    return {(r["cell"], r["method"], r["trial"], r["replicate"]): r["config"] for r in rows}


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
def test_a_resumed_plan_runs_what_is_missing_and_ends_in_the_same_rows(cut):
    whole = run(GridPlan(study(), [], []))
    before = run(GridPlan(study(), [], []), stop_after=cut)[:cut]  # cuts inside a trial too
    originals = [OriginalJob(c, r) for c in ("poison", "random_label") for r in (0, 1)]
    after = run(GridPlan(study(), originals, before))
    assert not keyed(before).keys() & keyed(after).keys()
    assert keyed(before) | keyed(after) == keyed(whole)


def test_a_lost_trial_runs_once_more_under_its_number_then_fails():
    plan = GridPlan(study(), [OriginalJob(c, r) for c in ("poison", "random_label") for r in (0, 1)], [])
    job = plan.next_job()
    assert plan.lost(job)
    assert plan.next_job() == job
    assert not plan.lost(job)


def test_a_failed_replicate_ends_its_trial_and_the_study_goes_on():
    plan = GridPlan(study(), [OriginalJob(c, r) for c in ("poison", "random_label") for r in (0, 1)], [])
    job = plan.next_job()
    row = {
        "cell": job.cell,
        "method": job.method,
        "trial": job.trial,
        "replicate": 0,
        "config": job.configuration,
    }
    plan.replicate_done(row | {"state": "failed", "error": "NaN"})
    run(plan)
    assert plan.done()
    assert plan.failed == 1


@pytest.mark.parametrize("method", known_methods())
def test_what_is_modelled_jointly_is_what_optuna_finds_in_all_trials(method):
    space = load_space(method)
    trials = int(min(8, space.cardinality()))
    one = CellSearch(space, SamplerSpec(startup_trials=3), trials, 1, ("study", "cell", method))
    for number in range(trials):
        one.tell(one.ask()[0], float(number))
    one._tell_optuna(trials - 1)
    found = optuna.search_space.intersection_search_space(one._study.get_trials())
    assert one._shared == {name: found[name] for name in found if not found[name].single()}


def test_replicate_scores_that_are_not_finite_count_as_failures():
    one = search(1)
    number, _ = one.ask()
    one.tell(number, float("nan"))
    one.ask()
    assert [t.state.name for t in one._study.trials] == ["FAIL", "RUNNING"]
