"""The lines of the log: a record as text with its checksum, and many of them read back at once."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from rem_study.storage.canonical import canonical_json

Record = dict[str, Any]

AT_ONCE = 500
"""Lines that are parsed together: Python's parser then keeps each name once for all of them."""

_BEGIN, _END = b'"curves":{', b"}"
_SHARED = (
    "cell",
    "corruption",
    "dataset",
    "method",
    "model",
    "phase",
    "proposed_by",
    "regularity_rank",
    "state",
    "study",
)

_OFTEN_EQUAL = (
    ("score_healed", "healed"),
    ("score_utility", "utility"),
    ("test_accuracy", "utility"),
    ("score_oracle", "score"),
    ("utility_x_healed", "score"),
)


def encode(record: Record) -> bytes:
    """One line: eight hexadecimal digits of CRC-32, a space, JSON."""
    content = canonical_json(record).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def content_of(line: bytes) -> bytes | None:
    """The JSON of a whole line, its newline left out; None if the line is damaged."""
    checksum, _, content = line.partition(b" ")
    return content if checksum == b"%08x" % zlib.crc32(content) else None


def decode(contents: Iterable[bytes]) -> Iterator[Record]:
    """Records, with `curves` as JSON text, as in trials.parquet: most of a log is curves, and few of them are read."""
    iterator, known = iter(contents), dict[str, str]()
    while lines := list(islice(iterator, AT_ONCE)):
        parted = [_part(line) for line in lines]
        records = _parse([rest for rest, _ in parted])
        for (_, curves), record in zip(parted, records, strict=True):
            if not isinstance(record, dict):
                yield record  # which is none: see `rem_study.storage.sound`
                continue
            if curves is not None:
                record["curves"] = curves.decode()
            _share(record, known)
            yield record


def _share(record: Record, known: dict[str, str]) -> None:
    """Keep each text once for all records, and each number once in a record: half of a large log's memory."""
    for name in _SHARED:
        if isinstance(text := record.get(name), str):
            record[name] = known.setdefault(text, text)
    if isinstance(config := record.get("config"), dict):
        for name, value in config.items():
            if isinstance(value, str):
                config[name] = known.setdefault(value, value)
    for name, other in _OFTEN_EQUAL:
        value = record.get(other)
        if isinstance(value, float) and record.get(name) == value:
            record[name] = value


def _parse(texts: list[bytes]) -> list[Any]:
    try:
        found: list[Any] = json.loads(b"[%s]" % b",".join(texts))
        if len(found) == len(texts):
            return found
    except (ValueError, RecursionError):
        pass
    return [json.loads(text) if _is_json(text) else None for text in texts]  # one of them was no JSON


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _part(content: bytes) -> tuple[bytes, bytes | None]:
    """A line without its curves, and these. Names are sorted, and no quote within a text stands without a backslash, so
    that a replicate's own curves are found by their name."""
    begin = content.find(_BEGIN)
    if begin < 0 or b'"kind":"replicate"' not in content:
        return content, None
    begin += len(_BEGIN) - 1
    end = content.find(_END, begin) + 1
    return content[:begin] + b"null" + content[end:], content[begin:end]
