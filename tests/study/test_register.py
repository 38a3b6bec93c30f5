"""The healed network of a cell in MLflow's registry: the one that was measured, loadable by anyone, without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from doubles.tiny import TINY
from mlflow import MlflowClient

from rem_study.errors import InputError
from rem_study.notebook.local import run_cell
from rem_study.results import columns, selection
from rem_study.spec.resolve import resolve
from rem_study.study import register as registry
from rem_study.tracking.sync import sync

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of one cell, run without Ray, with MLflow's runs."""
    root = tmp_path_factory.mktemp("runs")
    changes: dict[str, Any] = {
        "discovery_rates": [0.5],
        "corruptions": [{"name": "poison", "samples": 12}],
        "methods": {"rem": {"fixed": {"epochs": 2, "erase_mode": "drop"}}},
        "budget": {"trials": 2, "replicates": 1},
        "race": {"replicates": 0},
        "confirm": {"replicates": 0},
    }
    study = resolve(TINY | changes, "tiny.yaml", Path())
    trials = run_cell(study, "poison@0.5", originals=root / "originals")
    folder = root / "tiny"
    folder.mkdir()
    (folder / "study.yaml").write_text(yaml.safe_dump(study.spec.plain(), sort_keys=False))
    rows = trials.to_dict("records")
    for row in rows:
        row |= {"config": yaml.safe_load(row["config"]), "curves": None, "start_time": 1000, "end_time": 2000}
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    sync(uri, "tiny", rows)
    client = MlflowClient(uri, registry_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    ids = {int(run.data.tags["trial"]): run.info.run_id for run in runs if "trial" in run.data.tags}
    trials["mlflow_run_id"] = trials["trial"].map(ids)
    pq.write_table(columns.trials_table(trials.to_dict("records")), folder / "trials.parquet")
    pq.write_table(columns.cells_table(selection.cells_frame(trials)), folder / "cells.parquet")
    return folder


@pytest.fixture(scope="module")
def registered(folder: Path) -> registry.Registered:
    (one,) = registry.register(folder)
    return one


def test_it_is_the_network_that_the_study_measured(registered: registry.Registered) -> None:
    assert registered.name == "tiny-poison-0.5-rem" and registered.new
    assert registered.recorded is not None and registered.repeated


def test_anyone_can_load_it_by_its_alias_and_it_takes_plain_images(
    folder: Path, registered: registry.Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", raising=False)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_registry_uri(f"sqlite:///{folder / 'mlflow.db'}")
    loaded = mlflow.pyfunc.load_model(f"models:/{registered.name}@champion")
    assert loaded.metadata.signature.inputs.inputs[0].shape == (-1, 1, 12, 12)
    images = np.random.default_rng(0).random((7, 1, 12, 12), dtype=np.float32)
    logits = loaded.predict(images)
    assert logits.shape == (7, 10)
    study = registry.load_resolved(folder)
    trial = registry.read_table(folder, "cells.parquet").iloc[0]
    network, dataset, _ = registry.rerun(
        study, "poison@0.5", "rem", yaml.safe_load(trial["config"]), folder.parent / "originals"
    )
    with torch.no_grad():
        expected = registry.ServedNetwork(network, dataset).eval()(torch.from_numpy(images))
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)


def test_it_hangs_on_the_selected_trials_run_and_is_registered_once(
    folder: Path, registered: registry.Registered
) -> None:
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    version = client.get_model_version_by_alias(registered.name, "champion")
    run = client.get_run(version.run_id)
    assert run.data.tags["trial"] == version.tags["trial"] and run.info.end_time == 2000
    assert run.info.status == "FINISHED" and version.tags["cell"] == "poison@0.5"
    (again,) = registry.register(folder, ["poison@0.5"], alias="candidate")
    assert not again.new and again.version == registered.version
    assert str(client.get_model_version_by_alias(registered.name, "candidate").version) == registered.version


def test_an_unknown_cell_or_method_is_named(folder: Path) -> None:
    with pytest.raises(InputError, match=r"poison@0\.7 \(did you mean poison@0\.5\?\); there are poison@0\.5"):
        registry.register(folder, ["poison@0.7"])
    with pytest.raises(InputError, match="npo"):
        registry.register(folder, method="npo")
