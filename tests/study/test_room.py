"""What cannot run here is said at once; what Ray does here suits a machine that does something else too."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from rem_study.cli import main
from rem_study.search.room import remedy, require_room, telling_of_waits
from rem_study.spec.study import ResourcesSpec

SMOKE = Path(__file__).parents[2] / "studies" / "smoke.yaml"
COMMAND = [sys.executable, "-m", "rem_study.cli"]


def run(*words: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_worker_niceness")}
    return subprocess.run(
        [*COMMAND, *words], env=env | environment, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.parametrize(
    "asked",
    [
        "resources.cpus=4096",
        pytest.param("resources.gpus=1", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")),
        pytest.param("resources.gpus=0.5", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")),
    ],
)
def test_what_this_machine_does_not_have_is_refused_before_anything_starts(asked: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["launch", str(SMOKE), "--root", str(tmp_path), "--set", asked])
    assert result.exit_code == 2, result.output
    assert len(result.stderr.splitlines()) == 1
    assert asked.split("=")[0] in result.stderr and "this machine has not so much for one trial" in result.stderr
    assert not list(tmp_path.iterdir())


def test_check_says_so_too() -> None:
    result = CliRunner().invoke(main, ["check", str(SMOKE), "--set", "resources.cpus=4096"])
    assert result.exit_code == 0
    assert "resources.cpus: 4096: this machine has not so much" in result.stdout
    assert "note" not in CliRunner().invoke(main, ["check", str(SMOKE)]).stdout


@pytest.mark.slow
def test_on_a_ray_without_such_a_node_the_wait_is_told_of(local_ray, capfd) -> None:
    waits: list[str] = []
    with telling_of_waits(ResourcesSpec(cpus=64), patience=0.2, waits=waits.append):
        time.sleep(1)
    assert len(waits) > 1 and all("no node that is there" in why for why in waits)
    told = capfd.readouterr().err.splitlines()
    assert [line for line in told if line.startswith("waiting: ")] == [
        "waiting: resources.cpus: 64: no node that is there has so much for one trial (there: 2 CPU(s) and 0 GPU(s)); "
        "trials begin when a node joins that does"
    ]
    with telling_of_waits(ResourcesSpec(cpus=2), patience=0.2, waits=waits.append):
        time.sleep(0.5)
    assert waits[-1] == ""
    assert "waiting" not in capfd.readouterr().err
    with pytest.raises(ValueError, match=r"^x: resources\.cpus: 64: no node has so much"):
        require_room(ResourcesSpec(cpus=64), "x")


@pytest.mark.slow
def test_workers_of_a_local_ray_are_as_nice_as_the_launch() -> None:
    code = (
        "import os, ray; from rem_study.search.connection import connected\n"
        "with connected(None, lambda: False):\n"
        "    print(os.nice(0), ray.get(ray.remote(lambda: os.nice(0)).remote()), 'RAY_worker_niceness' in os.environ)"
    )
    env = {name: value for name, value in os.environ.items() if name != "RAY_worker_niceness"}
    told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    own, workers, left_over = told.split()
    assert (own, left_over) == (workers, "False")


@pytest.mark.slow
def test_where_ray_cannot_start_the_remedy_is_said_once(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    result = run("launch", str(SMOKE), "--root", str(tmp_path / "runs"), TMPDIR=str(deep), RAY_TMPDIR=str(deep))
    assert result.returncode == 1
    assert "RAY_TMPDIR" in result.stderr and "launch again" not in result.stderr, result.stderr


@pytest.mark.parametrize(
    ("failure", "what"),
    [
        ("OSError: AF_UNIX path length cannot exceed 107 bytes", "short path"),
        ("PermissionError(13, 'Permission denied') /tmp/ray/session_1", "of your own"),
        ("[Errno 30] Read-only file system: '/root/.x'", "of your own"),
        ("OSError(28, 'No space left on device')", "full"),
        ("something else", ""),
    ],
)
def test_what_ray_says_leads_to_a_remedy(failure: str, what: str) -> None:
    assert what in remedy(failure) and bool(what) == bool(remedy(failure))


def test_a_page_that_is_piped_to_head_ends_quietly() -> None:
    for words in (("methods",), ("show", "rem"), ("check", str(SMOKE))):
        process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()  # as `head` does when it has read enough
        assert (process.stderr.read(), process.wait(60)) == (b"", 0)


def test_a_full_disk_is_no_gone_reader() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run([*COMMAND, "methods"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert result.returncode == 1 and b"No space left" in result.stderr


def test_a_root_that_is_not_utf_8_is_one_line(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path) + b"/r\xff"
    result = subprocess.run([*COMMAND, "launch", str(SMOKE), "--root", root], capture_output=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count(b"\n") == 1 and b"is not UTF-8" in result.stderr


def test_the_ui_on_a_taken_port_names_the_next_free_one(tmp_path: Path) -> None:
    import sqlite3

    sqlite3.connect(tmp_path / "mlflow.db").close()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = CliRunner().invoke(main, ["ui", str(tmp_path), "--port", str(port)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: port {port} is taken, by another server; the next free one: --port ")
    assert "http" not in result.output


def test_a_tracking_uri_in_the_environment_is_not_read_and_that_is_said(monkeypatch) -> None:
    from rem_study.spec import load_study
    from rem_study.study.launch import unread_tracking_uri

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:1")
    told = unread_tracking_uri(load_study(SMOKE))
    assert told.startswith("MLFLOW_TRACKING_URI") and "secret" not in told
    assert unread_tracking_uri(load_study(SMOKE, ("tracking.uri=http://127.0.0.1:2",))) == ""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert unread_tracking_uri(load_study(SMOKE)) == ""
