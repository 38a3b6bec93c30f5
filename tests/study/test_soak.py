"""The smoke study launched again a hundred times, each time with work left: nothing is left behind by any of them."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from doubles.cheap import Cheap, study_file, trials, wait_until

from rem_study.storage.log import read_log, segments

pytestmark = pytest.mark.slow
RELAUNCHES = 100
SMOKE = Path(__file__).parents[2] / "studies" / "smoke.yaml"


class Place:
    """Where the launches of one soak put what is temporary, and a mark that all their processes carry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mark = f"REM_STUDY_SOAK={uuid.uuid4()}"
        name, _, value = self._mark.partition("=")
        self.environment = os.environ | {name: value, "TMPDIR": str(folder), "RAY_TMPDIR": str(folder)}
        self._shared = self._shared_memory()
        self._descriptors = self._open()

    def assert_clean(self) -> None:
        """No process of a launch lives, nor is a session, a scratch file, a descriptor or a shared segment left."""
        wait_until(lambda: not self._processes(), seconds=20, pause=0.1)
        assert [
            path for path in self.folder.rglob("*") if path.name.startswith(("session_2", "ray-", "rem-study"))
        ] == []
        assert self._open() == self._descriptors
        assert self._shared_memory() <= self._shared

    def _processes(self) -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                    found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it has ended
        return found

    @staticmethod
    def _open() -> int:
        return len(os.listdir("/proc/self/fd"))

    @staticmethod
    def _shared_memory() -> set[str]:
        """Segments that no running process has mapped: those of others on this machine come and go."""
        mapped = set()
        for path in Path("/proc").glob("[0-9]*"):
            try:
                mapped |= {line.split()[-1] for line in (path / "maps").read_text().splitlines() if "/dev/shm/" in line}
            except OSError:
                continue
        return {str(path) for path in Path("/dev/shm").iterdir()} - mapped


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir="/tmp"))  # short: Ray's sockets lie below it
    yield folder
    shutil.rmtree(folder)


def alone(soak: Callable[..., None], *folders: Path) -> None:
    """Run `soak` in a new process; in one where other tests ran, what they opened is still being closed."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        process.submit(soak, *folders).result()


def forget_the_last_record(log: Path) -> None:
    """So that the next launch has a trial to run, and needs Ray, its workers and MLflow for it."""
    last = segments(log)[-1]
    *kept, _ = last.read_bytes().splitlines(keepends=True)
    if kept:
        last.write_bytes(b"".join(kept))
    else:
        last.unlink()


def test_a_hundred_relaunches_of_the_smoke_study_leave_nothing_behind(tmp_path, place):
    alone(relaunch_the_smoke_study, tmp_path, place)


def relaunch_the_smoke_study(tmp_path: Path, temporary: Path) -> None:
    place = Place(temporary)
    command = [sys.executable, "-m", "rem_study.cli", "launch", str(SMOKE), "--root", str(tmp_path)]
    folder = tmp_path / "smoke"

    def launch() -> subprocess.Popen:  # in this process's own group
        return subprocess.Popen(
            command, env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    assert launch().wait(timeout=300) == 0
    before = trials(folder)
    for _ in range(RELAUNCHES):
        forget_the_last_record(folder / "log")
        with launch() as driver:
            _, errors = driver.communicate(timeout=300)
        assert driver.returncode == 0, errors
        place.assert_clean()
    assert trials(folder).equals(before)
    assert not read_log(folder / "log")[1]
    assert {path.name for path in folder.iterdir() if path.name.startswith(".")} == {".lock", ".study-id"}


def descriptors() -> int:
    """Of this process, less closed TCP sockets: `ray.init` and `ray.shutdown` alone leave some, about one in two."""
    network = Path("/proc/self/net")
    tcp = {line.split()[9] for name in ("tcp", "tcp6") for line in (network / name).read_text().splitlines()[1:]}
    unix = {line.split()[6] for line in (network / "unix").read_text().splitlines()[1:]}
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        try:
            kind, _, number = os.readlink(path).partition(":")
        except OSError:
            continue  # the one that reads the folder
        count += kind != "socket" or number.strip("[]") in tcp | unix
    return count


def test_launches_in_one_process_keep_no_descriptor_and_no_process(tmp_path):
    alone(relaunch_in_this_process, tmp_path)


def relaunch_in_this_process(tmp_path: Path) -> None:
    from rem_study.study.launch import launch

    path = study_file(tmp_path, budget={"trials": 1, "replicates": 1}, resources={"concurrent": 2})
    launch(path, tmp_path, worker=Cheap)
    counts = []
    for _ in range(5):
        forget_the_last_record(tmp_path / "cheap" / "log")
        assert launch(path, tmp_path, worker=Cheap).done
        children = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
        counts.append((descriptors(), sum(map(len, children))))
    assert counts[-1] == counts[0], counts
