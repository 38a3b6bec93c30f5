"""How far unlearning some corrupted samples carries over to the others: regularity, measured without knowing the
process.

1. Split the forget set into two halves at random.
2. Flush one half from a copy of the original by NPO alone, as REM's paper does before each epoch (`flush`).
3. Carry-over = (rise of the other half's doubt − the retained samples' median rise) / (the flushed half's − the same).

The doubt is `suspicion.doubt`, of the given label. Where corrupted samples share nothing, the other half moves little
more than the retained samples do; where one feature explains them all, nearly as far as what was flushed. On 12 × 12
digits it was 0.26 to 0.63 for random labels, 0.51 to 1.35 for confused classes and 0.56 to 1.13 for a trigger
(docs/heal.md): it tells samples that share something from those that do not, and not what they share.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch

from rem_study.data import Batch
from rem_study.seeds import derive_seed, generator
from rem_study.unlearning.flush import flush
from rem_study.unlearning.objectives import npo_loss, sample_cross_entropy
from rem_study.unlearning.suspicion import doubt, training_logits
from rem_study.unlearning.task import UnlearningTask, frozen

_LR = 0.01
_BETA = 1.0
_STOP_ACCURACY = 0.2
_PASSES = 100
_BATCH = 128
_RETAINED = 2048  # samples whose median rise is taken
_LEAST_RISE = (
    0.5  # logits by which the flushed half must have moved more than the rest, for the ratio to mean something
)


def carry_over(task: UnlearningTask, splits: int = 4) -> list[float]:
    """The carry-over of each of `splits` random splits that the flush could tell something from, 1 where the other half
    moves like the flushed one, about 0 where it moves like the retained samples; `task.network` is left as it is.

    Raises:
        UnlearningError: the loss was not finite.
    """
    values = [_of_split(task, number) for number in range(splits)]
    return [value for value in values if not math.isnan(value)]


def _of_split(task: UnlearningTask, number: int) -> float:
    rng = generator("carry-over", task.seed, number)
    order = task.forget_ids[torch.randperm(len(task.forget_ids), generator=rng).to(task.forget_ids.device)]
    flushed, other = order[: len(order) // 2], order[len(order) // 2 :]
    some = torch.randperm(len(task.retain_ids), generator=rng)[:_RETAINED].to(task.retain_ids.device)
    ids = torch.cat([flushed, other, task.retain_ids[some]])
    labels = task.data.labels[ids].cpu()
    network, reference = copy.deepcopy(task.network), frozen(task.network)
    before = doubt(training_logits(network, task.data, ids), labels)

    def loss(batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            known = sample_cross_entropy(reference(batch.images), batch.labels)
        return npo_loss(sample_cross_entropy(network(batch.images), batch.labels), known, _BETA).mean()

    part = replace(task, network=network, forget_ids=flushed, seed=derive_seed("carry-over", task.seed, number))
    batches = part.batches(flushed, _BATCH, "forget")
    flush(part, network, batches, loss, part.optimizer(network, _LR), _STOP_ACCURACY, _PASSES)
    rise = doubt(training_logits(network, task.data, ids), labels) - before
    mine, others, rest = rise.split([len(flushed), len(other), len(some)])
    moved = (mine.mean() - rest.median()).item()
    return ((others.mean() - rest.median()) / moved).item() if moved > _LEAST_RISE else math.nan
