"""Which training samples a person or a tool says are corrupted, for data that came with wrong labels.

A file of ids alone, a mask over the training set, or a frame as cleanlab writes it, in which only the issues count.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rem_study.data.dataset import Dataset
from rem_study.data.file_names import FileNames
from rem_study.data.ids_file import ALONE, INDEX, Table, Unreadable, column_name, read_table
from rem_study.errors import InputError
from rem_study.spec.corruption import GivenSpec
from rem_study.spec.yaml_file import one_line

FLAGS = (
    "is_label_issue", "is_issue", "label_issue", "is_corrupted", "corrupted", "is_mislabeled", "mislabeled",
    "is_noisy", "is_poisoned", "poisoned", "mask",
)  # fmt: skip
"""Columns that say of each row whether its sample is corrupted; the first is cleanlab's."""
FILES = ("file", "filename", "file_name", "filepath", "file_path", "path", "image_path", "img_path")
"""Columns that name the sample's file."""
GIVEN_LABEL = "given_label"
FEWEST = 4


@dataclass(frozen=True)
class Given:
    """The corrupted training samples that a file names.

    Attributes:
        ids: int64 (n,), places in the training set.
        clean_labels: int64 (n,), where the file has them.
        notes: what in the file did not count.
    """

    ids: Tensor
    clean_labels: Tensor | None
    notes: tuple[str, ...] = ()


def read_given(spec: GivenSpec, dataset: Dataset) -> tuple[Tensor, Tensor | None]:
    """`ids` and `clean_labels` of `read_known`."""
    given = read_known(spec, dataset)
    return given.ids, given.clean_labels


def read_known(spec: GivenSpec, dataset: Dataset) -> Given:
    """The corrupted samples that the file names.

    Raises:
        InputError: the file is missing or malformed, an id is no training sample or stands twice, `given_label` is
            not what the data have, `clean_label` is, or more than half of the training set would be corrupted.
    """
    try:
        return _Reader(spec, dataset, read_table(Path(spec.file))).read()
    except (Unreadable, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _mistake(spec, str(error)) from None


def fingerprint(spec: object) -> str | None:
    """A hash of the file's bytes where `spec` names one."""
    return hashlib.sha256(Path(spec.file).read_bytes()).hexdigest() if isinstance(spec, GivenSpec) else None


def _mistake(spec: GivenSpec, why: str) -> InputError:
    return InputError(f"corruptions.given.file: {one_line(spec.file)}: {why}")


class _Reader:
    """One file, read for one data set. Raises Unreadable."""

    def __init__(self, spec: GivenSpec, dataset: Dataset, table: Table) -> None:
        self._dataset = dataset
        self._total = len(dataset.train_labels)
        self._labels = dataset.train_labels.cpu()
        self._asked = spec.id_column
        self._numbers = {number: place for place, number in enumerate(dataset.train_numbers)}
        self._names = FileNames(dataset.train_files)
        self._table = self._unheaded(table)
        self._notes: list[str] = []

    def _unheaded(self, table: Table) -> Table:
        """The table; a list of file names has no header, though its first name stands where one would be."""
        alone = next(iter(table.columns)) if len(table.columns) == 1 else ""
        if not table.bare and alone and self._names.find(alone):
            return Table({ALONE: [alone, *table.columns[alone]]}, bare=True)
        return table

    def read(self) -> Given:
        table, columns = self._table, self._table.columns
        flag = self._flag_column()
        id_column = self._id_column(flag)
        flags = [True] * table.rows if flag is None else self._truths(flag)
        if id_column is None:
            ids: list[int | None] = list(range(table.rows))
        elif GIVEN_LABEL in columns:
            ids = self._ids(id_column, [True] * table.rows)
        else:
            ids = self._ids(id_column, flags)
        self._check_given_labels(ids)
        rows = [row for row, is_issue in enumerate(flags) if is_issue]
        known = [number for row in rows if (number := ids[row]) is not None]
        if flag is not None:
            what = "of the mask" if table.bare else f"({column_name(flag)})"
            self._notes.append(f"{len(known)} of {table.rows} rows {what} are corrupted; the others do not count")
        if len(known) < FEWEST:
            raise Unreadable(f"{len(known)} ids are too few; at least {FEWEST} are needed")
        if 2 * len(known) > self._total:
            raise Unreadable(
                f"{len(known)} of {self._total} training samples, more than half, would be known as corrupted; the "
                "file is to name those alone"
            )
        clean = self._clean_labels(rows, known)
        return Given(torch.tensor(known), clean, tuple(self._notes))

    def _flag_column(self) -> str | None:
        table = self._table
        names = {name.strip().lower(): name for name in table.columns}
        if table.bare and self._asked is not None:
            raise Unreadable(f"has no column {one_line(self._asked)}; it is a list without column names")
        if table.bare:
            return ALONE if _is_mask(table.columns[ALONE], self._total) else None
        if self._asked is not None:
            name = self._find(self._asked)
            if _is_mask(table.columns[name], self._total):
                return name
        known = [names[name] for name in FLAGS if name in names]
        if known:
            return known[0]
        choices = [
            name
            for name, cells in table.columns.items()
            if (_all_truths(cells) or name.lower().startswith("is_")) and False in map(_truth, cells)
        ]
        if choices:
            raise Unreadable(
                f"column {column_name(choices[0])} is true for some rows and false for others: does it say which are "
                f"corrupted? Call it {FLAGS[0]} if so, else leave it out"
            )
        return None

    def _id_column(self, flag: str | None) -> str | None:
        """The column that says which sample a row is about; None: the rows are the samples, in order."""
        table = self._table
        names = {name.strip().lower(): name for name in table.columns}
        if table.bare:
            return None if flag is not None else ALONE
        if self._asked is not None:
            name = self._find(self._asked)
            return None if name == flag else name
        for name in ("id", *FILES):
            if name in names:
                return names[name]
        is_frame = flag is not None or GIVEN_LABEL in table.columns
        if is_frame and INDEX in table.columns:
            cells = table.columns[INDEX]
            anew = [str(cell) for cell in cells] == [str(number) for number in range(table.rows)]
            filtered = flag is None or all(map(_truth, table.columns[flag]))
            if anew and table.rows != self._total and (filtered or GIVEN_LABEL not in table.columns):
                raise Unreadable(
                    f"its {table.rows} rows are numbered from 0, but there are {self._total} training samples: were "
                    "rows taken out and numbered anew? A column id must say which sample each is about"
                )
            return INDEX
        if flag is not None and table.rows == self._total:
            return None
        told = ", ".join(map(column_name, table.columns)) or "none"
        hint = f"; its columns are {told}: id_column (--id-column) says which holds the ids" if table.columns else ""
        raise Unreadable(f"has no column id{hint}")

    def _find(self, asked: str) -> str:
        wanted = {asked, asked.strip(), INDEX if asked in ("unnamed", "Unnamed: 0") else asked}
        for name in self._table.columns:
            if name in wanted or name.strip() in wanted:
                return name
        told = ", ".join(map(column_name, self._table.columns)) or "none"
        raise Unreadable(f"has no column {one_line(asked)}; its columns are {told}")

    def _truths(self, flag: str) -> list[bool]:
        cells = self._table.columns[flag]
        if self._table.bare and len(cells) != self._total:
            raise Unreadable(f"is a mask of {len(cells)} rows, but there are {self._total} training samples")
        truths = []
        for row, cell in enumerate(cells, 1):
            truth = _truth(cell)
            if truth is None:
                raise Unreadable(f"row {row}: {column_name(flag)} must be true or false, not {cell!r}")
            truths.append(truth)
        return truths

    def _ids(self, column: str, wanted: list[bool]) -> list[int | None]:
        """The place of each wanted row's sample in the training set."""
        ids: list[int | None] = []
        seen: dict[int, int] = {}
        for row, (cell, is_wanted) in enumerate(zip(self._table.columns[column], wanted, strict=True), 1):
            if not is_wanted:
                ids.append(None)
                continue
            place = self._place(cell, row, column)
            if place in seen:
                raise Unreadable(f"row {row}: {column_name(column)} {cell} stands twice")
            seen[place] = row
            ids.append(place)
        return ids

    def _place(self, cell: Any, row: int, column: str) -> int:
        number, name = whole(cell), column_name(column)
        if number is not None:
            if self._numbers:
                if number not in self._numbers:
                    raise Unreadable(f"row {row}: {name} {number} is no training image, or one that was left out")
                return self._numbers[number]
            if number >= self._total:
                raise Unreadable(
                    f"row {row}: {name} {number} is too large; there are {self._total} training samples, counted from 0"
                )
            return number
        if self._names and isinstance(cell, str) and cell.strip():
            places = self._names.find(cell.strip())
            if len(places) == 1:
                return places[0]
            if places:
                told = " and ".join(self._names.files[place] for place in places[:2])
                raise Unreadable(f"row {row}: {name} {one_line(cell)} may be {told}; say which, with its folder")
            raise Unreadable(f"row {row}: {name} {one_line(cell)} is no training image")
        raise Unreadable(f"row {row}: {name} must be a whole number from 0, not {cell!r}")

    def _check_given_labels(self, ids: list[int | None]) -> None:
        """`given_label` must be what the data have: else ids count otherwise, or these are other data."""
        if GIVEN_LABEL not in self._table.columns:
            return
        labels = [self._label(cell, row, GIVEN_LABEL, None) for row, cell in enumerate(self._column(GIVEN_LABEL), 1)]
        pairs = [(row, place, labels[row]) for row, place in enumerate(ids) if place is not None]
        wrong = [(row, place, label) for row, place, label in pairs if label != self._labels[place].item()]
        if not wrong:
            return
        row, place, label = wrong[0]
        hint = ""
        if all(p > 0 and self._labels[p - 1].item() == y for _, p, y in pairs):
            hint = "; all would agree if ids were counted from 1: subtract 1"
        elif all(self._labels[p].item() == y - 1 for _, p, y in pairs):
            hint = "; all would agree if classes were counted from 1"
        raise Unreadable(
            f"row {row + 1}: given_label is {label}, but sample {place} has label {self._labels[place].item()} in the "
            f"data ({len(wrong)} of {len(pairs)} rows disagree): are these ids those of these data, from 0?{hint}"
        )

    def _column(self, name: str) -> list[Any]:
        return self._table.columns[name]

    def _clean_labels(self, rows: list[int], known: list[int]) -> Tensor | None:
        name = "clean_label"
        if name not in self._table.columns:
            return None
        cells = self._column(name)
        clean = [self._label(cells[row], row + 1, name, self._dataset.num_classes) for row in rows]
        for row, place, label in zip(rows, known, clean, strict=True):
            if label == self._labels[place].item():
                raise Unreadable(f"row {row + 1}: clean_label is the label that the data already have")
        return torch.tensor(clean)

    def _label(self, cell: Any, row: int, name: str, classes: int | None) -> int:
        names = self._dataset.class_names
        if isinstance(cell, str) and cell.strip() in names:
            return names.index(cell.strip())
        number = whole(cell)
        if number is None:
            words = f" or a class ({', '.join(names[:3])}, ...)" if names else ""
            raise Unreadable(f"row {row}: {name} must be a whole number from 0{words}, not {cell!r}")
        if classes is not None and number >= classes:
            raise Unreadable(f"row {row}: {name} {number} is too large; there are {classes} classes")
        return number


def whole(cell: Any) -> int | None:
    """The whole number from 0 that a cell holds, also as `15.0`, what pandas makes of one beside empty cells."""
    if isinstance(cell, (bool, bytes)):
        return None
    text = str(cell).strip()
    if text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    if text.isascii() and text.endswith(",0") and text[:-2].isdigit():  # 15,0 where the point is a comma
        return int(text[:-2])
    try:
        value = float(text)
    except ValueError:
        return None
    plain = set(text) <= set("0123456789.eE+")
    return int(value) if plain and value.is_integer() and 0 <= value < 2**53 else None


def _truth(cell: Any) -> bool | None:
    if isinstance(cell, bool):
        return cell
    text = str(cell).strip().lower()
    if text in ("true", "yes", "t", "y"):
        return True
    if text in ("false", "no", "f", "n"):
        return False
    number = whole(cell)
    return bool(number) if number in (0, 1) else None


def _all_truths(cells: list[Any]) -> bool:
    """Whether all cells are written as truth values, numbers apart."""
    return bool(cells) and all(
        isinstance(cell, bool) or str(cell).strip().lower() in ("true", "false") for cell in cells
    )


def _is_mask(cells: list[Any], total: int) -> bool:
    """Truth values, or as many zeros and ones as there are training samples."""
    return _all_truths(cells) or (len(cells) == total and total > 2 and all(whole(cell) in (0, 1) for cell in cells))
