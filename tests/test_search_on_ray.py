"""All that the search can do, on a real Ray: the same tables on 1, 2 and 4 workers whatever each trial takes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from rem_study.study import launch

STUDY = {
    "name": "all",
    "data": {"name": "digits", "image_size": 12, "train_samples": 300, "test_samples": 200},
    "model": {"width": 0.0625},
    "corruptions": [{"name": "poison", "samples": 20}, {"name": "random_label", "samples": 20}],
    "discovery_rates": [0.1, 0.5],
    "methods": ["rem", "npo"],
    "budget": {"trials": 8, "replicates": 3, "in_flight": 2},
    "pruner": {"name": "median", "startup_trials": 2},
    "neighbours": {"from_trial": 3},
    "confirm": {"replicates": 2, "top": 2, "everywhere": True},
}
CHANGING = ["seconds", "mlflow_run_id"]


@pytest.fixture(scope="module")
def ray_session():
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def worker_with_delays():
    """A worker that trains nothing, whose trials take a random time that no seed decides."""
    from rem_study.search.worker import Worker

    class Delayed(Worker):
        def obtain_original(self, corruption, replicate):
            return {"regularity": 0.5, "memorised": 1.0, "test_accuracy": 0.9, "sample_passes": 0}

        def run_trial(self, trial):
            import random
            import time

            time.sleep(random.SystemRandom().uniform(0, 0.05))
            lr = float(trial.configuration["lr"])
            value = 1 / (1 + abs(lr - 0.01 * (1 + trial.replicate))) - len(trial.cell.name) / 100
            names = ("healed", "utility", "test_accuracy", "utility_x_healed", "score_oracle", "score", "score_healed")
            row = dict.fromkeys(names, value) | {"score_utility": 1.0, "state": "complete", "error": None}
            return row | {"regularity": 0.5, "memorised": 1.0, "epochs": 1.0, "sample_passes": 10, "seconds": 0.0}

    return Delayed


@pytest.fixture(scope="module")
def tables(ray_session, tmp_path_factory) -> dict[int, Path]:
    folders = {}
    for workers in (1, 2, 4):
        root = tmp_path_factory.mktemp(f"workers{workers}")
        (root / "all.yaml").write_text(yaml.safe_dump(STUDY))
        overrides = (f"resources.concurrent={workers}",)
        outcome = launch(root / "all.yaml", root, overrides=overrides, worker=worker_with_delays())
        assert outcome.done, outcome.summary
        folders[workers] = outcome.folder
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_tables_and_best_are_equal_on_any_number_of_workers(tables, workers):
    for name in ("trials.parquet", "cells.parquet"):
        one, other = (pd.read_parquet(tables[n] / name) for n in (1, workers))
        changing = [column for column in CHANGING if column in one]
        pd.testing.assert_frame_equal(one.drop(columns=changing), other.drop(columns=changing))
    one, other = (yaml.safe_load((tables[n] / "best.yaml").read_text()) for n in (1, workers))
    for document in (one, other):
        for cell in document["cells"]:
            for winner in cell["methods"].values():
                winner.pop("mlflow_run_id")
    assert one == other


@pytest.mark.slow
def test_everything_was_on(tables):
    trials = pd.read_parquet(tables[4] / "trials.parquet")
    assert set(trials["phase"]) == {"search", "confirm", "transfer"}
    assert (trials["state"] == "pruned").any()
    assert trials["proposed_by"].str.contains("@").any()
    cells = pd.read_parquet(tables[4] / "cells.parquet")
    assert cells[["utility_x_healed_low", "gain_low", "shrinkage"]].notna().to_numpy().all()
    best = yaml.safe_load((tables[4] / "best.yaml").read_text())
    assert all(method["utility_x_healed"]["low"] is not None for method in best["universal"].values())
