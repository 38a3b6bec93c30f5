"""The runs that MLflow has of one study: what they are called and carry, and how a missing one is written.

Experiment = study; runs nest study → cell → trial by MLflow's parent tag; a trial's parameters are its
configuration, and each replicate is one step of its metrics. Every run carries a deterministic key, and a
trial's run the list of its replicates: both are read back before anything is written, so nothing is doubled
by a resumed study, a retry after a lost answer, or a second synchronisation. Only MLflow's client is used,
never an active run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rem_study.storage import Row, TrialKey, trial_key
from rem_study.tracking import entries, selections
from rem_study.tracking.about import About
from rem_study.tracking.client import artifact_location, make_client, takes_views
from rem_study.tracking.entries import MetricPoint, Outline
from rem_study.tracking.errors import is_refusal, one_line
from rem_study.tracking.notes import cell_note, curves_note, study_note
from rem_study.tracking.selections import Selection, digest
from rem_study.tracking.views import KIND, PRIMARY_METRIC, shared_views, views_in

logger = logging.getLogger(__name__)

# Tags for this program alone: MLflow's UI shows none that begin so.
KEY = "mlflow.rem_study.key"
REPLICATES = "mlflow.rem_study.replicates"
SHOWN = "mlflow.rem_study.shown"
_BEFORE = {"rem_study.key": KEY, "rem_study.replicates": REPLICATES, "rem_study.shown": SHOWN}
"""What they were called up to version 0.1."""

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
SELECTED = "selected"
SUPERSEDED = "superseded"

_STATUS = {"complete": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}
WINNER = "winner"
_CURVES = "/curves"  # ends the key of the run with a trial's curves
_METRICS_PER_BATCH = 800  # a batch takes 1,000 metrics, parameters and tags together


@dataclass
class _Run:
    id: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    has_data: bool

    @property
    def is_trial(self) -> bool:
        return "trial" in self.tags

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
        location: str | None,
        about: About,
        watched: Callable[[Any], Any] = lambda client: client,
    ) -> None:
        """`location`: of the artifacts of a new experiment; a path or URI, default: beside a SQLite database. `watched`
        gets MLflow's client, and gives what is called instead."""
        self.uri = uri
        self._watched = watched
        self._name = name
        self._location = location
        self._about = about
        self._origin = entries.origin()
        self._client: Any = None
        self._experiment_id = ""
        self._views: list[str] | None = None
        self._runs: dict[str, _Run] = {}

    def connect(self) -> None:
        """Finds or makes the experiment and reads which runs it has; nothing when that is done."""
        if self._client is not None:
            return
        client = self._watched(make_client(self.uri))
        experiment = client.get_experiment_by_name(self._name)
        if experiment is None:
            location = artifact_location(self.uri, self._location)
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
                tags = {_BEFORE.get(name, name): value for name, value in run.data.tags.items()}
                if KEY in tags and tags.get(SUPERSEDED) != "yes":
                    has_data = bool(run.inputs is not None and run.inputs.dataset_inputs)
                    runs[tags[KEY]] = _Run(run.info.run_id, run.info.status, tags, dict(run.data.params), has_data)
            token = page.token
            if not token:
                break
        self._runs, self._client = runs, client

    def disconnect(self) -> None:
        self._client = None

    def open(self, start_time: int | None = None) -> _Run:
        """The study's run, marked as running, and the ready views of the study."""
        self._write_views()
        tags = dict(self._about.tags) | {KIND: "study", NOTE: study_note(self._experiment_id, self._views or ())}
        run = self._parent(self._name, self._name, start_time, tags)
        self._write_batch(run, tags=tags)
        return run

    def views(self) -> tuple[str, list[str]]:
        """The experiment's id and the names of its ready views; none where the server takes none."""
        return self._experiment_id, list(self._views or ())

    def _write_views(self) -> None:
        """Leave the views' tags as they should be; a server that refuses them has none."""
        if self._views is not None:
            return
        there = self._client.get_experiment(self._experiment_id).tags
        wanted = {PRIMARY_METRIC: "utility_x_healed"}
        wanted |= shared_views(self._about.methods, self._about.hyperparameters)
        try:
            if takes_views(self._client, self.uri):
                for name, value in wanted.items():
                    if there.get(name) != value:
                        self._client.set_experiment_tag(self._experiment_id, name, value)
                    there[name] = value
        except Exception as error:  # MLflow has no common base for what its stores raise
            if not (is_refusal(error) or getattr(error, "get_http_status_code", lambda: 500)() < 500):
                raise
            logger.debug("no ready views: %s", one_line(error))
        self._views = views_in(name for name in wanted if there.get(name) == wanted[name])

    def write(self, key: TrialKey, rows: Sequence[Row], state: str | None) -> int:
        """Completes a trial's run with the replicates that it lacks, and ends it if `state` is given."""
        name = self._name_of(key)
        run = self._runs.get(name)
        if run is not None and rows and not run.has_only(entries.params(rows[0])):
            self._set_aside(name)  # of an extended study: its place is another configuration's now
            run = None
        if run is None:
            if not rows:
                return 0  # its rows were dropped: left to `sync`
            run = self._create(name, entries.run_name(key), rows[0]["start_time"], self._below_its_cell(rows[0]))
        missing = {row["replicate"]: row for row in rows if row["replicate"] not in run.replicates}
        tags = {}
        if rows:
            latest, named = (list(missing.values())[-1], entries.TRIAL_TAGS) if missing else (rows[-1], entries.MOVED)
            tags = entries.tags(latest, named)
        if missing:
            tags[REPLICATES] = ",".join(map(str, sorted([*run.replicates, *missing])))
        if state is not None:
            tags["state"] = state
        self._write_batch(
            run,
            metrics=[metric for row in missing.values() for metric in entries.metrics(row)],
            params=entries.params(rows[0]) if missing and not run.replicates else {},
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
            if not run.is_trial:
                continue
            own = trials.get(trial_key(run.tags))
            if own is None:
                if whole:
                    self._set_aside(name)
            elif not run.has_only(own[0]) or not own[1].issuperset(run.replicates):
                self._set_aside(name)

    def _set_aside(self, name: str) -> None:
        run = self._runs[name]
        tags = {SUPERSEDED: "yes", KIND: "superseded trial"}
        if run.tags.get(SELECTED) == "yes":
            tags[SELECTED] = "no"
        self._write_batch(run, tags=tags)
        if run.status == "RUNNING":
            self._terminate(run, "KILLED", None)
        del self._runs[name]
        curves = self._runs.pop(name + _CURVES, None)
        if curves is not None:
            self._write_batch(curves, tags={SUPERSEDED: "yes", KIND: "superseded curves"})

    def highlight(self, chosen: Sequence[Selection]) -> None:
        """Mark each (cell, method)'s selected trial and show what it reached, on its cell's and the study's run too.

        A selected trial's run is tagged `selected: yes`, one that was selected before `no`; it gets `reported/`
        metrics, and a run below it its curves, a step an epoch. A cell's run gets a note with its table, its best
        method's scores under their plain names and every method's as `METHOD/utility_x_healed`, the study's run the
        means over the cells; the tag `leads` names the best method, `winner` the one that has won, or says `level`.
        """
        names = {self._name_of(one.trial) for one in chosen}
        for name, run in list(self._runs.items()):
            if run.tags.get(SELECTED) == "yes" and name not in names:
                self._write_batch(run, tags={SELECTED: "no"})
                if name + _CURVES in self._runs:
                    self._write_batch(self._runs[name + _CURVES], tags={KIND: "curves of one selected before"})
        cells: dict[str, list[Selection]] = {}
        for one in chosen:
            if self._name_of(one.trial) in self._runs:  # else its rows were dropped: left to `sync`
                self._show_trial(one)
                cells.setdefault(one.trial[0], []).append(one)
        if not cells:
            return
        last = max(one.time for one in chosen)
        ids = {one.trial: self._runs[self._name_of(one.trial)].id for own in cells.values() for one in own}
        for cell, own in cells.items():
            run = self._runs[f"{self._name}/{cell}"]
            tags = {KIND: "cell", WINNER: "not decided", NOTE: cell_note(self._experiment_id, own, ids)}
            self._show(run, selections.cell_scores(own), last, tags | selections.cell_tags(own))
        self._show(self._runs[self._name], selections.study_scores(cells), last, {})

    def _show_trial(self, selection: Selection) -> None:
        name = self._name_of(selection.trial)
        run = self._runs[name]
        self._show(run, selection.reported(), selection.time, {SELECTED: "yes", KIND: "trial"})
        if not selection.curves:
            return
        shown = {SHOWN: digest(selection.curves), KIND: "curves", NOTE: curves_note()}
        curves = self._runs.get(name + _CURVES)
        if curves is None:
            tags = {key: run.tags[key] for key in (*entries.CELL_TAGS, "method") if key in run.tags}
            title = f"{entries.run_name(selection.trial)} curves"
            curves = self._create(name + _CURVES, title, selection.time, tags | {PARENT: run.id})
        if curves.tags.get(SHOWN) != shown[SHOWN]:
            self._write_batch(curves, metrics=list(selection.curve_points()))
        self._write_batch(curves, tags=shown)
        if curves.status != "FINISHED":
            self._terminate(curves, "FINISHED", selection.time)

    def _show(self, run: _Run, scores: Mapping[str, float], time: int, tags: Mapping[str, str]) -> None:
        """Metrics of a run at one step, unless it shows just these already, and tags."""
        now = digest(scores)
        if run.tags.get(SHOWN) != now:
            self._write_batch(run, metrics=[(name, value, time, 0) for name, value in scores.items()])
        self._write_batch(run, tags={**tags, SHOWN: now})

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
        for name, run in self._runs.items():
            if run.is_trial:
                if run.status == "RUNNING":
                    self._terminate(run, "KILLED", end_time)
            elif run.status != status and not name.endswith(_CURVES):
                self._terminate(run, status, end_time)

    def run_ids(self) -> dict[TrialKey, str]:
        trials = [run for run in list(self._runs.values()) if run.is_trial]
        return {trial_key(run.tags): run.id for run in trials}

    def _below_its_cell(self, row: Row) -> dict[str, str]:
        """The tags that a new trial's run starts with; its cell's run exists and runs from here on."""
        name = f"{self._name}/{row['cell']}"
        above = {PARENT: self.open(row["start_time"]).id, KIND: "cell"}
        cell = self._parent(name, row["cell"], row["start_time"], entries.tags(row, entries.CELL_TAGS) | above)
        return entries.tags(row, entries.TRIAL_TAGS) | {PARENT: cell.id, KIND: "trial"}

    def _parent(self, key: str, run_name: str, start_time: int | None, tags: dict[str, str]) -> _Run:
        run = self._runs.get(key)
        if run is None:
            return self._create(key, run_name, start_time, tags)
        if run.status != "RUNNING":
            self._client.update_run(run.id, status="RUNNING")
            run.status = "RUNNING"
        if not run.has_data:
            self._name_data(run)
        return run

    def _create(self, key: str, run_name: str, start_time: int | None, tags: dict[str, str]) -> _Run:
        tags = {**self._origin, **tags, KEY: key}
        start_time = int(time.time() * 1000) if start_time is None else int(start_time)
        made = self._client.create_run(self._experiment_id, start_time=start_time, tags=tags, run_name=run_name)
        run = self._runs[key] = _Run(made.info.run_id, "RUNNING", tags, {}, False)
        self._name_data(run)
        return run

    def _name_data(self, run: _Run) -> None:
        """Say which data set a run is on, where that is known."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        about = self._about
        if about.data and about.digest:
            data = Dataset(about.data, about.digest, source_type="rem-study", source=f'{{"name": "{about.data}"}}')
            given = DatasetInput(data, [InputTag("mlflow.data.context", "corrupted")])
            self._client.log_inputs(run.id, [given])
        run.has_data = True

    def _terminate(self, run: _Run, status: str, end_time: int | None) -> None:
        self._client.set_terminated(run.id, status, end_time=end_time)
        run.status = status

    def _write_batch(
        self,
        run: _Run,
        metrics: Sequence[MetricPoint] = (),
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
