"""An .npz archive of images and labels, under the names and in the types that people give them."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from rem_study.data.images import (
    AT_ONCE,
    HELD_OUT,
    Job,
    Listing,
    Some,
    StoredPart,
    broken,
    checked_classes,
    held_out,
    reason,
    resize,
)
from rem_study.data.labels import Labels, NoLabels, as_classes
from rem_study.errors import InputError
from rem_study.spec import DataSpec
from rem_study.spec.yaml_file import one_line

_PARTS = {"train": "train", "training": "train", "testing": "test"} | {name: name for name in HELD_OUT}
_KINDS = {name: "images" for name in ("images", "image", "imgs", "img", "x", "data")}
_KINDS |= {name: "labels" for name in ("labels", "label", "y", "targets", "target")}


def list_npz(path: Path, spec: DataSpec) -> Listing:
    """`train_images`, `train_labels`, and `test_...`; or `x_train`, `y_train` (Keras), `val_...` (MedMNIST), ...

    Images are uint8, or whole numbers or fractions in [0, 255], fractions in [0, 1], uint16, bool; NHW, NHWC, NCHW.
    Those that are not uint8 are read once, for their range.

    Raises:
        InputError: naming the keys, dtypes and shapes found.
    """
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise broken(path, "is a single array (.npy), not an archive of images and labels (np.savez)")
        with arrays:
            return _list(arrays, path, spec)
    except InputError:
        raise
    except Exception as error:  # a file that is no archive raises OSError, ValueError, BadZipFile, AttributeError, ...
        raise broken(path, reason(error)) from None


def _list(arrays: Any, path: Path, spec: DataSpec) -> Listing:
    names, aside = _names(list(arrays.files), path)
    notes = [f"{one_line(key)} is left aside" for key in aside]
    beside, told = held_out({part for part, _ in names if part != "train"}, "the part {}")
    notes += told
    missing = [f"train_{kind}" for kind in ("images", "labels") if ("train", kind) not in names]
    if beside is None and not spec.as_is:
        missing.append("test_images")
    if beside is not None:
        missing += [f"{beside}_{kind}" for kind in ("images", "labels") if (beside, kind) not in names]
    if missing:
        raise broken(path, f"has no {missing[0]}; it has {_found(path)}")

    labels: Labels | None = None
    parts: list[StoredPart] = []
    class_names: tuple[str, ...] = ()
    scale: int | None = None
    for part in ["train"] if beside is None else ["train", beside]:
        images = _Array(path, names[part, "images"])
        pixels, scale = _pixels(images, scale)
        notes += [f"{images.key}: {pixels.note}"] if pixels.note else []
        key = names[part, "labels"]
        try:
            array = arrays[key]
        except ValueError as error:  # Python objects
            raise broken(path, f"{key}: {reason(error)}; it has {_found(path)}") from None
        try:
            converted = as_classes(array, labels)
        except NoLabels as error:
            raise broken(path, f"{key} {error}; it is {_type(array.dtype, array.shape)}") from None
        notes += [f"{key}: {converted.note}"] if converted.note else []
        labels, class_names = labels or converted, class_names or converted.names
        parts.append(_part(images, pixels, converted.classes, spec))
    train, test = parts[0], parts[1] if len(parts) > 1 else None
    return Listing(train, test, checked_classes(train, test, spec), tuple(notes), class_names)


def _part(images: _Array, pixels: _Pixels, labels: np.ndarray, spec: DataSpec) -> StoredPart:
    def job(rows: np.ndarray) -> Job:
        def make() -> Some:
            whole = pixels.convert(rows)
            if whole.ndim == 3:
                whole = whole[:, None]
            nchw = whole if pixels.channels_first else whole.transpose(0, 3, 1, 2)
            if spec.image_size is not None:
                nchw = resize(torch.from_numpy(np.array(nchw, order="C")), spec.image_size).numpy()
            return Some(nchw, f"{images.path}, {images.key}")

        return make

    return StoredPart(
        labels=labels,
        count=images.shape[0],
        jobs=lambda: map(job, images.rows()),
        sample=lambda count: map(job, islice(images.rows(), -(-count // AT_ONCE))),
    )


class _Array:
    """An array of an archive, read a few rows at a time, unless it lies in Fortran's order: that is read whole.

    Raises InputError.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        with zipfile.ZipFile(path) as archive, self._open(archive) as file:
            self.shape, self._fortran, self.dtype = _header(file)

    def _open(self, archive: zipfile.ZipFile) -> IO[bytes]:
        return archive.open(self.key if self.key in archive.namelist() else f"{self.key}.npy")

    def rows(self) -> Iterator[np.ndarray]:
        """AT_ONCE rows (n, ...) after AT_ONCE rows."""
        try:
            if self._fortran or self.dtype.hasobject:
                with np.load(self.path, allow_pickle=False) as arrays:
                    array = arrays[self.key]
                yield from (array[start : start + AT_ONCE] for start in range(0, len(array), AT_ONCE))
                return
            each = self.dtype.itemsize * math.prod(self.shape[1:])
            with zipfile.ZipFile(self.path) as archive, self._open(archive) as file:
                _header(file)
                for start in range(0, self.shape[0], AT_ONCE):
                    count = min(AT_ONCE, self.shape[0] - start)
                    content = file.read(count * each)
                    if len(content) < count * each:
                        raise broken(self.path, f"{self.key} ends too early")
                    yield np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])
        except InputError:
            raise
        except Exception as error:  # BadZipFile, OSError, zlib's own, ValueError for Python objects
            raise broken(self.path, f"{self.key}: {reason(error)}; it has {_found(self.path)}") from None


def _names(keys: list[str], path: Path) -> tuple[dict[tuple[str, str], str], list[str]]:
    """The key of each (part, kind), and the keys that are neither images nor labels of a part."""
    names: dict[tuple[str, str], str] = {}
    aside = []
    for key in keys:
        words = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower())
        parts = {_PARTS[word] for word in words if word in _PARTS}
        kinds = {_KINDS[word] for word in words if word in _KINDS}
        unknown = [word for word in words if word not in _PARTS and word not in _KINDS]
        if unknown or len(parts) > 1 or len(kinds) != 1:
            aside.append(key)
            continue
        place = (parts.pop() if parts else "train", kinds.pop())
        if place in names:
            raise broken(path, f"{names[place]} and {key} may both be the {place[0]} {place[1]}")
        names[place] = key
    return names, aside


@dataclass(frozen=True)
class _Pixels:
    """How an array's values become pixels: `convert` gives uint8, `note` says what it does."""

    convert: Callable[[np.ndarray], np.ndarray]
    note: str
    channels_first: bool


def _pixels(images: _Array, scale: int | None) -> tuple[_Pixels, int]:
    """Also by what the values are multiplied. `scale`: of the training images."""
    path, key, dtype = images.path, images.key, images.dtype
    if dtype != np.uint8 and dtype.kind not in "iufbO":
        raise broken(path, f"{key} must be uint8 of shape NHW, NHWC or NCHW, not {_type(dtype, images.shape)}")
    if dtype.kind == "O":
        next(images.rows())  # says why not
    if len(images.shape) not in (3, 4):
        raise broken(path, f"{key} must be uint8 of shape NHW, NHWC or NCHW, not {_type(dtype, images.shape)}")
    convert, note, scale = _conversion(images, scale)
    return _Pixels(convert, note, _channels_first(images)), scale


def _conversion(images: _Array, scale: int | None) -> tuple[Callable[[np.ndarray], np.ndarray], str, int]:
    path, key, dtype = images.path, images.key, images.dtype
    if dtype == np.uint8:
        return lambda rows: rows, "", 1
    if dtype.kind == "b":
        return lambda rows: rows.astype(np.uint8) * 255, "bool, as 0 and 255", 255
    low, high, finite = _range(images)
    if dtype == np.uint16 and high > 255:
        return lambda rows: np.round(rows / 257).astype(np.uint8), "uint16, scaled to 8 bits", 1
    if not (low >= 0 and high <= 255):
        values = f"its values go from {low:g} to {high:g}" if finite else "it is not all numbers"
        raise broken(path, f"{key} must have pixels in [0, 1] or [0, 255], before normalisation; {values}")
    if scale is None:
        scale = 255 if dtype.kind == "f" and high <= 1 else 1
    if scale == 255 and high > 1:
        raise broken(path, f"{key} has pixels up to {high:g}, where the training images end at 1")
    ends, factor = "[0, 1]" if scale == 255 else "[0, 255]", scale
    note = f"{dtype} in {ends}, as whole numbers from 0 to 255"
    return lambda rows: (rows * factor).round().astype(np.uint8), note, scale


def _range(images: _Array) -> tuple[float, float, bool]:
    """The smallest and the largest value, and whether all are finite."""
    ends = [(rows.min(), rows.max(), np.isfinite(rows).all()) for rows in images.rows() if rows.size]
    if not ends:
        return 0.0, 0.0, True
    lows, highs, finite = zip(*ends, strict=True)
    return float(np.min(lows)), float(np.max(highs)), all(finite)


def _channels_first(images: _Array) -> bool:
    shape = images.shape
    if len(shape) == 3:
        return True
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        raise broken(images.path, f"{images.key} must have 1 or 3 channels, first or last; its shape is {tuple(shape)}")
    return first


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, dtype."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return shape, fortran, dtype


def _type(dtype: np.dtype[Any], shape: tuple[int, ...]) -> str:
    return f"{dtype} of shape {'x'.join(map(str, shape))}"


def _found(path: Path) -> str:
    """Keys, dtypes and shapes, from the arrays' headers."""
    told = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                shape, _, dtype = _header(file)
            told.append(f"{one_line(name.removesuffix('.npy'))} ({dtype}, {'x'.join(map(str, shape)) or 'a scalar'})")
    return ", ".join(told) or "nothing"
