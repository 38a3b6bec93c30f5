"""The driver killed at any moment: launched again, the study ends in the tables of an undisturbed run."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from doubles.cheap import (
    Cheap,
    assert_each_replicate_once,
    assert_equal_tables,
    drive,
    ended,
    kill_group,
    on_this_ray,
    records,
    study_file,
    trials,
    wait_until,
)

from rem_study.storage.log import read_log
from rem_study.study.launch import launch

KILLS = 20
SEED = 20_26
ALL_PHASES = {
    "budget": {"trials": 3, "replicates": 2, "in_flight": 2},
    "pruner": {"name": "median"},
    "race": {"replicates": 2},
    "confirm": {"replicates": 1, "everywhere": True},
}


@pytest.fixture(scope="module")
def undisturbed(local_ray, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    outcome = launch(study_file(root, **ALL_PHASES), root, worker=Cheap)
    assert outcome.done and set(trials(outcome.folder)["phase"]) == {"search", "race", "confirm", "transfer"}
    return outcome.folder


def resume(root: Path, undisturbed: Path) -> None:
    """What a user does after a kill: the same command. (Here in this process, whose Ray is running already.)"""
    outcome = launch(root / "cheap.yaml", root, worker=Cheap)
    assert outcome.done
    assert_each_replicate_once(outcome.folder)
    assert_equal_tables(undisturbed, outcome.folder)


def moments() -> list[float]:
    """From when the log appears, as shares of the study's records, the tables being written after the last."""
    rng = random.Random(SEED)
    return [rng.uniform(0, 1.1) for _ in range(KILLS)]


@pytest.mark.slow
@pytest.mark.parametrize("number, moment", list(enumerate(moments())))
def test_a_driver_killed_at_a_random_moment_resumes_to_the_same_tables(undisturbed, tmp_path, number, moment):
    """Every fourth with a Ray of its own, which must go with it; the others on a cluster that lives on."""
    path, folder = study_file(tmp_path, **ALL_PHASES), tmp_path / "cheap"
    rng, total = random.Random(moment), records(undisturbed)
    with ended(drive(path, tmp_path, *([] if number % 4 == 0 else on_this_ray()))) as driver:
        wait_until(lambda: records(folder) >= min(moment, 1) * total or driver.poll() is not None, pause=0.005)
        time.sleep(rng.uniform(0, 0.1 if moment < 1 else 5))  # in a replicate; after the last, in the tables' writing
        if rng.random() < 0.5:
            os.kill(driver.pid, signal.SIGKILL)  # the driver alone: Ray and MLflow's writer must follow by themselves
        else:
            kill_group(driver)
    resume(tmp_path, undisturbed)


def stages(folder: Path, total: int = 0) -> dict:
    return {
        "originals": lambda: records(folder) >= 2,
        "search": lambda: records(folder) >= total // 2,
        "trials.parquet": lambda: any(folder.glob("*trials.parquet*")),
        "cells.parquet": lambda: any(folder.glob("*cells.parquet*")),
        "report": lambda: (folder / "figures").exists(),
    }


@pytest.mark.slow
@pytest.mark.parametrize("stage", stages(Path()))
def test_a_driver_killed_at_each_stage_resumes_to_the_same_tables(undisturbed, tmp_path, stage):
    path = study_file(tmp_path, **ALL_PHASES)
    with ended(drive(path, tmp_path, *on_this_ray())) as driver:
        wait_until(stages(tmp_path / "cheap", records(undisturbed))[stage], pause=0.001)
        kill_group(driver)
    assert not (tmp_path / "cheap" / "report.html").exists()
    resume(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_study_killed_again_and_again_loses_nothing(undisturbed, tmp_path):
    path, folder = study_file(tmp_path, **ALL_PHASES), tmp_path / "cheap"
    kills = 0
    while (done := records(folder) if folder.exists() else 0) < records(undisturbed) - 10:
        with ended(drive(path, tmp_path, *on_this_ray())) as driver:
            wait_until(lambda done=done: folder.exists() and records(folder) >= done + 12, pause=0.005)
            kill_group(driver)
        kills += 1
    assert kills >= 4
    resume(tmp_path, undisturbed)
    assert not read_log(folder / "log")[1]


@pytest.mark.slow
def test_a_second_driver_is_refused_with_one_line_and_disturbs_nothing(undisturbed, tmp_path):
    path, folder = study_file(tmp_path, **ALL_PHASES), tmp_path / "cheap"
    with ended(drive(path, tmp_path, *on_this_ray())) as first:
        wait_until(lambda: folder.exists() and records(folder) >= 3)
        second = drive(path, tmp_path, *on_this_ray())
        _, errors = second.communicate(timeout=120)
        assert second.returncode == 2
        assert errors.splitlines() == [f"error: {folder}: another launch of this study is running"]
        _, errors = first.communicate(timeout=240)
        assert first.returncode == 0, errors
    assert_each_replicate_once(folder)
    assert_equal_tables(undisturbed, folder)
