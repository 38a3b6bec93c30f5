"""What a report is made of, read from a study's folder: its tables, or, while it runs, what its log has so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from rem_study.errors import InputError
from rem_study.results import LOG_FOLDER, load_resolved, plane
from rem_study.results.columns import CELLS_SCHEMA
from rem_study.results.read import read_tables, read_yaml
from rem_study.results.selection import cells_frame, trial_means
from rem_study.results.write import trials_of
from rem_study.spec import SearchSpace, Study, cell_name
from rem_study.spec.resolve import resolve
from rem_study.storage import Folder, read_history
from rem_study.tracking.links import cell_runs


@dataclass(frozen=True)
class Progress:
    """How far the search of a study that is not through is.

    Attributes:
        total: search trials of one cell, all methods together.
        finished: by cell, those that are through; every cell of the study is in it.
        fresh: replicates of later phases that are there.
    """

    total: int
    finished: dict[str, int]
    fresh: int

    @property
    def searched(self) -> bool:
        """Whether the search is through in every cell."""
        return min(self.finished.values()) >= self.total


@dataclass(frozen=True)
class StudyData:
    """A study as its report shows it.

    Attributes:
        trials, cells: the tables (see docs/reference.md), cells with `spread`. Both empty before the first result.
        study, best, manifest: the documents of the files of that name; empty where there is none.
        resolved: the study; None where study.yaml is not there, or is one that this version does not understand.
        progress: of a study that is not through; None of one that is, or where nobody can tell.
        runs: by cell the id of its MLflow run, where that is known.
    """

    folder: Folder
    trials: pd.DataFrame
    cells: pd.DataFrame
    study: Any
    best: Any
    manifest: dict[str, Any]
    resolved: Study | None
    progress: Progress | None
    runs: dict[str, str]

    @property
    def name(self) -> str:
        """The study's."""
        if len(self.trials):
            return str(self.trials["study"].iloc[0])
        return self.resolved.spec.name if self.resolved else self.folder.name

    @cached_property
    def _run_ids(self) -> dict[tuple[str, str, int], str]:
        known = self.trials[self.trials["mlflow_run_id"].notna() & (self.trials["phase"] == "search")]
        keys = zip(known["cell"], known["method"], known["trial"], strict=True)
        return dict(zip(keys, known["mlflow_run_id"], strict=True))

    def run_of(self, cell: str, method: str, trial: int) -> str | None:
        """The id of the MLflow run of a search trial, where it is known."""
        return self._run_ids.get((cell, method, trial))

    @property
    def spaces(self) -> Mapping[str, SearchSpace]:
        """Its search spaces by method, where they are known."""
        return self.resolved.spaces if self.resolved else {}


def read_study(folder: Folder) -> StudyData:
    """Read the study in `folder`. From its tables; from its log where that has what they lack, as while it runs.

    Raises InputError where there is neither, or a file is damaged.
    """
    study = read_yaml(folder, "study.yaml") if (folder / "study.yaml").is_file() else {}
    manifest = _manifest(folder / "manifest.json")
    best: Any = {}
    resolved: Study | None
    if _under_way(folder, manifest):
        resolved = load_resolved(folder)
        trials, cells = _so_far(folder, resolved)
        progress: Progress | None = _progress(resolved, trials)
    else:
        trials, cells = read_tables(folder)
        resolved = _resolved(study)
        best = read_yaml(folder, "best.yaml") if (folder / "best.yaml").is_file() else {}
        progress = None if resolved is None else _progress(resolved, trials)
        if progress is not None and progress.searched:
            progress = None
    if len(cells):
        cells = plane.with_spread(cells, trials)
    return StudyData(folder, trials, cells, study, best, manifest, resolved, progress, cell_runs(folder))


def _under_way(folder: Folder, manifest: Mapping[str, Any]) -> bool:
    """Whether the log of the study has results that its tables do not: it is running, or was killed."""
    if not (folder / LOG_FOLDER).is_dir():
        return False
    if not (folder / "trials.parquet").is_file() or not (folder / "cells.parquet").is_file():
        return (folder / "study.yaml").is_file()
    history = read_history(folder / LOG_FOLDER, glance=True)
    extended = manifest.get("extended")
    return history.extension > len(extended or ()) or len(history.rows) > len(read_tables(folder)[0])


def _so_far(folder: Folder, study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    history = read_history(folder / LOG_FOLDER)
    trials = trials_of(history.rows, dict.fromkeys(history.pruned, "pruned"), {}).to_pandas()
    if trials.empty:
        return trials, pd.DataFrame(columns=CELLS_SCHEMA.names)
    return trials, cells_frame(trials, study.spaces)


def _resolved(study: Any) -> Study | None:
    methods = study.get("methods") if isinstance(study, dict) else None
    written_out = isinstance(methods, dict) and all(
        isinstance(method, dict) and isinstance(method.get("space"), dict) for method in methods.values()
    )
    try:
        return resolve(study, "study.yaml", Path()) if written_out else None
    except InputError:
        return None


def _progress(study: Study, trials: pd.DataFrame) -> Progress:
    spec = study.spec
    total = sum(study.trials(method) for method in spec.methods)
    finished = {cell_name(one.name, rate): 0 for one in spec.corruptions for rate in spec.discovery_rates}
    if trials.empty:
        return Progress(total, finished, 0)
    means = trial_means(trials)
    through = means[(means["state"] != "complete") | (means["replicates"] >= spec.budget.replicates)]
    finished |= through["cell"].value_counts().to_dict()
    return Progress(total, finished, int((trials["phase"] != "search").sum()))


def _manifest(path: Folder) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    return content if isinstance(content, dict) else {"manifest": content}
