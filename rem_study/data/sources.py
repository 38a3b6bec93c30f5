"""Where images come from: scikit-learn's digits, torchvision's files, and a user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rem_study.data.folder import folder_files, list_folder
from rem_study.data.images import Images, Listing, Part, as_images, broken, kept, reason
from rem_study.data.npz import list_npz
from rem_study.data.parquet import list_parquet, parquet_files
from rem_study.errors import InputError
from rem_study.seeds import generator
from rem_study.spec import DataSpec


@dataclass(frozen=True)
class Augmentation:
    """Random crops after padding by `padding` pixels, and horizontal flips if `flip`."""

    padding: int
    flip: bool


Read = Callable[[DataSpec], Images]


@dataclass(frozen=True)
class Files:
    """A kind of a user's own files. Both raise InputError where files are missing or malformed.

    Attributes:
        paths: all that is looked at below `data.root`.
        list: what there is, no image decoded.
    """

    paths: Callable[[DataSpec], list[Path]]
    list: Callable[[DataSpec], Listing]


@dataclass(frozen=True)
class Source:
    """A kind of data.

    Attributes:
        read: raises InputError where files are missing or malformed; for a user's own files see `Files`.
        augmentation: what suits the images; None: crops by an eighth of their size, no flips.
        augment: whether training augments unless the study says otherwise.
    """

    read: Read | Files
    augmentation: Augmentation | None = None
    augment: bool = False


def _digits(spec: DataSpec) -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    order = torch.randperm(len(images), generator=generator("digits", "train/test")).numpy()
    cut = spec.train_samples or 1437
    if cut + (spec.test_samples or 1) > len(images):
        field = "train_samples" if spec.train_samples else "test_samples"
        raise InputError(f"data.{field}: digits have {len(images)} images in all, {cut} of them for training")
    train, test = order[:cut], order[cut:]
    parts = [Part(images[part], digits.target[part]) for part in (train, test)]
    return as_images(parts[0], parts[1], spec.image_size or 16, 10)


def _torchvision(class_name: str, image_size: int, splits: tuple[dict[str, Any], ...]) -> Read:
    def read(spec: DataSpec) -> Images:
        import torchvision.datasets

        if spec.root is None:
            raise InputError(f"data.root: {spec.name} needs the folder that holds torchvision's {class_name} files")
        parts: list[Part] = []
        for split in splits:
            try:
                part = getattr(torchvision.datasets, class_name)(spec.root, **split, download=spec.download)
            except Exception as error:  # torchvision raises RuntimeError, OSError, URLError, pickle errors
                hint = "" if spec.download else "; data.download: true fetches it"
                told = reason(error).split(". You can use")[0]
                raise InputError(f"data.root: no usable {class_name} under {spec.root!r} ({told}){hint}") from None
            images = np.asarray(part.data)
            if images.ndim == 3:
                images = images[:, None]
            elif images.shape[1] != 3:
                images = images.transpose(0, 3, 1, 2)
            parts.append(Part(images, np.asarray(part.targets if hasattr(part, "targets") else part.labels)))
        return as_images(parts[0], parts[1], spec.image_size or image_size, 10)

    return _in_parts(read)


_BY_FLAG = ({"train": True}, {"train": False})
_BY_NAME = ({"split": "train"}, {"split": "test"})


def _in_parts(read: Read) -> Read:
    """`read`, then the parts that the study asks for."""

    def part(spec: DataSpec) -> Images:
        images = read(spec)
        changes: dict[str, Any] = {}
        for name in ("train", "test"):
            places = kept(spec, name, len(getattr(images, f"{name}_images")))
            for kind in ("images", "labels") if places is not None else ():
                changes[f"{name}_{kind}"] = getattr(images, f"{name}_{kind}")[places]
        return replace(images, **changes)

    return part


def _own(paths: Callable[[Path], list[Path]], listed: Callable[[Path, DataSpec], Listing], what: str) -> Files:
    def root(spec: DataSpec) -> Path:
        if spec.root is None:
            raise InputError(f"data.root: {spec.name} needs {what}")
        if not Path(spec.root).exists():
            raise broken(spec.root, "is not there")
        if spec.columns is not None and spec.name != "parquet":
            raise InputError(f"data.columns: are Parquet's; {spec.name} has none")
        return Path(spec.root)

    return Files(lambda spec: paths(root(spec)), lambda spec: listed(root(spec), spec))


def _parquet_paths(root: Path) -> list[Path]:
    return [path for _, paths in sorted(parquet_files(root).items()) for path in paths]


SOURCES = {
    "digits": Source(_in_parts(_digits), Augmentation(padding=1, flip=False)),
    "fashion_mnist": Source(
        _torchvision("FashionMNIST", 28, _BY_FLAG), Augmentation(padding=2, flip=True), augment=True
    ),
    "cifar10": Source(_torchvision("CIFAR10", 32, _BY_FLAG), Augmentation(padding=4, flip=True), augment=True),
    "svhn": Source(_torchvision("SVHN", 32, _BY_NAME), Augmentation(padding=4, flip=False), augment=True),
    "folder": Source(_own(folder_files, list_folder, "the folder with train/CLASS/ and test/CLASS/")),
    "npz": Source(_own(lambda root: [root], list_npz, "the .npz file")),
    "parquet": Source(_own(_parquet_paths, list_parquet, "the folder with train.parquet and test.parquet")),
}
"""By the name in a study file (`DataSpec.name`)."""
