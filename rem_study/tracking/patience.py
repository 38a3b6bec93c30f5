"""Waiting for a server of MLflow's that may never answer."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from rem_study.errors import TrackingError
from rem_study.storage.credentials import redact

T = TypeVar("T")

SILENCE = 120.0
"""Seconds that one call may take. MLflow's own patience with a server is a quarter of an hour and more."""
IN_ALL = 3600.0
"""Seconds that all calls may take together."""


class Patience:
    """Runs calls to MLflow in a thread and gives them up where it is silent, or where they take too long in all.

    Args:
        silence: seconds that one call may take.
        in_all: seconds from now on for all of them.
    """

    def __init__(self, uri: str, silence: float = SILENCE, in_all: float = IN_ALL) -> None:
        self._uri, self._silence, self._in_all = uri, silence, in_all
        self._end = time.monotonic() + in_all
        self._heard = time.monotonic()
        self._given_up = False

    def run(self, work: Callable[[], T], left: Callable[[], str]) -> T:
        """What `work` returns, or raises.

        Raises:
            TrackingError: it was given up; `left` says what was not done. It ends at its next call to MLflow.
        """
        answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def answer() -> None:
            try:
                answers.put((work(), None))
            except BaseException as error:
                answers.put((None, error))

        self._heard = time.monotonic()
        threading.Thread(target=answer, name="rem-study-sync", daemon=True).start()
        while True:
            until = min(self._heard + self._silence, self._end)
            try:
                result, error = answers.get(timeout=max(0.0, until - time.monotonic()))
                break
            except queue.Empty:
                if time.monotonic() >= min(self._heard + self._silence, self._end):
                    self._given_up = True
                    raise TrackingError(f"MLflow at {redact(self._uri)}: {self._why()}; {left()}") from None
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def _why(self) -> str:
        if time.monotonic() >= self._end:
            return f"has answered too slowly to be done in {self._in_all:g} s"
        return f"has not answered for {self._silence:g} s"

    def watched(self, client: Any) -> Any:
        """The client, each call to which is heard of."""
        return _Watched(client, self._call)

    def _call(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if self._given_up:
            raise TrackingError("given up")
        answer = call(*arguments, **named)
        self._heard = time.monotonic()
        return answer


class _Watched:
    def __init__(self, client: Any, call: Callable[..., Any]) -> None:
        self._client, self._call = client, call

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *arguments, **named: self._call(method, *arguments, **named)
