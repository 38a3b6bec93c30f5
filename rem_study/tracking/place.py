"""Where a study's MLflow runs are written: the server that it names, or `mlflow.db` in its folder.

SQLite needs a disk. Where the folder is on an object store, `mlflow.db` and its artifacts are written in a temporary
folder here and put there at the end; should that never come, the next launch writes them again from the log.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rem_study.errors import InputError
from rem_study.spec import Study
from rem_study.storage import Folder, ObjectPath
from rem_study.storage.folder import copy_tree
from rem_study.tracking.sqlite_uri import plainly_named, sqlite_uri

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"


@dataclass(frozen=True)
class TrackingPlace:
    """Where MLflow's client finds things.

    Attributes:
        uri: of the server or database.
        folder: the study's.
        scratch: for copies of objects; not used where `folder` is on a disk.
    """

    uri: str
    folder: Folder
    scratch: Path

    def local(self, paths: Iterable[Folder]) -> list[Path]:
        """Files and folders of the study's, copied to this machine where they lie on an object store."""
        here = []
        for path in paths:
            if isinstance(path, ObjectPath):
                local = self.scratch / "attached" / path.name
                copy_tree(path, local)
                path = local
            here.append(path)
        return here


@contextmanager
def tracking_place(study: Study, folder: Folder) -> Iterator[TrackingPlace]:
    """Write MLflow's runs of the study in `folder` inside this; nothing may write to MLflow any more at its end."""
    uri = study.spec.tracking.uri
    if isinstance(folder, Path):
        with plainly_named(folder.resolve() / DATABASE) as database:
            yield TrackingPlace(uri or sqlite_uri(database), folder, folder)
        return
    with tempfile.TemporaryDirectory(prefix="rem-study-mlflow-", ignore_cleanup_errors=True) as place:
        scratch = Path(place)
        if uri is not None:
            yield TrackingPlace(uri, folder, scratch)
            return
        if (folder / DATABASE).exists():
            _fetch(folder, scratch)
        yield TrackingPlace(sqlite_uri(scratch / DATABASE), folder, scratch)
        for name in (ARTIFACTS, DATABASE):  # the database last: what it names is there
            copy_tree(scratch / name, folder / name)


@contextmanager
def database_of(folder: Folder) -> Iterator[Path]:
    """`mlflow.db` of the study in `folder` with its artifacts beside it, on this machine, to be looked at.

    Raises:
        InputError: there is none.
    """
    if not (folder / DATABASE).is_file():
        yet = "" if isinstance(folder, Path) else ", or its first launch has not ended"
        raise InputError(f"{folder / DATABASE}: not there; this study was tracked elsewhere, or not at all{yet}")
    if isinstance(folder, Path):
        yield folder.resolve() / DATABASE
        return
    with tempfile.TemporaryDirectory(prefix="rem-study-mlflow-") as place:
        yield _fetch(folder, Path(place))


def _fetch(folder: ObjectPath, destination: Path) -> Path:
    for name in (DATABASE, ARTIFACTS):
        copy_tree(folder / name, destination / name)
    database = destination / DATABASE
    # MLflow has each run's artifacts by their path on the machine that wrote them.
    location = (destination / ARTIFACTS).as_uri()
    with closing(sqlite3.connect(database)) as connection, connection:
        experiments = connection.execute("SELECT artifact_location FROM experiments").fetchall()
        for (before,) in experiments:
            if before and before.startswith("file:") and before.rstrip("/").endswith(f"/{ARTIFACTS}"):
                connection.execute(
                    "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE substr(artifact_uri, 1, ?) = ?",
                    (location, len(before) + 1, len(before), before),
                )
                connection.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (location, before)
                )
    return database
