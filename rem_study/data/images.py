"""What every reader of images gives, and what readers of a user's own files share: how a mistake is told, how images
are resized, how images and labels of one set are held against each other."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rem_study.errors import InputError
from rem_study.spec import DataSpec
from rem_study.spec.yaml_file import one_line

HELD_OUT = ("test", "val", "valid", "validation", "dev")
"""What the part that is not trained on is called, the first of them that is there."""


@dataclass(frozen=True)
class Images:
    """What a source holds, at the size that the study asks for.

    Attributes:
        train_images, test_images: uint8 (N, C, S, S), or (N, C, H, W) as they are.
        train_labels, test_labels: int64 (N,), in [0, num_classes).
        notes: what was taken otherwise than it stands in the files, or left aside; a line each.
        class_names: by class, where the source names them; else empty.
        train_files: names of the training images, relative to their folder with `/`; empty where they have none.
        train_numbers: what ids call each training image where that is not its place; else empty.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    train_files: tuple[str, ...] = ()
    train_numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Part:
    """Images uint8 (N, C, H, W) and labels int64 (N,) of the training or the held-out set."""

    images: np.ndarray
    labels: np.ndarray


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 images (N, C, H, W) as (N, C, size, size), bilinear and antialiased."""
    if images.shape[2:] == (size, size):
        return images
    resized = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def as_images(train: Part, test: Part, size: int | None, num_classes: int) -> Images:
    """The arrays as tensors, resized unless `size` is None."""

    def sized(images: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(images))
        return tensor if size is None or not len(tensor) else resize(tensor, size)

    return Images(
        train_images=sized(train.images),
        train_labels=torch.from_numpy(np.array(train.labels, dtype=np.int64)),
        test_images=sized(test.images),
        test_labels=torch.from_numpy(np.array(test.labels, dtype=np.int64)),
        num_classes=num_classes,
    )


def broken(place: object, why: str) -> InputError:
    """What is wrong with a file or folder below `data.root`."""
    return InputError(f"data.root: {one_line(place)}: {why}")


def reason(error: Exception) -> str:
    """An exception's text on one line, without addresses in memory."""
    text = re.sub(r"<_?\w+(\.\w+)* object at 0x[0-9a-fA-F]+>", "the file", str(error))
    return one_line(text) or type(error).__name__


def own_images(train: Part, test: Part | None, spec: DataSpec, num_classes: int | None = None) -> Images:
    """A user's images, checked; without `num_classes`, the largest training label says how many there are.

    Raises:
        InputError: a part is empty, images and labels differ in number, or parts do not go together.
    """
    parts = {"train": train} if test is None else {"train": train, "test": test}
    for name, part in parts.items():
        if not len(part.images):
            raise broken(spec.root, f"has no {name} image")
        if len(part.images) != len(part.labels):
            raise broken(spec.root, f"has {len(part.images)} {name} images, but {len(part.labels)} labels")
    test = test or Part(train.images[:0], train.labels[:0])  # `as_is` allows for no test part
    num_classes = num_classes or int(train.labels.max()) + 1
    if num_classes < 2:
        raise broken(spec.root, "has only one class")
    if len(test.labels) and test.labels.max() >= num_classes:
        raise broken(spec.root, f"test label {test.labels.max()} is not among the training labels")
    if train.images.shape[1] != test.images.shape[1]:
        channels = train.images.shape[1], test.images.shape[1]
        raise broken(spec.root, f"training images have {channels[0]} channels, test images {channels[1]}")
    shapes = {part.images.shape[2:] for part in parts.values()}
    height, width = train.images.shape[2:]
    if spec.image_size is None and (len(shapes) > 1 or not (spec.as_is or height == width >= 12)):
        raise InputError(
            f"data.image_size: {one_line(spec.root)}: images of {height}x{width} must be resized; say to how many "
            "pixels a side"
        )
    return as_images(train, test, spec.image_size, num_classes)


def held_out(found: set[str], what: str) -> tuple[str | None, list[str]]:
    """Which of the held-out parts that were `found` is taken, and what is to be said of it and of the others."""
    names = [name for name in HELD_OUT if name in found]
    if not names:
        return None, []
    notes = [] if names[0] == "test" else [f"{what.format(names[0])} is the held-out set, since there is no test part"]
    notes += [f"{what.format(name)} is left aside: the held-out set is {what.format(names[0])}" for name in names[1:]]
    return names[0], notes
