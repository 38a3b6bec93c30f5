"""Trials that go wrong in every way: failed with their reason, told to the search, and the study ends."""

import json
import math
import os
import re
import signal
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from doubles.cheap import Cheap, faulty, study_file, trials

from rem_study.errors import ClusterError, StorageError
from rem_study.search.jobs import OriginalJob, TrialJob
from rem_study.search.plan import GridPlan
from rem_study.search.run import GridSearcher, Loss, Losses
from rem_study.search.worker import Worker
from rem_study.spec.resolve import load_study
from rem_study.storage.log import read_log
from rem_study.study.launch import launch

MEMORY = Path("/sys/fs/cgroup/memory")


def step(tmp_path: Path, worker: type[Worker]) -> dict:
    """What the driver gets from a worker, here without Ray, for the first trial of the cheap study."""
    study = load_study(study_file(tmp_path))

    class Alone(worker):
        def setup(self, config):
            super().setup(config, study.spec, str(tmp_path / "originals"))

    configuration = study.spaces["rem"].defaults
    job = {"kind": "trial", **asdict(TrialJob("poison@0.5", "rem", "search", 0, 0, configuration, "default"))}
    return json.loads(Alone({"job": json.dumps(job)}).step()["record"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_fails_the_trial(tmp_path, value):
    class Off(Cheap):
        def run_trial(self, trial):
            return super().run_trial(trial) | {"score": value, "healed": value, "curves": {"old": [0.5, value]}}

    record = step(tmp_path, Off)
    assert (record["state"], record["error"]) == ("failed", "its score is not a number")
    assert record["healed"] is None and record["curves"] == {"old": [0.5, None]}


def test_what_a_trial_raises_is_its_reason(tmp_path):
    def fault(trial):
        raise ValueError("the matrix is\nsingular")

    record = step(tmp_path, faulty(fault))
    assert (record["state"], record["error"]) == ("failed", "ValueError: the matrix is singular")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), FileNotFoundError(2, "No such file")])
def test_a_disk_that_fails_is_nobodys_result(tmp_path, error):
    def fault(trial):
        raise error

    record = step(tmp_path, faulty(fault))
    assert record["state"] == "halted" and error.strerror in record["error"]


class Told(Losses):
    """Reasons for lost workers, without the workers."""

    def __init__(self, *losses: Loss) -> None:
        super().__init__()
        self._told = list(losses)

    def take(self, trial_id):
        return self._told.pop(0)


def loss(reason="was lost with its node", never_ran=False, by_itself=False, seconds=1.0) -> Loss:
    return Loss(reason, never_ran, by_itself, seconds)


def searcher(tmp_path: Path, *losses: Loss, **resources) -> tuple[GridSearcher, GridPlan, list[dict]]:
    study = load_study(study_file(tmp_path, resources=resources))
    originals = [OriginalJob(c, r) for c in ("poison", "random_label") for r in (0, 1)]
    plan, written = GridPlan(study, originals, []), []
    return GridSearcher(plan, written.append, Told(*losses)), plan, written


def lose(one: GridSearcher, trial_id: str) -> None:
    one.suggest(trial_id)
    one.on_trial_complete(trial_id, error=True)


def test_a_trial_whose_worker_is_lost_runs_again_once_and_then_fails_with_the_reason(tmp_path):
    one, plan, written = searcher(tmp_path, loss(), loss("was ended by Ray, since its node ran low on memory"))
    lose(one, "a")
    assert not written and plan.failed == 0
    lose(one, "b")
    (record,) = written
    assert (record["state"], record["trial"], record["replicate"]) == ("failed", 0, 0)
    assert record["error"] == "its worker died twice; the second one was ended by Ray, since its node ran low on memory"
    assert plan.failed == 1


def test_a_trial_that_hangs_is_not_run_again(tmp_path):
    one, plan, written = searcher(tmp_path, loss("died", by_itself=True, seconds=7.5), time_limit=7)
    lose(one, "a")
    assert written[0]["error"] == "took longer than resources.time_limit, 7 s"
    assert plan.failed == 1


def test_a_node_that_is_lost_late_does_not_count_as_a_trial_that_hangs(tmp_path):
    one, plan, written = searcher(tmp_path, loss(seconds=700), time_limit=7)
    lose(one, "a")
    assert not written and isinstance(plan.next_job(), TrialJob)


def test_workers_that_cannot_start_stop_the_study_instead_of_failing_every_trial(tmp_path):
    no_module = loss("could not start: ModuleNotFoundError: No module named 'rem_study'", never_ran=True)
    one, _, written = searcher(tmp_path, no_module, no_module)
    lose(one, "a")
    lose(one, "b")
    assert not written
    with pytest.raises(ClusterError, match="a worker could not start: ModuleNotFoundError"):
        one.suggest("c")


def test_a_halted_worker_stops_the_study_and_leaves_nothing_in_the_log(tmp_path):
    one, _, written = searcher(tmp_path)
    one.suggest("a")
    one.on_trial_complete("a", {"record": json.dumps({"state": "halted", "error": "OSError: No space left"})})
    assert not written
    with pytest.raises(StorageError, match="No space left"):
        one.suggest("b")


# Below: on a real Ray, with real deaths.

LIMIT = 30  # of which a busy machine may need some to load the data


def hang_in_python(trial):
    time.sleep(3600)


def hang_with_the_lock_held(trial):
    re.match(r"(a+)+b", "a" * 100)  # one call into C that never lets another thread run


def kill_itself(trial):
    os.kill(os.getpid(), signal.SIGKILL)


def raise_an_error(trial):
    raise ValueError("the matrix is singular")


def fill_memory(trial):
    """Into a control group of 1 GiB, and over it: the kernel ends the process, as on a machine that is full."""
    group = MEMORY / f"rem-study-test-{os.getppid()}"
    group.mkdir(exist_ok=True)
    (group / "memory.limit_in_bytes").write_text(str(2**30))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    kept = []
    while True:
        kept.append(bytearray(b"x") * 2**26)


def may_make_control_groups() -> bool:
    probe = MEMORY / "rem-study-test"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True


FAULTS = {
    "poison@0.5": hang_in_python,
    "poison@1": hang_with_the_lock_held,
    "random_label@0.5": kill_itself,
    "random_label@1": raise_an_error,
}


def npo_fails_after_its_default_and_everywhere_under_random_labels(trial):
    default = trial.configuration == DEFAULTS
    if trial.method == "npo" and (not default or trial.cell.name.startswith("random_label")):
        FAULTS[trial.cell.name](trial)


DEFAULTS: dict = {}


@pytest.mark.slow
def test_a_study_full_of_faults_ends_and_says_so(local_ray, tmp_path):
    from rem_study.spec.space import load_space

    DEFAULTS.update(load_space("npo").defaults)
    path = study_file(
        tmp_path,
        budget={"trials": 2, "replicates": 1, "in_flight": 1},
        resources={"concurrent": 2, "time_limit": LIMIT},
    )
    outcome = launch(path, tmp_path, worker=faulty(npo_fails_after_its_default_and_everywhere_under_random_labels))
    assert outcome.done
    table = trials(outcome.folder).set_index(["cell", "method", "trial"])
    failed = table[table["state"] == "failed"]
    reasons = {key: error for key, error in failed["error"].items()}
    killed = "its worker died twice; the second one was killed (by the kernel for memory, most often) or crashed"
    late = f"took longer than resources.time_limit, {LIMIT} s"
    assert reasons == {
        ("poison@0.5", "npo", 1): late,
        ("poison@1", "npo", 1): late,
        **{("random_label@0.5", "npo", trial): killed for trial in (0, 1)},
        **{("random_label@1", "npo", trial): "ValueError: the matrix is singular" for trial in (0, 1)},
    }
    assert len(table) == 4 * 2 * 2 and (table.loc[(slice(None), "rem"), "state"] == "complete").all()
    assert "(6 failed)" in outcome.summary
    assert outcome.summary.endswith("every trial failed in random_label@0.5 (npo), random_label@1 (npo)")
    cells = pd.read_parquet(outcome.folder / "cells.parquet").set_index(["cell", "method"])
    for cell in ("random_label@0.5", "random_label@1"):
        assert cells.loc[(cell, "npo"), "health"] == "every trial failed"
    report = (outcome.folder / "report.html").read_text()
    assert "No result in random_label@0.5 (npo), random_label@1 (npo): every trial failed there." in report
    assert launch(path, tmp_path).done  # and a finished study stays finished, its failures in it
    assert len(read_log(outcome.folder / "log")[0]) == 1 + 2 + 16


@pytest.mark.slow
@pytest.mark.skipif(not may_make_control_groups(), reason=f"{MEMORY} is not there or not ours: no small memory to fill")
def test_a_worker_that_the_kernel_ends_for_memory_fails_its_trial_alone(local_ray, tmp_path):
    def fault(trial):
        if trial.method == "npo" and trial.cell.name == "poison@0.5":
            fill_memory(trial)

    path = study_file(tmp_path, budget={"trials": 1, "replicates": 1}, discovery_rates=[0.5])
    try:
        outcome = launch(path, tmp_path, worker=faulty(fault))
    finally:
        for group in MEMORY.glob("rem-study-test-*"):
            group.rmdir()
    assert outcome.done
    table = trials(outcome.folder).set_index(["cell", "method"])
    assert "killed (by the kernel for memory" in table.loc[("poison@0.5", "npo"), "error"]
    assert (table["state"] == "complete").sum() == len(table) - 1 == 3
    assert "every trial failed in poison@0.5 (npo)" in outcome.summary
