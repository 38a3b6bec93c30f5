"""Groups of images that look alike to a trained network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from rem_study.data import Dataset
from rem_study.data.processes import Group, whole_class
from rem_study.errors import InputError
from rem_study.seeds import derive_seed
from rem_study.spec.corruption import SemanticContaminationSpec
from rem_study.training.evaluation import BATCH


def group_alike(network: nn.Module, dataset: Dataset, spec: SemanticContaminationSpec, *seed: object) -> Group:
    """The largest k-means cluster of a class's penultimate features, and the test images nearest to its centre.

    Args:
        network: trained on clean data; any classifier that ends in a linear layer.

    Raises:
        InputError: the class has fewer training images than clusters are wanted.
    """
    from sklearn.cluster import KMeans

    train, test = whole_class(spec, dataset)
    if len(train) < spec.clusters:
        raise InputError(f"corruptions.{spec.name}.clusters: {spec.clusters} asked for, class has {len(train)} images")
    means = KMeans(spec.clusters, n_init=10, random_state=derive_seed("clusters", *seed) % 2**32)
    clusters = means.fit_predict(penultimate_features(network, map(dataset.training_images, train.split(BATCH))))
    largest = int(np.bincount(clusters).argmax())
    if not len(test):
        return train[torch.from_numpy(clusters == largest)], test
    nearest = means.predict(penultimate_features(network, map(dataset.tested_images, test.split(BATCH))))
    return train[torch.from_numpy(clusters == largest)], test[torch.from_numpy(nearest == largest)]


@torch.no_grad()
def penultimate_features(network: nn.Module, batches: Iterable[Tensor]) -> np.ndarray:
    """What the network's last linear layer is given, float64 (N, D), for batches of normalised images (B, C, H, W)."""
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    features: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].double().cpu()))
    was_training = network.training
    network.eval()
    try:
        for images in batches:
            network(images)
    finally:
        handle.remove()
        network.train(was_training)
    return torch.cat(features).numpy()
