"""Where this process finds prepared sets of images, and puts them: under the root of its studies.

No result depends on it: a set has the same pixels, labels and fingerprint wherever it lies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rem_study.storage.folder import Folder

VARIABLE = "REM_STUDY_PREPARED"
"""Names a folder on each machine that is to hold prepared sets instead, where the root is a slow share."""


@dataclass(frozen=True, eq=False)
class Place:
    """A folder of prepared sets. Two that name the same folder are two: what was read by one is looked at anew by the
    other.

    Attributes:
        thorough: whether every byte of a set that is there is looked at before it is used.
    """

    folder: Path
    thorough: bool = False


_place: Place | None = None


def current() -> Place | None:
    """Where sets are prepared now; None: each process reads images into its own memory."""
    return _place


def folder_of(root: Folder) -> Path:
    """The folder of prepared sets: `data` under `root`. An object store cannot be mapped into memory: there, as where
    the environment names one, it is a folder of each machine's own."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if isinstance(root, Path):
        return root.resolve() / "data"
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "rem-study" / "data"


def settle(root: Folder) -> None:
    """Use prepared sets under `root` from now on."""
    global _place
    _place = Place(folder_of(root))


@contextmanager
def prepared_under(root: Folder | None, thorough: bool = False) -> Iterator[None]:
    """While this holds, use prepared sets under `root`; None: prepare nothing."""
    global _place
    before = _place
    _place = None if root is None else Place(folder_of(root), thorough)
    try:
        yield
    finally:
        _place = before
