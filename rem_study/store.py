"""A study's folder: the append-only log, which is the truth, and files written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rem_study.errors import InputError
from rem_study.spec import canonical_json

Record = dict[str, Any]


class StudyLog:
    """Appends records to a segment of its own; each is on the disk before `append` returns.

    A record is one line: eight hexadecimal digits of CRC-32, a space, JSON. Each launch writes a new segment, so
    that nothing is ever appended behind a line that a kill has torn.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def append(self, record: Record) -> None:
        """Write one record. Raises OSError, the log then still ends in whole records, if the disk is full."""
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            number = 1 + max((int(path.stem) for path in segments(self._folder)), default=0)
            self._file = open(self._folder / f"{number:05d}.jsonl", "xb", buffering=0)  # noqa: SIM115
        content = canonical_json(record).encode()
        line = b"%08x %s\n" % (zlib.crc32(content), content)
        whole = self._file.tell()
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(whole)
            self._file.seek(whole)
            raise

    def close(self) -> None:
        """Close the segment, if one was begun."""
        if self._file is not None:
            self._file.close()
            self._file = None


def segments(folder: Path) -> list[Path]:
    """The log's files in the order in which they were written."""
    return sorted(path for path in folder.glob("*.jsonl") if re.fullmatch(r"\d+", path.stem))


def read_log(folder: Path) -> tuple[list[Record], list[str]]:
    """All whole records in order, and one line for each damaged one, naming file and line.

    A torn line at the end of a segment is what a kill leaves behind; it is dropped without a word.
    """
    records, damaged = [], []
    for path in segments(folder):
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            checksum, _, content = line.partition(b" ")
            if checksum != b"%08x" % zlib.crc32(content):
                damaged.append(f"{path}: line {number} is damaged and is ignored; what it held will run again")
                continue
            records.append(json.loads(content))
    return records, damaged


def write_atomically(path: Path, content: bytes | str) -> None:
    """Put `content` at `path`, whole or not at all, whenever the process or the machine stops."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    data = content.encode() if isinstance(content, str) else content
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def make_writable(folder: Path) -> None:
    """Create `folder` if need be and check that files can be written there. Raises InputError."""
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InputError(f"--root: {folder} cannot be written ({error.strerror or error})") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the study's folder for one driver. Raises InputError if another holds it."""
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{folder}: another launch of this study is running") from None
        yield
