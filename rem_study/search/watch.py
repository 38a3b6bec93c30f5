"""The end of a launch whose Ray is gone.

Every call of Ray's waits for its head (the GCS), deaf to interrupts: until Ray ends the process from within, a minute
after the head is gone, or for ever if the head is only stopped. So a thread watches, and ends the process itself: what
is finished is in the log.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import ray
from ray._private.process_watcher import psutil  # Ray brings its own

PATIENCE = 45.0
"""Seconds that the head may take to answer. Ray itself ends a process that has not reached it for 60."""
_PAUSE, _ANSWER, _FAMILY = 1.0, 5.0, 10.0
_NEEDED = {"gcs_server": "the head of the local Ray (its GCS)", "raylet": "the node of the local Ray (its raylet)"}

Lost = Callable[[str], None]
"""Says why the process is about to end."""


def say_lost(reason: str) -> None:
    """On stderr."""
    print(f"error: {reason}. What is finished is kept; launching again goes on from there", file=sys.stderr, flush=True)


@contextmanager
def ending_with_ray(lost: Lost) -> Iterator[None]:
    """Disconnects from Ray at the end. Should Ray be gone before, call `lost`, end what is left of a local one, and end
    this process with status 1."""
    watch, over = _Watch(lost), threading.Event()
    thread = threading.Thread(target=watch.until, args=(over,), name="rem-study-ray", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()  # from here on its processes end because they are told to
        watch.look()
        ray.shutdown()


class _Watch:
    def __init__(self, lost: Lost) -> None:
        worker = ray._private.worker
        self._node, self._gcs = worker._global_node, worker.global_worker.gcs_client
        self._lost = lost
        self._family: set[Any] = set()

    def until(self, over: threading.Event) -> None:
        answered = counted = time.monotonic()
        while not over.wait(_PAUSE):
            now = time.monotonic()
            if not self._family or now - counted > _FAMILY:
                self._family, counted = _family(self._node), now
            self.look()
            try:
                self._gcs.internal_kv_get(b"rem-study", None, timeout=_ANSWER)
                answered = time.monotonic()
            except Exception:  # of many types
                if not over.is_set() and time.monotonic() - answered > PATIENCE:
                    self._end(f"the head of Ray (its GCS) has not answered for {PATIENCE:.0f} s")

    def look(self) -> None:
        """Whether a process of a local Ray has ended by itself without which nothing goes on."""
        for kind, process in self._node.dead_processes():
            if kind in _NEEDED:
                logs = self._node.get_logs_dir_path()
                self._end(f"{_NEEDED[kind]} has ended, with status {process.returncode} (its logs: {logs})")

    def _end(self, reason: str) -> NoReturn:
        try:
            self._lost(reason)
        finally:
            for process in self._family | _family(self._node):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            os._exit(1)


def _family(node: Any) -> set[Any]:
    """The processes of a local Ray, its workers and agents included; each knows when it began, so that its number is
    not taken for another's."""
    found: set[Any] = set()
    for one in (one for processes in node.all_processes.values() for one in processes):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(one.process.pid)
            found |= {process, *process.children(recursive=True)}
    return found
