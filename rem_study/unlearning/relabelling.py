"""Random labels for the forget set: what random relabelling and SalUn share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from rem_study.seeds import generator
from rem_study.training import train_epoch
from rem_study.unlearning.task import Unlearned, UnlearningTask


def draw_other_labels(labels: Tensor, num_classes: int, seed: int) -> Tensor:
    """For each of `labels` (M,), one of the other classes, all equally likely."""
    shift = torch.randint(1, num_classes, labels.shape, generator=generator("random labels", seed))
    return (labels + shift.to(labels.device)) % num_classes


def train_relabelled(
    task: UnlearningTask, lr: float, epochs: int, batch_size: int, after_step: Callable[[], None] | None = None
) -> Unlearned:
    """Minimise the cross-entropy of all data, the forget set under random labels drawn once."""
    network, labels = task.network, task.data.labels.clone()
    labels[task.forget_ids] = draw_other_labels(labels[task.forget_ids], task.data.dataset.num_classes, task.seed)
    batches = task.batches(task.all_ids, batch_size, "all")
    optimizer = task.optimizer(network, lr)
    samples = sum(
        train_epoch(batches, lambda b: F.cross_entropy(network(b.images), labels[b.ids]), optimizer, after_step)
        for _ in range(epochs)
    )
    return Unlearned(network, epochs, samples)
