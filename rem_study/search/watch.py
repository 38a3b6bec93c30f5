"""The end of a launch whose Ray is gone.

Every call of Ray's waits for its head (the GCS), deaf to interrupts: until Ray ends the process from within, a minute
after the head is gone, or for ever if the head is only stopped. So a thread watches, and ends the process itself: what
is finished is in the log.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private.process_watcher import psutil  # Ray brings its own

PATIENCE = 45.0
"""Seconds that the head may take to answer. Ray itself ends a process that has not reached it for 60."""
_PAUSE, _ANSWER, _FAMILY = 1.0, 5.0, 10.0
_AGENTS = 2 if hasattr(os, "pidfd_open") else 0
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
    watch = _Watch(lost)
    thread = threading.Thread(target=watch.until_over, name="rem-study-ray", daemon=True)
    thread.start()
    try:
        yield
    finally:
        try:
            watch.look()
            watch.over()  # from here on its processes end because they are told to
            ray.shutdown()
        except KeyboardInterrupt:  # a second one
            watch.over()
            ray.shutdown()
            raise
        thread.join(2 * _ANSWER)


class _Watch:
    def __init__(self, lost: Lost) -> None:
        worker = ray._private.worker
        self._node, self._gcs = worker._global_node, worker.global_worker.gcs_client
        self._lost = lost
        self._over, self._ending = threading.Event(), threading.Lock()
        self._woken, self._wake = os.pipe()
        self._family: set[Any] = set()
        self._agents: dict[Any, int] = {}  # by process, a descriptor that tells of its end

    def over(self) -> None:
        """Whatever ends from now on is meant to."""
        with self._ending:
            if not self._over.is_set():
                self._over.set()
                os.write(self._wake, b".")

    def until_over(self) -> None:
        """Watch; for a thread."""
        try:
            self._watch()
        finally:
            for descriptor in (self._woken, self._wake, *self._agents.values()):
                os.close(descriptor)

    def _watch(self) -> None:
        answered = counted = time.monotonic()
        while not self._over.is_set():
            now = time.monotonic()
            if len(self._agents) < _AGENTS or now - counted > _FAMILY:
                self._family, counted = _family(self._node), now
                self._find_agents()
            agent_ended = self._sleep()
            if self._over.is_set():
                return
            self.look()
            if agent_ended:  # its node ends with it, and with the node, at once, this process
                self._end(f"an agent of the local Ray has ended (its logs: {self._node.get_logs_dir_path()})")
            try:
                self._gcs.internal_kv_get(b"rem-study", None, timeout=_ANSWER)
                answered = time.monotonic()
            except Exception:  # of many types
                if time.monotonic() - answered > PATIENCE:
                    self._end(f"the head of Ray (its GCS) has not answered for {PATIENCE:.0f} s")

    def _find_agents(self) -> None:
        for process in self._family - self._agents.keys():
            with contextlib.suppress(psutil.Error, OSError):
                if _AGENTS and process.name().endswith("Agent"):
                    self._agents[process] = os.pidfd_open(process.pid)

    def _sleep(self) -> bool:
        """For a while, until it is over, or until an agent ends; whether one has."""
        poll = select.poll()
        for descriptor in (self._woken, *self._agents.values()):
            poll.register(descriptor, select.POLLIN)
        return any(descriptor != self._woken for descriptor, _ in poll.poll(_PAUSE * 1000))

    def look(self) -> None:
        """Whether a process of a local Ray has ended by itself without which nothing goes on."""
        for kind, process in self._node.dead_processes():
            if kind in _NEEDED:
                logs = self._node.get_logs_dir_path()
                self._end(f"{_NEEDED[kind]} has ended, with status {process.returncode} (its logs: {logs})")

    def _end(self, reason: str) -> None:
        """The process, unless it is over with Ray anyway."""
        with self._ending:
            if self._over.is_set():
                return
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
