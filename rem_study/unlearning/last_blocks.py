"""Training the last blocks of a network alone: what CF-k and EU-k share."""

from __future__ import annotations

import torch.nn.functional as F

from rem_study.training import train_epoch
from rem_study.unlearning.task import Unlearned, UnlearningTask


def train_last_blocks(task: UnlearningTask, k: int, lr: float, epochs: int, batch_size: int) -> Unlearned:
    """Minimise the cross-entropy of the retain set over the last `k` blocks of `task.network`.

    The blocks before them stay as they are, batch-norm statistics included. A network of `k` blocks or fewer is
    trained whole.
    """
    network = task.network
    batches = task.batches(task.retain_ids, batch_size, "retain")
    network.train().requires_grad_(False)
    for name in network.blocks()[:-k]:  # type: ignore[operator]
        network.get_submodule(name).eval()
    for name in network.blocks()[-k:]:  # type: ignore[operator]
        network.get_submodule(name).requires_grad_(True)
    optimizer = task.optimizer(network, lr)
    samples = sum(
        train_epoch(batches, lambda b: F.cross_entropy(network(b.images), b.labels), optimizer) for _ in range(epochs)
    )
    network.train().requires_grad_(True)
    return Unlearned(network, epochs, samples)
