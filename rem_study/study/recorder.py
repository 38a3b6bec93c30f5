"""Where everything that finishes goes: the log first, then whoever shows it."""

from __future__ import annotations

from typing import Any

from rem_study.search.plan import GridPlan
from rem_study.storage import History, StudyLog, TrialKey
from rem_study.storage.history import row_of
from rem_study.tracking import TrackingProcess


class Recorder:
    """Writes a running study down.

    Attributes:
        rows: all replicates so far, those of earlier launches included.
        originals: the records of the originals that were trained here.
    """

    def __init__(self, log: StudyLog, tracking: TrackingProcess, history: History) -> None:
        self.rows = list(history.rows)
        self.originals = list(history.originals)
        self._log, self._tracking = log, tracking
        self._noted = history.pruned

    def catch_up(self, plan: GridPlan) -> None:
        """Send MLflow what earlier launches may have left unwritten, and hear of the plan's trials from now on."""
        for row in self.rows:
            self._tracking.record(row)
        for key, state in plan.states(self.rows).items():
            self._settled(key, state)
        plan.settled = self._settled

    def record(self, entry: dict[str, Any]) -> None:
        """Note a replicate or an original that has finished; it is in the log on return. Raises OSError."""
        self._log.append(entry)
        if entry["kind"] == "original":
            self.originals.append(entry)
            return
        row = row_of(entry)
        self.rows.append(row)
        self._tracking.record(row)

    def _settled(self, key: TrialKey, state: str) -> None:
        if state == "pruned" and key not in self._noted:  # for `status`, which cannot know it from the replicates
            names = ("cell", "method", "phase", "trial")
            self._log.append({"kind": "pruned", **dict(zip(names, key, strict=True))})
        self._tracking.finish(key, state)
