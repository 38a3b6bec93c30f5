"""An .npz archive of images and labels, under the names and in the types that people give them."""

from __future__ import annotations

import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rem_study.data.images import HELD_OUT, Images, Part, broken, held_out, own_images, reason
from rem_study.data.labels import Labels, NoLabels, as_classes
from rem_study.errors import InputError
from rem_study.spec import DataSpec
from rem_study.spec.yaml_file import one_line

_PARTS = {"train": "train", "training": "train", "testing": "test"} | {name: name for name in HELD_OUT}
_KINDS = {name: "images" for name in ("images", "image", "imgs", "img", "x", "data")}
_KINDS |= {name: "labels" for name in ("labels", "label", "y", "targets", "target")}


def read_npz(path: Path, spec: DataSpec) -> Images:
    """`train_images`, `train_labels`, and `test_...`; or `x_train`, `y_train` (Keras), `val_...` (MedMNIST), ...

    Images are uint8, or whole numbers or fractions in [0, 255], fractions in [0, 1], uint16, bool; NHW, NHWC, NCHW.

    Raises:
        InputError: naming the keys, dtypes and shapes found.
    """
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise broken(path, "is a single array (.npy), not an archive of images and labels (np.savez)")
        with arrays:
            return _read(arrays, path, spec)
    except InputError:
        raise
    except Exception as error:  # a file that is no archive raises OSError, ValueError, BadZipFile, AttributeError, ...
        raise broken(path, reason(error)) from None


def _read(arrays: Any, path: Path, spec: DataSpec) -> Images:
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

    def load(part: str, kind: str) -> tuple[str, np.ndarray]:
        key = names[part, kind]
        try:
            return key, arrays[key]
        except ValueError as error:  # Python objects
            raise broken(path, f"{key}: {reason(error)}; it has {_found(path)}") from None

    labels: dict[str, Labels] = {}
    images: dict[str, np.ndarray] = {}
    scale: int | None = None
    for part in ["train"] if beside is None else ["train", beside]:
        key, array = load(part, "images")
        image_array, note, scale = _whole_pixels(array, path, key, scale)
        images[part] = _as_nchw(image_array, path, key)
        notes += [f"{key}: {note}"] if note else []
        key, array = load(part, "labels")
        try:
            labels[part] = as_classes(array, labels.get("train"))
        except NoLabels as error:
            raise broken(path, f"{key} {error}; it is {_type(array)}") from None
        notes += [f"{key}: {labels[part].note}"] if labels[part].note else []
    test = None if beside is None else Part(images[beside], labels[beside].classes)
    train = Part(images["train"], labels["train"].classes)
    return replace(own_images(train, test, spec), notes=tuple(notes), class_names=labels["train"].names)


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


def _whole_pixels(images: np.ndarray, path: Path, key: str, scale: int | None) -> tuple[np.ndarray, str, int]:
    """Pixels as uint8, what was done to them, and by what they were multiplied. `scale`: of the training images."""
    kind = images.dtype.kind
    if images.dtype == np.uint8:
        return images, "", 1
    if kind not in "iufb" or images.ndim not in (3, 4):
        raise broken(path, f"{key} must be uint8 of shape NHW, NHWC or NCHW, not {_type(images)}")
    if kind == "b":
        return images.astype(np.uint8) * 255, "bool, as 0 and 255", 255
    if images.dtype == np.uint16 and images.size and images.max() > 255:
        return np.round(images / 257).astype(np.uint8), "uint16, scaled to 8 bits", 1
    low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    if not (low >= 0 and high <= 255):
        values = "it is not all numbers" if not np.isfinite(images).all() else f"its values go from {low:g} to {high:g}"
        raise broken(path, f"{key} must have pixels in [0, 1] or [0, 255], before normalisation; {values}")
    if scale is None:
        scale = 255 if kind == "f" and high <= 1 else 1
    if scale == 255 and high > 1:
        raise broken(path, f"{key} has pixels up to {high:g}, where the training images end at 1")
    ends = "[0, 1]" if scale == 255 else "[0, 255]"
    return (images * scale).round().astype(np.uint8), f"{images.dtype} in {ends}, as whole numbers from 0 to 255", scale


def _as_nchw(images: np.ndarray, path: Path, name: str) -> np.ndarray:
    if images.ndim not in (3, 4):
        raise broken(path, f"{name} must be uint8 of shape NHW, NHWC or NCHW, not {_type(images)}")
    if images.ndim == 3:
        return images[:, None]
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if first == last:
        raise broken(path, f"{name} must have 1 or 3 channels, first or last; its shape is {images.shape}")
    return images if first else images.transpose(0, 3, 1, 2)


def _type(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {'x'.join(map(str, array.shape))}"


def _found(path: Path) -> str:
    """Keys, dtypes and shapes, from the arrays' headers."""
    told = []
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
            told.append(f"{one_line(name.removesuffix('.npy'))} ({dtype}, {'x'.join(map(str, shape)) or 'a scalar'})")
    return ", ".join(told) or "nothing"
