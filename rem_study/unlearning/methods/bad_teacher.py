"""Bad teacher (Chundawat et al. 2023, arXiv 2205.08096): a random network teaches the forget set.

1. The bad teacher is a randomly initialised network (batch-norm statistics included), the good one the frozen
   original. Draw `retain_share` of the retain set.
2. For `epochs` over the forget set and that share, mixed, minimise KL(target || network), the target being the
   softmax of the bad teacher for forget samples and of the good one for the others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rem_study.data import Batch
from rem_study.seeds import generator
from rem_study.training import train_epoch
from rem_study.unlearning.objectives import compute_kl_divergence
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(
    task: UnlearningTask, *, lr: float, temperature: float, retain_share: float, epochs: int, batch_size: int
) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/bad_teacher.yaml`."""
    network = task.network
    good = task.original_logits()
    bad = task.fixed_logits("bad teacher", task.forget_ids, task.fresh_network)
    retained = len(task.retain_ids)
    drawn = torch.randperm(retained, generator=generator("retain share", task.seed))[: round(retain_share * retained)]
    ids = torch.cat([task.forget_ids, task.retain_ids[drawn.to(task.retain_ids.device)]])
    in_forget_set = torch.zeros(len(task.data), dtype=torch.bool, device=task.data.device)
    in_forget_set[task.forget_ids] = True
    softening = task.number(temperature)

    def loss(batch: Batch) -> Tensor:
        target = torch.where(in_forget_set[batch.ids][:, None], bad(batch), good(batch))
        return compute_kl_divergence(target, network(batch.images), softening)

    batches = task.batches(ids, batch_size, "mixed")
    optimizer = task.optimizer(network, lr)
    return Unlearned(network, epochs, sum(train_epoch(batches, loss, optimizer) for _ in range(epochs)))
