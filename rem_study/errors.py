"""The failures that a user of rem-study can meet, and what a name was likely meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave is wrong. The message is one line per mistake and names file and field."""


class UnlearningError(RuntimeError):
    """A configuration broke the method it was given to (a loss that is not finite, say); the trial fails."""


class ClusterError(RuntimeError):
    """A Ray cluster could not be reached, or refused; the message is one line."""


class NotStartedError(ClusterError):
    """Ray cannot start here; launching again changes nothing, what the message says may."""


class StorageError(RuntimeError):
    """A disk or a share cannot be read or written (it is full, or gone); the message is one line and names the file."""


class TrackingError(RuntimeError):
    """MLflow could not be read or written; the message is one line without credentials."""


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """` (did you mean rem?)` where one of the `known` names is much like the text `given`; else empty.

    Upper and lower case are one; of several as near the first is named.
    """
    if not isinstance(given, str):
        return ""
    names = {name.lower(): name for name in reversed(list(known))}
    near = difflib.get_close_matches(given.lower()[:200], names, n=1, cutoff=0.6)
    return f" (did you mean {names[near[0]]}?)" if near else ""
