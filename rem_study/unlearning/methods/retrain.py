"""Exact unlearning, EU (Goel et al. 2022, arXiv 2201.06640): start again without the forget set.

1. Initialise a new network.
2. Train it on the retain set with the original's own recipe; its learning rate times `lr_factor`.
"""

from __future__ import annotations

from rem_study.training import train_classifier
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(task: UnlearningTask, *, lr_factor: float) -> Unlearned:
    """A network that never saw the forget set; the hyperparameter as in `search_spaces/retrain.yaml`."""
    network = task.fresh_network()
    recipe = task.recipe.model_copy(update={"lr": task.recipe.lr * lr_factor})
    batches = task.batches(task.retain_ids, recipe.batch_size, "retain")
    return Unlearned(network, recipe.epochs, train_classifier(network, batches, recipe))
