"""Whether a study may become another one and keep what it has run.

It may if every result stays what it was, and nothing that was promised is taken back: more trials, replicates, sample
passes, races or confirmation; methods, corruptions and discovery rates that are new. What then comes out equals the
larger study launched at once; `rem_study.search.plan` says how.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rem_study.spec import StudySpec, cell_name

MAY_CHANGE = (
    "a study that has run may get more trials, replicates, sample_passes, race and confirm, "
    "and further methods, corruptions and discovery_rates"
)

_GROWING = (
    ("budget", "replicates"),
    ("budget", "sample_passes"),
    ("race", "replicates"),
    ("race", "top"),
    ("confirm", "replicates"),
    ("confirm", "everywhere"),
)
_ADDED_TO = ("methods", "corruptions", "discovery_rates")

_Path = tuple[str, ...]
_Difference = tuple[_Path, Any, Any]


class Absent:
    """The value of a field that is not there."""


@dataclass(frozen=True)
class Differences:
    """How one study differs from another.

    Attributes:
        extending: `budget.trials (6 there, 12 here)` and the like, for the terminal and the log.
        forbidden: the same of what must not change.
    """

    extending: list[str]
    forbidden: list[str]


def differences(before: StudySpec, after: StudySpec) -> Differences:
    """How `after`, which is to go on from `before`, differs from it, less what cannot change a result."""
    told: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for path, old, new in walk(by_name(before), by_name(after)):
        told[_extends(path, old, new, before)][_tell(path, old, new, before, after)] = None
    return Differences(list(told[True]), list(told[False]))


def by_name(spec: StudySpec) -> dict[str, Any]:
    """The study as plain values, lists as mappings by name, and how many trials each method has in the end."""
    plain = spec.identity()
    for name, method in plain["methods"].items():
        method["trials"] = spec.methods[name].trials or spec.budget.trials
    del plain["budget"]["trials"]
    plain["corruptions"] = {corruption["name"]: corruption for corruption in plain["corruptions"]}
    plain["discovery_rates"] = {f"{rate:g}": rate for rate in plain["discovery_rates"]}
    return plain


def walk(old: Any, new: Any, path: _Path = ()) -> Iterator[_Difference]:
    """Where two documents differ: path, old value, new value (`Absent` where there is none)."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from walk(old.get(key, Absent), new.get(key, Absent), (*path, key))
    elif old != new:
        yield path, old, new


def _extends(path: _Path, old: Any, new: Any, before: StudySpec) -> bool:
    if old is Absent:
        return (len(path) == 2 and path[0] in _ADDED_TO) or _starts_what_is_new(path, before)
    grows = path in _GROWING or (path[0] == "methods" and path[2:] == ("trials",))
    return grows and new is not Absent and _amount(new) >= _amount(old)


def _starts_what_is_new(path: _Path, before: StudySpec) -> bool:
    """Whether this is the starting point (`warm_start`) of a method or cell that was not there."""
    if path[0] != "warm_start" or len(path) not in (2, 3):
        return False
    cells = {cell_name(corruption.name, rate) for corruption in before.corruptions for rate in before.discovery_rates}
    return path[1] not in before.methods or (len(path) == 3 and path[2] not in cells)


def _amount(value: Any) -> float:
    return math.inf if value is None else float(value)  # None: no limit


def _tell(path: _Path, old: Any, new: Any, before: StudySpec, after: StudySpec) -> str:
    field = ".".join(path)
    if path[0] == "methods" and path[2:] == ("trials",):
        own = before.methods[path[1]].trials or after.methods[path[1]].trials
        field = field if own else "budget.trials"
    if old is Absent or new is Absent:
        return f"{field} ({'new' if old is Absent else 'gone'})"
    there, here = (_tell_value(value) for value in (old, new))
    return f"{field} ({there} there, {here} here)" if there and here else field


def _tell_value(value: Any) -> str:
    if value is None:
        return "none"
    return str(value) if isinstance(value, bool | int | float | str) and len(str(value)) <= 40 else ""
