"""Whether the log still has what the tables say: a table is never written that has less than the one it replaces."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rem_study.errors import InputError, StorageError
from rem_study.results.study_folder import LOG_FOLDER
from rem_study.storage import Folder, ResultKey
from rem_study.storage.canonical import canonical_json
from rem_study.storage.rows import result_key


def require_nothing_lost(
    folder: Folder, rows: Iterable[Mapping[str, Any]], earlier: Mapping[ResultKey, Any], missing: str
) -> None:
    """Raise StorageError where trials.parquet has results that the log, `rows` and `earlier`, has not.

    A table that cannot be read says nothing: it is made again. Args: `missing` says what to do then.
    """
    from rem_study.results.read import read_table

    try:
        table = read_table(folder, "trials.parquet")
    except InputError:
        return
    known = {*map(result_key, rows), *earlier}
    names = ["cell", "method", "config", "replicate"]
    if not set(names) <= set(table.columns):
        return
    there = table[names].drop_duplicates().itertuples(index=False, name=None)
    lost = sum(
        (cell, method, canonical_json(json.loads(config)), int(replicate)) not in known
        for cell, method, config, replicate in there
    )
    if lost:
        raise StorageError(
            f"{folder / LOG_FOLDER}: lacks {lost} replicates that trials.parquet has: records are damaged, or files "
            f"were cut, emptied or removed; the tables stay as they are. {missing}"
        )
