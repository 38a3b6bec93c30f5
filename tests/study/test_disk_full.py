"""A disk that fills up: a clear error, nothing corrupted, and on from there once there is room."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from doubles.cheap import (
    RECORDS,
    Cheap,
    assert_each_replicate_once,
    assert_equal_tables,
    drive,
    ended,
    on_this_ray,
    records,
    study_file,
    wait_until,
)

from rem_study.cli import main
from rem_study.errors import StorageError
from rem_study.results.read import read_table
from rem_study.storage.folder import storage
from rem_study.storage.log import StudyLog, read_log
from rem_study.study.launch import launch
from rem_study.trial.originals import Original, OriginalStore

ROOM = 24 * 2**20


@contextlib.contextmanager
def small_disk(folder: Path, size: int = ROOM) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"no small disk to fill: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as folder:
        yield folder


def fill(disk: Path, spare: int = 0) -> Path:
    """A file that takes all room but `spare` bytes."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), open(ballast, "ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    if spare:
        with open(ballast, "rb+") as file:
            file.truncate(ballast.stat().st_size - spare)
    return ballast


def test_the_log_ends_in_whole_records_when_the_disk_is_full(disk):
    log = StudyLog(disk / "log")
    log.append({"n": 0})
    ballast = fill(disk)
    written = 0
    with pytest.raises(OSError, match="No space left"):
        for written in range(1, 10_000):
            log.append({"n": written, "text": "x" * 50})
    assert [record["n"] for record in read_log(disk / "log")[0]] == list(range(written))
    assert (disk / "log" / "00001.jsonl").read_bytes().endswith(b"\n")
    ballast.unlink()
    log.append({"n": written})
    assert read_log(disk / "log") == ([*({"n": 0},), *read_log(disk / "log")[0][1:]], [])
    assert read_log(disk / "log")[0][-1] == {"n": written}


def test_an_original_is_stored_whole_or_not_at_all(disk):
    import torch

    fill(disk, spare=16 * 1024)
    store = OriginalStore(disk / "originals")
    with pytest.raises(StorageError, match=r"disk/originals/a+\.pt: No space left on device"), storage(disk):
        store.save("a" * 32, Original({"weights": torch.zeros(2**14)}, {}))
    assert store.load("a" * 32) is None
    assert list((disk / "originals").iterdir()) == []


@pytest.fixture(scope="module")
def undisturbed(local_ray, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    return launch(study_file(root), root, worker=Cheap).folder


def stopped(driver: subprocess.Popen) -> str:
    """The one line that a launch ends in when it cannot write any more."""
    out, errors = driver.communicate(timeout=240)
    assert driver.returncode == 1, errors
    assert out == "" and "Traceback" not in errors
    *_, last = errors.splitlines()
    assert last.startswith("error: ") and "No space left on device" in last
    assert "What is finished is kept; to go on, launch again: " in last
    return last


def goes_on(disk: Path, path: Path, undisturbed: Path) -> None:
    (disk / "ballast").unlink()
    with ended(drive(path, disk, *on_this_ray())) as driver:
        _, errors = driver.communicate(timeout=240)
        assert driver.returncode == 0, errors
        assert "MLflow" not in errors
    assert records(disk / "cheap") == RECORDS
    assert_each_replicate_once(disk / "cheap")
    assert_equal_tables(undisturbed, disk / "cheap")


@pytest.mark.slow
def test_full_while_originals_are_stored(disk, tmp_path, undisturbed):
    path = study_file(tmp_path)
    fill(disk, spare=96 * 1024)
    with ended(drive(path, disk, *on_this_ray())) as driver:
        last = stopped(driver)
    assert "a worker could not go on" in last
    assert not any(record["kind"] == "replicate" for record in read_log(disk / "cheap" / "log")[0])
    goes_on(disk, path, undisturbed)


@pytest.mark.slow
def test_full_while_the_log_is_written(disk, tmp_path, undisturbed):
    path = study_file(tmp_path)
    with ended(drive(path, disk, *on_this_ray())) as driver:
        wait_until(lambda: records(disk / "cheap") >= 20)
        fill(disk)
        last = stopped(driver)
    assert "/log/" in last
    found, damaged = read_log(disk / "cheap" / "log")
    assert 20 <= len(found) < RECORDS and not damaged
    goes_on(disk, path, undisturbed)


@pytest.mark.slow
def test_full_while_the_tables_are_written(disk, tmp_path, undisturbed):
    path = study_file(tmp_path)
    with ended(drive(path, disk, *on_this_ray())) as driver:
        assert driver.wait(timeout=240) == 0
    before = [read_table(disk / "cheap", name) for name in ("trials.parquet", "cells.parquet")]
    (disk / "cheap" / "report.html").unlink()
    fill(disk)
    with ended(drive(path, disk, *on_this_ray())) as driver:
        stopped(driver)
    for table, name in zip(before, ("trials.parquet", "cells.parquet"), strict=True):
        assert read_table(disk / "cheap", name).equals(table)
    assert not list((disk / "cheap").glob(".*.[0-9]*"))
    goes_on(disk, path, undisturbed)


def test_a_report_that_cannot_be_written_ends_in_one_line(tmp_path, monkeypatch):
    def full(folder):
        raise OSError(28, "No space left on device", str(folder / "report.html"))

    monkeypatch.setattr("rem_study.report.page.write_report", full)
    done = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert (done.exit_code, done.output) == (1, f"error: {tmp_path}/report.html: No space left on device\n")
