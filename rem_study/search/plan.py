"""What is to run next in the whole grid: originals, then trials of whichever (cell, method) may go.

The order in which jobs are handed out may depend on timing; what each job is, and its result, never does.
"""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rem_study.search.suggest import CellSearch
from rem_study.space import Configuration
from rem_study.spec import CorruptionSpec, Study
from rem_study.trial import Cell, cells_of

Key = tuple[str, str]
"""(cell, method)."""

ATTEMPTS = 2


@dataclass(frozen=True)
class OriginalJob:
    """Train the original of one corruption and replicate."""

    corruption: str
    replicate: int


@dataclass(frozen=True)
class TrialJob:
    """Run one configuration in one cell on the replicates that are still missing."""

    cell: str
    method: str
    trial: int
    configuration: Configuration = field(hash=False)
    replicates: tuple[int, ...]


Job = OriginalJob | TrialJob


class GridPlan:
    """The state of a study's search, rebuilt from the log's rows.

    Args:
        originals: the (corruption, replicate) whose originals are stored already.
        rows: the log's replicate rows, in any order.
    """

    def __init__(self, study: Study, originals: Iterable[OriginalJob], rows: Iterable[dict[str, Any]]) -> None:
        spec = study.spec
        self.study = study
        self.cells: dict[str, Cell] = {cell.name: cell for cell in cells_of(spec)}
        self.corruptions: dict[str, CorruptionSpec] = {c.name: c for c in spec.corruptions}
        self.originals_total = len(spec.corruptions) * spec.budget.replicates
        self._ready = set(originals)
        self._waiting_originals = [
            job
            for replicate in range(spec.budget.replicates)
            for name in self.corruptions
            if (job := OriginalJob(name, replicate)) not in self._ready
        ]
        self._searches = {
            (cell, method): CellSearch(
                study.spaces[method],
                spec.sampler,
                study.trials(method),
                spec.budget.in_flight,
                (spec.seed, cell, method),
            )
            for cell in self.cells
            for method in spec.methods
        }
        self._attempts: dict[Job, int] = defaultdict(int)
        self._again: list[Job] = []
        self._rows: dict[tuple[str, str, int], dict[int, dict[str, Any]]] = defaultdict(dict)
        self._seconds: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=50))  # the last ones, by method
        self.failed = 0
        self.finished = 0
        for row in rows:
            self._take(row)
        self._replay()

    @property
    def trials_total(self) -> int:
        """Trials of the whole study."""
        return sum(search.trials for search in self._searches.values())

    @property
    def originals_ready(self) -> int:
        """Originals that can be used."""
        return len(self._ready)

    @property
    def cells_finished(self) -> int:
        """Cells in which every method is through."""
        return sum(all(self._searches[cell, m].done for m in self.study.spec.methods) for cell in self.cells)

    def finished_trial(self, cell: str, method: str, trial: int) -> str | None:
        """The state of a trial whose replicates are all there, else None."""
        rows = self._rows[cell, method, trial]
        if any(row["state"] == "failed" for row in rows.values()):
            return "failed"
        return "complete" if len(rows) == self.study.spec.budget.replicates else None

    def done(self) -> bool:
        """Whether the study is through."""
        return all(search.done for search in self._searches.values())

    def next_job(self) -> Job | None:
        """What to run now, or None while everything waits for results."""
        if self._again:
            return self._again.pop(0)
        if self._waiting_originals:
            return self._waiting_originals.pop(0)
        able = [key for key, search in self._searches.items() if search.may_ask() and self._has_originals(key)]
        if not able:
            return None
        pace = {method: statistics.fmean(seconds) for method, seconds in self._seconds.items()}

        def remaining_seconds(key: Key) -> float:
            search = self._searches[key]
            return (search.trials - search.asked) * pace.get(key[1], 1.0)

        cell, method = max(able, key=remaining_seconds)
        return self._start(cell, method)

    def original_done(self, job: OriginalJob) -> None:
        """The original of `job` is stored."""
        self._ready.add(job)

    def replicate_done(self, row: dict[str, Any]) -> None:
        """A replicate has finished (and is in the log); its trial is told to the search when it is whole."""
        self._take(row)
        state = self.finished_trial(row["cell"], row["method"], row["trial"])
        if state is not None:
            self._tell(row["cell"], row["method"], row["trial"], state)

    def lost(self, job: Job) -> bool:
        """The worker of `job` died. Whether it will run again, under the same number and seeds."""
        self._attempts[job] += 1
        again = self._attempts[job] < ATTEMPTS
        if again:
            self._again.append(self._remaining(job))
        return again

    def original_failed(self, job: OriginalJob) -> None:
        """The original cannot be trained: its cells run on, and each trial will say why it fails."""
        self._ready.add(job)

    def _remaining(self, job: Job) -> Job:
        if isinstance(job, OriginalJob):
            return job
        have = self._rows[job.cell, job.method, job.trial]
        missing = tuple(r for r in job.replicates if r not in have)
        remaining = TrialJob(job.cell, job.method, job.trial, job.configuration, missing)
        self._attempts[remaining] = self._attempts[job]
        return remaining

    def _start(self, cell: str, method: str) -> TrialJob:
        search = self._searches[cell, method]
        have = self._rows[cell, method, search.asked]
        known = next(iter(have.values()))["config"] if have else None
        number, configuration = search.ask(known)
        replicates = range(self.study.spec.budget.replicates)
        return TrialJob(cell, method, number, configuration, tuple(r for r in replicates if r not in have))

    def _replay(self) -> None:
        for (cell, method), search in self._searches.items():
            while search.may_ask() and (state := self.finished_trial(cell, method, search.asked)):
                number = search.asked
                search.ask(next(iter(self._rows[cell, method, number].values()))["config"])
                self._tell(cell, method, number, state)

    def _take(self, row: dict[str, Any]) -> None:
        kept = {name: row.get(name) for name in ("config", "state", "score")}
        self._rows[row["cell"], row["method"], row["trial"]][row["replicate"]] = kept
        self._seconds[row["method"]].append(row.get("seconds") or 0.0)

    def _tell(self, cell: str, method: str, trial: int, state: str) -> None:
        rows = self._rows[cell, method, trial].values()
        score = statistics.fmean(row["score"] for row in rows) if state == "complete" else None
        self._searches[cell, method].tell(trial, score)
        self.finished += 1
        self.failed += state == "failed"

    def _has_originals(self, key: Key) -> bool:
        corruption = self.cells[key[0]].corruption.name
        return all(OriginalJob(corruption, r) in self._ready for r in range(self.study.spec.budget.replicates))
