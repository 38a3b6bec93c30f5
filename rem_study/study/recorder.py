"""Where everything that finishes goes: the log first, then whoever shows it."""

from __future__ import annotations

from typing import Any

from rem_study.search.plan import GridPlan
from rem_study.storage import History, StudyLog, TrialKey
from rem_study.storage.history import row_of
from rem_study.tracking import TrackingProcess, outline


class Recorder:
    """Writes a running study down.

    Attributes:
        rows: all replicates so far, those of earlier launches included.
        originals: the records of the originals that were trained here.
        extensions: those of the study's extensions.
        compile_seconds: what compiling has taken, all launches and workers together (`compile`).
    """

    def __init__(self, log: StudyLog, tracking: TrackingProcess, history: History) -> None:
        self.rows = list(history.rows)
        self.originals = list(history.originals)
        self.extensions = history.extensions
        self.compile_seconds = sum(map(_compile_seconds, (*self.rows, *self.originals)))
        self._log, self._tracking = log, tracking
        self._noted = set(history.pruned)
        self._extension = history.extension

    @property
    def extended(self) -> bool:
        """Whether the study has been another one before."""
        return self._extension > 0

    def catch_up(self, plan: GridPlan) -> None:
        """Note what the plan has come to already, and hear of its trials from now on."""
        for row in plan.reused:
            self._note_kept(row)
        self.level(plan)
        plan.kept, plan.settled = self._keep, self._settled

    def level(self, plan: GridPlan) -> None:
        """Send MLflow what it may lack, and, of an extended study, which of its runs are what the study was before."""
        if self.extended:
            self._tracking.supersede(outline(self.rows), whole=plan.done())
        for row in self.rows:
            self._tracking.record(row)
        for key, state in plan.states(self.rows).items():
            self._settled(key, state)

    def record(self, entry: dict[str, Any]) -> None:
        """Note a replicate or an original that has finished; it is in the log on return. Raises OSError."""
        self._log.append(entry)
        self.compile_seconds += _compile_seconds(entry)
        if entry["kind"] == "original":
            self.originals.append(entry)
            return
        row = row_of(entry)
        self.rows.append(row)
        self._tracking.record(row)

    def _keep(self, row: dict[str, Any]) -> None:
        self._note_kept(row)
        self._tracking.record(row)

    def _note_kept(self, row: dict[str, Any]) -> None:
        """That a result from before the study was extended is this replicate of this trial now."""
        place = ("cell", "method", "phase", "trial", "replicate", "config", "proposed_by")
        self._log.append({"kind": "kept", "extension": self._extension, **{name: row[name] for name in place}})
        self.rows.append(row)

    def _settled(self, key: TrialKey, state: str) -> None:
        if state == "pruned" and key not in self._noted:  # for `status`, which cannot know it from the replicates
            names = ("cell", "method", "phase", "trial")
            self._log.append({"kind": "pruned", **dict(zip(names, key, strict=True))})
            self._noted.add(key)
        self._tracking.finish(key, state)


def _compile_seconds(record: dict[str, Any]) -> float:
    return float(record.get("compile_seconds") or 0.0)
