"""Random relabelling, amnesiac unlearning (Graves et al. 2021, arXiv 2010.10981).

1. Give every forget sample a random label other than its own.
2. Minimise the cross-entropy of all data for `epochs`.
"""

from __future__ import annotations

from rem_study.unlearning.relabelling import train_relabelled
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(task: UnlearningTask, *, lr: float, epochs: int, batch_size: int) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/random_relabel.yaml`."""
    return train_relabelled(task, lr, epochs, batch_size)
