"""Where images come from: scikit-learn's digits, torchvision's files, and a user's own."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rem_study.errors import InputError
from rem_study.seeds import generator
from rem_study.spec import DataSpec


@dataclass(frozen=True)
class Augmentation:
    """Random crops after padding by `padding` pixels, and horizontal flips if `flip`."""

    padding: int
    flip: bool


@dataclass(frozen=True)
class Images:
    """What a source holds, at the size that the study asks for.

    Attributes:
        train_images, test_images: uint8 (N, C, S, S), or (N, C, H, W) as they are.
        train_labels, test_labels: int64 (N,), in [0, num_classes).
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int


Read = Callable[[DataSpec], Images]


@dataclass(frozen=True)
class Source:
    """A kind of data.

    Attributes:
        read: raises InputError where files are missing or malformed.
        augmentation: what suits the images; None: crops by an eighth of their size, no flips.
        augment: whether training augments unless the study says otherwise.
    """

    read: Read
    augmentation: Augmentation | None = None
    augment: bool = False


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 images (N, C, H, W) as (N, C, size, size), bilinear and antialiased."""
    if images.shape[2:] == (size, size):
        return images
    resized = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return resized.round_().clamp_(0, 255).to(torch.uint8)


Part = tuple[np.ndarray, np.ndarray]


def _images(train: Part, test: Part, size: int | None, num_classes: int) -> Images:
    """The arrays as tensors, resized unless `size` is None."""
    (train_images, train_labels), (test_images, test_labels) = train, test

    def sized(images: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(images))
        return tensor if size is None or not len(tensor) else resize(tensor, size)

    return Images(
        train_images=sized(train_images),
        train_labels=torch.from_numpy(np.array(train_labels, dtype=np.int64)),
        test_images=sized(test_images),
        test_labels=torch.from_numpy(np.array(test_labels, dtype=np.int64)),
        num_classes=num_classes,
    )


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
    parts = [(images[part], digits.target[part]) for part in (train, test)]
    return _images(parts[0], parts[1], spec.image_size or 16, 10)


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
                reason = _line(error).split(". You can use")[0]
                raise InputError(f"data.root: no usable {class_name} under {spec.root!r} ({reason}){hint}") from None
            images = np.asarray(part.data)
            if images.ndim == 3:
                images = images[:, None]
            elif images.shape[1] != 3:
                images = images.transpose(0, 3, 1, 2)
            parts.append((images, np.asarray(part.targets if hasattr(part, "targets") else part.labels)))
        return _images(parts[0], parts[1], spec.image_size or image_size, 10)

    return read


_BY_FLAG = ({"train": True}, {"train": False})
_BY_NAME = ({"split": "train"}, {"split": "test"})


def _folder(spec: DataSpec) -> Images:
    from torchvision.datasets import ImageFolder

    root = _root(spec, "the folder with train/CLASS/ and test/CLASS/")
    parts: list[Part] = []
    classes: dict[str, int] = {}
    for name in ("train", "test"):
        folder = root / name
        if parts and spec.as_is and not folder.exists():
            continue
        if not folder.is_dir():
            raise _broken(folder, "is not a folder")
        try:
            found = ImageFolder(str(folder))
        except (OSError, RuntimeError) as error:
            raise _broken(folder, _line(error)) from None
        classes = classes or found.class_to_idx
        unknown = sorted(set(found.classes) - set(classes))
        if unknown:
            raise _broken(folder / unknown[0], "is a class without training images")
        images = _decoded(((path, Path(path).read_bytes()) for path, _ in found.samples), spec)
        parts.append((images, np.array([classes[found.classes[index]] for _, index in found.samples])))
    return _own(parts, spec, len(classes))


def _npz(spec: DataSpec) -> Images:
    path = _root(spec, "the .npz file")
    parts: list[Part] = []
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for part in ("train", "test"):
                if parts and spec.as_is and not {f"{part}_images", f"{part}_labels"} & set(arrays):
                    continue
                missing = [name for name in (f"{part}_images", f"{part}_labels") if name not in arrays]
                if missing:
                    raise _broken(path, f"has no {missing[0]}")
                images = _as_nchw(arrays[f"{part}_images"], path, f"{part}_images")
                parts.append((images, _whole_numbers(arrays[f"{part}_labels"], path, f"{part}_labels")))
    except InputError:
        raise
    except Exception as error:  # a file that is no archive raises OSError, ValueError, BadZipFile, AttributeError, ...
        raise _broken(path, _line(error)) from None
    return _own(parts, spec)


def _parquet(spec: DataSpec) -> Images:
    import pyarrow
    import pyarrow.parquet

    root = _root(spec, "the folder with train.parquet and test.parquet")
    parts: list[Part] = []
    for part in ("train", "test"):
        path = root / f"{part}.parquet"
        if parts and spec.as_is and not path.exists():
            continue
        try:
            table = pyarrow.parquet.read_table(path)
        except (OSError, pyarrow.ArrowException) as error:
            raise _broken(path, "is not there" if isinstance(error, FileNotFoundError) else _line(error)) from None
        for column in ("image", "label"):
            if column not in table.column_names:
                raise _broken(path, f"has no column {column}")
        cells = [image.get("bytes") if isinstance(image, dict) else image for image in table["image"].to_pylist()]
        images = _decoded(((f"{path}, row {row}", content) for row, content in enumerate(cells)), spec)
        parts.append((images, _whole_numbers(table["label"].to_numpy(), path, "label")))
    return _own(parts, spec)


def _root(spec: DataSpec, what: str) -> Path:
    if spec.root is None:
        raise InputError(f"data.root: {spec.name} needs {what}")
    if not Path(spec.root).exists():
        raise _broken(spec.root, "is not there")
    return Path(spec.root)


def _broken(place: object, why: str) -> InputError:
    return InputError(f"data.root: {place}: {why}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _decoded(encoded: Iterable[tuple[str, object]], spec: DataSpec) -> np.ndarray:
    """Encoded images, each after its place, as uint8 (N, C, H, W); grey only where all of them are."""
    from PIL import Image

    pixels: list[np.ndarray] = []
    for place, content in encoded:
        if not isinstance(content, bytes):
            raise _broken(place, "holds no encoded image (PNG, JPEG, ...)")
        try:
            with Image.open(io.BytesIO(content)) as image:
                if image.mode[0] in "IF":
                    raise _broken(place, "has more than 8 bits a channel")
                array = np.array(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
        except InputError:
            raise
        except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, DecompressionBombError, ...
            raise _broken(place, _line(error)) from None
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        if spec.image_size is not None:
            array = resize(torch.from_numpy(np.ascontiguousarray(array))[None], spec.image_size)[0].numpy()
        if pixels and array.shape[1:] != pixels[0].shape[1:]:
            raise InputError(f"data.image_size: {place}: images differ in size; say to which they are to be resized")
        pixels.append(array)
    channels = max((array.shape[0] for array in pixels), default=1)
    return (
        np.stack([np.broadcast_to(a, (channels, *a.shape[1:])) for a in pixels]) if pixels else np.empty((0, 1, 1, 1))
    )


def _as_nchw(images: np.ndarray, path: Path, name: str) -> np.ndarray:
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        shape = "x".join(map(str, images.shape))
        raise _broken(path, f"{name} must be uint8 of shape NHW, NHWC or NCHW, not {images.dtype} of shape {shape}")
    if images.ndim == 3:
        return images[:, None]
    first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
    if first == last:
        raise _broken(path, f"{name} must have 1 or 3 channels, first or last; its shape is {images.shape}")
    return images if first else images.transpose(0, 3, 1, 2)


def _whole_numbers(labels: np.ndarray, path: Path, name: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:  # as MedMNIST has them
        labels = labels[:, 0]
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or (len(labels) and labels.min() < 0):
        raise _broken(path, f"{name} must be one whole number from 0 for each image")
    return labels


def _own(parts: list[Part], spec: DataSpec, num_classes: int | None = None) -> Images:
    """A user's images, checked; without `num_classes`, the largest training label says how many there are."""
    for name, (images, labels) in zip(("train", "test"), parts, strict=False):
        if not len(images):
            raise _broken(spec.root, f"has no {name} image")
        if len(images) != len(labels):
            raise _broken(spec.root, f"has {len(images)} {name} images, but {len(labels)} labels")
    train = parts[0]
    test = parts[1] if len(parts) == 2 else (train[0][:0], train[1][:0])  # `as_is` allows for no test part
    num_classes = num_classes or int(train[1].max()) + 1
    if num_classes < 2:
        raise _broken(spec.root, "has only one class")
    if len(test[1]) and test[1].max() >= num_classes:
        raise _broken(spec.root, f"test label {test[1].max()} is not among the training labels")
    channels = [images.shape[1] for images, _ in parts]
    if channels[0] != channels[-1]:
        raise _broken(spec.root, f"training images have {channels[0]} channels, test images {channels[1]}")
    shapes = {images.shape[2:] for images, _ in parts}
    height, width = train[0].shape[2:]
    if spec.image_size is None and (len(shapes) > 1 or not (spec.as_is or height == width >= 12)):
        raise InputError(
            f"data.image_size: {spec.root}: images of {height}x{width} must be resized; say to how many pixels a side"
        )
    return _images(train, test, spec.image_size, num_classes)


SOURCES = {
    "digits": Source(_digits, Augmentation(padding=1, flip=False)),
    "fashion_mnist": Source(
        _torchvision("FashionMNIST", 28, _BY_FLAG), Augmentation(padding=2, flip=True), augment=True
    ),
    "cifar10": Source(_torchvision("CIFAR10", 32, _BY_FLAG), Augmentation(padding=4, flip=True), augment=True),
    "svhn": Source(_torchvision("SVHN", 32, _BY_NAME), Augmentation(padding=4, flip=False), augment=True),
    "folder": Source(_folder),
    "npz": Source(_npz),
    "parquet": Source(_parquet),
}
"""By the name in a study file (`DataSpec.name`)."""
