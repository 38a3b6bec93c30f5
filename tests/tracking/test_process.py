"""The process that writes to MLflow beside the driver: the writer's work, and an end whenever the driver ends."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rem_study.tracking import About
from rem_study.tracking.client import make_client
from rem_study.tracking.process import TrackingProcess

CELL = "poison@0.5"


def row(trial: int) -> dict:
    return {
        "study": "grid",
        "corruption": "poison",
        "cell": CELL,
        "method": "rem",
        "phase": "search",
        "trial": trial,
        "replicate": 0,
        "state": "complete",
        "config": {"lr": 0.01},
        "healed": 0.5,
        "start_time": 1_000,
        "end_time": 2_000,
    }


def statuses(folder: Path) -> list[str]:
    with sqlite3.connect(folder / "mlflow.db") as database:
        return [status for (status,) in database.execute("select status from runs")]


def test_it_writes_what_it_is_told_and_gives_the_run_ids(tmp_path):
    process = TrackingProcess(f"sqlite:///{tmp_path}/mlflow.db", "grid", about=About(tags={"a": "b"}))
    for trial in range(3):
        process.record(row(trial))
        process.finish((CELL, "rem", "search", trial), "complete")
    assert process.drain()
    assert set(process.run_ids()) == {(CELL, "rem", "search", trial) for trial in range(3)}
    process.finish_study("FINISHED")
    assert process.close() and process.unwritten == 0
    assert statuses(tmp_path) == ["FINISHED"] * 5  # the study's run, the cell's, three trials'


def test_once_it_is_gone_the_study_goes_on_and_is_told_how_much_is_missing(tmp_path):
    process = TrackingProcess(f"sqlite:///{tmp_path}/mlflow.db", "grid", about=About())
    process._process.kill()
    process._process.wait()
    for trial in range(3):
        process.record(row(trial))
    assert not process.drain() and process.run_ids() == {}
    assert not process.close()
    assert process.unwritten >= 3


@pytest.mark.parametrize("full", [False, True], ids=["that does not answer", "that takes nothing more"])
def test_one_that_is_stopped_is_not_waited_for(tmp_path, monkeypatch, caplog, full):
    monkeypatch.setattr("rem_study.tracking.process.PATIENCE", 1.0)
    process = TrackingProcess(f"sqlite:///{tmp_path}/mlflow.db", "grid", about=About())
    os.kill(process._process.pid, signal.SIGSTOP)
    began = time.monotonic()
    for trial in range(2_000 if full else 3):  # more than a pipe holds
        process.record(row(trial) | {"error": "x" * 1_000})
    assert not process.drain() and process.run_ids() == {}
    assert not process.close()
    assert time.monotonic() - began < 30
    assert process.unwritten > 0 and process._process.poll() is not None
    assert "for 1 s" in caplog.text and "rem-study sync" in caplog.text


def test_a_database_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "mlflow.db")
    with pytest.raises(OSError, match="no regular file"):
        make_client(f"sqlite:///{tmp_path}/mlflow.db")


def test_it_ends_with_a_driver_that_is_killed(tmp_path):
    code = (
        "from rem_study.tracking import About; from rem_study.tracking.process import TrackingProcess; import os\n"
        f"process = TrackingProcess('sqlite:///{tmp_path}/mlflow.db', 'grid', about=About())\n"
        "print(process._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    pid = int(killed.stdout)
    deadline = time.monotonic() + 60
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
