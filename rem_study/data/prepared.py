"""A user's own images, decoded and resized once, in files that all processes map into their memory.

A set lies in a folder named by a hash of what it was made from. The kernel holds one copy of what is mapped, however
many processes read it, and lets go of it where memory is short.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rem_study.data.content import Array, content_hash, moments, pixel_counts, rows_a_piece
from rem_study.data.images import Images, broken, check_shapes, reason
from rem_study.spec import DataSpec

FORMAT = 1
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
MANIFEST = "manifest.json"
_TEXTS = ("notes", "class_names", "train_files", "train_numbers")


@dataclass(frozen=True)
class Known:
    """What preparing found out about all pixels and labels: see `Dataset`."""

    fingerprint: str
    mean: Tensor
    std: Tensor


class Damaged(Exception):
    """What is wrong with a prepared set."""


def source_key(spec: DataSpec, files: list[Path]) -> str:
    """A hash of what a set is made from: its root and settings, and the paths, sizes and times of `files`, which may be
    folders, too.

    Raises:
        InputError: one of them is not there.
    """
    root = Path(spec.root or "")
    digest = hashlib.sha256(_ascii({**_settings(spec), "root": os.path.realpath(root)}))
    for path in files:
        try:
            found = os.stat(path)
        except OSError as error:
            raise broken(path, error.strerror or reason(error)) from None
        version = (0, 0) if stat.S_ISDIR(found.st_mode) else (found.st_size, found.st_mtime_ns)
        digest.update(b"\0%s\0%d %d" % (os.fsencode(path.relative_to(root)), *version))
    return digest.hexdigest()[:32]


def _settings(spec: DataSpec) -> dict[str, Any]:
    names = {"name", "columns", "image_size", "train_samples", "test_samples"}
    return {"format": FORMAT, **spec.model_dump(mode="json", include=names)}


def open_prepared(place: Path, spec: DataSpec, thorough: bool = False) -> tuple[Images, Known] | None:
    """The set in the folder `place`, its images mapped into memory; None where there is none.

    Args:
        thorough: look at every byte; else only where sizes or times of its files are not those that they were written
            with.

    Raises:
        Damaged: it is not what was written.
        InputError: it was made for `heal`, which takes images of any shape, and does not do for a study.
    """
    manifest = _read_manifest(place)
    if manifest is None:
        return None
    try:
        suspicious = thorough or _versions(place) != manifest["files"]
        if suspicious and _content_hash(place) != manifest["fingerprint"]:
            raise Damaged("its pixels or labels are not those that were written")
        tensors = {name: _mapped(place / f"{name}.npy") for name in ARRAYS}
    except (OSError, ValueError) as error:
        raise Damaged(reason(error)) from None
    described = manifest["images"]
    texts = {name: tuple(described[name]) for name in _TEXTS}
    fields: dict[str, Any] = {**tensors, **texts, "num_classes": described["num_classes"]}
    images = Images(**fields)
    _require_fitting(images, spec)
    mean, std = (torch.tensor(manifest[name]).view(1, -1, 1, 1) for name in ("mean", "std"))
    if not (std > 0).all():  # of an older version, where a channel's pixels are all equal
        raise Damaged("nothing can be divided by its standard deviation")
    return images, Known(manifest["fingerprint"], mean, std)


def is_prepared(place: Path) -> bool:
    """Whether a set that looks whole is there."""
    try:
        return _read_manifest(place) is not None
    except Damaged:
        return False


def seal(place: Path, spec: DataSpec, images: dict[str, Any]) -> None:
    """Write the manifest of the arrays in the folder `place`: their checksum, their moments, and what is said of them.

    Args:
        images: the fields of `Images` that are no arrays.
    """
    train = _array(place / "train_images.npy")
    mean, std = moments(pixel_counts(train.pieces, train.shape[1]))
    content = {
        "source": {**_settings(spec), "root": spec.root},
        "images": images,
        "mean": mean.flatten().tolist(),
        "std": std.flatten().tolist(),
        "fingerprint": _content_hash(place),
        "files": _versions(place),
    }
    content["sha256"] = hashlib.sha256(_ascii(content)).hexdigest()
    (place / MANIFEST).write_bytes(_ascii(content))


def _ascii(content: dict[str, Any]) -> bytes:
    """Sorted JSON in which file names of any bytes can be written."""
    return json.dumps(content, sort_keys=True).encode("ascii")


def _require_fitting(images: Images, spec: DataSpec) -> None:
    has_test = len(images.test_images) > 0
    if not has_test and not spec.as_is:
        raise broken(spec.root, "has no test part")
    train, test = (tuple(part.shape[1:]) for part in (images.train_images, images.test_images))
    check_shapes(train, test if has_test else None, spec)


def _read_manifest(place: Path) -> dict[str, Any] | None:
    """None where there is no set. Raises Damaged."""
    try:
        manifest: dict[str, Any] = json.loads((place / MANIFEST).read_bytes())
        checksum = manifest.pop("sha256")
        if hashlib.sha256(_ascii(manifest)).hexdigest() != checksum:
            raise Damaged(f"the checksum of {MANIFEST} is wrong")
        for name, (length, _) in manifest["files"].items():
            if (place / name).stat().st_size != length:
                raise Damaged(f"{name} is not as long as it was")
        return manifest
    except FileNotFoundError as error:
        if not place.exists():
            return None
        raise Damaged(f"{Path(error.filename).name} is not there") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{MANIFEST}: {reason(error)}") from None


def _versions(place: Path) -> dict[str, list[int]]:
    found = {f"{name}.npy": (place / f"{name}.npy").stat() for name in ARRAYS}
    return {name: [one.st_size, one.st_mtime_ns] for name, one in found.items()}


def _content_hash(place: Path) -> str:
    """What `Dataset.fingerprint` is for these arrays."""
    return content_hash(_array(place / f"{name}.npy") for name in ARRAYS)


def _mapped(path: Path) -> Tensor:
    """The array in a file. Pages of images are read when they are looked at; what is written to them stays in this
    process."""
    return torch.from_numpy(np.load(path, allow_pickle=False, mmap_mode="c" if "images" in path.stem else None))


def _array(path: Path) -> Array:
    """The array in a file, read a piece at a time."""
    with open(path, "rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        begin = file.tell()
    each = rows_a_piece(shape, dtype.itemsize)

    def pieces() -> Iterator[np.ndarray]:
        with open(path, "rb") as file:
            file.seek(begin)
            for start in range(0, shape[0], each):
                rows = min(each, shape[0] - start)
                yield np.fromfile(file, dtype, rows * int(np.prod(shape[1:]))).reshape(rows, *shape[1:])

    return Array(shape, torch.uint8 if dtype == np.uint8 else torch.int64, pieces())
