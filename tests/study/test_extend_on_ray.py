"""A study extended on a real Ray, with MLflow: launched, extended, killed in the middle of that, launched again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from doubles.cheap import (
    Cheap,
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
from doubles.mlflow_runs import assert_mlflow_agrees, trial_runs

from rem_study.errors import InputError
from rem_study.storage.log import read_log
from rem_study.study.launch import launch
from rem_study.study.sync import sync

BEFORE = {
    "methods": ["npo"],
    "discovery_rates": [0.5],
    "budget": {"trials": 6, "replicates": 2},
    "sampler": {"startup_trials": 2},
    "race": {"replicates": 2},
    "confirm": {"replicates": 1},
}
AFTER = BEFORE | {
    "methods": ["npo", "ascent"],
    "budget": {"trials": 7, "replicates": 3},
    "race": {"replicates": 3},
    "confirm": {"replicates": 2},
}


@pytest.fixture(scope="module")
def undisturbed(local_ray, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    return launch(study_file(root, **AFTER), root, worker=Cheap).folder


@pytest.fixture(scope="module")
def extended(local_ray, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("extended")
    before = launch(study_file(root, **BEFORE), root, worker=Cheap)
    assert before.done
    ran, path = records(before.folder), study_file(root, **AFTER)
    with ended(drive(path, root, *on_this_ray())) as driver:
        wait_until(lambda: records(before.folder) >= ran + 40 or driver.poll() is not None)
        kill_group(driver)
    sync(before.folder)
    shutil.copytree(before.folder, root / "killed")
    outcome = launch(path, root, worker=Cheap)
    assert outcome.done
    sync(outcome.folder)  # where the machine is slow, MLflow may have been left behind
    assert "replicates from before it was extended belong to no trial of it" in outcome.summary
    return outcome.folder


@pytest.mark.slow
def test_extended_and_killed_in_the_middle_it_equals_the_study_launched_whole(undisturbed, extended):
    assert_equal_tables(undisturbed, extended)
    kinds = [record["kind"] for record in read_log(extended / "log")[0]]
    assert kinds.count("extended") == 1 and kinds.count("kept") >= 8


@pytest.mark.slow
def test_sync_of_a_killed_extension_shows_as_much_of_the_extended_study_as_there_is(undisturbed, extended):
    place = ["cell", "method", "phase", "trial", "replicate"]
    whole, part = (trials(folder).set_index(place) for folder in (undisturbed, extended.parent / "killed"))
    assert 16 < len(part) < len(whole) and part.index.is_unique
    pd.testing.assert_series_equal(part["config"], whole["config"].reindex(part.index))
    pd.testing.assert_series_equal(part["score"], whole["score"].reindex(part.index))


@pytest.mark.slow
def test_mlflow_shows_the_extended_study_and_marks_what_it_was(extended):
    assert_mlflow_agrees(extended)
    old = [run for run in trial_runs(extended) if run.data.tags.get("superseded") == "yes"]
    assert old and all(run.data.tags.get("selected") != "yes" for run in old)


@pytest.mark.slow
def test_sync_of_an_extended_study_writes_nothing_and_from_nothing_the_same(undisturbed, extended, tmp_path):
    assert sync(extended) == 0
    assert_equal_tables(undisturbed, extended)
    assert_mlflow_agrees(extended)
    shutil.copytree(extended, tmp_path / "cheap", ignore=shutil.ignore_patterns("mlflow.db*"))
    sync(tmp_path / "cheap")
    assert_equal_tables(undisturbed, tmp_path / "cheap")
    assert_mlflow_agrees(tmp_path / "cheap")
    assert not any("superseded" in run.data.tags for run in trial_runs(tmp_path / "cheap"))


@pytest.mark.slow
def test_back_to_the_smaller_study_is_refused(extended):
    path = study_file(extended.parent, **BEFORE)
    with pytest.raises(InputError, match=r"differs in budget\.trials \(7 there, 6 here\), methods\.ascent \(gone\)"):
        launch(path, extended.parent, worker=Cheap)
