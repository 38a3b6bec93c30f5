"""The runs that MLflow has of one study: what they are called and carry, and how a missing one is written.

Experiment = study; runs nest study → cell → trial by MLflow's parent tag; a trial's parameters are its
configuration, and each replicate is one step of its metrics. Every run carries a deterministic key, and a
trial's run the list of its replicates: both are read back before anything is written, so nothing is doubled
by a resumed study, a retry after a lost answer, or a second synchronisation. Only MLflow's client is used,
never an active run.
"""

from __future__ import annotations

import hashlib
import json
import math
import numbers
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rem_study.storage import Row, TrialKey, trial_key, write_atomically
from rem_study.tracking.sqlite_uri import sqlite_file, sqlite_uri

KEY = "rem_study.key"
REPLICATES = "rem_study.replicates"
PARENT = "mlflow.parentRunId"
SELECTED = "selected"
WINNER = "winner"
SHOWN = "rem_study.shown"
SUPERSEDED = "superseded"

_NOTE = """Runs nest: study, cell, trial. To find your way:

- the selected configurations: search for `tags.selected = 'yes'`;
- who has won a cell beyond noise: its run's tag `winner`, a method or `level`;
- one cell: `tags.cell = 'poison@0.1'`; one method: `tags.method = 'rem'`; group by `corruption`, `discovery_rate`,
  `method` or `phase`;
- a trial's metrics have a step for each replicate; those under `epoch/`, of the selected trials, a step for each epoch;
- `tags.superseded = 'yes'`: a run of what the study was before it was extended, in no table of it now;
- the report with every figure is among this run's artifacts: `report.html`.
"""

_STATUS = {"complete": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}
_CELL_TAGS = ("dataset", "model", "corruption", "regularity", "discovery_rate", "cell")
_TRIAL_TAGS = (*_CELL_TAGS, "method", "trial", "phase", "proposed_by", "state", "error")
_MOVED = ("proposed_by",)  # may become another one where a study is extended
_NOT_METRICS = {*_TRIAL_TAGS, "replicate", "start_time", "end_time"}
_LONGEST_TAG = 1_000
_METRICS_PER_BATCH = 800  # a batch takes 1,000 metrics, parameters and tags together
_MetricPoint = tuple[str, float, int, int]  # name, value, epoch milliseconds, step

Outline = Mapping[TrialKey, tuple[Mapping[str, str], frozenset[int]]]
"""By trial: its parameters as MLflow has them, and its replicates."""


def outline(rows: Iterable[Row]) -> dict[TrialKey, tuple[dict[str, str], frozenset[int]]]:
    """Which trials and replicates `rows` are."""
    trials: dict[TrialKey, tuple[dict[str, str], frozenset[int]]] = {}
    for row in rows:
        parameters, replicates = trials.get(trial_key(row)) or (_params(row), frozenset[int]())
        trials[trial_key(row)] = parameters, replicates | {row["replicate"]}
    return trials


@dataclass(frozen=True)
class Selection:
    """What was selected in one (cell, method), as MLflow shows it.

    Attributes:
        scores: what is reported of it, by name.
        curves: by name one value an epoch, the mean over replicates.
        time: epoch milliseconds, the same whenever it is written.
        standing: `won` where the method has won the cell.
    """

    trial: TrialKey
    scores: dict[str, float]
    curves: dict[str, list[float]]
    time: int
    standing: str | None = None


@dataclass
class _Run:
    id: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]

    def has_only(self, parameters: Mapping[str, str]) -> bool:
        """Whether it is of these parameters, as far as they are written."""
        return self.params.items() <= parameters.items()

    @property
    def replicates(self) -> list[int]:
        return [int(word) for word in self.tags.get(REPLICATES, "").split(",") if word]


class StudyRuns:
    """The runs that MLflow has of one study; writes what is missing and nothing else. For one thread."""

    def __init__(
        self,
        uri: str,
        name: str,
        artifact_location: str | None,
        study_tags: Mapping[str, str],
        watched: Callable[[Any], Any] = lambda client: client,
    ) -> None:
        """`watched` gets MLflow's client, and gives what is called instead."""
        self.uri = uri
        self._watched = watched
        self._name = name
        self._artifact_location = artifact_location
        self._study_tags = dict(study_tags)
        self._client: Any = None
        self._experiment_id = ""
        self._runs: dict[str, _Run] = {}

    def connect(self) -> None:
        """Finds or makes the experiment and reads which runs it has; nothing when that is done."""
        if self._client is not None:
            return
        client = self._watched(make_client(self.uri))
        experiment = client.get_experiment_by_name(self._name)
        if experiment is None:
            location = _artifact_location(self.uri, self._artifact_location)
            self._experiment_id = client.create_experiment(
                self._name, artifact_location=location, tags={"mlflow.experimentKind": "custom_model_development"}
            )
        else:
            self._experiment_id = experiment.experiment_id
            if experiment.lifecycle_stage == "deleted":
                client.restore_experiment(self._experiment_id)
        runs, token = {}, None
        while True:
            page = client.search_runs([self._experiment_id], max_results=1_000, page_token=token)
            for run in page:
                tags, params = dict(run.data.tags), dict(run.data.params)
                if KEY in tags and tags.get(SUPERSEDED) != "yes":
                    runs[tags[KEY]] = _Run(run.info.run_id, run.info.status, tags, params)
            token = page.token
            if not token:
                break
        self._runs, self._client = runs, client

    def disconnect(self) -> None:
        self._client = None

    def open(self, start_time: int | None = None) -> _Run:
        """The study's run, marked as running."""
        run = self._parent(self._name, self._name, start_time, dict(self._study_tags))
        self._write_batch(run, tags=self._study_tags)
        return run

    def write(self, key: TrialKey, rows: Sequence[Row], state: str | None) -> int:
        """Completes a trial's run with the replicates that it lacks, and ends it if `state` is given."""
        cell, method, phase, trial = key
        name = self._name_of(key)
        run = self._runs.get(name)
        if run is not None and rows and not run.has_only(_params(rows[0])):
            self._set_aside(name)  # of an extended study: its place is another configuration's now
            run = None
        if run is None:
            if not rows:
                return 0  # its rows were dropped: left to `sync`
            shown = f"{method} #{trial}" if phase == "search" else f"{method} {phase} #{trial}"
            run = self._create(name, f"{shown} · {cell}", rows[0]["start_time"], self._cell(rows[0]))
        missing = {row["replicate"]: row for row in rows if row["replicate"] not in run.replicates}
        tags = _tags(list(missing.values())[-1], _TRIAL_TAGS) if missing else _tags(rows[-1], _MOVED) if rows else {}
        if missing:
            tags[REPLICATES] = ",".join(map(str, sorted([*run.replicates, *missing])))
        if state is not None:
            tags["state"] = state
        self._write_batch(
            run,
            metrics=[metric for row in missing.values() for metric in _metrics(row)],
            params=_params(rows[0]) if missing and not run.replicates else {},
            tags=tags,
        )
        if state is not None and (missing or run.status != _STATUS[state]):
            self._terminate(run, _STATUS[state], rows[-1]["end_time"] if rows else None)
        return len(missing)

    def supersede(self, trials: Outline, whole: bool) -> None:
        """Mark the runs that belong to what an extended study was before: `superseded: yes`.

        They are those whose configuration is not the trial's, or that have more replicates than it; and, if `trials` is
        the `whole` study, those of other trials. A marked run is not looked at again: its trial gets a new one.
        """
        for name, run in list(self._runs.items()):
            if "trial" not in run.tags:
                continue
            own = trials.get(trial_key(run.tags))
            if own is None:
                if whole:
                    self._set_aside(name)
            elif not run.has_only(own[0]) or not own[1].issuperset(run.replicates):
                self._set_aside(name)

    def _set_aside(self, name: str) -> None:
        run = self._runs[name]
        tags = {SUPERSEDED: "yes"}
        if run.tags.get(SELECTED) == "yes":
            tags[SELECTED] = "no"
        self._write_batch(run, tags=tags)
        if run.status == "RUNNING":
            self._terminate(run, "KILLED", None)
        del self._runs[name]

    def highlight(self, selections: Sequence[Selection]) -> None:
        """Mark each (cell, method)'s selected trial and show what it reached on the cell's and the study's run.

        The trial's run is tagged `selected: yes`, one that was selected before `no`, and gets its curves, a step an
        epoch. The cell's run gets `METHOD/utility_x_healed` and the like, the study's run the means over the cells. The
        tag `winner` of a cell's run names the method that has won it, or says `level`.
        """
        chosen = {self._name_of(selection.trial) for selection in selections}
        for name, run in list(self._runs.items()):
            if run.tags.get(SELECTED) == "yes" and name not in chosen:
                self._write_batch(run, tags={SELECTED: "no"})
        by_run: dict[str, dict[str, float]] = {}
        winners: dict[str, str] = {}
        for selection in selections:
            trial = self._runs.get(self._name_of(selection.trial))
            if trial is None:
                continue  # its rows were dropped: left to `sync`
            tags = {SELECTED: "yes", SHOWN: _digest(selection.curves)}
            if not tags.items() <= trial.tags.items():
                self._write_batch(trial, metrics=list(_curve_points(selection)), tags=tags)
            cell, method = selection.trial[:2]
            scores = by_run.setdefault(f"{self._name}/{cell}", {})
            scores |= {f"{method}/{name}": value for name, value in selection.scores.items()}
            if selection.standing in ("won", "level"):
                winners[f"{self._name}/{cell}"] = method if selection.standing == "won" else "level"
        if by_run:
            everywhere: dict[str, list[float]] = {}
            for scores in by_run.values():
                for name, value in scores.items():
                    everywhere.setdefault(f"{name}_mean", []).append(value)
            by_run[self._name] = {name: sum(values) / len(values) for name, values in everywhere.items()}
            last = max(selection.time for selection in selections)
            for name, scores in by_run.items():
                self._show(self._runs[name], scores, last)
            for name, winner in winners.items():
                self._write_batch(self._runs[name], tags={WINNER: winner})
            self._write_batch(self._runs[self._name], tags={"mlflow.note.content": _NOTE})

    def _show(self, run: _Run, scores: Mapping[str, float], time: int) -> None:
        """Metrics of a run that is no trial's, unless it shows just these already."""
        digest = _digest(scores)
        if run.tags.get(SHOWN) != digest:
            self._write_batch(run, metrics=[(name, value, time, 0) for name, value in scores.items()])
            self._write_batch(run, tags={SHOWN: digest})

    def _name_of(self, key: TrialKey) -> str:
        cell, method, phase, trial = key
        return "/".join((self._name, cell, method, phase, str(trial)))

    def attach(self, path: Path) -> None:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder to log as an artifact")
        run = self._runs[self._name]
        if path.is_dir():
            self._client.log_artifacts(run.id, str(path), artifact_path=path.name)
        else:
            self._client.log_artifact(run.id, str(path))

    def end(self, status: str, end_time: int | None = None) -> None:
        for run in self._runs.values():
            if "trial" not in run.tags:
                if run.status != status:
                    self._terminate(run, status, end_time)
            elif run.status == "RUNNING":
                self._terminate(run, "KILLED", end_time)

    def run_ids(self) -> dict[TrialKey, str]:
        trials = [run for run in list(self._runs.values()) if "trial" in run.tags]
        return {trial_key(run.tags): run.id for run in trials}

    def _cell(self, row: Row) -> dict[str, str]:
        """The tags that a new trial's run starts with; its cell's run exists and runs from here on."""
        name = f"{self._name}/{row['cell']}"
        tags = _tags(row, _CELL_TAGS) | {PARENT: self.open(row["start_time"]).id}
        parent = self._parent(name, row["cell"], row["start_time"], tags)
        return _tags(row, _TRIAL_TAGS) | {PARENT: parent.id}

    def _parent(self, key: str, run_name: str, start_time: int | None, tags: dict[str, str]) -> _Run:
        run = self._runs.get(key)
        if run is None:
            return self._create(key, run_name, start_time, tags)
        if run.status != "RUNNING":
            self._client.update_run(run.id, status="RUNNING")
            run.status = "RUNNING"
        return run

    def _create(self, key: str, run_name: str, start_time: int | None, tags: dict[str, str]) -> _Run:
        tags = {**tags, KEY: key}
        start_time = int(time.time() * 1000) if start_time is None else int(start_time)
        made = self._client.create_run(self._experiment_id, start_time=start_time, tags=tags, run_name=run_name)
        run = self._runs[key] = _Run(made.info.run_id, "RUNNING", tags, {})
        return run

    def _terminate(self, run: _Run, status: str, end_time: int | None) -> None:
        self._client.set_terminated(run.id, status, end_time=end_time)
        run.status = status

    def _write_batch(
        self,
        run: _Run,
        metrics: Sequence[_MetricPoint] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        changed = {key: value for key, value in (tags or {}).items() if run.tags.get(key) != value}
        while len(metrics) > _METRICS_PER_BATCH:
            self._client.log_batch(run.id, metrics=[Metric(*one) for one in metrics[:_METRICS_PER_BATCH]])
            metrics = metrics[_METRICS_PER_BATCH:]
        if not metrics and not params and not changed:
            return
        self._client.log_batch(
            run.id,
            metrics=[Metric(*one) for one in metrics],
            params=[Param(key, value) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in changed.items()],
        )
        run.tags.update(changed)
        run.params.update(params or {})


def make_client(uri: str) -> Any:
    """MLflow's client of a store, which keeps quiet. Imports MLflow, which takes seconds."""
    # For MLflow as a whole, where the user has not said otherwise: no telemetry, no line a run, no traceback of what it
    # raises as well, and no retries below the writer's own (MLflow's take minutes, and log a line each).
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    from mlflow import MlflowClient  # seconds: not before the writer's thread needs it

    if database := sqlite_file(uri):
        if database.exists() and not database.is_file():  # a pipe would be waited for without end
            raise OSError(f"{database} is no regular file")
        database.parent.mkdir(parents=True, exist_ok=True)
        if not database.exists():
            _create(database)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _create(database: Path) -> None:
    """Let MLflow make its tables elsewhere, and put the file in its place whole: where a full disk or a kill cuts
    their making short, MLflow can never use it again."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory(prefix="rem-study-mlflow-") as place:
        made = Path(place) / database.name
        store = SqlAlchemyStore(sqlite_uri(made), (database.parent / "artifacts").as_uri())
        store.engine.dispose()
        if not database.exists():  # another study's writer may have been faster
            write_atomically(database, made.read_bytes())


def quicken_sqlite() -> None:
    """Let SQLite leave it to the system when what this process writes reaches the disk. For a process of ours only.

    A commit of MLflow's otherwise waits for the disk several times, and makes the log wait too. A killed process loses
    nothing by it; after a power cut a damaged mlflow.db may have to be removed and made again by `rem-study sync`.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "connect")
    def _(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")


def _artifact_location(uri: str, given: str | None) -> str | None:
    """`given` as a URI; else a folder beside the SQLite file (MLflow itself takes the working directory)."""
    if given is not None:
        return given if "://" in given else Path(given).resolve().as_uri()
    database = sqlite_file(uri)
    return (database.parent / "artifacts").as_uri() if database else None


def _digest(shown: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def _curve_points(selection: Selection) -> Iterator[_MetricPoint]:
    for name, values in selection.curves.items():
        for epoch, value in enumerate(values):
            yield f"epoch/{name}", value, selection.time, epoch


def _tags(row: Row, names: Sequence[str]) -> dict[str, str]:
    values = {name: row.get(name) for name in names}
    return {name: str(value)[:_LONGEST_TAG] for name, value in values.items() if not _is_missing(value)}


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _params(row: Row) -> dict[str, str]:
    given = {"method": row["method"], **row["config"]}
    return {name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in given.items()}


def _metrics(row: Row) -> Iterator[_MetricPoint]:
    for name, value in row.items():
        if name in _NOT_METRICS or isinstance(value, bool) or not isinstance(value, numbers.Real):
            continue
        if math.isfinite(value):
            # The replicate's own time, not now: MLflow takes a point that is sent twice for the same one.
            yield name, float(value), int(row["end_time"]), int(row["replicate"])
