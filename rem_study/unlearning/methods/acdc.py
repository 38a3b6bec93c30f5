"""AcDC, ascent and descent decoupled: the part of Cognac (Kolipaka et al. 2024, arXiv 2412.00789) that images need.

1. For `steps` rounds, in turns,
   1.1 ascent: `inner` batches of the forget set, Adam of its own, minimise -CE;
   1.2 descent: `inner` batches of the retain set, another Adam, minimise CE + alpha KL(original || network).

Cognac's other part finds the graph neighbours that the corruption has reached; images have none.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from rem_study.data import Batch
from rem_study.training import train_epoch
from rem_study.unlearning.objectives import compute_kl_divergence
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(
    task: UnlearningTask, *, lr_ascent: float, lr_descent: float, alpha: float, steps: int, inner: int, batch_size: int
) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/acdc.yaml`."""
    network, original, weight = task.network, task.original_logits(), task.number(alpha)
    ascending = torch.optim.Adam(network.parameters(), lr_ascent)
    descending = torch.optim.Adam(network.parameters(), lr_descent)
    forgotten = task.endless_batches(task.forget_ids, batch_size, "forget")
    retained = task.endless_batches(task.retain_ids, batch_size, "retain")

    def ascent(batch: Batch) -> Tensor:
        return -F.cross_entropy(network(batch.images), batch.labels)

    def descent(batch: Batch) -> Tensor:
        logits = network(batch.images)
        return F.cross_entropy(logits, batch.labels) + weight * compute_kl_divergence(original(batch), logits)

    samples = descended = 0
    for _ in range(steps):
        samples += train_epoch(itertools.islice(forgotten, inner), ascent, ascending)
        descended += train_epoch(itertools.islice(retained, inner), descent, descending)
    return Unlearned(network, descended / len(task.retain_ids), samples + descended)
