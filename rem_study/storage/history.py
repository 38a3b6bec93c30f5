"""What a study's log says, record by record put together.

A study may be extended (`rem_study.study.extension`). From there on its log holds the replicates of what the study was
before, whose places, (cell, method, phase, trial), need not be those that the extended study has for them. So an
`extended` record ends what came before: what had been run until then is known by what it is a result of, and becomes
the extended study's by `kept` records, which give such a result its place.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rem_study.storage.folder import Folder
from rem_study.storage.log import contents, summaries
from rem_study.storage.records import Record, decode
from rem_study.storage.rows import ResultKey, TrialKey, placed, result_key, trial_key
from rem_study.storage.sound import flaw
from rem_study.storage.study_id import OneStudy


@dataclass(frozen=True)
class History:
    """What has happened in a study.

    Attributes:
        rows: its replicates, each once (the first record counts), in the order in which they finished.
        originals: the records of the originals that were trained here.
        pruned: trials that were given up early, which no row says.
        basis: hashes of what results depend on and the study file does not hold; None before the first launch.
        damaged: one line for each record that cannot be read, naming file and line.
        earlier: what had been run before the study was last extended, whether or not it belongs to it now.
        extension: how often the study has been extended.
        extensions: the records of that: `changed`, `before` (study.yaml as it was) and `time`.
        study_id: which its log's files begin with; None where none of them does, and at a glance.
    """

    rows: list[dict[str, Any]]
    originals: list[Record]
    pruned: frozenset[TrialKey]
    basis: dict[str, str] | None
    damaged: list[str]
    earlier: Mapping[ResultKey, dict[str, Any]]
    extension: int
    extensions: list[Record]
    study_id: str | None = None

    def extended(self, record: Record) -> History:
        """The history after the study was extended, as `record` says."""
        return replace(
            self,
            rows=[],
            pruned=frozenset(),
            earlier=_results(self.earlier, self.rows),
            extension=record["extension"],
            extensions=[*self.extensions, record],
        )


def read_history(folder: Folder, glance: bool = False) -> History:
    """The log in `folder`, put together; `curves` of its rows are JSON text. It may be written to meanwhile.

    Args:
        glance: rows have what a summary keeps (`rem_study.storage.summary`) and no more: sooner, in less memory.
    """
    collecting = gc.isenabled()
    gc.disable()  # of a large log nothing is garbage, and looking for it takes as long as reading
    try:
        return _put_together(folder, glance)
    finally:
        if collecting:
            gc.enable()


def _put_together(folder: Folder, glance: bool) -> History:
    damaged: list[str] = []
    rows: list[dict[str, Any]] = []
    earlier: dict[Any, dict[str, Any]] = {}
    by_kind: dict[str, list[Record]] = {kind: [] for kind in ("original", "basis", "extended")}
    pruned: set[TrialKey] = set()
    extension = 0
    study = OneStudy(folder)
    for record in summaries(folder, damaged) if glance else decode(contents(folder, damaged, study)):
        if wrong := flaw(record):
            damaged.append(f"{folder}: a record that no launch has written ({wrong}) is ignored")
            continue
        kind = record["kind"]
        if record.get("extension", 0) > extension:  # `kept` records have it too, should the `extended` one be damaged
            extension = record["extension"]
            earlier, rows, pruned = _results(earlier, rows), [], set()
        if kind == "replicate":
            del record["kind"]
            rows.append(record)
        elif kind == "kept":
            known = earlier.get(_result(record))
            if known is not None:  # else its own record is damaged
                rows.append(placed(known, trial_key(record), record["proposed_by"]))
        elif kind == "pruned":
            pruned.add(trial_key(record))
        else:
            by_kind[kind].append(record)
    basis: dict[str, str] = {}
    for record in reversed(by_kind["basis"]):
        basis |= record["content"]
    return History(
        rows=_unique(rows),
        originals=by_kind["original"],
        pruned=frozenset(pruned),
        basis=basis or None,
        damaged=damaged,
        earlier=earlier,
        extension=extension,
        extensions=by_kind["extended"],
        study_id=study.known,
    )


def row_of(record: Record) -> dict[str, Any]:
    """The row of a replicate's record."""
    return {name: value for name, value in record.items() if name != "kind"}


def _unique(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    unique: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        unique.setdefault((trial_key(row), row["replicate"]), row)
    return list(unique.values())


def _result(row: Record) -> Any:
    """`result_key`, or what stands for it in a summary."""
    return row["result"] if "result" in row else result_key(row)


def _results(
    earlier: Mapping[ResultKey, dict[str, Any]], rows: Iterable[dict[str, Any]]
) -> dict[ResultKey, dict[str, Any]]:
    """`earlier` and what else `rows` are results of; of equal ones the first counts."""
    results = dict(earlier)
    for row in rows:
        results.setdefault(_result(row), row)
    return results
