"""`rem-study doctor`: on this machine, whose Ray and MLflow really run, and on a few that are broken on purpose."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from rem_study.study import doctor


def told(look: object) -> dict[str, doctor.Finding]:
    return {finding.subject: finding for finding in look}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_machine_that_runs_these_tests_is_sound(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rem_study.cli", "doctor", "--root", str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert not [line for line in lines if line.startswith("wrong")]
    for subject in ("Python", "packages", "torch ", "torchvision", "shared memory", "ports", "Ray", "MLflow"):
        assert any(line.split(maxsplit=1)[1].startswith(subject) for line in lines), subject
    assert "a worker answered" in done.stdout and "a run was written" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_ray_that_cannot_start_is_wrong_with_its_remedy(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    command = [sys.executable, "-m", "rem_study.cli", "doctor"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "RAY_TMPDIR": str(long)}
    )
    assert done.returncode == 1
    wrong = [line for line in done.stdout.splitlines() if line.startswith("wrong")]
    assert len(wrong) == 1 and "Ray" in wrong[0] and "RAY_TMPDIR=/tmp" in wrong[0]
    assert "1 of these would stop a launch" in done.stderr


def test_a_folder_that_cannot_be_written_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fine = told(doctor._folder("studies", tmp_path / "new" / "runs", "elsewhere"))["studies"]
    assert fine.state in ("ok", "warning") and "can be written" in fine.found and not (tmp_path / "new").exists()
    unwritable = told(doctor._folder("studies", Path("/proc/runs"), "elsewhere"))["studies"]
    assert (unwritable.state, unwritable.remedy) == ("wrong", "elsewhere")


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "FULL_DISK", 2**80)
    assert told(doctor._folder("home", tmp_path, "elsewhere"))["home"].state == "wrong"
    monkeypatch.setattr(doctor, "FULL_DISK", 0)
    monkeypatch.setattr(doctor, "LOW_DISK", 2**80)
    assert told(doctor._folder("home", tmp_path, "elsewhere"))["home"].state == "warning"


def test_a_port_that_is_taken_is_a_warning_with_another() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        taken = told(doctor._ports(port))["ports"]
    assert taken.state == "warning" and taken.remedy == f"rem-study ui DIR --port {port + 1}"
    assert told(doctor._ports(port))["ports"].state == "ok"


def test_a_torchvision_for_another_torch_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert told(doctor._torchvision())["torchvision"].state == "ok"
    monkeypatch.setattr(torch, "__version__", "2.1.0+cpu")
    found = told(doctor._torchvision())["torchvision"]
    assert found.state == "wrong" and "here is 2.1.0+cpu" in found.found and "one index" in found.remedy


def test_a_look_that_breaks_is_wrong_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("_ray", "_mlflow", "_torchvision"):
        monkeypatch.setattr(doctor, name, lambda: iter(()))

    def broken() -> None:
        raise ImportError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(doctor, "_torch", broken)
    found = told(doctor.findings(tmp_path, 1))
    assert found["torch"].state == "wrong" and "libcudart" in found["torch"].found
    assert found["ports"].state == "ok"
