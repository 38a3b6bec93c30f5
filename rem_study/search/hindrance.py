"""What holds a study's trials up: no node that could hold one, or machines that give them little of the processor."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable

RECENT = 20
"""Finished jobs that the share of the processor is taken from."""
LITTLE = 0.5
"""Of one processor, for the thread that computes."""
PAUSE = 60.0
"""Seconds between two looks at that share."""

Tell = Callable[[list[str]], None]
"""Given all that holds the study up now, a line each, whenever that changes; empty: nothing."""


class Hindrances:
    """Gathers them from the threads that notice them."""

    def __init__(self, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._lock = threading.Lock()
        self._shares: deque[float] = deque(maxlen=RECENT)
        self._looked = -PAUSE
        self._waiting = self._starved = ""

    def waits(self, why: str) -> None:
        """Why no trial can be placed; empty: one can."""
        with self._lock:
            if why != self._waiting:
                self._waiting = why
                self._told()

    def finished(self, share: float | None) -> None:
        """A job has finished that got `share` of a processor while it ran; None: nobody has measured it."""
        if share is None:
            return
        with self._lock:
            self._shares.append(share)
            now = self._clock()
            if len(self._shares) < RECENT // 4 or now - self._looked < PAUSE:
                return
            self._looked = now
            usual = statistics.median(self._shares)
            starved = ""
            if usual < LITTLE:
                starved = (
                    f"trials get {usual:.0%} of a processor while they run (the last {len(self._shares)}, median): "
                    "something else is busy on their machines, or they wait for the disk"
                )
            if starved != self._starved:
                self._starved = starved
                self._told()

    def _told(self) -> None:
        self._tell([line for line in (self._waiting, self._starved) if line])
