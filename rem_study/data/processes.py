"""How each corruption makes a corrupted sample.

Definitions: REM (arXiv 2505.17730), section on tasks; the blended trigger after Chen et al. 2017 (arXiv 1712.05526).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import Protocol

import torch
from torch import Tensor

from rem_study.data.dataset import Dataset
from rem_study.data.given import read_given
from rem_study.errors import InputError
from rem_study.seeds import generator
from rem_study.spec.corruption import (
    BlendedTriggerSpec,
    GivenSpec,
    InterclassConfusionSpec,
    MadeCorruption,
    PoisonSpec,
    RandomLabelSpec,
    SemanticContaminationSpec,
)

Relabel = Callable[[Tensor, torch.Generator], Tensor]
Group = tuple[Tensor, Tensor]
"""Ids of training samples, and of test samples, that belong together."""
FindGroup = Callable[[SemanticContaminationSpec], Group]


class Trigger(Protocol):
    """What is put on the images of corrupted samples."""

    def stamp(self, images: Tensor, where: Tensor, dataset: Dataset) -> Tensor:
        """Normalised images (B, C, H, W) of `dataset`, with the trigger on those where `where` (bool (B,)) holds."""


@dataclass(frozen=True)
class Patch:
    """A square of the data set's brightest value at the bottom right of an image."""

    size: int

    def stamp(self, images: Tensor, where: Tensor, dataset: Dataset) -> Tensor:
        """See `Trigger`."""
        stamped = images.clone()
        stamped[:, :, -self.size :, -self.size :] = dataset.white
        return torch.where(where[:, None, None, None], stamped, images)


@dataclass(frozen=True)
class Blend:
    """A pattern, float32 (C, H, W) in [0, 1], on the data's device, mixed into the image: (1 − alpha) · image +
    alpha · pattern."""

    pattern: Tensor
    alpha: float

    def stamp(self, images: Tensor, where: Tensor, dataset: Dataset) -> Tensor:
        """See `Trigger`."""
        pattern = (self.pattern - dataset.mean) / dataset.std
        return torch.where(where[:, None, None, None], torch.lerp(images, pattern, self.alpha), images)


@dataclass(frozen=True)
class Process:
    """How one corruption makes a corrupted sample.

    Attributes:
        groups: training ids that may be corrupted, int64, on the CPU; each group gives an equal share.
        fixed: whether all samples of `groups` are corrupted, the same ones in every replicate.
        fresh: test ids that the same process may be tried on, int64, on the CPU.
        relabel: true labels (n,) and a generator to wrong labels (n,), never equal to the true ones.
        trigger: what is stamped on the corrupted images, if anything.
        spared_classes: classes that the utility leaves out (the confused ones, as in the paper).
    """

    groups: tuple[Tensor, ...]
    fresh: Tensor
    relabel: Relabel
    trigger: Trigger | None = None
    spared_classes: tuple[int, ...] = ()
    fixed: bool = False


def corrupted_count(spec: MadeCorruption, dataset: Dataset) -> int:
    """How many training samples `spec` corrupts."""
    return spec.samples or round(0.02 * len(dataset.train_labels))


@singledispatch
def process_of(spec: object, dataset: Dataset, find_group: FindGroup | None = None) -> Process:
    """The process that `spec` names, for the classes and image size of `dataset`.

    Args:
        find_group: how `semantic_contamination` finds the group that looks alike.

    Raises:
        InputError: the data lack a class or have images too small, or a file of ids is malformed.
    """
    raise TypeError(f"{type(spec).__name__} has no process")


@process_of.register
def _(spec: RandomLabelSpec, dataset: Dataset, find_group: FindGroup | None = None) -> Process:
    classes = dataset.num_classes

    def another(labels: Tensor, rng: torch.Generator) -> Tensor:
        return (labels + torch.randint(1, classes, labels.shape, generator=rng)) % classes

    train, test = _of_classes(dataset, *range(classes))
    return Process((train,), test, another)


@process_of.register
def _(spec: InterclassConfusionSpec, dataset: Dataset, find_group: FindGroup | None = None) -> Process:
    a, b = spec.classes
    _check_class(spec.name, "classes", max(a, b), dataset)
    groups = tuple(_of_classes(dataset, c)[0] for c in spec.classes)
    first = spec.take == "first"
    if first:
        groups = _first_of_each(groups, corrupted_count(spec, dataset), spec.name)
    return Process(groups, _of_classes(dataset, a, b)[1], lambda y, _: a + b - y, spared_classes=(a, b), fixed=first)


@process_of.register
def _(spec: SemanticContaminationSpec, dataset: Dataset, find_group: FindGroup | None = None) -> Process:
    _check_class(spec.name, "source", spec.source, dataset)
    _check_class(spec.name, "target", spec.target, dataset)
    if find_group is None:
        raise TypeError("semantic_contamination needs find_group")
    train, test = find_group(spec)
    return Process((train,), test, _always(spec.target))


@process_of.register
def _(spec: BlendedTriggerSpec, dataset: Dataset, find_group: FindGroup | None = None) -> Process:
    _check_class(spec.name, "target", spec.target, dataset)
    shape = dataset.train_images.shape[1:]
    pattern = torch.rand(shape, generator=generator("pattern", spec.pattern_seed))
    train, test = _but_of_class(dataset, spec.target)
    return Process((train,), test, _always(spec.target), Blend(pattern.to(dataset.device), spec.alpha))


@process_of.register
def _(spec: PoisonSpec, dataset: Dataset, find_group: FindGroup | None = None) -> Process:
    _check_class(spec.name, "target", spec.target, dataset)
    if spec.patch_size > dataset.train_images.shape[-1]:
        raise InputError(f"corruptions.{spec.name}.patch_size: {spec.patch_size} is larger than the images")
    train, test = _but_of_class(dataset, spec.target)
    return Process((train,), test, _always(spec.target), Patch(spec.patch_size))


@process_of.register
def _(spec: GivenSpec, dataset: Dataset, find_group: FindGroup | None = None) -> Process:
    ids, _ = read_given(spec, dataset)
    nothing = torch.empty(0, dtype=torch.int64)  # nobody knows how it was made
    return Process((ids,), nothing, lambda y, _: y, fixed=True)


def whole_class(spec: SemanticContaminationSpec, dataset: Dataset) -> Group:
    """All of the source class: the largest group that could be found in it."""
    return _of_classes(dataset, spec.source)


def _of_classes(dataset: Dataset, *classes: int) -> Group:
    wanted = torch.tensor(classes)
    train, test = (
        torch.isin(labels.cpu(), wanted).nonzero().squeeze(1) for labels in (dataset.train_labels, dataset.test_labels)
    )
    return train, test


def _first_of_each(groups: tuple[Tensor, ...], wanted: int, corruption: str) -> tuple[Tensor, ...]:
    """The first samples of each group, `wanted` in all; an odd one comes from the first group."""
    share, left = divmod(wanted, len(groups))
    counts = [share + (index < left) for index in range(len(groups))]
    for group, count in zip(groups, counts, strict=True):
        if count > len(group):
            raise InputError(
                f"corruptions.{corruption}.samples: {wanted} asked for, too few images qualify "
                f"({len(group)} of the {count} needed of one kind)"
            )
    return tuple(group[:count] for group, count in zip(groups, counts, strict=True))


def _but_of_class(dataset: Dataset, target: int) -> Group:
    return _of_classes(dataset, *(c for c in range(dataset.num_classes) if c != target))


def _always(target: int) -> Relabel:
    return lambda labels, _: torch.full_like(labels, target)


def _check_class(corruption: str, field: str, value: int, dataset: Dataset) -> None:
    if value >= dataset.num_classes:
        raise InputError(f"corruptions.{corruption}.{field}: {value} is not a class; there are {dataset.num_classes}")
