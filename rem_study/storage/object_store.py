"""A study on an object store, which knows neither appending nor locks: its log in objects of their own, its lock an
object that is created once and renewed."""

from __future__ import annotations

import _thread
import contextlib
import os
import re
import socket
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from rem_study.errors import ClusterError, InputError
from rem_study.storage.folder import Folder, ObjectPath

BEAT = 5.0
"""Seconds between two renewals of the lock."""

PATIENCE = 30.0
"""Seconds without a renewal after which a lock's owner is taken for dead. No clocks of two machines are compared."""

PARTS = 1_000
"""Objects of one record each after which they are merged into one."""


class ObjectLog:
    """Writes each line as an object of its own, `00001-000042.jsonl`: launch, then line.

    An object is created or refused, never replaced: a driver that has lost the lock without knowing cannot spoil what
    another writes. At the end, and each `PARTS` lines, they are merged into `00001.jsonl`, since thousands of small
    objects are slow to read. A line may stand in both, after a kill between merging and removing: readers take the
    first of equal records.
    """

    def __init__(self, folder: ObjectPath, first: bytes | None = None) -> None:
        """`first` is the line that each launch's part of the log begins with, if there is to be one."""
        self._folder, self._first = folder, first
        self._launch = 0
        self._parts = 0

    def append(self, line: bytes, record: object = None) -> None:
        """Write one line, `record`; it is in the store on return. Raises OSError; nothing has been written then."""
        if self._parts == PARTS:
            self.close()
        if not self._launch:
            self._launch = 1 + max((launch for launch, _ in _numbered(self._folder)), default=0)
        if self._first is not None and not self._parts:
            self._create(self._first)
        self._create(line)

    def _create(self, line: bytes) -> None:
        part = self._folder / f"{self._launch:05d}-{self._parts:06d}.jsonl"
        try:
            part.create(line)
        except FileExistsError:
            if part.read_bytes() != line:  # else the store had it, and its answer was lost
                raise
        self._parts += 1

    def check(self) -> None:
        """Nothing: objects are created, never changed, and the lock is watched."""

    def close(self) -> None:
        """Merge this launch's objects, and those that a killed one left, into one a launch."""
        self._launch = self._parts = 0
        with contextlib.suppress(OSError):  # what is not merged is read as it is
            _merge(self._folder)


def segments(folder: ObjectPath) -> list[tuple[ObjectPath, bytes]]:
    """The log's objects and their contents, in the order in which they were written."""
    while True:
        paths = [path for _, path in _numbered(folder)]
        try:
            return list(zip(paths, _read(paths), strict=True))
        except FileNotFoundError:  # a launch has merged some meanwhile
            continue


def is_first(path: Folder) -> bool:
    """Whether this file of a log, on a disk or in a store, begins a launch's part of it."""
    return "-" not in path.stem or path.stem.endswith("-000000")


def _read(paths: Sequence[ObjectPath]) -> list[bytes]:
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(ObjectPath.read_bytes, paths))


def _numbered(folder: ObjectPath) -> list[tuple[int, ObjectPath]]:
    """Launch and object, in the order in which to read them: what is merged, then what a merge may have left."""
    matches = ((re.fullmatch(r"(\d+)(?:-(\d+))?\.jsonl", path.name), path) for path in folder.iterdir())
    found = [(int(match[1]), int(match[2] or -1), path) for match, path in matches if match]
    return [(launch, path) for launch, _, path in sorted(found, key=lambda numbers: numbers[:2])]


def _merge(folder: ObjectPath) -> None:
    launches: dict[int, list[ObjectPath]] = defaultdict(list)
    for launch, path in _numbered(folder):
        launches[launch].append(path)
    for launch, paths in launches.items():
        merged = folder / f"{launch:05d}.jsonl"
        parts = [path for path in paths if path != merged]
        if not parts:
            continue
        lines = dict.fromkeys(line for content in _read(paths) for line in content.split(b"\n") if line)
        merged.write_bytes(b"".join(line + b"\n" for line in lines))
        for part in parts:
            part.unlink(missing_ok=True)


@contextmanager
def held(folder: ObjectPath) -> Iterator[None]:
    """Hold the study's folder for one driver.

    The lock is the object `.lock-NNNNN` of the highest number; its owner renews it. Whoever finds it not renewed for
    `PATIENCE` seconds creates the next number, which the store grants to one only. An owner that was taken for dead
    (cut off, stopped) sees the higher number at its next renewal, and is interrupted as if by Ctrl-C.

    Raises:
        InputError: another driver holds the folder.
        ClusterError: another driver has taken the folder over meanwhile.
    """
    lock = _acquire(folder)
    lock.start()
    try:
        yield
    except KeyboardInterrupt:
        if not lock.lost:
            raise
    finally:
        lock.release()
    if lock.lost:
        raise ClusterError(f"{folder}: another launch took this study over, since this one seemed dead; it has stopped")


class _Lock(threading.Thread):
    def __init__(self, folder: ObjectPath, number: int, owner: str) -> None:
        super().__init__(name="rem-study-lock", daemon=True)
        self.lost = False
        self._folder, self._number, self._owner = folder, number, owner
        self._beat = 0
        self._released = threading.Event()

    @property
    def content(self) -> bytes:
        return f"{self._owner}\n{self._beat}\n".encode()

    def run(self) -> None:
        path = _path(self._folder, self._number)
        while not self._released.wait(BEAT):
            with contextlib.suppress(OSError):  # out of reach for now: whoever takes over is seen later
                if max(_numbers(self._folder), default=0) != self._number or not self._owns(path):
                    self.lost = True
                    _thread.interrupt_main()
                    return
                self._beat += 1
                path.write_bytes(self.content)

    def _owns(self, path: ObjectPath) -> bool:
        return path.exists() and path.read_bytes().startswith(self._owner.encode())

    def release(self) -> None:
        self._released.set()
        self.join()
        if not self.lost:
            with contextlib.suppress(OSError):  # it is taken for dead in PATIENCE seconds
                for number in _numbers(self._folder):
                    if number <= self._number:
                        _path(self._folder, number).unlink(missing_ok=True)


def _acquire(folder: ObjectPath) -> _Lock:
    owner = f"{socket.gethostname()}, process {os.getpid()} ({uuid.uuid4().hex})"
    while True:
        number = max(_numbers(folder), default=0)
        if number and not _is_dead(folder, number):
            continue
        lock = _Lock(folder, number + 1, owner)
        path = _path(folder, number + 1)
        try:
            path.create(lock.content)
            if path.read_bytes() == lock.content:  # a store that does not know creating has replaced it
                return lock
        except (FileExistsError, FileNotFoundError):
            continue


def _is_dead(folder: ObjectPath, number: int) -> bool:
    """Watch a lock: True if it is not renewed, False if it is released. Raises InputError if it is renewed."""
    path = _path(folder, number)
    try:
        content = path.read_bytes()
        owner = content.decode(errors="replace").partition(" (")[0]
        print(f"{folder}: locked by {owner}; waiting to see whether that is alive", file=sys.stderr)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            time.sleep(BEAT / 5)
            if path.read_bytes() != content:
                raise InputError(f"{folder}: another launch of this study is running ({owner})")
    except FileNotFoundError:
        return False
    return True


def _numbers(folder: ObjectPath) -> list[int]:
    matches = (re.fullmatch(r"\.lock-(\d+)", path.name) for path in folder.iterdir())
    return [int(match[1]) for match in matches if match]


def _path(folder: ObjectPath, number: int) -> ObjectPath:
    return folder / f".lock-{number:05d}"
