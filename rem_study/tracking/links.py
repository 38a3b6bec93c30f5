"""Where in MLflow's UI a study's runs are: for pages that link to them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from rem_study.storage import Folder
from rem_study.tracking.place import DATABASE
from rem_study.tracking.runs import SUPERSEDED


def cell_runs(folder: Folder) -> dict[str, str]:
    """By cell the id of its run in the `mlflow.db` of the study in `folder`, which may be written to meanwhile. Empty
    where there is none on this machine: a server has the runs, an object store, or nobody."""
    if not isinstance(folder, Path) or not (folder / DATABASE).is_file():
        return {}
    uri = f"{(folder / DATABASE).resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=10)) as connection:
            found = connection.execute(
                "SELECT cell.value, cell.run_uuid FROM tags cell WHERE cell.key = 'cell' AND NOT EXISTS "
                "(SELECT 1 FROM tags more WHERE more.run_uuid = cell.run_uuid AND more.key IN ('method', ?))",
                (SUPERSEDED,),
            )
            return {str(cell): str(run) for cell, run in found}
    except sqlite3.DatabaseError:  # its first tables are being made
        return {}
