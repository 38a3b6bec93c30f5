"""A Ray of this launch's own, out of reach of the other users of its machine.

They share loopback with it, and `/tmp`. So it listens on loopback only, answers nobody without a token that is made for
it, and keeps its sockets, logs and files in a folder that only its user may enter. Ray by itself would take the token
of `~/.ray/auth_token`, which it writes for all to read, and a folder in `/tmp/ray` that it opens to all.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

NICENESS = "RAY_worker_niceness"
"""How much nicer than Ray itself its workers are; Ray's own default is 15."""

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


def make_folder() -> Path:
    """A folder for one local Ray, for its user only, of a short name: Ray's sockets lie deep in it. Raises OSError."""
    return Path(tempfile.mkdtemp(prefix="ray-", dir=ray._common.utils.get_default_system_temp_dir()))


def inside(folder: Path) -> str:
    """Where in `folder` Ray may have its own: it lets everybody write to what it is given."""
    return str(folder / "r")


def remove_folder(folder: Path) -> None:
    """Remove it; what is still ending may write there yet."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


@contextmanager
def behind_a_token() -> Iterator[None]:
    """Ray started inside answers to a new token only, while this holds; to the user's, where the environment has one.

    `RAY_AUTH_MODE=disabled`, or any other mode than `token`, is left as it is.
    """
    asked = os.environ.get(MODE, "token").lower() == "token"
    if not asked or os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH):
        yield
        return
    changes = {MODE: "token", TOKEN: secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    read_token_anew()
    try:
        yield
    finally:
        if not ray.is_initialized():  # else it could not even be ended, should that have been interrupted
            _restore(before)
            read_token_anew()


def read_token_anew() -> None:
    """Have this process ask for the token, or none, that the environment has now; Ray reads it once."""
    ray._raylet.Config.initialize("")
    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def on_loopback() -> Iterator[None]:
    """Ray started inside listens on loopback only, and its workers run as nicely as this process.

    Ray takes 127.0.0.1 for "find the outward address", and a node that has one listens on all of them. This switch,
    made to spare macOS and Windows their firewalls' questions, leaves the loopback address as it is. At Ray's own
    niceness (15) workers get next to nothing of a processor that does something else too.
    """
    constants = ray._private.ray_constants
    name, before = constants.ENABLE_RAY_CLUSTERS_ENV_VAR, constants.ENABLE_RAY_CLUSTER
    changes = {name: "0"}
    if NICENESS not in os.environ:
        changes[NICENESS] = "0"
    constants.ENABLE_RAY_CLUSTER = False  # here, and in what Ray starts
    try:
        with _environment(changes):
            yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        _restore(before)


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
