"""MLflow as a view of a running study: the driver's background writer.

Only the driver writes, from one background thread: neither MLflow's start-up nor a server that is down costs
a trial anything. The study's log is the truth, and `sync` brings MLflow level with it at any time, by the
writer's own code.
"""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rem_study.storage import Row, TrialKey, trial_key
from rem_study.storage.credentials import redact
from rem_study.tracking.about import About
from rem_study.tracking.entries import Outline
from rem_study.tracking.errors import is_refusal, one_line
from rem_study.tracking.runs import StudyRuns
from rem_study.tracking.selections import Selection

logger = logging.getLogger(__name__)

QUEUE_SIZE = 100_000  # two a trial: a resumed study queues all that it has at once
BATCH_SIZE = 500
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0


class TrackingWriter:
    """Writes a running study to MLflow from a background thread; no method raises or waits for the server.

    While the server is down or refuses, the thread tries again with growing delays and warns once. What does
    not fit the queue meanwhile is dropped and counted in `unwritten`: `sync` writes it later.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        *,
        artifact_location: str | None = None,
        about: About,
    ) -> None:
        """`artifact_location`, a path or URI, is for a new experiment; default: beside a SQLite database."""
        self._study = StudyRuns(uri, experiment, artifact_location, about)
        self._tasks: queue.Queue[_Task] = queue.Queue(QUEUE_SIZE)
        self._owed = 0
        self._owed_lock = threading.Lock()
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._warned = False
        self._put(_Task(self._study.open))
        self._thread = threading.Thread(target=self._work, name="rem-study-mlflow", daemon=True)
        self._thread.start()

    @property
    def unwritten(self) -> int:
        """How many records MLflow does not have (yet): waiting, refused, or dropped."""
        return self._owed

    def record(self, row: Row) -> None:
        """Queues a finished replicate.

        `row` has the columns of trials.parquet, `config` as a mapping, `start_time` and `end_time` in epoch
        milliseconds; every other finite number in it becomes a metric.
        """
        self._put(_Task(trial=trial_key(row), rows=(dict(row),)))

    def finish(self, trial: TrialKey, state: str) -> None:
        """Ends a trial's run; `state` is `complete`, `pruned` or `failed`."""
        self._put(_Task(trial=trial, state=state))

    def supersede(self, trials: Outline, whole: bool) -> None:
        """Marks the runs of what an extended study was before; see `StudyRuns.supersede`."""
        self._put(_Task(functools.partial(self._study.supersede, trials, whole)))

    def highlight(self, selections: Sequence[Selection]) -> None:
        """Marks the selected trials and shows what they reached; of those whose rows were recorded before."""
        self._put(_Task(functools.partial(self._study.highlight, list(selections))))

    def artifacts(self, paths: Iterable[str | Path]) -> None:
        """Copies local files and folders to the study's run."""
        for path in paths:
            self._put(_Task(functools.partial(self._study.attach, Path(path))))

    def finish_study(self, status: str = "FINISHED") -> None:
        """Ends the study's run and its cells': `FINISHED`, `FAILED` or `KILLED`. Open trials are killed."""
        self._put(_Task(functools.partial(self._study.end, status)))

    def run_ids(self) -> dict[TrialKey, str]:
        """MLflow's run id of each trial known so far, those of an earlier launch included."""
        return self._study.run_ids()

    def views(self) -> tuple[str, list[str]]:
        """The experiment's id and the names of its ready views, as far as they are written."""
        return self._study.views()

    def drain(self, timeout: float = 30.0) -> bool:
        """Waits until all that was recorded is written, or nothing was for `timeout` seconds; True if it is."""
        owed, deadline = self._owed, time.monotonic() + timeout
        while self._owed and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.05)
            if self._owed < owed:
                owed, deadline = self._owed, time.monotonic() + timeout
        return self._owed == 0

    def close(self, timeout: float = 60.0) -> bool:
        """Writes what is queued, for at most `timeout` seconds; True if MLflow has all that was recorded."""
        self._closing.set()
        self._thread.join(timeout)
        self._abandoned.set()
        return not self._thread.is_alive() and self._owed == 0

    def _put(self, task: _Task) -> None:
        with self._owed_lock:
            self._owed += 1
        try:
            self._tasks.put_nowait(task)
        except queue.Full:
            self._warn("its queue is full")

    def _work(self) -> None:
        while not self._abandoned.is_set():
            tasks = self._take()
            if not tasks and self._closing.is_set():
                return
            for task, owed in _merged(tasks):
                if self._attempt(functools.partial(task.run, self._study)):
                    with self._owed_lock:
                        self._owed -= owed

    def _take(self) -> list[_Task]:
        tasks: list[_Task] = []
        try:
            tasks.append(self._tasks.get(timeout=0.2))
            while len(tasks) < BATCH_SIZE:
                tasks.append(self._tasks.get_nowait())
        except queue.Empty:
            pass
        return tasks

    def _attempt(self, write: Callable[[], object]) -> bool:
        delay, failures = FIRST_DELAY, 0
        while not self._abandoned.is_set():
            try:
                self._study.connect()
                write()
                return True
            except Exception as error:  # whatever MLflow raises: the study goes on
                # The write may have arrived and its answer been lost: what is there is read anew first.
                self._study.disconnect()
                self._warn(one_line(error))
                failures += 1
                if failures > 1 and is_refusal(error):
                    return False
                waits_for, delay = delay, min(2 * delay, LONGEST_DELAY)
                if self._closing.is_set():
                    self._abandoned.wait(min(waits_for, 1.0))
                else:
                    self._closing.wait(waits_for)
        return False

    def _warn(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "MLflow at %s is behind: %s. The study goes on; `rem-study sync` writes what is left.",
                redact(self._study.uri),
                reason,
            )


@dataclass(frozen=True)
class _Task:
    """Something to write: a trial's rows and end, or any other `action`."""

    action: Callable[[], object] | None = None
    trial: TrialKey | None = None
    rows: tuple[Row, ...] = ()
    state: str | None = None

    def run(self, study: StudyRuns) -> None:
        if self.trial is not None:
            study.write(self.trial, self.rows, self.state)
        elif self.action is not None:
            self.action()


def _merged(tasks: Sequence[_Task]) -> list[tuple[_Task, int]]:
    """One task a trial, at the place of its first; with each, how many it stands for.

    Not across another action: what was recorded after `supersede` must not be written before it.
    """
    merged: dict[object, tuple[_Task, int]] = {}
    actions = 0
    for task in tasks:
        actions += task.trial is None
        key = actions, task.trial
        if key in merged:
            before, count = merged[key]
            task = _Task(trial=task.trial, rows=before.rows + task.rows, state=task.state or before.state)
            merged[key] = task, count + 1
        else:
            merged[key] = task, 1
    return list(merged.values())
