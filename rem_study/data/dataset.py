"""Labelled images: loaded once, held on the device as uint8, normalised and augmented a batch at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rem_study.data import place
from rem_study.data.content import array_of, content_hash, moments, pixel_counts
from rem_study.data.images import Images
from rem_study.data.parquet import parquet_files
from rem_study.data.prepare import obtain, read_now
from rem_study.data.prepared import Known, source_key
from rem_study.data.sources import SOURCES, Augmentation, Files
from rem_study.data.transfer import memory_of, send, taken
from rem_study.seeds import generator
from rem_study.spec import DataSpec


@dataclass(frozen=True)
class Dataset:
    """Training and test images.

    Attributes:
        train_images, test_images: uint8 (N, C, H, W); on the CPU where they are too large for the device.
        train_labels, test_labels: int64 (N,), in [0, num_classes).
        augmentation: what training applies, or None.
        notes, class_names, train_files, train_numbers: see `Images`.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    augmentation: Augmentation | None
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    train_files: tuple[str, ...] = ()
    train_numbers: tuple[int, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where labels and moments are, and batches of images go; the images themselves, unless they are too large."""
        return self.train_labels.device

    @cached_property
    def mean(self) -> Tensor:
        """Mean of the training pixels, float32 (1, C, 1, 1), for pixels in [0, 1]."""
        return self._moments[0]

    @cached_property
    def std(self) -> Tensor:
        """Standard deviation of the training pixels, float32 (1, C, 1, 1)."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        counts = pixel_counts(array_of(self.train_images).pieces, self.train_images.shape[1])
        mean, std = moments(counts)
        return mean.to(self.device), std.to(self.device)

    def training_images(self, ids: Tensor, host_ids: Tensor | None = None) -> Tensor:
        """Training images `ids` (B,), normalised, on the device; `host_ids`: the same on the CPU, where they are known
        there."""
        return self.normalise(taken(self.train_images, ids, host_ids, self.device))

    def tested_images(self, ids: Tensor) -> Tensor:
        """Test images `ids` (B,), normalised, on the device."""
        return self.normalise(taken(self.test_images, ids, None, self.device))

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (B, C, H, W) to float32 of zero mean and unit variance over the training set."""
        return images.float().sub_(self.mean * 255).div_(self.std * 255)

    @property
    def white(self) -> Tensor:
        """The largest normalised pixel value, float32 (1, C, 1, 1)."""
        return (1 - self.mean) / self.std

    @cached_property
    def fingerprint(self) -> str:
        """A hash of every pixel and label, the same on every machine."""
        arrays = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        return content_hash(map(array_of, arrays))

    def training_part(self, labels: Tensor) -> Dataset:
        """The training images under other labels (N,), normalised as here; no true label, no test image."""
        return self._alike(train_labels=labels, test_images=self.test_images[:0], test_labels=self.test_labels[:0])

    def augmented_by(self, augmentation: Augmentation | None) -> Dataset:
        """The same data, augmented so in training, normalised as here."""
        return self._alike(augmentation=augmentation)

    def _alike(self, **changed: Any) -> Dataset:
        alike = replace(self, **changed)
        vars(alike).update(mean=self.mean, std=self.std)  # `replace` forgets them; counting takes time
        return alike

    def to(self, device: torch.device, most: float = math.inf) -> Dataset:
        """The same data for computing on `device`.

        Args:
            most: bytes of images that the device is to hold; where there are more, they stay in the CPU's memory, and
                batches of them are sent.
        """
        if device.type == "cpu":
            return self
        names = ["train_labels", "test_labels"]
        if self.train_images.nbytes + self.test_images.nbytes <= most:
            names += ["train_images", "test_images"]
        moved = replace(self, **{name: getattr(self, name).to(device) for name in names})
        vars(moved).update(mean=self.mean.to(device), std=self.std.to(device), fingerprint=self.fingerprint)
        return moved


def load_dataset(spec: DataSpec, device: str = "cpu", share: float = 1.0) -> Dataset:
    """The data set of a study, for computing on `device`; kept in memory for the next call, unless an NPZ or Parquet
    file is another one by then (in a notebook, say).

    A user's own images are prepared once for all processes (see `rem_study.data.place`).

    Args:
        share: of an accelerator's memory that images may take; a set that takes more stays in the CPU's.

    Raises:
        InputError: files are missing or malformed, or hold fewer images than the study asks for.
        OSError: a prepared set cannot be written.
    """
    return _load(spec, device, share, place.current(), _versions(spec))


def _versions(spec: DataSpec) -> tuple[tuple[str, int, int], ...]:
    if spec.root is None or spec.name not in ("npz", "parquet"):
        return ()
    root = Path(spec.root)
    paths = [root] if root.is_file() else [path for part in parquet_files(root).values() for path in part]
    found = ((path, path.stat()) for path in paths)
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in found)


@lru_cache(maxsize=4)
def _load(spec: DataSpec, device: str, share: float, where: place.Place | None, versions: object) -> Dataset:
    read = SOURCES[spec.name].read
    known: Known | None = None
    if not isinstance(read, Files):
        images = read(spec)
    elif where is None:
        images = read_now(spec, read.list(spec))
    else:
        folder = where.folder / source_key(spec, read.paths(spec))
        images, known = obtain(spec, folder, lambda: read.list(spec), where.thorough)
    dataset = dataset_of(spec, images)
    if known is not None:
        vars(dataset).update(vars(known))
    target = torch.device(device)
    return dataset.to(target, share * memory_of(target))


def dataset_of(spec: DataSpec, images: Images) -> Dataset:
    """`images` as the data set of a study that asks for them."""
    augmentation = usual_augmentation(spec.name, images.train_images.shape[-1])
    augment = SOURCES[spec.name].augment if spec.augment is None else spec.augment
    return Dataset(name=spec.name, **vars(images), augmentation=augmentation if augment else None)


def usual_augmentation(name: str, size: int) -> Augmentation:
    """What suits the images of a source, of `size` pixels a side."""
    return SOURCES[name].augmentation or Augmentation(padding=max(1, size // 8), flip=False)


def batch_crop(images: Tensor, padding: int, rng: torch.Generator) -> Tensor:
    """Each image of (B, C, H, W) shifted by up to `padding` pixels either way, zeros moving in."""
    count, _, height, width = images.shape
    padded = F.pad(images, [padding] * 4)
    shifts = send(torch.randint(0, 2 * padding + 1, (2, count), generator=rng), images.device)
    rows = shifts[0, :, None] + torch.arange(height, device=images.device)
    columns = shifts[1, :, None] + torch.arange(width, device=images.device)
    samples = torch.arange(count, device=images.device)[:, None, None]
    return padded[samples, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def batch_flip(images: Tensor, rng: torch.Generator) -> Tensor:
    """Each image of (B, C, H, W) mirrored left to right with probability one half."""
    flip = send(torch.rand(len(images), generator=rng) < 0.5, images.device)
    return torch.where(flip[:, None, None, None], images.flip(-1), images)


def augment(images: Tensor, augmentation: Augmentation, rng: torch.Generator) -> Tensor:
    """The data set's random crops and flips, applied to normalised images (B, C, H, W)."""
    images = batch_crop(images, augmentation.padding, rng)
    return batch_flip(images, rng) if augmentation.flip else images


def report_half(count: int, *seed: object) -> Tensor:
    """A fixed random half of `count` samples: bool (count,), True on the report split, False on selection.

    It depends on the study's seed only, never on the replicate: a sample that helps to choose a
    configuration in one replicate must not judge it in another.
    """
    order = torch.randperm(count, generator=generator("report half", *seed))
    half = torch.zeros(count, dtype=torch.bool)
    half[order[: count // 2]] = True
    return half
