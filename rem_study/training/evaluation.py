"""Predictions and accuracies, in batches, without gradients and in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rem_study.data import CorruptedTrainingSet, Dataset
from rem_study.models import evaluating

BATCH = 512


@torch.no_grad()
def predict(network: nn.Module, logits: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    """The predicted classes, int64 (M,), of the samples `ids` (M,).

    Args:
        network: put in evaluation mode meanwhile.
        logits: ids (B,) to the network's logits (B, K).
    """
    with evaluating(network):
        return torch.cat([logits(part).argmax(1) for part in ids.split(BATCH)]) if len(ids) else ids


def predict_training(network: nn.Module, data: CorruptedTrainingSet, ids: Tensor) -> Tensor:
    """The predicted classes, int64 (M,), of training samples `ids` (M,), triggers in place, not augmented."""
    return predict(network, lambda part: network(data.images(part)), ids)


def given_label_accuracy(network: nn.Module, data: CorruptedTrainingSet, ids: Tensor) -> float:
    """Accuracy on the given labels (wrong ones included) of training samples `ids` (M,)."""
    return accuracy(predict_training(network, data, ids), data.labels[ids])


def test_predictions(network: nn.Module, dataset: Dataset) -> Tensor:
    """The predicted classes, int64 (T,), of all test images."""
    ids = torch.arange(len(dataset.test_labels), device=dataset.test_labels.device)
    return predict(network, lambda part: network(dataset.tested_images(part)), ids)


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """The share of `predictions` (M,) that equal `labels` (M,); NaN where there are none."""
    return (predictions == labels).double().mean().item()
