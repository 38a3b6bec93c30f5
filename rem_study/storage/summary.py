"""A summary beside each file of the log, `00001.idx`: what a glance at a study needs, without its configurations and
curves, which are nearly all of a log.

Each line is JSON: the file's size and checksum up to and with a record, and of that record what is named in KEPT. It is
worth nothing by itself: whoever reads it takes the checksum of the log's own bytes, and what the summary lacks, or all
if it does not fit, from the log.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from rem_study.storage.records import Record, content_of, decode
from rem_study.storage.rows import result_key

KEPT = ("kind", "cell", "method", "phase", "trial", "replicate", "state", "score", "utility_x_healed", "end_time")
CHUNK = 2**20


def path_of(segment: Path) -> Path:
    """Where the summary of a file of the log lies."""
    return segment.with_suffix(".idx")


def summarised(record: Record) -> Record:
    """What a summary keeps of a record; `result` stands for all that its result depends on."""
    if not isinstance(record, dict) or not isinstance(record.get("config", {}), dict):
        return record
    if record.get("kind") not in ("replicate", "kept"):
        return {name: value for name, value in record.items() if name != "facts"}
    kept = {name: record[name] for name in (*KEPT, "extension", "proposed_by") if name in record}
    if {"config", "replicate", "cell", "method"} <= record.keys():
        kept["result"] = hashlib.blake2b(repr(result_key(record)).encode(), digest_size=12).hexdigest()
    return kept


class Summary:
    """Written along with a file of the log; never stands in its way: what cannot be written is left out."""

    def __init__(self, segment: Path) -> None:
        self._size = self._sum = 0
        self._file: IO[bytes] | None = None
        with contextlib.suppress(OSError):
            descriptor = os.open(path_of(segment), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
            self._file = open(descriptor, "wb", buffering=0)  # noqa: SIM115

    def add(self, line: bytes, record: Record) -> None:
        """That `line`, which is `record`, has been appended."""
        self._size, self._sum = self._size + len(line), zlib.crc32(line, self._sum)
        if self._file is not None:
            entry = json.dumps([self._size, self._sum, summarised(record)], sort_keys=True, separators=(",", ":"))
            try:
                self._file.write(entry.encode() + b"\n")
            except OSError:
                self.close()

    def close(self) -> None:
        """End it."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


def summarise(segment: Path) -> None:
    """Write the summary of a file of the log anew, unless it is there up to its last record, or the file is damaged."""
    entries = _entries(segment)
    if entries and entries[-1][0] == segment.stat().st_size:
        return
    with open(segment, "rb") as file:
        lines = [line for line in file if line.endswith(b"\n")]
    contents = [content_of(line[:-1]) for line in lines]
    if any(content is None for content in contents):
        return
    summary = Summary(segment)
    for line, record in zip(lines, decode(content for content in contents if content is not None), strict=True):
        summary.add(line, record)
    summary.close()


def read(segment: Path) -> tuple[list[Record], int]:
    """The records that the summary of `segment` has, and how many of its bytes they are; none if it does not fit."""
    entries = _entries(segment)
    if not entries:
        return [], 0
    size, checksum, _ = entries[-1]
    left, found = size, 0
    with open(segment, "rb") as file:
        while left and (chunk := file.read(min(left, CHUNK))):
            found = zlib.crc32(chunk, found)
            left -= len(chunk)
    if left or found != checksum:
        return [], 0
    return [record for _, _, record in entries], size


def _entries(segment: Path) -> list[list[Any]]:
    try:
        content = path_of(segment).read_bytes()
    except OSError:
        return []
    whole = content[: content.rfind(b"\n") + 1]  # a torn line behind it is what a kill leaves
    try:
        found: list[list[Any]] = from_json(b"[%s]" % whole[:-1].replace(b"\n", b","))
        fits = all(len(entry) == 3 and isinstance(entry[2], dict) for entry in found)
    except (ValueError, TypeError):
        return []
    return found if fits else []
