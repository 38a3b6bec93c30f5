"""Forgetting without retained data, until the wrong labels are gone: NPO alone, and REM's first step."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from rem_study.data import Batch
from rem_study.training import given_label_accuracy, train_epoch
from rem_study.training.compilation import Step
from rem_study.unlearning.task import UnlearningTask


def flush(
    task: UnlearningTask,
    network: nn.Module,
    batches: Iterable[Batch | tuple[Batch, ...]],
    loss: Step,
    optimizer: torch.optim.Optimizer,
    stop_accuracy: float,
    limit: int,
    max_grad_norm: float = 0.0,
) -> tuple[int, int]:
    """Go down `loss` over the forget set until its accuracy on the wrong labels is at most `stop_accuracy`.

    The accuracy is that of `network` in evaluation mode, looked at before every pass; `limit` bounds the passes, and
    `max_grad_norm` the gradients (see `train_epoch`).

    Returns:
        passes over the forget set, and sample passes.
    """
    passes = samples = 0
    while passes < limit and given_label_accuracy(network, task.data, task.forget_ids) > stop_accuracy:
        network.train()
        samples += train_epoch(batches, loss, optimizer, max_grad_norm=max_grad_norm)
        passes += 1
    return passes, samples
