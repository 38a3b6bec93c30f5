"""Predictions and accuracies, in batches, without gradients and in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rem_study.corruption import CorruptedTrainingSet

BATCH = 512


@torch.no_grad()
def predict(network: nn.Module, images: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    """The predicted classes, int64 (M,), of the samples `ids` (M,), whose images `images(ids)` gives.

    The network comes back in the mode (training or evaluation) in which it was given.
    """
    was_training = network.training
    network.eval()
    try:
        return torch.cat([network(images(part)).argmax(1) for part in ids.split(BATCH)]) if len(ids) else ids
    finally:
        network.train(was_training)


def given_label_accuracy(network: nn.Module, data: CorruptedTrainingSet, ids: Tensor) -> float:
    """Accuracy on the given labels (wrong ones included) of training samples `ids` (M,)."""
    return accuracy(predict(network, lambda part: data.batch(part).images, ids), data.labels[ids])


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """The share of `predictions` (M,) that equal `labels` (M,); NaN where there are none."""
    return (predictions == labels).double().mean().item()
