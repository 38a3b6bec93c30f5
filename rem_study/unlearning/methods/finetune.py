"""Catastrophic forgetting, CF (Goel et al. 2022, arXiv 2201.06640): train on, on the retain set alone.

1. Minimise the cross-entropy of the retain set, all layers, for `epochs`.
"""

from __future__ import annotations

import torch.nn.functional as F

from rem_study.training import train_epoch
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(task: UnlearningTask, *, lr: float, epochs: int, batch_size: int) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/finetune.yaml`."""
    network = task.network
    batches = task.batches(task.retain_ids, batch_size, "retain")
    optimizer = task.optimizer(network, lr)
    samples = sum(
        train_epoch(batches, lambda b: F.cross_entropy(network(b.images), b.labels), optimizer) for _ in range(epochs)
    )
    return Unlearned(network, epochs, samples)
