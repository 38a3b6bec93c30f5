"""NegGrad+ (Kurmanji et al. 2023, arXiv 2302.09880): descent on the retain set, ascent on the forget set, at once.

1. For `epochs`, for each batch of the retain set and the next batch of the forget set (over and over), minimise
   (1 - forget_weight) CE(retained) - forget_weight CE(forgotten). The paper's alpha is 1 - forget_weight.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from rem_study.data import Batch
from rem_study.training import PairedBatches, train_epoch
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(task: UnlearningTask, *, forget_weight: float, lr: float, epochs: int, batch_size: int) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/neggrad_plus.yaml`."""
    network = task.network
    forgotten = task.endless_batches(task.forget_ids, batch_size, "forget")
    batches = PairedBatches(task.batches(task.retain_ids, batch_size, "retain"), forgotten)
    optimizer, weight = task.optimizer(network, lr), task.number(forget_weight)

    def loss(kept: Batch, forget: Batch) -> Tensor:
        keeping = F.cross_entropy(network(kept.images), kept.labels)
        return (1 - weight) * keeping - weight * F.cross_entropy(network(forget.images), forget.labels)

    samples = sum(train_epoch(batches, loss, optimizer) for _ in range(epochs))
    return Unlearned(network, epochs, samples)
