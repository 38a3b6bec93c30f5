"""However a running launch is ended, it says so in a line and how to go on, and the study goes on from there."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from doubles.cheap import drive, ended, records, study_file, wait_until
from doubles.sockets import family

from rem_study.errors import StorageError
from rem_study.report.draw import draw_report
from rem_study.storage.log import segments

FOLDER = ("cut", "renamed", "deleted", "lock")
RAY = ("gcs_server", "raylet", "ray::DashboardAgent")


def harmed(folder: Path, harm: str, pid: int) -> None:
    (path,) = segments(folder / "log")
    if harm.startswith("SIG"):
        os.kill(pid, getattr(signal, harm))
    elif harm == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif harm == "renamed":
        folder.rename(folder.with_name("other"))
    elif harm == "deleted":
        shutil.rmtree(folder)
    elif harm == "lock":
        (folder / ".lock").unlink()
    else:
        os.kill(next(one.pid for one in family(pid) if one.name() == harm), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize(
    "harm", ["SIGTERM", "cut", "renamed", "deleted", "lock", "gcs_server", "raylet", "ray::DashboardAgent", "SIGHUP"]
)
def test_a_launch_that_is_ended_or_whose_folder_is_taken_away_ends_with_one_line(tmp_path, harm):
    path, folder = study_file(tmp_path), tmp_path / "cheap"
    with ended(drive(path, tmp_path)) as driver:
        wait_until(lambda: records(folder) >= 12 or driver.poll() is not None, pause=0.005)
        all_of_it = family(driver.pid)
        harmed(folder, harm, driver.pid)
        _, told = driver.communicate(timeout=30 if harm in RAY else 300)
    assert driver.returncode == 1, told
    last = [line for line in told.splitlines() if line.startswith(("error:", "stopped:", "interrupted"))]
    assert len(last) == 1 and "launch again: rem-study" in last[0], told
    assert "Traceback" not in told and "SIGABRT" not in told and "*** " not in told
    if harm in ("renamed", "deleted"):
        assert not (folder / "trials.parquet").exists()
    wait_until(lambda: not any(one.is_running() and one.status() != "zombie" for one in all_of_it), seconds=5)


def test_a_report_whose_process_is_killed_is_one_line(tmp_path, monkeypatch):
    import rem_study.report.draw

    def killed(module: str, function: str):
        process, connection = start(module, function)
        process.kill()
        return process, connection

    start = rem_study.report.draw.start_beside
    monkeypatch.setattr(rem_study.report.draw, "start_beside", killed)
    with pytest.raises(StorageError, match="rem-study report") as told:
        draw_report(tmp_path)
    assert "\n" not in str(told.value)
