"""SalUn, saliency unlearning (Fan et al. 2024, arXiv 2310.12508).

1. Saliency: the absolute gradient of the forget set's cross-entropy, in evaluation mode. The `salient_share` of all
   weights with the largest may move.
2. Random relabelling, the other weights put back after each step (momentum and decay would move them).
"""

from __future__ import annotations

import torch

from rem_study.unlearning.importance import compute_saliency
from rem_study.unlearning.relabelling import train_relabelled
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(task: UnlearningTask, *, salient_share: float, lr: float, epochs: int, batch_size: int) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/salun.yaml`."""
    saliency = task.once("saliency", lambda: compute_saliency(task, task.forget_ids))
    masks = select_largest(saliency, salient_share)
    original = {name: parameter.detach().clone() for name, parameter in task.network.named_parameters()}

    @torch.no_grad()
    def put_back() -> None:
        for name, parameter in task.network.named_parameters():
            parameter.copy_(torch.where(masks[name], parameter, original[name]))

    healed = train_relabelled(task, lr, epochs, batch_size, put_back)
    return Unlearned(healed.network, healed.epochs, healed.sample_passes + len(task.forget_ids))


def select_largest(values: dict[str, torch.Tensor], share: float) -> dict[str, torch.Tensor]:
    """Which entries are among the `share` of all entries that are largest: bool tensors of the same shapes.

    Ties at the threshold are decided by position, so that exactly round(share * entries) are chosen.
    """
    flat = torch.cat([value.flatten() for value in values.values()])
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[flat.sort(descending=True, stable=True).indices[: round(share * len(flat))]] = True
    parts = chosen.split([value.numel() for value in values.values()])
    return {name: part.view_as(value) for (name, value), part in zip(values.items(), parts, strict=True)}
