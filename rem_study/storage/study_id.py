"""Whose a log is: each of its files begins with the id of its study, which the study's folder has too (`.study-id`).

Logs that were begun before there were ids have files without one; these come first.
"""

from __future__ import annotations

import json
import re
import uuid

from rem_study.errors import InputError
from rem_study.storage.folder import Folder, write_atomically
from rem_study.storage.records import Record

FILE = ".study-id"
KIND = "segment"


def header(study_id: str) -> Record:
    """What a file of the log begins with."""
    return {"kind": KIND, "study_id": study_id}


def is_header(record: object) -> bool:
    """Whether this is no record of the study's."""
    return isinstance(record, dict) and record.get("kind") == KIND


def begins(content: bytes) -> bool:
    """Whether the JSON of a record is a header's."""
    return content.startswith(b'{"kind":"segment"')


class OneStudy:
    """Checks the beginnings of a log's files, in their order, against each other and against the study's folder."""

    def __init__(self, log: Folder) -> None:
        self._folder = log.parent
        self.known = _of_folder(self._folder)
        self._first: Folder | None = None

    def require(self, path: Folder, begin: Record | bytes | None) -> None:
        """Raise InputError unless the file at `path`, which begins so, is this study's."""
        if isinstance(begin, bytes):
            begin = json.loads(begin) if begins(begin) else None
        own = begin.get("study_id") if begin is not None and is_header(begin) else None
        if own is None:
            if self._first is not None:
                raise InputError(f"{path}: has no study's id, which {self._first} before it has; {_REMEDY}")
            return
        if self.known is not None and own != self.known:
            other = self._first or self._folder / FILE
            raise InputError(
                f"{path}: is another study's log: its id is {own}, that of {other} is {self.known}; {_REMEDY}"
            )
        self.known, self._first = own, self._first or path


_REMEDY = "it was copied in; move it out of the folder"


def keep_study_id(folder: Folder, known: str | None) -> str:
    """The id of the study in `folder`, written there if it is not: the one `known` from its log, else a new one. For
    whoever holds the study's lock. Raises OSError."""
    if (there := _of_folder(folder)) is not None:
        return there
    new = known or uuid.uuid4().hex
    write_atomically(folder / FILE, f"{new}\n")
    return new


def _of_folder(folder: Folder) -> str | None:
    try:
        found = (folder / FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return match[0].decode() if (match := re.match(rb"[0-9a-f]{32}(?=\n)", found)) else None
