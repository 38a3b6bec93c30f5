"""What every reader of images gives, and what readers of a user's own files share: how a mistake is told, how images
are resized, how images and labels of one set are held against each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rem_study.errors import InputError
from rem_study.seeds import generator
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


def differing(place: str) -> InputError:
    """An image of another size than those before it, where the study names none."""
    return InputError(f"data.image_size: {one_line(place)}: images differ in size; say to which they are to be resized")


def reason(error: Exception) -> str:
    """An exception's text on one line, without addresses in memory."""
    text = re.sub(r"<_?\w+(\.\w+)* object at 0x[0-9a-fA-F]+>", "the file", str(error))
    return one_line(text) or type(error).__name__


@dataclass
class Taken:
    """How many images were taken otherwise than as they are; `notes` says so."""

    deep: int = 0
    palette: int = 0
    example: dict[str, str] = field(default_factory=dict)

    def count(self, what: str, place: str) -> None:
        """Count an image at `place` as `deep` or `palette`."""
        setattr(self, what, getattr(self, what) + 1)
        self.example.setdefault(what, one_line(place))

    def add(self, later: Taken) -> None:
        """Count what was counted of the images that follow."""
        self.deep, self.palette = self.deep + later.deep, self.palette + later.palette
        self.example = later.example | self.example

    def notes(self, channels: int) -> list[str]:
        """A line each; none of palettes where the set has colours and they are images like the others."""
        lines = []
        if self.deep:
            more = f" and {self.deep - 1} more" if self.deep > 1 else ""
            lines.append(f"{self.example['deep']}{more}: 16 bits a channel, scaled to 8")
        if self.palette and channels == 1:
            more = f" and {self.palette - 1} more" if self.palette > 1 else ""
            lines.append(f"{self.example['palette']}{more}: palettes that hold grey alone, read as one channel")
        return lines


@dataclass(frozen=True)
class Some:
    """A few images of a part that follow each other.

    Attributes:
        images: uint8 (n, C, H, W), at the size that the study asks for; grey only where all of them are.
        place: of the first, for messages.
    """

    images: np.ndarray
    place: str
    taken: Taken = field(default_factory=Taken)


Job = Callable[[], Some]
"""Makes some images, in any thread. Raises InputError."""
AT_ONCE = 16
"""Images that one job makes."""


@dataclass(frozen=True)
class StoredPart:
    """The training or the held-out set of a user's own source, none of its images read.

    Attributes:
        labels: int64 (N,).
        count: images; equals N but for mistakes.
        jobs: what makes all images, in order.
        sample: what makes about so many of them.
    """

    labels: np.ndarray
    count: int
    jobs: Callable[[], Iterator[Job]]
    sample: Callable[[int], Iterator[Job]]


@dataclass(frozen=True)
class Listing:
    """What a user's own source holds, before any image of it is decoded. Fields as in `Images`."""

    train: StoredPart
    test: StoredPart | None
    num_classes: int
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    train_files: tuple[str, ...] = ()
    train_numbers: tuple[int, ...] = ()


def checked_classes(train: StoredPart, test: StoredPart | None, spec: DataSpec, num_classes: int | None = None) -> int:
    """How many classes there are: `num_classes`, else the largest training label says it.

    Raises:
        InputError: a part is empty, images and labels differ in number, or labels do not go together.
    """
    parts = {"train": train} if test is None else {"train": train, "test": test}
    for name, part in parts.items():
        if not part.count:
            raise broken(spec.root, f"has no {name} image")
        if part.count != len(part.labels):
            raise broken(spec.root, f"has {part.count} {name} images, but {len(part.labels)} labels")
    num_classes = num_classes or int(train.labels.max()) + 1
    if num_classes < 2:
        raise broken(spec.root, "has only one class")
    if test is not None and test.labels.max() >= num_classes:
        raise broken(spec.root, f"test label {test.labels.max()} is not among the training labels")
    return num_classes


def check_shapes(train: tuple[int, ...], test: tuple[int, ...] | None, spec: DataSpec) -> None:
    """Raise InputError where images of these shapes (C, H, W) do not go together, or must be resized."""
    if test is not None and train[0] != test[0]:
        raise broken(spec.root, f"training images have {train[0]} channels, test images {test[0]}")
    height, width = train[1:]
    differ = test is not None and train[1:] != test[1:]
    if spec.image_size is None and (differ or not (spec.as_is or height == width >= 12)):
        raise InputError(
            f"data.image_size: {one_line(spec.root)}: images of {height}x{width} must be resized; say to how many "
            "pixels a side"
        )


def held_out(found: set[str], what: str) -> tuple[str | None, list[str]]:
    """Which of the held-out parts that were `found` is taken, and what is to be said of it and of the others."""
    names = [name for name in HELD_OUT if name in found]
    if not names:
        return None, []
    notes = [] if names[0] == "test" else [f"{what.format(names[0])} is the held-out set, since there is no test part"]
    notes += [f"{what.format(name)} is left aside: the held-out set is {what.format(names[0])}" for name in names[1:]]
    return names[0], notes


def kept(spec: DataSpec, part: str, total: int) -> Tensor | None:
    """Which of `total` images of the part `train` or `test` the study takes, int64, in order; None: all of them.

    Raises:
        InputError: it asks for more than there are.
    """
    wanted: int | None = getattr(spec, f"{part}_samples")
    if wanted is None:
        return None
    if wanted > total:
        raise InputError(f"data.{part}_samples: {wanted} asked for, {spec.name} has {total}")
    return torch.randperm(total, generator=generator(spec.name, part, "part"))[:wanted].sort().values
