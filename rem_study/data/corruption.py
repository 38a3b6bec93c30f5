"""Corruptions of training data, and the task that each cell of the grid poses.

Definitions: REM (arXiv 2505.17730), section on tasks. A corruption is drawn once a replicate; its order is the
order of discovery, so that the forget set of a lower discovery rate lies inside that of a higher one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rem_study.data.dataset import Dataset
from rem_study.data.given import read_given
from rem_study.data.processes import FindGroup, Process, corrupted_count, process_of
from rem_study.errors import InputError
from rem_study.seeds import generator
from rem_study.spec.corruption import CorruptionSpec, GivenSpec


@dataclass(frozen=True)
class Corruption:
    """The corrupted training samples of one replicate, in order of discovery, on the CPU.

    Attributes:
        ids: int64 (n,), indices into the training set; even positions belong to the selection split, odd ones
            to the report split.
        labels: int64 (n,), the wrong labels that the training set holds.
        clean_labels: int64 (n,), the true ones, or None where nobody knows them.
    """

    ids: Tensor
    labels: Tensor
    clean_labels: Tensor | None
    process: Process

    def discovered(self, rate: float) -> int:
        """How many samples, from the front of `ids`, are known at a discovery rate; batch norm needs two."""
        return max(2, round(rate * len(self.ids)))


def draw_corruption(
    spec: CorruptionSpec, dataset: Dataset, report: Tensor, *seed: object, find_group: FindGroup | None = None
) -> Corruption:
    """Choose and relabel training samples; those that are the same in every replicate only get an order of discovery.

    Args:
        report: bool (N,), the training samples of the report split; half of the corrupted ones come from it.
        seed: parts of the seed (study seed, replicate, ...).
        find_group: see `process_of`.

    Raises:
        InputError: the training set has too few samples that may be corrupted, or see `process_of`.
    """
    process = process_of(spec, dataset, find_group)
    labels = dataset.train_labels.cpu()
    if isinstance(spec, GivenSpec):
        return _order_given(spec, dataset, report, process, *seed)
    # `take` came later: what is drawn at random stays what it was without it
    rng = generator("corruption", spec.model_dump(mode="json", exclude={"take"}), *seed)
    if process.fixed:
        ids = torch.cat(process.groups)
        ids = ids[_order_of_discovery(ids, report, rng)]
        return Corruption(ids, process.relabel(labels[ids], rng), labels[ids], process)
    wanted, groups = corrupted_count(spec, dataset), len(process.groups)
    halves = []
    for half, share in ((~report, wanted - wanted // 2), (report, wanted // 2)):
        chosen = []
        for index, group in enumerate(process.groups):
            eligible = group[half[group]]
            # what cannot be shared out evenly goes to the first groups in one half, to the last in the other
            turn = groups - 1 - index if half is report else index
            count = share // groups + (turn < share % groups)
            if count > len(eligible):
                raise InputError(
                    f"corruptions.{spec.name}.samples: {wanted} asked for, too few images qualify "
                    f"({len(eligible)} of the {count} needed of one kind in one half of the training set)"
                )
            chosen.append(eligible[torch.randperm(len(eligible), generator=rng)[:count]])
        drawn = torch.cat(chosen)
        halves.append(drawn[torch.randperm(len(drawn), generator=rng)])
    ids = _alternate(*halves)
    return Corruption(ids, process.relabel(labels[ids], rng), labels[ids], process)


def _order_given(spec: GivenSpec, dataset: Dataset, report: Tensor, process: Process, *seed: object) -> Corruption:
    ids, clean = read_given(spec, dataset)
    order = _order_of_discovery(ids, report, generator("corruption", spec.name, *seed))
    given = dataset.train_labels.cpu()[ids[order]]
    return Corruption(ids[order], given, None if clean is None else clean[order], process)


def _order_of_discovery(ids: Tensor, report: Tensor, rng: torch.Generator) -> Tensor:
    """An order of `ids`, which are the same in every replicate: they are halved once, as nearly along `report` as equal
    halves allow."""
    places = report[ids].sort(stable=True).indices
    halves = places.tensor_split([len(ids) - len(ids) // 2])
    return _alternate(*(half[torch.randperm(len(half), generator=rng)] for half in halves))


def _alternate(selected: Tensor, reported: Tensor) -> Tensor:
    both = torch.empty(len(selected) + len(reported), dtype=torch.int64)
    both[0::2], both[1::2] = selected, reported
    return both


@dataclass(frozen=True)
class Batch:
    """Some training samples, on the data's device.

    Attributes:
        ids: int64 (B,).
        images: float32 (B, C, H, W), as the network sees them.
        labels: int64 (B,), the given ones.
        host_ids: `ids` on the CPU, for what is decided there: reading them back would wait for the device.
    """

    ids: Tensor
    images: Tensor
    labels: Tensor
    host_ids: Tensor

    def __len__(self) -> int:
        return len(self.ids)


class CorruptedTrainingSet:
    """The training data as a method meets it: given labels, triggers in place, no clean label to be found.

    Attributes:
        labels: int64 (N,), the given labels, wrong ones included, on the data's device.
    """

    def __init__(self, dataset: Dataset, corruption: Corruption | None) -> None:
        self.device = dataset.device
        self.labels = dataset.train_labels.clone()
        self._trigger = corruption.process.trigger if corruption else None
        self._triggered = torch.zeros(len(self.labels), dtype=torch.bool, device=self.device)
        if corruption:
            self.labels[corruption.ids.to(self.device)] = corruption.labels.to(self.device)
            self._triggered[corruption.ids.to(self.device)] = self._trigger is not None
        self.dataset = dataset.training_part(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def images(
        self, ids: Tensor, augment: Callable[[Tensor], Tensor] | None = None, host_ids: Tensor | None = None
    ) -> Tensor:
        """Images float32 (B, C, H, W) of the samples `ids` (B,), as the network sees them.

        The trigger is stamped after augmentation, so that it is never cropped away. `host_ids`: `ids` on the CPU, which
        spares a wait where the images are there, too.
        """
        images = self.dataset.training_images(ids, host_ids)
        if augment is not None:
            images = augment(images)
        if self._trigger is not None:
            images = self._trigger.stamp(images, self._triggered[ids], self.dataset)
        return images


def fresh_samples(process: Process, dataset: Dataset, *seed: object) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Test images put through a corruption: what gives the images, float32 (B, C, H, W), at places (B,) among them, and
    the corrupted labels (M,) of all."""
    labels = process.relabel(dataset.test_labels.cpu()[process.fresh], generator("fresh", *seed))
    eligible, trigger = process.fresh.to(dataset.device), process.trigger

    def images(places: Tensor) -> Tensor:
        some = dataset.tested_images(eligible[places])
        if trigger is None:
            return some
        return trigger.stamp(some, torch.ones(len(some), dtype=torch.bool, device=some.device), dataset)

    return images, labels.to(dataset.device)
