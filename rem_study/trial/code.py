"""Hashes of the source that results depend on, read without importing it: a change of code is a change of results."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_OF_ORIGINALS = ("seeds.py", "data", "models", "training", "trial/semantic.py")
_OF_RESULTS = ("seeds.py", "data", "models", "training", "unlearning", "trial")


@lru_cache
def code_fingerprint() -> str:
    """Of the source that training an original runs through."""
    return _hash_of(_OF_ORIGINALS)


@lru_cache
def results_fingerprint() -> str:
    """Of all source that a trial's result runs through."""
    return _hash_of(_OF_RESULTS)


def _hash_of(parts: tuple[str, ...]) -> str:
    """A hash of the files and folders `parts` of the package; a file that is moved or renamed counts as changed."""
    files = [_PACKAGE / part for part in parts if part.endswith(".py")]
    files += [file for part in parts for file in sorted((_PACKAGE / part).rglob("*.py"))]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(_PACKAGE).as_posix()}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
