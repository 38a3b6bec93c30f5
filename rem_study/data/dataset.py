"""Labelled images: loaded once, held on the device as uint8, normalised and augmented a batch at a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from rem_study.data.parquet import parquet_files
from rem_study.data.sources import SOURCES, Augmentation
from rem_study.data.transfer import send
from rem_study.errors import InputError
from rem_study.seeds import generator
from rem_study.spec import DataSpec


@dataclass(frozen=True)
class Dataset:
    """Training and test images.

    Attributes:
        train_images, test_images: uint8 (N, C, H, W).
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

    @cached_property
    def mean(self) -> Tensor:
        """Mean of the training pixels, float32 (1, C, 1, 1), for pixels in [0, 1]."""
        return _channel_moments(self.train_images)[0]

    @cached_property
    def std(self) -> Tensor:
        """Standard deviation of the training pixels, float32 (1, C, 1, 1)."""
        return _channel_moments(self.train_images)[1]

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
        digest = hashlib.sha256()
        for tensor in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()

    def training_part(self, labels: Tensor) -> Dataset:
        """The training images under other labels (N,), normalised as here; no true label, no test image."""
        no_images, no_labels = self.test_images[:0], self.test_labels[:0]
        part = replace(self, train_labels=labels, test_images=no_images, test_labels=no_labels)
        vars(part).update(mean=self.mean, std=self.std)  # `replace` forgets them; counting takes time
        return part

    def to(self, device: torch.device) -> Dataset:
        """The same data on `device`."""
        names = ("train_images", "train_labels", "test_images", "test_labels")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def _channel_moments(images: Tensor) -> tuple[Tensor, Tensor]:
    counts = torch.stack([torch.bincount(c.flatten().long(), minlength=256) for c in images.unbind(1)]).double()
    shares = counts / counts.sum(1, keepdim=True)
    values = torch.arange(256, device=images.device, dtype=torch.float64) / 255
    mean = shares @ values
    std = (shares @ values.square() - mean.square()).sqrt()
    return mean.float().view(1, -1, 1, 1), std.float().view(1, -1, 1, 1)


def load_dataset(spec: DataSpec, device: str = "cpu") -> Dataset:
    """The data set of a study, on `device`; kept in memory for the next call, unless an NPZ or Parquet file is another
    one by then (in a notebook, say).

    Raises:
        InputError: files are missing or malformed, or hold fewer images than the study asks for.
    """
    return _load(spec, device, _versions(spec))


def _versions(spec: DataSpec) -> tuple[tuple[str, int, int], ...]:
    if spec.root is None or spec.name not in ("npz", "parquet"):
        return ()
    root = Path(spec.root)
    paths = [root] if root.is_file() else [path for part in parquet_files(root).values() for path in part]
    found = ((path, path.stat()) for path in paths)
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in found)


@lru_cache(maxsize=4)
def _load(spec: DataSpec, device: str, versions: object) -> Dataset:
    source = SOURCES[spec.name]
    images_read = source.read(spec)
    size = images_read.train_images.shape[-1]
    augmentation = source.augmentation or Augmentation(padding=max(1, size // 8), flip=False)
    dataset = Dataset(
        name=spec.name,
        **vars(images_read),
        augmentation=augmentation if (source.augment if spec.augment is None else spec.augment) else None,
    )
    for part, wanted in (("train", spec.train_samples), ("test", spec.test_samples)):
        images, labels = getattr(dataset, f"{part}_images"), getattr(dataset, f"{part}_labels")
        if wanted is None:
            continue
        if wanted > len(images):
            raise InputError(f"data.{part}_samples: {wanted} asked for, {spec.name} has {len(images)}")
        kept = torch.randperm(len(images), generator=generator(spec.name, part, "part"))[:wanted].sort().values
        dataset = replace(dataset, **{f"{part}_images": images[kept], f"{part}_labels": labels[kept]})
    return dataset.to(torch.device(device))


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
