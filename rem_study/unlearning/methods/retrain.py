"""Exact unlearning, EU (Goel et al. 2022, arXiv 2201.06640): start again without the forget set.

1. Initialise a new network.
2. Train it on the retain set with the original's own recipe.
"""

from __future__ import annotations

from rem_study.training import train_classifier
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(task: UnlearningTask) -> Unlearned:
    """A network that never saw the forget set. There are no hyperparameters."""
    network = task.fresh_network()
    batches = task.batches(task.retain_ids, task.recipe.batch_size, "retain")
    return Unlearned(network, task.recipe.epochs, train_classifier(network, batches, task.recipe))
