"""Whether a record is one that a launch could have written: its checksum says only that nobody has changed it since."""

from __future__ import annotations

from typing import Any

_PLACE = {"cell": str, "method": str, "phase": str, "trial": int}
_NEEDED: dict[str, dict[str, Any]] = {
    "replicate": {**_PLACE, "replicate": int, "state": str, "end_time": int},
    "kept": {**_PLACE, "replicate": int, "proposed_by": str, "extension": int},
    "pruned": _PLACE,
    "original": {"corruption": str, "replicate": int},
    "basis": {"content": dict},
    "extended": {"extension": int, "changed": list, "before": dict, "time": (int, float)},
}
_NUMBER = (int, float, type(None))
_IF_THERE: dict[str, Any] = {
    **{
        name: _NUMBER
        for name in ("score", "score_healed", "score_utility", "utility_x_healed", "seconds", "sample_passes")
    },
    **{name: int for name in ("start_time", "end_time", "extension")},
    "config": dict,
    "state": str,
    "study": str,
    "proposed_by": (str, type(None)),
    "error": (str, type(None)),
}


def flaw(record: Any) -> str | None:
    """What is wrong with a record, in a word; None if it is sound."""
    if not isinstance(record, dict):
        return "no record"
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in _NEEDED:
        return "of no kind that is known"
    for name, types in _NEEDED[kind].items():
        if not _is(record.get(name), types):
            return f"without a sound {name}"
    wrong = [name for name, types in _IF_THERE.items() if name in record and not _is(record[name], types)]
    return f"without a sound {wrong[0]}" if wrong else None


def _is(value: Any, types: Any) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)
