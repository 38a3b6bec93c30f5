"""Batch-norm statistics, estimated again after weights were changed by other means than training."""

from __future__ import annotations

import torch
from torch import nn

from rem_study.models import evaluating
from rem_study.models.path_statistics import PathStatistics, batch_norms
from rem_study.seeds import generator
from rem_study.unlearning.task import UnlearningTask

SAMPLES = 2048
"""Retained samples that the statistics are estimated on, where there are as many."""
BATCH = 256


def estimate_statistics(task: UnlearningTask, network: nn.Module) -> None:
    """Set the statistics of all batch norms of `network` to their mean over batches of retained samples.

    The samples are drawn by the task's seed and are not augmented; undiscovered corruption is among them.
    """
    order = torch.randperm(len(task.retain_ids), generator=generator("statistics", task.seed))[:SAMPLES]
    drawn = task.retain_ids[order.to(task.retain_ids.device)].tensor_split(-(-len(order) // BATCH))
    with evaluating(network):
        PathStatistics(batch_norms(network)).estimate(network, (task.data.images(ids) for ids in drawn))
