"""Whether there is a machine that can hold what one trial asks for, and what to do where Ray cannot start."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rem_study.errors import InputError
from rem_study.spec.study import ResourcesSpec

PATIENCE = 60.0
"""Seconds that a cluster may take to come up with a node, before a line says that none is there."""


def lacking(resources: ResourcesSpec) -> str:
    """What this machine, or the Ray that this process is connected to, does not have for one trial; empty: nothing."""
    import ray

    if ray.is_initialized():
        return _lacking(resources, "no node", _nodes())
    if resources.cpus == 1 and not resources.gpus:
        return ""
    from ray._private.accelerators import get_accelerator_manager_for_resource
    from ray._private.utils import get_num_cpus

    gpus = 0
    if resources.gpus:
        manager = get_accelerator_manager_for_resource("GPU")
        gpus = manager.get_current_node_num_accelerators() if manager else 0
        visible = manager.get_current_process_visible_accelerator_ids() if manager else None
        gpus = gpus if visible is None else min(gpus, len(visible))
    return _lacking(resources, "this machine", [(float(get_num_cpus()), float(gpus))])


def require_room(resources: ResourcesSpec, origin: str) -> None:
    """Raise InputError where one trial can never start on the Ray that a launch without an address has."""
    if lack := lacking(resources):
        raise InputError(f"{origin}: {lack}; --address names a cluster that does, --set resources.cpus=1 asks for less")


@contextmanager
def telling_of_waits(
    resources: ResourcesSpec, patience: float = PATIENCE, waits: Callable[[str], None] = lambda why: None
) -> Iterator[None]:
    """While this holds: a line on stderr once no node of the cluster could hold a trial for `patience` seconds, and one
    when there is such a node. The study goes on waiting: nodes may be added.

    Args:
        waits: is told the same: why no trial can be placed; an empty text once one can.
    """
    ended = threading.Event()

    def watch() -> None:
        told = False
        while not ended.wait(patience):
            try:
                lack = _lacking(resources, "no node that is there", _nodes())
            except Exception:  # the cluster is being lost, which is said elsewhere
                return
            if lack and not told:
                print(f"waiting: {lack}; trials begin when a node joins that does", file=sys.stderr, flush=True)
            elif told and not lack:
                print("a node has joined that can hold trials", file=sys.stderr, flush=True)
            waits(lack)
            told = bool(lack)

    thread = threading.Thread(target=watch, name="rem-study-room", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(5)


def _nodes() -> list[tuple[float, float]]:
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(float(one.get("CPU", 0)), float(one.get("GPU", 0))) for one in alive]


def _lacking(resources: ResourcesSpec, who: str, nodes: list[tuple[float, float]]) -> str:
    if any(cpus >= resources.cpus and gpus + 1e-9 >= resources.gpus for cpus, gpus in nodes):
        return ""
    asked = [f"resources.cpus: {resources.cpus}"]
    asked += [f"resources.gpus: {resources.gpus:g}"] if resources.gpus else []
    verb = "has not" if who == "this machine" else "has"
    there = ", ".join(f"{cpus:g} CPU(s) and {gpus:g} GPU(s)" for cpus, gpus in nodes[:4]) or "none"
    return f"{', '.join(asked)}: {who} {verb} so much for one trial (there: {there})"


def remedy(failure: str) -> str:
    """What to do about Ray's not starting on this machine, by what it says; empty where that is not known."""
    if re.search(r"AF_UNIX|socket.*(path|name).*(long|exceed)|File name too long", failure, re.IGNORECASE):
        return "its sockets' paths are too long: set RAY_TMPDIR=/tmp, or another short path"
    if re.search(r"Permission denied|PermissionError|Read-only file system|Operation not permitted", failure):
        return (
            "a folder that it needs cannot be written: set RAY_TMPDIR to a short path of your own, and HOME if need be"
        )
    if re.search(r"No space left|disk is full", failure):
        return "the disk of its folder is full: set RAY_TMPDIR to a short path on another"
    return ""
