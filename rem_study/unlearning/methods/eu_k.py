"""EU-k (Goel et al. 2022, arXiv 2201.06640): exact unlearning of the last k blocks.

1. Initialise the last `k` blocks anew and freeze the others.
2. Minimise the cross-entropy of the retain set for `epochs`.
"""

from __future__ import annotations

from rem_study.unlearning.last_blocks import train_last_blocks
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(task: UnlearningTask, *, k: int, lr: float, epochs: int, batch_size: int) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/eu_k.yaml`."""
    fresh = task.fresh_network()
    for name in task.network.blocks()[-k:]:  # type: ignore[operator]
        task.network.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
    return train_last_blocks(task, k, lr, epochs, batch_size)
