"""Corrupted ids given by a file, for data that came with wrong labels."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import torch
from torch import Tensor

from rem_study.data.dataset import Dataset
from rem_study.errors import InputError
from rem_study.spec.corruption import GivenSpec


def read_given(spec: GivenSpec, dataset: Dataset) -> tuple[Tensor, Tensor | None]:
    """Ids of the corrupted training samples, int64 (n,), and their clean labels, int64 (n,), where the file has them.

    Raises:
        InputError: the file is missing or malformed, an id is no training sample, stands twice, or has the label
            that the data already give it.
    """
    columns = _parquet(spec) if Path(spec.file).suffix.lower() in (".parquet", ".pq") else _csv(spec)
    if "id" not in columns:
        raise _mistake(spec, "has no column id")
    ids = _numbers(spec, "id", columns["id"], len(dataset.train_labels), "training samples")
    if len(ids) < 4:
        raise _mistake(spec, f"{len(ids)} ids are too few; at least 4 are needed")
    seen: set[int] = set()
    for row, number in enumerate(ids, 1):
        if number in seen:
            raise _mistake(spec, f"row {row}: id {number} stands twice")
        seen.add(number)
    given = torch.tensor(ids)
    if "clean_label" not in columns:
        return given, None
    clean = torch.tensor(_numbers(spec, "clean_label", columns["clean_label"], dataset.num_classes, "classes"))
    same = (clean == dataset.train_labels.cpu()[given]).nonzero().squeeze(1).tolist()
    if same:
        raise _mistake(spec, f"row {same[0] + 1}: clean_label is the label that the data already have")
    return given, clean


def fingerprint(spec: object) -> str | None:
    """A hash of the file's bytes where `spec` names one."""
    return hashlib.sha256(Path(spec.file).read_bytes()).hexdigest() if isinstance(spec, GivenSpec) else None


def _mistake(spec: GivenSpec, why: str) -> InputError:
    return InputError(f"corruptions.given.file: {spec.file}: {why}")


def _csv(spec: GivenSpec) -> dict[str, list[object]]:
    try:
        with open(spec.file, newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _mistake(spec, _reason(error)) from None
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else []) if name is not None}


def _parquet(spec: GivenSpec) -> dict[str, list[object]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(spec.file)
    except (OSError, pyarrow.ArrowException) as error:
        raise _mistake(spec, _reason(error)) from None
    return {name: table[name].to_pylist() for name in table.column_names}


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())


def _numbers(spec: GivenSpec, name: str, cells: list[object], count: int, what: str) -> list[int]:
    numbers = []
    for row, cell in enumerate(cells, 1):
        text = str(cell).strip()
        if not (text.isascii() and text.isdigit()):
            raise _mistake(spec, f"row {row}: {name} must be a whole number from 0, not {cell!r}")
        if int(text) >= count:
            raise _mistake(spec, f"row {row}: {name} {text} is too large; there are {count} {what}")
        numbers.append(int(text))
    return numbers
