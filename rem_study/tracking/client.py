"""MLflow's client of a store, and the SQLite file behind it where there is no server."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from rem_study.storage import write_atomically
from rem_study.tracking.sqlite_uri import sqlite_file, sqlite_uri


def make_client(uri: str) -> Any:
    """MLflow's client of a store, which keeps quiet. Imports MLflow, which takes seconds."""
    # For MLflow as a whole, where the user has not said otherwise: no telemetry, no line a run, no traceback of what it
    # raises as well, and no retries below the writer's own (MLflow's take minutes, and log a line each).
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    from mlflow import MlflowClient  # seconds: not before the writer's thread needs it

    if database := sqlite_file(uri):
        if database.exists() and not database.is_file():  # a pipe would be waited for without end
            raise OSError(f"{database} is no regular file")
        database.parent.mkdir(parents=True, exist_ok=True)
        if not database.exists():
            _create(database)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _create(database: Path) -> None:
    """Let MLflow make its tables elsewhere, and put the file in its place whole: where a full disk or a kill cuts
    their making short, MLflow can never use it again."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory(prefix="rem-study-mlflow-") as place:
        made = Path(place) / database.name
        store = SqlAlchemyStore(sqlite_uri(made), (database.parent / "artifacts").as_uri())
        store.engine.dispose()
        if not database.exists():  # another study's writer may have been faster
            write_atomically(database, made.read_bytes())


def quicken_sqlite() -> None:
    """Let SQLite leave it to the system when what this process writes reaches the disk. For a process of ours only.

    A commit of MLflow's otherwise waits for the disk several times, and makes the log wait too. A killed process loses
    nothing by it; after a power cut a damaged mlflow.db may have to be removed and made again by `rem-study sync`.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "connect")
    def _(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")


def artifact_location(uri: str, given: str | None) -> str | None:
    """`given` as a URI; else a folder beside the SQLite file (MLflow itself takes the working directory)."""
    if given is not None:
        return given if "://" in given else Path(given).resolve().as_uri()
    database = sqlite_file(uri)
    return (database.parent / "artifacts").as_uri() if database else None


def takes_views(client: Any, uri: str) -> bool:
    """Whether the server behind `client` is an MLflow whose UI has shared views as experiments' tags: 3 or later.

    Whatever else serves MLflow's API (Databricks, an older server) is told nothing of them.
    """
    if not uri.startswith(("http://", "https://")):
        return uri.startswith(("sqlite:", "postgresql", "mysql", "mssql"))  # this MLflow's own tables
    from mlflow.utils.rest_utils import http_request

    try:
        credentials = client._tracking_client.store.get_host_creds()
        answer = http_request(credentials, "/version", "GET", max_retries=0, timeout=10)
        return answer.status_code == 200 and int(answer.text.partition(".")[0]) >= 3
    except Exception:  # no answer, or none that is a version
        return False
