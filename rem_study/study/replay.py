"""The state of a study's grid from its log, with a word to whoever waits for a large one."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO

from rem_study.errors import InputError
from rem_study.results.study_folder import LOG_FOLDER
from rem_study.search.jobs import OriginalJob
from rem_study.spec import Study
from rem_study.storage import Folder, History
from rem_study.storage.rows import PHASES
from rem_study.storage.sound import misfit

if TYPE_CHECKING:
    from rem_study.search.plan import GridPlan

PAUSE = 3.0
"""Seconds without a word."""


def replay(study: Study, originals: Iterable[OriginalJob], history: History, folder: Folder) -> GridPlan:
    """The plan of the study in `folder` as its log has it. Raises InputError where a row cannot be this study's."""
    from rem_study.search.plan import GridPlan

    origin = str(folder / LOG_FOLDER)
    _require_own(study, history.rows, origin)
    said = Resuming(len(history.rows))
    plan = GridPlan(study, originals, history.rows, history.earlier, history.pruned, origin, said.at)
    said.close()
    return plan


def _require_own(study: Study, rows: Iterable[dict[str, Any]], origin: str) -> None:
    from rem_study.trial import cells_of

    known = {
        "study": {study.spec.name},
        "cell": {cell.name for cell in cells_of(study.spec)},
        "method": set(study.spec.methods),
        "phase": set(PHASES),
        "state": {"complete", "pruned", "failed"},
    }
    for row in rows:
        for name, values in known.items():
            if (value := row.get(name)) is not None and value not in values:
                raise InputError(f"{origin}: has a replicate of another study, {name}: {value[:80]!r}")
        if wrong := misfit(row):
            raise InputError(f"{origin}: a replicate {wrong}")
        if foreign := row["config"].keys() - study.spaces[row["method"]].parameters.keys():
            place = f"{row['cell']}, {row['method']} #{row['trial']}"
            raise InputError(f"{origin}: {place}: config.{min(foreign)[:80]!r}: no such hyperparameter")


class Resuming:
    """Says every few seconds how much of the log has been gone through."""

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._total, self._stream = total, stream or sys.stderr
        self._said, self._any = time.monotonic(), False

    def at(self, trials: int) -> None:
        """So many trials are through."""
        now = time.monotonic()
        if now - self._said >= PAUSE:
            self._said, self._any = now, True
            live = "\r\x1b[2K" if self._stream.isatty() else ""
            end = "" if live else "\n"
            self._stream.write(f"{live}reading the log: {trials} trials gone through ({self._total} replicates){end}")
            self._stream.flush()

    def close(self) -> None:
        """End the line."""
        if self._any and self._stream.isatty():
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
