"""The file that gpu_cells.py writes: one JSON line a call, an original and a run, read and gone on with.

A call's line says on what the lines after it ran. It needs neither PyTorch nor pandas.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from rem_study.errors import InputError

Line = dict[str, Any]

KINDS = ("call", "original", "run")
_OPENING = b'{"what": "call"'


def read_lines(path: Path) -> list[Line]:
    """All lines of a file, those after a call's with what the call says of `study`, `device`, `torch` and so on.

    A last line that a kill has torn is left out.

    Raises:
        InputError: the file is missing, or another line is damaged or not of this kind.
    """
    try:
        lines, _ = _whole_lines(path.read_bytes(), path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    call: Line = {}
    told = []
    for line in lines:
        if line["what"] == "call":
            call = line
        told.append(call | line)
    return told


def _whole_lines(content: bytes, path: Path) -> tuple[list[Line], int]:
    """The lines, and how many bytes they take."""
    if content[: len(_OPENING)] != _OPENING[: len(content)]:
        raise InputError(f"{path}: line 1: is not the first line of a file that gpu_cells.py writes")
    lines: list[Line] = []
    size = 0
    rows = content.split(b"\n")
    for number, row in enumerate(rows[:-1], start=1):
        try:
            line = json.loads(row)
            if line["what"] not in KINDS:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path}: line {number}: is damaged, or not of gpu_cells.py; take it out") from None
        lines.append(line)
        size += len(row) + 1
    return lines, size


class CellsFile:
    """Appends to a file that earlier calls may have begun; a line is on the disk before `append` returns.

    Attributes:
        lines: what was there already, as `read_lines` gives it.
    """

    def __init__(self, path: Path, call: Line) -> None:
        """Open the file, cut off what a kill has torn at its end, and begin a call.

        Args:
            call: `task` and `code` must be those of the calls that are there.

        Raises:
            InputError: another process writes to it, or it is of another task or other code, or see `read_lines`.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise InputError(f"{path}: another call is writing to it") from None
        try:
            self.lines = read_lines(path)
            for field, meaning in (("task", "another study"), ("code", "other code")):
                if any(line[field] != call[field] for line in self.lines):
                    raise InputError(f"{path}: holds runs of {meaning}: name another file")
        except InputError:
            self.close()
            raise
        _, size = _whole_lines(path.read_bytes(), path)
        self._file.truncate(size)
        self.append({"what": "call"} | call)

    def append(self, line: Line) -> None:
        """Write one line. Raises OSError."""
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let another process write to it."""
        self._file.close()
