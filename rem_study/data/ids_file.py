"""Files of ids as tables, whatever tool wrote them: CSV, Parquet, NumPy, PyTorch, JSON; what they mean says `given`."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rem_study.spec.yaml_file import one_line

INDEX = ""
"""What the column of a frame's index is called: pandas gives it no name in a CSV file."""
ALONE = "id"
"""What the only column of a list without a header is called."""

_INDEX_NAMES = {"", "Unnamed: 0", "__index_level_0__", "unnamed"}


class Unreadable(ValueError):
    """Why a file is no table, on one line."""


@dataclass(frozen=True)
class Table:
    """Columns of one length.

    Attributes:
        columns: cells by the column's name; `INDEX` for a frame's index.
        bare: it is a list of ids, or a mask, without any name.
    """

    columns: Mapping[str, list[Any]]
    bare: bool = False

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), []))


def read_table(path: Path) -> Table:
    """The table in the file, by its ending; without a known one it is text with separators.

    Raises:
        Unreadable: the file is missing, damaged, or of a kind that is not read.
    """
    kind = path.suffix.lower()
    try:
        if kind in (".parquet", ".pq"):
            return _of_parquet(path)
        if kind in (".npy", ".npz"):
            return _of_array(_numpy(path))
        if kind in (".pt", ".pth"):
            return _of_array(_torch(path))
        if kind in (".json", ".jsonl"):
            return _of_json(path)
        if kind in (".pkl", ".pickle", ".xlsx", ".xls", ".feather", ".arrow", ".h5", ".hdf5", ".mat"):
            raise Unreadable(f"{kind} files are not read; save the ids as CSV, Parquet or .npy")
        return _of_text(_text(path))
    except Unreadable:
        raise
    except OSError as error:
        raise Unreadable(one_line(error.strerror or error)) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise Unreadable(one_line(error)) from None


def column_name(name: str) -> str:
    """How messages and `--id-column` call a column."""
    return "unnamed" if name == INDEX else one_line(name)


def _text(path: Path) -> str:
    content = path.read_bytes()
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")  # Excel's Unicode text
    return content.decode("utf-16" if wide else "utf-8-sig")


def _of_text(text: str) -> Table:
    lines = text.splitlines(keepends=True)
    if lines and re.fullmatch(r"sep=.\s*", lines[0]):  # Excel's hint to itself
        lines = lines[1:]
    first = next((line for line in lines if line.strip()), "")
    separator = max(",;\t|", key=first.count)
    rows = [row for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) if any(map(str.strip, row))]
    if not rows:
        return Table({})
    if all(map(_is_number, rows[0])) or (len(rows[0]) == 1 and _is_flag(rows[0][0])):
        if len(rows) > 1 and len(rows[0]) > 1:
            raise Unreadable("has no line of column names, and more than one column")
        flat = rows[0] if len(rows) == 1 else [_only(row, number) for number, row in enumerate(rows, 1)]
        return Table({ALONE: flat}, bare=True)
    names = [_plain_name(name.strip().lstrip("#").strip()) for name in rows[0]]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Unreadable(f"column {column_name(twice)} stands twice")
    for number, row in enumerate(rows[1:], 1):
        if len(row) > len(names) and any(cell.strip() for cell in row[len(names) :]):
            raise Unreadable(f"row {number}: {len(row)} cells, but {len(names)} column(s)")
    cells = [[*row, *[None] * (len(names) - len(row))] for row in rows[1:]]
    return Table({name: [row[place] for row in cells] for place, name in enumerate(names)})


def _only(row: list[str], number: int) -> str:
    if len(row) != 1:
        raise Unreadable(f"row {number}: {len(row)} cells, but 1 column(s)")
    return row[0]


def _plain_name(name: str) -> str:
    return INDEX if name in _INDEX_NAMES else name


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.strip().lower() != "nan"


def _is_flag(cell: str) -> bool:
    return cell.strip().lower() in ("true", "false")


def _of_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path).read()
    except pyarrow.ArrowException as error:
        raise Unreadable(one_line(error)) from None
    columns = {_plain_name(name): table[name].to_pylist() for name in table.column_names}
    try:
        index = (table.schema.pandas_metadata or {}).get("index_columns") or []
    except ValueError:
        index = []
    if index and isinstance(index[0], dict) and INDEX not in columns and index[0].get("kind") == "range":
        numbers = range(index[0]["start"], index[0]["stop"], index[0]["step"])
        if len(numbers) == table.num_rows:
            columns[INDEX] = list(numbers)
    return Table(columns)


def _numpy(path: Path) -> np.ndarray:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            if len(content.files) != 1:
                raise Unreadable(f"holds {len(content.files)} arrays ({', '.join(content.files[:8])}), not one")
            return content[content.files[0]]
    except Unreadable:
        raise
    except OSError:
        raise
    except Exception as error:  # no array, Python objects, a damaged archive
        raise Unreadable(one_line(error)) from None


def _torch(path: Path) -> np.ndarray:
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        raise Unreadable(f"torch.load cannot open it with weights_only=True ({type(error).__name__})") from None
    return content.numpy() if isinstance(content, torch.Tensor) else np.array(content)


def _of_array(array: np.ndarray) -> Table:
    if array.dtype.names:
        return Table({_plain_name(name): array[name].tolist() for name in array.dtype.names})
    if array.ndim == 2 and 1 in array.shape:
        array = array.ravel()
    if array.ndim != 1 or array.dtype.kind not in "biufUS":
        shape = "x".join(map(str, array.shape))
        raise Unreadable(f"must be one row of ids, names or truth values, not {array.dtype} of shape {shape}")
    return Table({ALONE: array.tolist()}, bare=True)


def _of_json(path: Path) -> Table:
    text = _text(path)
    try:
        content = (
            [json.loads(line) for line in text.splitlines() if line.strip()]
            if path.suffix.lower() == ".jsonl"
            else json.loads(text)
        )
    except ValueError as error:
        raise Unreadable(f"not JSON: {one_line(error)}") from None
    if isinstance(content, list) and content and all(isinstance(row, dict) for row in content):
        names = list(dict.fromkeys(name for row in content for name in row))
        return Table({_plain_name(name): [row.get(name) for row in content] for name in names})
    if isinstance(content, list) and not any(isinstance(cell, (list, dict)) for cell in content):
        return Table({ALONE: content}, bare=True)
    if isinstance(content, dict) and content and all(isinstance(cells, dict) for cells in content.values()):
        keys = list(next(iter(content.values())))  # pandas: {column: {index: cell}}
        if all(list(cells) == keys for cells in content.values()):
            columns = {_plain_name(name): list(cells.values()) for name, cells in content.items()}
            return Table({INDEX: list(keys), **columns})
    columns = content if isinstance(content, dict) else {}
    if all(isinstance(cells, list) for cells in columns.values()) and len(set(map(len, columns.values()))) == 1:
        return Table({_plain_name(name): cells for name, cells in columns.items()})
    raise Unreadable("must be a list of ids, of records, or columns of one length")
