"""A study's folder: the append-only log, which is the truth, and the lock that keeps a second driver out."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rem_study.errors import InputError
from rem_study.storage import object_store
from rem_study.storage.canonical import canonical_json
from rem_study.storage.folder import Folder, ObjectPath

Record = dict[str, Any]


class StudyLog:
    """Appends records; each is on the disk, or in the object store, before `append` returns.

    A record is one line: eight hexadecimal digits of CRC-32, a space, JSON.
    """

    def __init__(self, folder: Folder) -> None:
        self._lines = _Segment(folder) if isinstance(folder, Path) else object_store.ObjectLog(folder)

    def append(self, record: Record) -> None:
        """Write one record. Raises OSError, the log then still ends in whole records, if that fails."""
        content = canonical_json(record).encode()
        self._lines.append(b"%08x %s\n" % (zlib.crc32(content), content))

    def close(self) -> None:
        """End this launch's part of the log, if one was begun."""
        self._lines.close()


class _Segment:
    """A file that one launch appends to, so that nothing is ever appended behind a line that a kill has torn."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def append(self, line: bytes) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            number = 1 + max((int(path.stem) for path in segments(self._folder)), default=0)
            self._file = open(self._folder / f"{number:05d}.jsonl", "xb", buffering=0)  # noqa: SIM115
        whole = self._file.tell()
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
            os.fsync(self._file.fileno())
        except OSError as error:
            error.filename = self._file.name
            self._file.truncate(whole)
            self._file.seek(whole)
            raise

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def segments(folder: Path) -> list[Path]:
    """The log's files in the order in which they were written."""
    return sorted(path for path in folder.glob("*.jsonl") if re.fullmatch(r"\d+", path.stem))


def read_log(folder: Folder) -> tuple[list[Record], list[str]]:
    """All whole records in order, and one line for each damaged one, naming file and line.

    A torn line at the end of a segment is what a kill leaves behind; it is dropped without a word.
    """
    contents: Iterable[tuple[Folder, bytes]]
    if isinstance(folder, ObjectPath):
        contents = object_store.segments(folder)
    else:
        contents = ((path, path.read_bytes()) for path in segments(folder))
    records, damaged = [], []
    for path, content in contents:
        lines = content.split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            checksum, _, record = line.partition(b" ")
            if checksum != b"%08x" % zlib.crc32(record):
                damaged.append(f"{path}: line {number} is damaged and is ignored; what it held will run again")
                continue
            records.append(json.loads(record))
    return records, damaged


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold the study's folder for one driver. Raises InputError if another holds it; see also `object_store.held`."""
    if isinstance(folder, ObjectPath):
        with object_store.held(folder):
            yield
        return
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{folder}: another launch of this study is running") from None
        for partial in folder.glob(".*.[0-9]*"):  # of `write_atomically`, where a launch was killed in it
            partial.unlink()
        yield
