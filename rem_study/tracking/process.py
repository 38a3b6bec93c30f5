"""The writer of MLflow's runs in a process of its own, beside the driver.

Writing one trial's run takes MLflow longer than all the rest of the driver does for that trial. In a thread of the
driver it would hold the interpreter whenever the search wants it, for milliseconds at each call that waits.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rem_study.storage import Row, TrialKey
from rem_study.tracking.about import About
from rem_study.tracking.beside import limit_sending, start_beside
from rem_study.tracking.client import quicken_sqlite
from rem_study.tracking.entries import Outline
from rem_study.tracking.selections import Selection
from rem_study.tracking.writer import TrackingWriter, logger

PATIENCE = 60.0
"""Seconds that the process gets to take a message or to answer: it does so at once unless it is stopped or starved."""
UNMOVED = 30.0
"""Seconds without a record written after which `drain` waits no longer."""

_ANSWERED = ("run_ids", "views", "close", "unwritten")


class TrackingProcess:
    """A `TrackingWriter` (which see) in another process; no method raises or waits for the server either.

    It ends with the driver, however that ends: a relaunched study finds no second writer at work.
    """

    def __init__(self, uri: str, experiment: str, *, about: About) -> None:
        self._lost = 0
        self._gone = False
        self._process, self._connection = start_beside(__name__, "serve")
        limit_sending(self._connection, PATIENCE)
        self._send(uri, experiment, about)  # not as arguments: a URI may hold a password

    def __enter__(self) -> TrackingProcess:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process at once, with what is queued unwritten unless `close` came first."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    @property
    def unwritten(self) -> int:
        """How many records MLflow does not have (yet), as far as is known."""
        return self._lost + (0 if self._gone else self._ask("unwritten", default=0))

    def record(self, row: Row) -> None:
        """Queues a finished replicate."""
        self._send("record", dict(row))

    def finish(self, trial: TrialKey, state: str) -> None:
        """Ends a trial's run."""
        self._send("finish", trial, state)

    def supersede(self, trials: Outline, whole: bool) -> None:
        """Marks the runs of what an extended study was before."""
        self._send("supersede", dict(trials), whole)

    def highlight(self, selections: Sequence[Selection]) -> None:
        """Marks the selected trials and shows what they reached."""
        self._send("highlight", list(selections))

    def artifacts(self, paths: Iterable[str | Path]) -> None:
        """Copies local files and folders to the study's run."""
        self._send("artifacts", [str(Path(path).resolve()) for path in paths])

    def finish_study(self, status: str) -> None:
        """Ends the study's run and its cells'."""
        self._send("finish_study", status)

    def run_ids(self) -> dict[TrialKey, str]:
        """MLflow's run id of each trial known so far."""
        ids: dict[TrialKey, str] = self._ask("run_ids", default={})
        return ids

    def views(self) -> tuple[str, list[str]]:
        """The experiment's id and the names of its ready views; none where the server takes none, or is not there."""
        found: tuple[str, list[str]] = self._ask("views", default=("", []))
        return found

    def drain(self) -> bool:
        """Waits while what was recorded is being written; True if it all is."""
        owed, deadline = self.unwritten, time.monotonic() + UNMOVED
        while owed and not self._gone and time.monotonic() < deadline:
            time.sleep(0.1)
            left = self.unwritten
            if left < owed:
                owed, deadline = left, time.monotonic() + UNMOVED
        return owed == 0 and not self._gone

    def close(self) -> bool:
        """Writes what is queued and ends the process; True if MLflow has all that was recorded."""
        written = not self._gone and self._ask("close", default=False, patience=2 * PATIENCE)
        if not written and not self._gone:
            self._lost += self._ask("unwritten", default=0)
        self._connection.close()
        try:
            self._process.wait(PATIENCE if not self._gone else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._gone = True
        return self._lost == 0

    def _send(self, *message: Any) -> None:
        if self._gone:
            self._lost += 1
            return
        try:
            self._connection.send(message)
        except BlockingIOError:
            self._give_up(f"has taken nothing for {PATIENCE:.0f} s")
        except OSError:
            self._give_up("is gone")

    def _ask(self, method: str, default: Any, patience: float | None = None) -> Any:
        patience = PATIENCE if patience is None else patience
        if not self._gone:
            self._send(method)
        if self._gone:
            return default
        try:
            if self._connection.poll(patience):
                return self._connection.recv()
            self._give_up(f"has not answered for {patience:.0f} s")
        except (OSError, EOFError):
            self._give_up("is gone")
        return default

    def _give_up(self, what: str) -> None:
        """Expect nothing of the process any more: a message may have got there by half, and would not be understood."""
        logger.warning("The process that writes to MLflow %s. The study goes on; `rem-study sync` writes it.", what)
        self._gone = True
        self._lost += 1
        self._process.kill()


def serve(descriptor: int) -> None:
    """What runs in the process: the driver's calls, one after another, until it closes or is gone."""
    connection = Connection(descriptor)
    quicken_sqlite()
    try:
        uri, experiment, about = connection.recv()
        writer = TrackingWriter(uri, experiment, about=about)
        while True:
            method, *arguments = connection.recv()
            attribute = getattr(writer, method)
            answer = attribute(*arguments) if callable(attribute) else attribute
            if method in _ANSWERED:
                connection.send(answer)
    except (EOFError, OSError):
        os._exit(0)  # at once, in the middle of a write if need be: the next driver's writer may be starting
