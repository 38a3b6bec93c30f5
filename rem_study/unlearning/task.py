"""What a method is given and what it gives back."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from rem_study.data import Batch, CorruptedTrainingSet
from rem_study.data.transfer import send
from rem_study.models import evaluating
from rem_study.seeds import generator
from rem_study.spec import RecipeSpec
from rem_study.spec.original import Compile, Precision
from rem_study.training import BatchLoader
from rem_study.training.evaluation import BATCH
from rem_study.training.loop import make_optimizer

Predict = Callable[[Tensor], Tensor]
"""Sample ids (M,) to predicted classes (M,)."""

Computed = TypeVar("Computed")


@dataclass
class UnlearningTask:
    """What a method is given. It holds no clean label and no test image, and one oracle, named as such.

    Attributes:
        network: a private copy of the original, in training mode; the method may change it.
        data: all training samples with their given labels.
        forget_ids: int64, the discovered corrupted samples.
        retain_ids: int64, all others, undiscovered corruption included.
        recipe: how the original was trained.
        seed: of everything random in the method.
        fresh_network: a newly initialised network of the same kind.
        observe: called by methods that can show where the corruption sits, before the first
            epoch and after each, with prediction functions by name; what it records never comes back to the method.
        corrupted_ids: oracle: int64, every corrupted sample, undiscovered ones included. Nobody has it who needs
            unlearning; REM's ablation with the ideal mask reads it, and nothing else may.
        cell_cache: what `once` has computed for this cell and replicate; shared by its trials.
        precision: that networks compute in.
        compile: whether and how training steps are compiled.
    """

    network: nn.Module
    data: CorruptedTrainingSet
    forget_ids: Tensor
    retain_ids: Tensor
    recipe: RecipeSpec
    seed: int
    fresh_network: Callable[[], nn.Module]
    observe: Callable[[Mapping[str, Predict]], None] = field(default=lambda predictions: None)
    corrupted_ids: Tensor | None = None
    cell_cache: MutableMapping[Hashable, object] = field(default_factory=dict)
    precision: Precision = "float32"
    compile: Compile = "none"

    @property
    def chance(self) -> float:
        """The accuracy of guessing among the classes."""
        return 1 / self.data.dataset.num_classes

    def batches(self, ids: Tensor, batch_size: int, purpose: str) -> BatchLoader:
        """Shuffled, augmented batches of the samples `ids`; each purpose has a random stream of its own."""
        return BatchLoader(self.data, ids, batch_size, generator("batches", self.seed, purpose))

    def endless_batches(self, ids: Tensor, batch_size: int, purpose: str) -> Iterator[Batch]:
        """`batches` over and over, each time in a new order."""
        return itertools.chain.from_iterable(itertools.repeat(self.batches(ids, batch_size, purpose)))

    @property
    def all_ids(self) -> Tensor:
        """int64 (N,), every training sample."""
        return torch.arange(len(self.data), device=self.data.device)

    def original_logits(self, of: Literal["all", "forget set"] = "all") -> Callable[[Batch], Tensor]:
        """`fixed_logits` of the network as it stands, which must be the original; `of` bounds the samples asked for."""
        ids = self.all_ids if of == "all" else self.forget_ids
        return self.fixed_logits(f"original, {of}", ids, lambda: self.network)

    def fixed_logits(self, name: str, ids: Tensor, make_network: Callable[[], nn.Module]) -> Callable[[Batch], Tensor]:
        """Logits (B, K) that a network which never changes, a teacher or reference, gives to a batch.

        Where images are not augmented, each of the samples `ids` (M,) always looks the same: they are computed once for
        all trials of a cell, and looked up; other samples then have zeros.

        Args:
            name: says which network and which ids; two of one name in a cell are taken to be the same.
            make_network: gives the network, the same in all trials of a cell; a copy of it is kept where one is needed.
        """
        if self.data.dataset.augmentation is not None:
            network = frozen(make_network())
            return torch.no_grad()(lambda batch: network(batch.images))

        @torch.no_grad()
        def compute() -> Tensor:
            network = make_network()
            with evaluating(network):
                known = torch.cat([network(self.data.images(part)) for part in ids.split(BATCH)])
            logits = known.new_zeros(len(self.data), known.shape[1])
            logits[ids] = known
            return logits

        logits = self.once(("logits", name), compute)
        return lambda batch: logits[batch.ids]

    def once(self, key: Hashable, compute: Callable[[], Computed]) -> Computed:
        """The result of `compute`, computed by the cell's first trial that asks for `key`; treat it as read-only.

        It may depend on the original, the data, the ids, the seed and what `key` says; on nothing else.
        """
        if key not in self.cell_cache:
            self.cell_cache[key] = compute()
        return self.cell_cache[key]  # type: ignore[return-value]

    def number(self, value: float) -> Tensor:
        """`value`, a scalar, as a loss takes it: a number would be compiled into it, and each other one anew."""
        kind = torch.float32 if self.data.device.type == "mps" else torch.float64
        return send(torch.tensor(value, dtype=kind), self.data.device)

    def optimizer(self, network: nn.Module, lr: float) -> torch.optim.Optimizer:
        """A fresh optimiser of the original's kind over what may move in `network`, at a constant rate."""
        return make_optimizer(self.recipe, network.parameters(), lr)


def frozen(network: nn.Module) -> nn.Module:
    """A copy of `network` in evaluation mode: a teacher or reference that no optimiser can reach."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@dataclass(frozen=True)
class Unlearned:
    """What a method gives back.

    Attributes:
        network: the healed network.
        epochs: passes over its largest set that it made.
        sample_passes: samples taken forward and backward through a network.
    """

    network: nn.Module
    epochs: float
    sample_passes: int
