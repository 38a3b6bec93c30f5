"""MLflow's UI on a study's folder."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from rem_study.errors import TrackingError
from rem_study.storage import Folder
from rem_study.tracking.place import ARTIFACTS, database_of
from rem_study.tracking.runs import KEY, PARENT
from rem_study.tracking.sqlite_uri import plainly_named, sqlite_uri
from rem_study.tracking.views import links, run_link, views_in


def serve(folder: Folder, port: int = 5000) -> int:
    """Runs MLflow's UI on a study's folder, on loopback, until interrupted; returns its exit status.

    For the main thread. Raises InputError when the folder has no `mlflow.db`, TrackingError when the port is taken.
    """
    with database_of(folder) as database, plainly_named(database) as named:
        return _serve(named, port)


def _serve(database: Path, port: int) -> int:
    folder = database.parent
    _require_free(port)
    options = {
        "--backend-store-uri": sqlite_uri(database),
        "--registry-store-uri": sqlite_uri(database),
        "--artifacts-destination": (folder / ARTIFACTS).as_uri(),
        "--host": "127.0.0.1",
        "--port": str(port),
        "--workers": "1",
        "--uvicorn-opts": "--log-level warning",  # no line a request
    }
    command = [sys.executable, "-m", "mlflow", "server", *(word for pair in options.items() for word in pair)]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "PYTHONWARNINGS": "ignore",
    }
    # A session of its own: an interrupt ends it through us, without the traceback it would print.
    server = subprocess.Popen(
        command, cwd=folder, env={**quiet, **os.environ}, stdout=subprocess.DEVNULL, start_new_session=True
    )
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if _listens(server, port):
            for line in _ways_in(database, port):
                print(line, file=sys.stderr, flush=True)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGTERM, previous)
        if server.poll() is None:
            server.terminate()
            server.wait()


def _require_free(port: int) -> None:
    """Raise TrackingError, with the next free port, where another server has this one."""
    if _is_free(port):
        return
    following = next((other for other in range(port + 1, min(port + 1000, 65536)) if _is_free(other)), None)
    hint = "" if following is None else f"; the next free one: --port {following}"
    raise TrackingError(f"port {port} is taken, by another server{hint}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listens(server: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until `server` listens; False if it ends before."""
    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.1)
    return False


def _ways_in(database: Path, port: int) -> list[str]:
    """Links to the ready views of each study's runs, and to the study's own run: the list itself begins with the last
    runs."""
    address = f"http://127.0.0.1:{port}"
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        studies = connection.execute(
            "SELECT r.experiment_id, r.run_uuid FROM runs r JOIN tags k ON k.run_uuid = r.run_uuid AND k.key IN (?, ?) "
            "WHERE NOT EXISTS (SELECT 1 FROM tags p WHERE p.run_uuid = r.run_uuid AND p.key = ?) ORDER BY 1",
            (KEY, KEY.removeprefix("mlflow."), PARENT),
        ).fetchall()
        tags = connection.execute("SELECT experiment_id, key FROM experiment_tags").fetchall()
        (failed,) = connection.execute("SELECT count(*) FROM tags WHERE key = 'state' AND value = 'failed'").fetchone()
    ways: dict[str, str] = {}
    for experiment, run in studies:
        views = views_in(key for of, key in tags if of == experiment)
        ways |= {"The study": f"{address}/{run_link(str(experiment), run)}"} | links(address, str(experiment), views)
    if "Failures" in ways:
        ways = {f"Failures ({failed})" if name == "Failures" else name: link for name, link in ways.items()}
    width = max(map(len, ways), default=0) + 2
    return [f"{name + ':':{width}}{link}" for name, link in ways.items()]
