"""SSD, selective synaptic dampening (Foster et al. 2024, arXiv 2308.07707).

1. Importances of all data, I_D, and of the forget set, I_f: the mean over batches of the squared gradient of the
   cross-entropy, in evaluation mode.
2. Where I_f > alpha I_D, multiply the weight by min(lambda I_D / I_f, 1), with lambda = dampening_ratio alpha.
"""

from __future__ import annotations

from functools import partial

from rem_study.unlearning.importance import compute_squared_gradients, dampen
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(task: UnlearningTask, *, alpha: float, dampening_ratio: float, batch_size: int) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/ssd.yaml`."""
    everything, forget = (
        task.once(("squared gradients", which, batch_size), partial(compute_squared_gradients, task, ids, batch_size))
        for which, ids in (("all", task.all_ids), ("forget", task.forget_ids))
    )
    original = {name: parameter.detach().clone() for name, parameter in task.network.named_parameters()}
    dampen(task.network, original, forget, everything, alpha, dampening_ratio * alpha)
    return Unlearned(task.network, 1, len(task.data) + len(task.forget_ids))
