"""Gradient ascent, NegGrad (Golatkar et al. 2020): raise the cross-entropy of the forget set.

1. On the forget set, minimise -CE.
2. Stop when the accuracy on the wrong labels is at most chance. A loss that runs away fails the trial.
"""

from __future__ import annotations

import torch.nn.functional as F

from rem_study.unlearning.flush import flush
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(task: UnlearningTask, *, lr: float, passes: int, batch_size: int) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/ascent.yaml`."""
    network = task.network
    batches = task.batches(task.forget_ids, batch_size, "forget")
    made, samples = flush(
        task,
        network,
        batches,
        lambda batch: -F.cross_entropy(network(batch.images), batch.labels),
        task.optimizer(network, lr),
        stop_accuracy=task.chance,
        limit=passes,
    )
    return Unlearned(network, made, samples)
