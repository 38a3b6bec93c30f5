"""What a study's log says, record by record put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rem_study.storage.folder import Folder
from rem_study.storage.log import Record, read_log
from rem_study.storage.rows import TrialKey, trial_key


@dataclass(frozen=True)
class History:
    """What has happened in a study.

    Attributes:
        rows: its replicates, each once (the first record counts), in the order in which they finished.
        originals: the records of the originals that were trained here.
        pruned: trials that were given up early, which no row says.
        basis: hashes of what results depend on and the study file does not hold; None before the first launch.
        damaged: one line for each record that cannot be read, naming file and line.
    """

    rows: list[dict[str, Any]]
    originals: list[Record]
    pruned: frozenset[TrialKey]
    basis: dict[str, str] | None
    damaged: list[str]


def read_history(folder: Folder) -> History:
    """The log in `folder`, put together. It may be written to meanwhile."""
    records, damaged = read_log(folder)
    by_kind: dict[str, list[Record]] = {kind: [] for kind in ("replicate", "original", "pruned", "basis")}
    for record in records:
        by_kind[record["kind"]].append(record)
    return History(
        rows=_unique(map(row_of, by_kind["replicate"])),
        originals=by_kind["original"],
        pruned=frozenset(map(trial_key, by_kind["pruned"])),
        basis=next((record["content"] for record in by_kind["basis"]), None),
        damaged=damaged,
    )


def row_of(record: Record) -> dict[str, Any]:
    """The row of a replicate's record."""
    return {name: value for name, value in record.items() if name != "kind"}


def _unique(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    unique: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        unique.setdefault((trial_key(row), row["replicate"]), row)
    return list(unique.values())
