"""All that the search can do, on a real Ray: the same tables on 1, 2 and 4 workers whatever each trial takes."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from doubles.cheap import assert_equal_tables, faulty, study_file

from rem_study.study.launch import launch

ALL_ON = {
    "discovery_rates": [0.1, 0.5],
    "budget": {"trials": 8, "replicates": 3, "in_flight": 2},
    "pruner": {"name": "median", "startup_trials": 2},
    "neighbours": {"from_trial": 3},
    "race": {"replicates": 3, "top": 2},
    "confirm": {"replicates": 2, "everywhere": True},
}


@pytest.fixture(scope="module")
def ray_session():
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def take_any_time(trial) -> None:
    """No seed decides how long."""
    time.sleep(random.SystemRandom().uniform(0, 0.05))


@pytest.fixture(scope="module")
def folders(ray_session, tmp_path_factory) -> dict[int, Path]:
    """The study's folder by the number of its workers."""
    folders = {}
    for workers in (1, 2, 4):
        root = tmp_path_factory.mktemp(f"workers{workers}")
        overrides = (f"resources.concurrent={workers}",)
        outcome = launch(study_file(root, **ALL_ON), root, overrides=overrides, worker=faulty(take_any_time))
        assert outcome.done, outcome.summary
        folders[workers] = outcome.folder
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_tables_and_best_are_equal_on_any_number_of_workers(folders, workers):
    assert_equal_tables(folders[1], folders[workers])


@pytest.mark.slow
def test_everything_was_on(folders):
    trials = pd.read_parquet(folders[4] / "trials.parquet")
    assert set(trials["phase"]) == {"search", "race", "confirm", "transfer"}
    assert (trials["state"] == "pruned").any()
    assert trials["proposed_by"].str.contains("@").any()
    cells = pd.read_parquet(folders[4] / "cells.parquet")
    assert cells[["utility_x_healed_low", "gain_low", "shrinkage"]].notna().to_numpy().all()
    best = yaml.safe_load((folders[4] / "best.yaml").read_text())
    assert all(method["utility_x_healed"]["low"] is not None for method in best["universal"].values())
