"""Potion (Schoepf et al. 2024, arXiv 2406.09173): label-free dampening, its strength found by the forget accuracy.

1. Label-free importances of all data, I_D, and of the forget set, I_f: the mean over batches of the absolute
   gradient of the logits' mean L2 norm, in evaluation mode.
2. f <- start_share times the share of the data that is in the forget set.
3. alpha is the (100 - ln(1 + 100 f))-th percentile of I_f / I_D over all weights. From the original's weights,
   multiply those with I_f > alpha I_D by min(I_D / I_f, 1).
4. Stop if the accuracy on the wrong labels is at most `stop_share` of the original's, or after `steps`; otherwise
   f <- growth f, and step 3 again.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from rem_study.training import given_label_accuracy
from rem_study.unlearning.importance import Importance, compute_label_free_importance, dampen
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(
    task: UnlearningTask, *, stop_share: float, start_share: float, growth: float, steps: int, batch_size: int
) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/potion.yaml`."""
    network = task.network
    everything, forget = (
        task.once(("label free", which, batch_size), partial(compute_label_free_importance, task, ids, batch_size))
        for which, ids in (("all", task.all_ids), ("forget", task.forget_ids))
    )
    ratios = task.once(("label free", "ratios", batch_size), lambda: sorted_ratios(forget, everything))
    original = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    enough = stop_share * given_label_accuracy(network, task.data, task.forget_ids)
    f = start_share * len(task.forget_ids) / len(task.data)
    for _ in range(steps):
        alpha = percentile(ratios, 100 - math.log1p(100 * f))
        dampen(network, original, forget, everything, alpha, strength=1.0)
        if given_label_accuracy(network, task.data, task.forget_ids) <= enough:
            break
        f *= growth
    return Unlearned(network, 1, len(task.data) + len(task.forget_ids))


def sorted_ratios(forget: Importance, everything: Importance) -> Tensor:
    """I_f / I_D of all weights together, ascending; 0 where nothing depends on a weight."""
    flat_forget, flat_everything = (torch.cat([v.flatten() for v in i.values()]) for i in (forget, everything))
    return torch.nan_to_num(flat_forget / flat_everything, nan=0.0).sort().values


def percentile(ascending: Tensor, q: float) -> float:
    """The `q`-th percentile (in [0, 100], clamped) of sorted values (M,), between two of them on a line."""
    position = min(max(q / 100, 0.0), 1.0) * (len(ascending) - 1)
    below = math.floor(position)
    low, high = ascending[below].item(), ascending[min(below + 1, len(ascending) - 1)].item()
    return low if position == below else low + (position - below) * (high - low)
