"""The state of a study's grid from its log, with a word to whoever waits for a large one."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

from rem_study.errors import InputError
from rem_study.results.study_folder import LOG_FOLDER
from rem_study.search.jobs import OriginalJob
from rem_study.spec import Study
from rem_study.storage import Folder, History

if TYPE_CHECKING:
    from rem_study.search.plan import GridPlan

PAUSE = 3.0
"""Seconds without a word."""


def replay(study: Study, originals: Iterable[OriginalJob], history: History, folder: Folder) -> GridPlan:
    """The plan of the study in `folder` as its log has it. Raises InputError where a row cannot be this study's."""
    from rem_study.search.plan import GridPlan

    origin = str(folder / LOG_FOLDER)
    for row in history.rows:
        if row.get("study", study.spec.name) != study.spec.name:
            raise InputError(f"{origin}: has a replicate of another study, {str(row['study'])[:80]!r}")
        if not isinstance(row["config"], dict):
            raise InputError(f"{origin}: has a replicate whose config is no mapping")
    said = Resuming(len(history.rows))
    plan = GridPlan(study, originals, history.rows, history.earlier, history.pruned, origin, said.at)
    said.close()
    return plan


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
