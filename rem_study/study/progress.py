"""How far a study is: a bar on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from rem_study.shown import duration

if TYPE_CHECKING:
    from rem_study.search.plan import GridPlan


def describe(plan: GridPlan) -> str:
    """`originals 3/3 · trials 225/225 (1 failed) · on fresh replicates 12/40 (3 eliminated) · cells 2/9`."""
    fresh, fresh_total = plan.fresh_finished, plan.fresh_total
    ended = _noted((plan.failed, "failed"), (plan.pruned, "pruned"))
    parts = [
        f"originals {plan.originals_ready}/{plan.originals_total}",
        f"trials {plan.finished - fresh}/{plan.trials_total - fresh_total}{ended}",
    ]
    if fresh_total:
        parts.append(f"on fresh replicates {fresh}/{fresh_total}{_noted((plan.eliminated, 'eliminated'))}")
    return " · ".join([*parts, f"cells {plan.cells_finished}/{len(plan.cells)}"])


def _noted(*counts: tuple[int, str]) -> str:
    notes = [f"{count} {what}" for count, what in counts if count]
    return f" ({', '.join(notes)})" if notes else ""


class _Bar(tqdm):
    monitor_interval = 0  # no thread of its own: it is drawn when something has come in


class ProgressLine:
    """A bar on a terminal, drawn again after each record; elsewhere, as in a job's log, a plain line a minute."""

    def __init__(self, plan: GridPlan, stream: TextIO | None = None) -> None:
        self._plan = plan
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._start, self._finished_before = time.monotonic(), plan.finished
        self.compile_seconds = 0.0
        self._pause = 0.1 if self._live else 60.0
        self._drawn = -self._pause
        self._bar: _Bar | None = None

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
        if self._live:
            self._draw(line)
        else:
            self._stream.write(f"{line}\n")
            self._stream.flush()

    def _draw(self, line: str) -> None:
        if self._bar is None:
            form = "{percentage:3.0f}%|{bar:20}| {desc}"
            self._bar = _Bar(desc=line, file=self._stream, bar_format=form, dynamic_ncols=True, leave=False, total=1)
        self._bar.total, self._bar.n = max(1, self._plan.trials_total), self._plan.finished
        self._bar.set_description_str(line)  # and draw it, cut where the terminal ends

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
