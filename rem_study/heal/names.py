"""What people call training samples and classes: file names and folders, where the data have any."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rem_study.data import Dataset
from rem_study.data.given import read_given
from rem_study.errors import InputError
from rem_study.spec.corruption import GivenSpec
from rem_study.spec.data import OwnDataSpec

_FEWEST = 4


@dataclass(frozen=True)
class Names:
    """Of the training samples (N,) and of the classes, in their order; None where there are none."""

    files: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None

    def of_class(self, label: int) -> str:
        """The class's folder, or its number."""
        return str(label) if self.classes is None or label >= len(self.classes) else self.classes[label]


def read_names(spec: OwnDataSpec) -> Names:
    """An image folder's files, from `train/` on (`cat/017.png`), and its classes; of Parquet the images' `path`, if all
    have one. The data must have been read: what is wrong with them has been said by then."""
    if spec.root is None:
        return Names()
    if spec.name == "folder":
        from torchvision.datasets import ImageFolder

        root = Path(spec.root) / "train"
        found = ImageFolder(str(root))
        return Names(tuple(Path(path).relative_to(root).as_posix() for path, _ in found.samples), tuple(found.classes))
    if spec.name == "parquet":
        import pyarrow.parquet
        import pyarrow.types

        file = Path(spec.root) / "train.parquet"
        kind = pyarrow.parquet.read_schema(file).field("image").type
        if pyarrow.types.is_struct(kind) and kind.get_field_index("path") >= 0:
            images = pyarrow.parquet.ParquetFile(file).read(columns=["image.path"])["image"]
            paths = [str(image["path"] or "") if image else "" for image in images.to_pylist()]
            if all(paths):
                return Names(tuple(paths))
    return Names()


def read_known(path: Path, dataset: Dataset, names: Names) -> tuple[Tensor, Tensor | None]:
    """Ids of the samples known to be corrupted, int64 (n,), and their clean labels, int64 (n,), where the file has
    them.

    A CSV file without a column `id` may have `file`: the samples' names, as `Names` has them; a name alone
    (`017.png`) will do where no other sample has it.

    Raises:
        InputError: the file is missing or malformed, or a sample or label is wrong (see `read_given`).
    """
    rows = _named_rows(path)
    if rows is None:
        try:
            return read_given(GivenSpec(name="given", file=str(path)), dataset)
        except InputError as error:
            raise InputError(str(error).replace("corruptions.given.file", "--ids", 1)) from None
    ids, clean = _ids_of([row["file"] for row in rows], path, names), None
    if len(ids) < _FEWEST:
        raise _mistake(path, f"{len(ids)} files are too few; at least {_FEWEST} are needed")
    if "clean_label" in rows[0]:
        clean = [_class_of(row["clean_label"], path, number, dataset, names) for number, row in enumerate(rows, 1)]
        given = dataset.train_labels.cpu()[torch.tensor(ids)].tolist()
        for number, (own, label) in enumerate(zip(clean, given, strict=True), 1):
            if own == label:
                raise _mistake(path, f"row {number}: clean_label is the label that the data already have")
    return torch.tensor(ids), None if clean is None else torch.tensor(clean)


def _named_rows(path: Path) -> list[dict[str, str]] | None:
    """The rows of a CSV file that names files; None for any other file, which `read_given` reads, or refuses."""
    if path.suffix.lower() in (".parquet", ".pq"):
        return None
    try:
        with open(path, newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    return rows if rows and "file" in rows[0] and "id" not in rows[0] else None


def _ids_of(named: list[str], path: Path, names: Names) -> list[int]:
    if names.files is None:
        raise _mistake(path, "has file names, but these data have none; give a column id")
    places: dict[str, list[int]] = {}
    for number, file in enumerate(names.files):
        for form in {file, file.rpartition("/")[2]}:
            places.setdefault(form, []).append(number)
    ids: list[int] = []
    for row, cell in enumerate(named, 1):
        name = (cell or "").strip().removeprefix("./")
        found = places.get(name) or places.get(name.removeprefix("train/"), [])
        if not found:
            raise _mistake(path, f"row {row}: file {name!r} is no training image")
        if len(found) > 1:
            raise _mistake(path, f"row {row}: file {name!r} stands for {len(found)} images; write CLASS/NAME")
        if found[0] in ids:
            raise _mistake(path, f"row {row}: file {name!r} stands twice")
        ids.append(found[0])
    return ids


def _class_of(cell: str | None, path: Path, row: int, dataset: Dataset, names: Names) -> int:
    text = (cell or "").strip()
    if names.classes is not None and text in names.classes:
        return names.classes.index(text)
    if text.isascii() and text.isdigit() and int(text) < dataset.num_classes:
        return int(text)
    raise _mistake(path, f"row {row}: clean_label {text!r} is no class; there are {dataset.num_classes}")


def _mistake(path: Path, why: str) -> InputError:
    return InputError(f"--ids: {path}: {why}")
