"""Corruptions of training data, and the task that each cell of the grid poses.

Definitions: REM (arXiv 2505.17730), section on tasks. A corruption is drawn once a replicate; its order is the
order of discovery, so that the forget set of a lower discovery rate lies inside that of a higher one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rem_study.data import Dataset
from rem_study.errors import InputError
from rem_study.seeds import generator
from rem_study.spec import CorruptionSpec, InterclassConfusionSpec, PoisonSpec, RandomLabelSpec

REGULARITY_RANK = {"random_label": "low", "interclass_confusion": "medium", "poison": "high"}

Relabel = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Trigger:
    """A square of the data set's brightest value at the bottom right of an image."""

    size: int

    def stamp(self, images: Tensor, where: Tensor, white: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) with the patch on those where `where` (bool (B,)) holds."""
        stamped = images.clone()
        stamped[:, :, -self.size :, -self.size :] = white
        return torch.where(where[:, None, None, None], stamped, images)


@dataclass(frozen=True)
class Process:
    """How one corruption makes a corrupted sample.

    Attributes:
        groups: classes whose samples may be corrupted; each group gives an equal share.
        relabel: true labels (n,) and a generator to wrong labels (n,), never equal to the true ones.
        trigger: what is stamped on the corrupted images, if anything.
        spared_classes: classes that the utility leaves out (the confused ones, as in the paper).
    """

    groups: tuple[tuple[int, ...], ...]
    relabel: Relabel
    trigger: Trigger | None = None
    spared_classes: tuple[int, ...] = ()


def process_of(spec: CorruptionSpec, dataset: Dataset) -> Process:
    """The process that `spec` names, for the classes and image size of `dataset`. Raises InputError."""
    classes = tuple(range(dataset.num_classes))
    match spec:
        case RandomLabelSpec():
            return Process((classes,), lambda y, rng: (y + torch.randint(1, len(classes), y.shape, generator=rng))
                           % len(classes))  # fmt: skip
        case InterclassConfusionSpec(classes=(a, b)):
            _check_class(spec.name, "classes", max(a, b), dataset)
            return Process(((a,), (b,)), lambda y, _: a + b - y, spared_classes=(a, b))
        case PoisonSpec(target=target, patch_size=size):
            _check_class(spec.name, "target", target, dataset)
            if size > dataset.train_images.shape[-1]:
                raise InputError(f"corruptions.{spec.name}.patch_size: {size} is larger than the images")
            others = tuple(c for c in classes if c != target)
            return Process((others,), lambda y, _: torch.full_like(y, target), trigger=Trigger(size))


def _check_class(corruption: str, field: str, value: int, dataset: Dataset) -> None:
    if value >= dataset.num_classes:
        raise InputError(f"corruptions.{corruption}.{field}: {value} is not a class; there are {dataset.num_classes}")


@dataclass(frozen=True)
class Corruption:
    """The corrupted training samples of one replicate, in order of discovery, on the CPU.

    Attributes:
        ids: int64 (n,), indices into the training set; even positions belong to the selection split, odd ones
            to the report split.
        labels: int64 (n,), the wrong labels that the training set holds.
        clean_labels: int64 (n,), the true ones.
    """

    ids: Tensor
    labels: Tensor
    clean_labels: Tensor
    process: Process

    def discovered(self, rate: float) -> int:
        """How many samples, from the front of `ids`, are known at a discovery rate; batch norm needs two."""
        return max(2, round(rate * len(self.ids)))


def draw_corruption(spec: CorruptionSpec, dataset: Dataset, report: Tensor, *seed: object) -> Corruption:
    """Choose and relabel training samples.

    Args:
        report: bool (N,), the training samples of the report split; half of the corrupted ones come from it.
        seed: parts of the seed (study seed, replicate, ...).

    Raises:
        InputError: the training set has too few samples that may be corrupted.
    """
    process = process_of(spec, dataset)
    labels = dataset.train_labels.cpu()
    wanted = spec.samples or round(0.02 * len(labels))
    groups = len(process.groups)
    rng = generator("corruption", spec.model_dump(mode="json"), *seed)
    halves = []
    for half, share in ((~report, wanted - wanted // 2), (report, wanted // 2)):
        chosen = []
        for index, group in enumerate(process.groups):
            eligible = (half & torch.isin(labels, torch.tensor(group))).nonzero().squeeze(1)
            # what cannot be shared out evenly goes to the first groups in one half, to the last in the other
            turn = groups - 1 - index if half is report else index
            count = share // groups + (turn < share % groups)
            if count > len(eligible):
                raise InputError(f"corruptions.{spec.name}.samples: {wanted} asked for, too few images qualify")
            chosen.append(eligible[torch.randperm(len(eligible), generator=rng)[:count]])
        drawn = torch.cat(chosen)
        halves.append(drawn[torch.randperm(len(drawn), generator=rng)])
    ids = torch.empty(wanted, dtype=torch.int64)
    ids[0::2], ids[1::2] = halves
    return Corruption(ids, process.relabel(labels[ids], rng), labels[ids], process)


@dataclass(frozen=True)
class Batch:
    """Some training samples: ids (B,), images float32 (B, C, H, W) as the network sees them, given labels (B,)."""

    ids: Tensor
    images: Tensor
    labels: Tensor


class CorruptedTrainingSet:
    """The training data as a method meets it: given labels, triggers in place, no clean label to be found.

    Attributes:
        labels: int64 (N,), the given labels, wrong ones included, on the data's device.
    """

    def __init__(self, dataset: Dataset, corruption: Corruption | None) -> None:
        self.device = dataset.train_images.device
        self.labels = dataset.train_labels.clone()
        self._trigger = corruption.process.trigger if corruption else None
        self._triggered = torch.zeros(len(self.labels), dtype=torch.bool, device=self.device)
        if corruption:
            self.labels[corruption.ids.to(self.device)] = corruption.labels.to(self.device)
            self._triggered[corruption.ids.to(self.device)] = self._trigger is not None
        self.dataset = dataset.training_part(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, ids: Tensor, augment: Callable[[Tensor], Tensor] | None = None) -> Batch:
        """The samples `ids` (B,); the trigger is stamped after augmentation, so that it is never cropped away."""
        images = self.dataset.normalise(self.dataset.train_images[ids])
        if augment is not None:
            images = augment(images)
        if self._trigger is not None:
            images = self._trigger.stamp(images, self._triggered[ids], self.dataset.white)
        return Batch(ids, images, self.labels[ids])


def fresh_samples(process: Process, dataset: Dataset, *seed: object) -> tuple[Tensor, Tensor]:
    """Test images put through a corruption: images float32 (M, C, H, W) and their corrupted labels (M,)."""
    true_labels = dataset.test_labels.cpu()
    classes = torch.tensor([c for group in process.groups for c in group])
    eligible = torch.isin(true_labels, classes).nonzero().squeeze(1)
    labels = process.relabel(true_labels[eligible], generator("fresh", *seed))
    images = dataset.normalise(dataset.test_images[eligible.to(dataset.test_images.device)])
    if process.trigger is not None:
        everywhere = torch.ones(len(images), dtype=torch.bool, device=images.device)
        images = process.trigger.stamp(images, everywhere, dataset.white)
    return images, labels.to(images.device)
