"""How far a study is: one live line on a terminal, a few plain ones elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rem_study.search.plan import GridPlan


def describe(plan: GridPlan) -> str:
    """`originals 3/3 · trials 45/225 (1 failed) · cells 2/9`."""
    notes = [f"{count} {what}" for count, what in ((plan.failed, "failed"), (plan.pruned, "pruned")) if count]
    failed = f" ({', '.join(notes)})" if notes else ""
    return (
        f"originals {plan.originals_ready}/{plan.originals_total} · "
        f"trials {plan.finished}/{plan.trials_total}{failed} · "
        f"cells {plan.cells_finished}/{len(plan.cells)}"
    )


def duration(seconds: float) -> str:
    """A time for people: `40 s`, `5 min`, `3.2 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class ProgressLine:
    """Redraws one line on a terminal after each record; elsewhere, as in a job's log, prints one a minute."""

    def __init__(self, plan: GridPlan, stream: TextIO | None = None) -> None:
        self._plan = plan
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._start, self._finished_before = time.monotonic(), plan.finished
        self.compile_seconds = 0.0
        self._pause = 0.1 if self._live else 60.0
        self._drawn = -self._pause

    def update(self) -> None:
        """Redraw, at most ten times a second; print, at most once a minute."""
        now = time.monotonic()
        if now - self._drawn < self._pause:
            return
        self._drawn = now
        rate = (self._plan.finished - self._finished_before) / max(now - self._start, 1e-9)
        left = self._plan.trials_total - self._plan.finished
        pace = f" · {rate:.2g} trials/s · about {duration(left / rate)} left" if rate > 0 else ""
        compiling = f" · compiling took {duration(self.compile_seconds)}" if self.compile_seconds else ""
        line = f"{describe(self._plan)}{pace}{compiling}"
        self._stream.write(f"\r\x1b[2K{line}" if self._live else f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        """End the line."""
        if self._live:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
