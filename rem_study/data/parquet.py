"""Parquet files with encoded images, as Hugging Face's datasets have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from rem_study.data.decode import decoded
from rem_study.data.images import (
    AT_ONCE,
    HELD_OUT,
    Job,
    Listing,
    StoredPart,
    broken,
    checked_classes,
    held_out,
    reason,
)
from rem_study.data.labels import Labels, NoLabels, as_classes
from rem_study.errors import InputError
from rem_study.spec import DataSpec
from rem_study.spec.yaml_file import one_line

_IMAGES = ("image", "img", "images", "picture", "pixels")
_LABELS = ("label", "labels", "target", "class", "category", "y", "fine_label")
_SHARD = re.compile(r"-(\d+)-of-(\d+)$")


def parquet_files(root: Path) -> dict[str, list[Path]]:
    """The files of each part, in order: `train.parquet`, shards `train-00000-of-00002.parquet` (also below `data/` or
    another folder), a folder `train/` of files; a file alone is the training part.

    Raises:
        InputError: a shard is missing, or two folders have a part.
    """
    if root.is_file():
        return {"train": [root]}
    parts: dict[str, dict[Path, list[Path]]] = {}
    for path in sorted(root.rglob("*.parquet")):
        inner = path.relative_to(root)
        if any(name.startswith((".", "_")) for name in inner.parts):
            continue
        of_name = re.split(r"[-_.]", path.stem)[0].lower()
        of_folder = path.parent.name.lower() if len(inner.parts) > 1 else ""
        names = ("train", *HELD_OUT)
        part = next((name for name in (of_name, of_folder) if name in names), None)
        if part is not None:
            parts.setdefault(part, {}).setdefault(path.parent, []).append(path)
    found = {}
    for part, folders in parts.items():
        if len(folders) > 1:
            told = ", ".join(one_line(folder) for folder in folders)
            raise broken(root, f"several folders have a part {part}; name one of them: {told}")
        found[part] = _whole(next(iter(folders.values())))
    return found


def list_parquet(root: Path, spec: DataSpec) -> Listing:
    """Images and labels of `parquet_files`; their columns are `image` and `label`, what `columns` says, or the only
    ones that can be.

    Raises:
        InputError: naming the file, and its columns where these leave a choice.
    """
    files = parquet_files(root)
    if "train" not in files:
        raise broken(root / "train.parquet", "is not there")
    beside, notes = held_out(set(files) - {"train"}, "the part {}")
    columns = _columns(files["train"][0], spec)
    notes += columns.notes
    train, labels, names = _part(files["train"], columns, spec, None)
    notes += [f"{columns.label}: {labels.note}"] if labels.note else []
    test = None
    if beside is None and not spec.as_is:
        raise broken(
            root / "test.parquet" if root.is_dir() else root,
            "is not there"
            if root.is_dir()
            else "is the training part alone; a folder of train.parquet and test.parquet has both",
        )
    if beside is not None:
        test = _part(files[beside], columns, spec, labels)[0]
    num_classes = checked_classes(train, test, spec)
    class_names = labels.names or columns.class_names
    if len(class_names) < num_classes:
        class_names = ()
    return Listing(train, test, num_classes, tuple(notes), class_names, names)


@dataclass(frozen=True)
class _Columns:
    image: str
    label: str
    class_names: tuple[str, ...]
    notes: list[str]


def _columns(path: Path, spec: DataSpec) -> _Columns:
    import pyarrow
    import pyarrow.parquet

    try:
        schema = pyarrow.parquet.read_schema(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise broken(path, reason(error)) from None
    types = {field.name: field.type for field in schema}
    encoded = [name for name, kind in types.items() if _is_encoded(kind)]
    plain = [name for name, kind in types.items() if name not in encoded and not pyarrow.types.is_nested(kind)]
    told = ", ".join(f"{one_line(name)} ({kind})" for name, kind in types.items()) or "none"
    asked = spec.columns
    notes = []
    chosen = {}
    for kind, wanted, usual, fitting in (
        ("image", None if asked is None else asked.image, _IMAGES, encoded),
        ("label", None if asked is None else asked.label, _LABELS, plain),
    ):
        if wanted is not None:
            if wanted not in types:
                raise InputError(f"data.columns.{kind}: {one_line(path)}: no column {wanted}; it has {told}")
            chosen[kind] = wanted
            continue
        likely = [kind] if kind in types else [name for name in fitting if name.lower() in usual] or fitting
        if kind == "label" and likely == ["fine_label"]:
            likely = [name for name in fitting if name.lower().endswith("label")]
        if len(likely) != 1:
            hint = f"; data.columns.{kind} says which, of {told}" if types else ""
            raise broken(path, f"has no column {kind}{hint}")
        chosen[kind] = likely[0]
        if likely[0] != kind:
            notes.append(f"column {one_line(likely[0])} holds the {kind}s")
    return _Columns(chosen["image"], chosen["label"], _class_names(schema, chosen["label"]), notes)


def _is_encoded(kind: Any) -> bool:
    import pyarrow

    if pyarrow.types.is_struct(kind):
        return "bytes" in [kind.field(index).name for index in range(kind.num_fields)]
    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _class_names(schema: Any, column: str) -> tuple[str, ...]:
    """Hugging Face's, from the file's metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
        return tuple(map(str, names)) if isinstance(names, list) else ()
    except (KeyError, TypeError, ValueError):
        return ()


def _part(
    paths: list[Path], columns: _Columns, spec: DataSpec, like: Labels | None
) -> tuple[StoredPart, Labels, tuple[str, ...]]:
    """The part, its labels as they were converted, and the images' file names if all have one."""
    import pyarrow
    import pyarrow.parquet

    cells: list[object] = []
    files: list[object] = []
    for path in paths:
        try:
            file = pyarrow.parquet.ParquetFile(path)
            schema = file.schema_arrow
            missing = [name for name in (columns.image, columns.label) if name not in schema.names]
            if missing:
                raise broken(path, f"has no column {one_line(missing[0])}")
            kind = schema.field(columns.image).type
            if not _is_encoded(kind):
                raise broken(f"{path}, row 0", "holds no encoded image (PNG, JPEG, ...)")
            named = pyarrow.types.is_struct(kind) and kind.get_field_index("path") >= 0
            table = file.read([columns.label, f"{columns.image}.path"] if named else [columns.label])
        except (OSError, pyarrow.ArrowException) as error:
            raise broken(path, reason(error)) from None
        labels = table[columns.label].to_pylist()
        images = table[columns.image].to_pylist() if named else [None] * len(labels)
        files += [None if image is None else image["path"] for image in images]
        if None in labels:
            more = f" ({labels.count(None)} rows have none)" if labels.count(None) > 1 else ""
            raise broken(
                path,
                f"{columns.label} must be one whole number from 0 for each image; row "
                f"{labels.index(None)} has none{more}",
            )
        cells += labels
    try:
        converted = as_classes(_array(cells), like)
    except NoLabels as error:
        raise broken(paths[0], f"{columns.label} {error}") from None
    names = tuple(name for name in files if isinstance(name, str) and name)
    part = StoredPart(
        labels=converted.classes,
        count=len(cells),
        jobs=lambda: _jobs(paths, columns.image, spec),
        sample=lambda count: islice(_jobs(paths, columns.image, spec), -(-count // AT_ONCE)),
    )
    return part, converted, names if len(names) == len(files) else ()


def _jobs(paths: list[Path], column: str, spec: DataSpec) -> Iterator[Job]:
    """What decodes the images; the files are read as the jobs are asked for, a row group at a time at most."""
    import pyarrow
    import pyarrow.parquet

    def job(encoded: list[tuple[str, object]]) -> Job:
        return lambda: decoded(encoded, spec)

    for path in paths:
        row = 0
        try:
            for batch in pyarrow.parquet.ParquetFile(path).iter_batches(AT_ONCE, columns=[column]):
                images = batch.column(0).to_pylist()
                yield job(
                    [
                        (f"{path}, row {number}", image.get("bytes") if isinstance(image, dict) else image)
                        for number, image in enumerate(images, row)
                    ]
                )
                row += len(images)
        except (OSError, pyarrow.ArrowException) as error:
            raise broken(path, reason(error)) from None


def _array(cells: Iterable[object]) -> np.ndarray:
    values = list(cells)
    if all(isinstance(value, str) for value in values):
        return np.array(values, dtype=np.str_) if values else np.zeros(0, np.int64)
    if not all(isinstance(value, (bool, int, float)) for value in values):
        raise NoLabels("must be one whole number from 0 for each image")
    return np.array(values)


def _whole(paths: list[Path]) -> list[Path]:
    """Shards in the order of their numbers. Raises InputError where one of them is missing."""
    numbered = {path: match for path in paths if (match := _SHARD.search(path.stem))}
    for path, match in numbered.items():
        there = {int(other[1]) for other in numbered.values() if other[2] == match[2]}
        lost = sorted(set(range(int(match[2]))) - there)
        if lost:
            name = _SHARD.sub(f"-{lost[0]:0{len(match[1])}}-of-{match[2]}", path.stem)
            raise broken(path.with_name(f"{name}.parquet"), "is not there; it is one of the shards")
    return sorted(paths)
