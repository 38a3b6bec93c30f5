"""The Ray that a study runs on: a cluster's, or one of its own."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from rem_study.errors import ClusterError, NotStartedError
from rem_study.search.own_ray import behind_a_token, inside, make_folder, on_loopback, remove_folder
from rem_study.search.room import remedy
from rem_study.search.watch import Lost, ending_with_ray, say_lost

_STARTS = 3
"""How often a local Ray is started before that is given up: on a busy machine it may miss deadlines of its own, which
no setting moves."""


@contextmanager
def connected(address: str | None, keep_logs: Callable[[], bool], lost: Lost = say_lost) -> Iterator[Path | None]:
    """Join the Ray cluster at `address`, or start a local one (`rem_study.search.own_ray`), while this holds.

    A Ray that this process is connected to already is used as it is. Gives the local one's folder, for what else is
    temporary.

    Args:
        keep_logs: asked at the end whether the local Ray's folder, with some MB of logs, is to stay; it also stays
            where what runs inside raises.
        lost: called with the reason before this process is ended, where Ray is gone; see `rem_study.search.watch`.

    Raises:
        ClusterError: Ray cannot be reached.
        NotStartedError: it cannot be started.
    """
    for name in (
        "ray.tune",
        "ray._private.authentication",
    ):  # what matters in them reaches the study's own log
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield None
        return
    if address is not None:
        _start({"address": address}, address)
        with ending_with_ray(lost), _ended_as_by_interrupt():
            yield None
        return
    with _own(keep_logs) as folder, behind_a_token():
        for left in reversed(range(_STARTS)):
            options = {"address": "local", "include_dashboard": False, "_temp_dir": inside(folder)}
            with on_loopback():
                if _start(options | {"_node_ip_address": "127.0.0.1"}, None, again=left > 0):
                    break
        with ending_with_ray(lost), _ended_as_by_interrupt():
            yield folder


def _start(options: dict[str, object], address: str | None, again: bool = False) -> bool:
    """Start or join Ray; False if it did not and there is `again` a try to come."""
    try:
        ray.init(logging_level=logging.WARNING, log_to_driver=False, **options)
        return True
    except Exception as error:  # of many types; some are Exception itself
        ray.shutdown()
        if again:
            return False
        raise _not_started(error, address) from error


def _not_started(error: Exception, address: str | None) -> ClusterError:
    where = f"at {address} cannot be reached" if address else "cannot be started here"
    if address and "RAY_AUTH_MODE" not in os.environ:
        where += " (if it asks for a token: RAY_AUTH_MODE=token)"
    told = f"Ray {where}: {' '.join(str(error).split())}"[:500]
    if address:
        return ClusterError(told)
    return NotStartedError(f"{advice}. {told}" if (advice := remedy(repr(error))) else told)


@contextmanager
def _own(keep_logs: Callable[[], bool]) -> Iterator[Path]:
    """A local Ray's folder; it goes if it never started."""
    try:
        folder = make_folder()
    except OSError as error:
        raise _not_started(error, None) from error
    try:
        yield folder
    except NotStartedError:
        remove_folder(folder)
        raise
    if not keep_logs():
        remove_folder(folder)


@contextmanager
def _ended_as_by_interrupt() -> Iterator[None]:
    """SIGTERM, which Ray would answer by aborting in the middle of its threads, is what Ctrl-C is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
