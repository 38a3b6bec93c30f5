"""Unlearning methods: one module each, named as in the study file.

A method is a function `unlearn(task, *, hyperparameter, ...) -> Unlearned`, whose keyword arguments are the
parameters of `search_spaces/<method>.yaml`. Adding a method is adding these two files.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rem_study.corruption import CorruptedTrainingSet
from rem_study.errors import UnlearningError
from rem_study.seeds import generator, seeded
from rem_study.spec import RecipeSpec
from rem_study.training import BatchLoader, make_optimizer

Predict = Callable[[Tensor], Tensor]
"""Sample ids (M,) to predicted classes (M,)."""


@dataclass
class UnlearningTask:
    """What a method is given. It holds no clean label and no test image.

    Attributes:
        network: a private copy of the original, in training mode; the method may change it.
        data: all training samples with their given labels.
        forget_ids: int64, the discovered corrupted samples.
        retain_ids: int64, all others, undiscovered corruption included.
        recipe: how the original was trained.
        seed: of everything random in the method.
        fresh_network: a newly initialised network of the same kind.
        observe: called by methods that can show where the corruption sits, once an epoch, with prediction
            functions by name; what it records never comes back to the method.
    """

    network: nn.Module
    data: CorruptedTrainingSet
    forget_ids: Tensor
    retain_ids: Tensor
    recipe: RecipeSpec
    seed: int
    fresh_network: Callable[[], nn.Module]
    observe: Callable[[Mapping[str, Predict]], None] = field(default=lambda predictions: None)

    @property
    def chance(self) -> float:
        """The accuracy of guessing among the classes."""
        return 1 / self.data.dataset.num_classes

    def batches(self, ids: Tensor, batch_size: int, purpose: str) -> BatchLoader:
        """Shuffled, augmented batches of the samples `ids`; each purpose has a random stream of its own."""
        return BatchLoader(self.data, ids, batch_size, generator("batches", self.seed, purpose))

    def optimizer(self, network: nn.Module, lr: float) -> torch.optim.Optimizer:
        """A fresh optimiser of the original's kind over what may move in `network`, at a constant rate."""
        return make_optimizer(self.recipe, network.parameters(), lr)


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


def needed_original(method: str) -> str | None:
    """The one `original.kind` that `method` works on (its module's NEEDS_ORIGINAL); None: any."""
    return getattr(importlib.import_module(f"rem_study.unlearning.{method}"), "NEEDS_ORIGINAL", None)


def unlearn(method: str, task: UnlearningTask, configuration: Mapping[str, object]) -> Unlearned:
    """Run `method` with a complete configuration.

    Raises:
        UnlearningError: a loss or a weight was not finite.
        TypeError: a hyperparameter is missing or unknown.
    """
    module = importlib.import_module(f"rem_study.unlearning.{method}")
    with seeded(task.data.device, "dropout", task.seed):
        unlearned: Unlearned = module.unlearn(task, **configuration)
    if not all(value.isfinite().all() for value in unlearned.network.state_dict().values()):
        raise UnlearningError("a weight of the healed network is not finite")
    return unlearned
