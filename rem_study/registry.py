"""The healed network of a cell in MLflow's model registry: made again from its seeds, logged without pickle."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from rem_study.data import Dataset
from rem_study.errors import InputError
from rem_study.export import read_table
from rem_study.folder import Folder
from rem_study.space import Configuration
from rem_study.spec import Study
from rem_study.store import locked
from rem_study.study import load_resolved
from rem_study.tracking import tracking_errors
from rem_study.tracking_place import tracking_place

ALIAS = "champion"
AGREES_WITHIN = 1e-6


@dataclass(frozen=True)
class Registered:
    """A version in the registry.

    Attributes:
        name: of the registered model.
        version: MLflow's number.
        utility_x_healed: measured now, on replicate 0; None where no clean labels are known.
        recorded: the same by the study.
        new: False if this very configuration stood there already.
    """

    name: str
    version: str
    utility_x_healed: float | None
    recorded: float | None
    new: bool

    @property
    def repeated(self) -> bool:
        """Whether the rerun gave what the study recorded."""
        ours, theirs = self.utility_x_healed, self.recorded
        if ours is None or theirs is None:
            return ours is None and theirs is None
        return abs(ours - theirs) <= AGREES_WITHIN


class ServedNetwork(nn.Module):
    """Images (B, C, H, W), float32 in [0, 1], to logits (B, classes): normalises as in training."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, dataset: Dataset) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", dataset.mean.cpu())
        self.register_buffer("std", dataset.std.cpu())

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


def model_name(study: str, corruption: str, discovery_rate: float, method: str) -> str:
    """What a cell's model is called in the registry, where `@`, `/` and `:` have meanings of their own."""
    return f"{study}-{corruption}-{discovery_rate:g}-{method}"


def register(
    folder: Folder,
    cells: Sequence[str] = (),
    method: str = "rem",
    alias: str = ALIAS,
    originals: Folder | None = None,
    device: str = "cpu",
) -> list[Registered]:
    """Log and register the selected network of each cell; what stands there already only gets the alias.

    Replicate 0 of the selected trial runs again from its seeds, which on a CPU gives the very network that the study
    measured. It is saved as a graph (`torch.export`): loading it runs no pickle and needs no rem-study.

    Args:
        cells: by name; none: all.
        originals: the folder of originals; default: the one beside the study.

    Raises:
        InputError: not a study's folder, or an unknown cell or method.
        UnlearningError: the rerun failed.
        TrackingError: MLflow cannot be written.
    """
    study = load_resolved(folder)
    table = read_table(folder, "cells.parquet")
    rows = table[(table["method"] == method) & table["config"].notna()]
    if rows.empty:
        raise InputError(f"{folder}: nothing of {method!r} was selected; methods are {', '.join(study.spaces)}")
    unknown = [name for name in cells if name not in set(rows["cell"])]
    if unknown:
        raise InputError(f"{folder}: there is no cell {', '.join(unknown)}; there are {', '.join(rows['cell'])}")
    if cells:
        rows = rows[rows["cell"].isin(cells)]
    trials = read_table(folder, "trials.parquet")
    trials = trials[(trials["method"] == method) & (trials["phase"] == "search") & (trials["replicate"] == 0)]
    store = originals if originals is not None else folder.parent / "originals"
    found = []
    with locked(folder), tracking_place(study, folder) as place:
        client = _Client(place.uri)
        for row in rows.to_dict("records"):
            trial = trials[(trials["cell"] == row["cell"]) & (trials["trial"] == row["trial"])].iloc[0]
            found.append(_register_one(study, trial, client, alias, store, device))
    return found


def _register_one(
    study: Study, trial: pd.Series, client: _Client, alias: str, originals: Folder, device: str
) -> Registered:
    name = model_name(study.spec.name, trial["corruption"], trial["discovery_rate"], trial["method"])
    configuration: Configuration = json.loads(trial["config"])
    recorded = None if pd.isna(trial["utility_x_healed"]) else float(trial["utility_x_healed"])
    tags = {
        "study": study.spec.name,
        "cell": trial["cell"],
        "method": trial["method"],
        "trial": str(trial["trial"]),
        "config": trial["config"],
    }
    known = client.version_of(name, tags)
    if known is not None:
        client.alias(name, alias, known)
        return Registered(name, known, recorded, recorded, new=False)
    network, dataset, measured = rerun(study, trial["cell"], trial["method"], configuration, originals, device)
    run_id = trial["mlflow_run_id"] if isinstance(trial["mlflow_run_id"], str) else None
    served = ServedNetwork(network.cpu(), dataset).eval()
    version = client.log(served, _example(dataset), name, run_id, tags | {"utility_x_healed": str(measured)})
    client.alias(name, alias, version)
    return Registered(name, version, measured, recorded, new=True)


def rerun(
    study: Study, cell: str, method: str, configuration: Configuration, originals: Folder, device: str = "cpu"
) -> tuple[nn.Module, Dataset, float | None]:
    """The healed network of replicate 0, its data, and utility × healed on the report split. Raises UnlearningError."""
    from rem_study.originals import OriginalStore
    from rem_study.trial import cells_of, evaluate, pose
    from rem_study.unlearning import unlearn

    place = next(one for one in cells_of(study.spec) if one.name == cell)
    posed = pose(study.spec, place, 0, OriginalStore(originals), device)
    network = unlearn(method, posed.task, configuration).network
    value = evaluate(network, study.spec, place, posed.setting, posed.corruption)["utility_x_healed"]
    return network, posed.setting.dataset, None if value is None or math.isnan(value) else value


def _example(dataset: Dataset) -> Any:
    """Four training images as the served network takes them: with more than one, the batch stays free."""
    return (dataset.train_images[:4].cpu().float() / 255).numpy()


class _Client:
    """The registry of one MLflow store; every failure of MLflow's is a TrackingError of one line."""

    def __init__(self, uri: str) -> None:
        from rem_study.mlflow_runs import make_client

        self._uri = uri
        self._client = make_client(uri)

    def version_of(self, name: str, tags: dict[str, str]) -> str | None:
        """The version that carries these tags, if there is one."""
        with tracking_errors(self._uri):
            versions = self._client.search_model_versions(f"name = '{name}'")
        return next((str(v.version) for v in versions if tags.items() <= v.tags.items()), None)

    def alias(self, name: str, alias: str, version: str) -> None:
        """Let `models:/NAME@ALIAS` be this version."""
        with tracking_errors(self._uri):
            self._client.set_registered_model_alias(name, alias, version)

    def log(self, network: nn.Module, example: Any, name: str, run_id: str | None, tags: dict[str, str]) -> str:
        """Save a network as a model of the run `run_id` and register it; returns its version."""
        import mlflow
        import numpy as np
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec

        with torch.no_grad():
            classes = network(torch.from_numpy(example)).shape[1]
        signature = ModelSignature(
            inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *example.shape[1:]))]),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, classes))]),
        )
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        with tracking_errors(self._uri):
            mlflow.set_tracking_uri(self._uri)
            mlflow.set_registry_uri(self._uri)
            before = self._client.get_run(run_id) if run_id else None
            with mlflow.start_run(run_id=run_id):
                logged = mlflow.pytorch.log_model(
                    network,
                    name="model",
                    signature=signature,
                    input_example=example,
                    serialization_format="pt2",
                    registered_model_name=name,
                    pip_requirements=[f"mlflow=={mlflow.__version__}", f"torch=={torch.__version__}"],
                )
            if before is not None:  # the run ended when its trial did
                self._client.set_terminated(run_id, before.info.status, before.info.end_time)
            version = str(logged.registered_model_version)
            for key, value in tags.items():
                self._client.set_model_version_tag(name, version, key, value)
        return version
