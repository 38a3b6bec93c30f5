"""A study's folder: the append-only log, which is the truth, and the lock that keeps a second driver out."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rem_study.errors import InputError, StorageError
from rem_study.storage import object_store, summary
from rem_study.storage.folder import Folder, ObjectPath, remove_partial, require_plain
from rem_study.storage.records import Record, content_of, decode, encode
from rem_study.storage.study_id import OneStudy, begins, header, is_header


class StudyLog:
    """Appends records; each is on the disk, or in the object store, before `append` returns: in the file that whoever
    reads the log will open, which is looked up by its name each time.

    Args:
        holds: raises StorageError unless the study's folder is still held (see `locked`).
        study_id: what each file is to begin with; nothing where it is None.
    """

    def __init__(self, folder: Folder, holds: Callable[[], None] = lambda: None, study_id: str | None = None) -> None:
        first = None if study_id is None else header(study_id)
        if isinstance(folder, Path):
            self._lines: _Segment | object_store.ObjectLog = _Segment(folder, holds, first)
        else:
            self._lines = object_store.ObjectLog(folder, None if first is None else encode(first))

    def append(self, record: Record) -> None:
        """Write one record.

        Raises:
            OSError: it cannot be written; the log then still ends in whole records.
            StorageError: the log is not what this launch has written any more; nothing was appended.
        """
        self._lines.append(encode(record), record)

    def check(self) -> None:
        """Raise StorageError unless all files of the log are there, as long as they were and not replaced."""
        self._lines.check()

    def close(self) -> None:
        """End this launch's part of the log, if one was begun."""
        self._lines.close()


class _Segment:
    """A file that one launch appends to, so that nothing is ever appended behind a line that a kill has torn."""

    def __init__(self, folder: Path, holds: Callable[[], None], first: Record | None) -> None:
        self._folder, self._holds, self._first = folder, holds, first
        self._before = {path: _identity(path.stat(), True) for path in segments(folder)}
        self._file: IO[bytes] | None = None
        self._summary: summary.Summary | None = None

    def append(self, line: bytes, record: Record) -> None:
        if self._file is None:
            self.check()
            self._folder.mkdir(parents=True, exist_ok=True)
            number = 1 + max((int(path.stem) for path in segments(self._folder)), default=0)
            self._file = open(self._folder / f"{number:05d}.jsonl", "xb", buffering=0)  # noqa: SIM115
            self._summary = summary.Summary(Path(self._file.name))
        if self._first is not None:
            begin, self._first = self._first, None
            self._write(self._file, encode(begin), begin)
        self._write(self._file, line, record)

    def _write(self, file: IO[bytes], line: bytes, record: Record) -> None:
        self._check_own()
        whole = file.tell()
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
            os.fsync(file.fileno())
        except OSError as error:
            error.filename = file.name
            file.truncate(whole)
            file.seek(whole)
            raise
        if self._summary is not None:
            self._summary.add(line, record)

    def check(self) -> None:
        for path, before in self._before.items():
            _require(path, before)
        self._check_own()

    def _check_own(self) -> None:
        self._holds()
        if self._file is not None:
            own = os.fstat(self._file.fileno())
            _require(Path(self._file.name), (own.st_dev, own.st_ino, self._file.tell(), 0))

    def close(self) -> None:
        if self._summary is not None:
            self._summary.close()
            self._summary = None
        if self._file is not None:
            self._file.close()
            self._file = None


_Identity = tuple[int, int, int, int]
"""Device, inode, size; when it was last written, 0 of a file that is being written."""


def _identity(found: os.stat_result, done: bool) -> _Identity:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns if done else 0


def _require(path: Path, known: _Identity) -> None:
    """Raise StorageError unless the file at `path` is the one known, and as long."""
    try:
        found = _identity(os.lstat(path), known[3] > 0)
    except OSError as error:
        raise StorageError(f"{path}: is gone ({error.strerror}); this launch has stopped") from None
    if found[:2] != known[:2]:
        raise StorageError(f"{path}: is another file than this launch began with; it has stopped")
    if found[2:] != known[2:]:
        raise StorageError(
            f"{path}: has been changed: {known[2]} bytes before, {found[2]} now; this launch has stopped"
        )


def segments(folder: Path) -> list[Path]:
    """The log's files in the order in which they were written; none where there is no folder. Raises OSError."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(folder / name for name in names if re.fullmatch(r"\d+\.jsonl", name))


def read_log(folder: Folder) -> tuple[list[Record], list[str]]:
    """All whole records in order, and one line for each damaged one, naming file and line.

    A torn line at the end of a segment is what a kill leaves behind; it is dropped without a word.
    """
    damaged: list[str] = []
    return [json.loads(content) for content in contents(folder, damaged)], damaged


def contents(folder: Folder, damaged: list[str], study: OneStudy | None = None) -> Iterator[bytes]:
    """The JSON of each whole record in order; `damaged` gets one line for each damaged one.

    Raises:
        OSError: a file cannot be read.
        InputError: a file is another study's.
    """
    study = study or OneStudy(folder)
    if isinstance(folder, ObjectPath):
        for place, content in object_store.segments(folder):
            yield from whole(place, io.BytesIO(content), damaged, study)
        return
    for path in segments(folder):
        with open(path, "rb") as file:
            yield from whole(path, file, damaged, study)


def summaries(folder: Folder, damaged: list[str]) -> Iterator[Record]:
    """What `summary.summarised` keeps of each whole record, as far as can be from the summaries; else as `contents`."""
    if isinstance(folder, ObjectPath):
        yield from map(summary.summarised, decode(contents(folder, damaged)))
        return
    study = OneStudy(folder)
    for path in segments(folder):
        known, size = summary.read(path)
        if known:
            study.require(path, known[0])
            yield from known[1:] if is_header(known[0]) else known
        with open(path, "rb") as file:
            file.seek(size)
            yield from map(summary.summarised, decode(whole(path, file, damaged, study, first=1 + len(known))))


def summarise(folder: Folder) -> None:
    """Bring the summaries of the log's files level with them. For whoever holds the study's lock."""
    if isinstance(folder, Path):
        for path in segments(folder):
            summary.summarise(path)


def whole(path: Folder, file: IO[bytes], damaged: list[str], study: OneStudy, first: int = 1) -> Iterator[bytes]:
    """The JSON of each whole record of a segment, read from line `first` on, which is where `file` stands."""
    for number, line in enumerate(file, start=first):
        if not line.endswith(b"\n"):
            return
        content = content_of(line[:-1])
        if content is None:
            damaged.append(f"{path}: line {number} is damaged and is ignored; what it held will run again")
            continue
        if number == 1 and object_store.is_first(path):
            study.require(path, content)
        if number > 1 or not begins(content):
            yield content


@contextmanager
def locked(folder: Folder) -> Iterator[Callable[[], None]]:
    """Hold the study's folder for one driver; see also `object_store.held`. Gives what raises StorageError once the
    folder, or its lock, is not the one that is held any more.

    Two locks: one of the folder itself, which nobody can remove from under it, and one of the file `.lock` in it, since
    NFS locks no folders.

    Raises:
        InputError: another driver holds it, or something in it is a link.
    """
    if isinstance(folder, ObjectPath):
        with object_store.held(folder):
            yield lambda: None
        return
    with _opened(folder, os.O_RDONLY | os.O_DIRECTORY) as itself:
        with contextlib.suppress(OSError):
            _lock(itself, folder)
        with _opened(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW) as lock:
            try:
                _lock(lock, folder)
            except OSError:  # NFS without locks says so, too
                raise InputError(f"{folder}: another launch of this study is running") from None

            def holds() -> None:
                for path, held in ((folder, itself), (folder / ".lock", lock)):
                    own = os.fstat(held)
                    try:
                        found = os.lstat(path) if path != folder else os.stat(path)
                    except OSError:
                        raise StorageError(f"{path}: was removed or moved; this launch has stopped") from None
                    if (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino):
                        raise StorageError(f"{path}: is another one than this launch holds; it has stopped")

            holds()
            require_plain(folder)
            remove_partial(folder)
            yield holds


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(f"{folder}: another launch of this study is running") from None
