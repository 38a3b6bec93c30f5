"""Negative preference optimisation (Zhang et al. 2024, arXiv 2404.05868).

1. On the forget set, minimise -(2/beta) log sigmoid(beta (CE - CE_ref)), the reference being the frozen original,
   with `retain_weight` times the cross-entropy of as many retained samples beside it.
2. Stop when the accuracy on the wrong labels is at most `stop_accuracy`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from rem_study.data import Batch
from rem_study.training import BatchLoader, PairedBatches
from rem_study.unlearning.flush import flush
from rem_study.unlearning.objectives import npo_loss, sample_cross_entropy
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(
    task: UnlearningTask,
    *,
    lr: float,
    beta: float,
    stop_accuracy: float,
    passes: int,
    batch_size: int,
    retain_weight: float,
) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/npo.yaml`."""
    network = task.network
    reference = task.original_logits("forget set")
    slope, weight = task.number(beta), task.number(retain_weight)

    def loss(batch: Batch, kept: Batch | None = None) -> Tensor:
        reference_ce = sample_cross_entropy(reference(batch), batch.labels)
        forgetting = npo_loss(sample_cross_entropy(network(batch.images), batch.labels), reference_ce, slope).mean()
        if kept is None:
            return forgetting
        return forgetting + weight * F.cross_entropy(network(kept.images), kept.labels)

    forgotten = task.batches(task.forget_ids, batch_size, "forget")
    batches: BatchLoader | PairedBatches = forgotten
    if retain_weight > 0:
        batches = PairedBatches(forgotten, task.endless_batches(task.retain_ids, batch_size, "retain"))
    made, samples = flush(task, network, batches, loss, task.optimizer(network, lr), stop_accuracy, passes)
    return Unlearned(network, made, samples)
