"""CF-k (Goel et al. 2022, arXiv 2201.06640): catastrophic forgetting in the last k blocks.

1. Freeze all blocks but the last `k`.
2. Minimise the cross-entropy of the retain set for `epochs`.
"""

from __future__ import annotations

from rem_study.unlearning.last_blocks import train_last_blocks
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(task: UnlearningTask, *, k: int, lr: float, epochs: int, batch_size: int) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/cf_k.yaml`."""
    return train_last_blocks(task, k, lr, epochs, batch_size)
