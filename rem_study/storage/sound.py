"""Whether a record is one that a launch could have written: its checksum says only that nobody has changed it since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LARGEST = 2**63
_EXACT = 2**53
"""Whole numbers up to here are numbers of 64 bits, too."""


# Of what JSON was read into, a type says all by itself, and in half the time; `bool` is no `int` then.


def _text(value: Any) -> bool:
    return type(value) is str


def _whole(value: Any) -> bool:
    return type(value) is int and -_LARGEST < value < _LARGEST


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST


def _number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and -_EXACT <= value <= _EXACT)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _curves(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, str) and value[:1] + value[-1:] == "{}")


def _samples(value: Any) -> bool:
    return _count(value) or (isinstance(value, float) and value.is_integer())


Check = Callable[[Any], bool]

_PLACE: dict[str, Check] = {"cell": _text, "method": _text, "phase": _text, "trial": _count}
_ROW: dict[str, Check] = {
    "dataset": _text,
    "model": _text,
    "corruption": _text,
    "discovery_rate": _number,
    "config": _mapping,
    "start_time": _whole,
}
"""What tables cannot be made without, and a summary of a record leaves out."""
_NEEDED: dict[str, dict[str, Check]] = {
    "replicate": {**_PLACE, "replicate": _count, "state": _text, "end_time": _whole},
    "kept": {**_PLACE, "replicate": _count, "proposed_by": _text, "extension": _count},
    "pruned": _PLACE,
    "original": {"corruption": _text, "replicate": _count},
    "basis": {"content": _mapping},
    "extended": {"extension": _count, "changed": _list, "before": _mapping, "time": _number},
}
_NUMBERS = (
    "regularity memorised carry_over healed healed_discovered healed_undiscovered utility test_accuracy "
    "utility_x_healed attack_success found_average_precision found_recall forget_accuracy retain_accuracy score_oracle "
    "score_deployable score score_healed score_utility epochs seconds compile_seconds"
)
_SAMPLES = "sample_passes healed_samples healed_discovered_samples utility_samples attack_samples"
COLUMNS: dict[str, Check] = {
    **dict.fromkeys(["study", "regularity_rank", "proposed_by", "mlflow_run_id", "error"], _text),
    **dict.fromkeys(_SAMPLES.split(" "), _samples),
    **dict.fromkeys(_NUMBERS.split(" "), _number),
    "curves": _curves,
    **_ROW,
    **_NEEDED["replicate"],
}
"""A replicate's, by name; those that are not needed may be null."""
_IF_THERE = {name: check for name, check in COLUMNS.items() if name not in _NEEDED["replicate"]} | {"extension": _count}


def flaw(record: Any) -> str | None:
    """What is wrong with a record, or with its summary, in a word; None if it is sound."""
    if not isinstance(record, dict):
        return "no record"
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in _NEEDED:
        return "of no kind that is known"
    for name, check in _NEEDED[kind].items():
        if not check(record.get(name)):
            return f"without a sound {name}"
    for name, value in record.items():
        if value is not None and (sound := _IF_THERE.get(name)) and not sound(value):
            return f"without a sound {name}"
    return None


def misfit(row: dict[str, Any]) -> str | None:
    """Why a sound replicate can be put into no table of this version; None if it can."""
    if row.keys() - COLUMNS.keys():
        return f"has {min(row.keys() - COLUMNS.keys())[:80]!r}, which this version of rem-study does not know"
    lacking = [name for name, check in _ROW.items() if not check(row.get(name))]
    return f"has no sound {lacking[0]}" if lacking else None
