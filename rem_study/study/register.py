"""The healed network of a cell in MLflow's model registry: made again from its seeds, logged without pickle."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import nn

from rem_study.data import Dataset
from rem_study.data.place import prepared_under
from rem_study.errors import InputError, did_you_mean
from rem_study.results import load_resolved
from rem_study.results.read import read_table
from rem_study.spec import Configuration, Study
from rem_study.storage import Folder, locked
from rem_study.tracking import tracking_place
from rem_study.tracking.registry import RegistryClient, ServedNetwork
from rem_study.trial import OriginalStore, cells_of, evaluate, pose
from rem_study.unlearning import unlearn

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
        meant = did_you_mean(method, study.spaces)
        raise InputError(f"{folder}: nothing of {method!r} was selected{meant}; methods are {', '.join(study.spaces)}")
    unknown = [name for name in cells if name not in set(rows["cell"])]
    if unknown:
        told = f"there is no cell {', '.join(unknown)}{did_you_mean(unknown[0], rows['cell'])}"
        raise InputError(f"{folder}: {told}; there are {', '.join(rows['cell'])}")
    if cells:
        rows = rows[rows["cell"].isin(cells)]
    trials = read_table(folder, "trials.parquet")
    trials = trials[(trials["method"] == method) & (trials["phase"] == "search") & (trials["replicate"] == 0)]
    store = originals if originals is not None else folder.parent / "originals"
    found = []
    with locked(folder), prepared_under(store.parent), tracking_place(study, folder) as place:
        client = RegistryClient(place.uri)
        for row in rows.to_dict("records"):
            trial = trials[(trials["cell"] == row["cell"]) & (trials["trial"] == row["trial"])].iloc[0]
            found.append(_register_one(study, trial, client, alias, store, device))
    return found


def _register_one(
    study: Study, trial: pd.Series, client: RegistryClient, alias: str, originals: Folder, device: str
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
    place = next(one for one in cells_of(study.spec) if one.name == cell)
    posed = pose(study.spec, place, 0, OriginalStore(originals), device)
    network = unlearn(method, posed.task, configuration).network
    value = evaluate(network, study.spec, place, posed.setting, posed.corruption)["utility_x_healed"]
    return network, posed.setting.dataset, None if value is None or math.isnan(value) else value


def _example(dataset: Dataset) -> Any:
    """Four training images as the served network takes them: with more than one, the batch stays free."""
    return (dataset.train_images[:4].cpu().float() / 255).numpy()
