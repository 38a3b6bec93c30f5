"""SCRUB (Kurmanji et al. 2023, arXiv 2302.09880): a student that disobeys its teacher on the forget set.

1. The teacher is the frozen original, the student starts as its copy.
2. In each epoch
   2.1 while among the first `msteps`: one pass over the forget set that minimises -T^2 KL(teacher || student), of at
       most `ascent_steps` steps: a large forget set is dealt into larger batches than `forget_batch_size`;
   2.2 one pass over the retain set that minimises gamma CE + alpha T^2 KL(teacher || student).
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from rem_study.data import Batch
from rem_study.training import train_epoch
from rem_study.unlearning.objectives import compute_kl_divergence
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(
    task: UnlearningTask,
    *,
    lr: float,
    alpha: float,
    gamma: float,
    temperature: float,
    msteps: int,
    epochs: int,
    forget_batch_size: int,
    ascent_steps: int,
    batch_size: int,
) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/scrub.yaml`."""
    student, teacher = task.network, task.original_logits()
    optimizer = task.optimizer(student, lr)
    own_weight, teacher_weight, softening = (task.number(value) for value in (gamma, alpha, temperature))

    def distance(batch: Batch, logits: Tensor) -> Tensor:
        return softening**2 * compute_kl_divergence(teacher(batch), logits, softening)

    def disobey(batch: Batch) -> Tensor:
        return -distance(batch, student(batch.images))

    def obey(batch: Batch) -> Tensor:
        logits = student(batch.images)
        return own_weight * F.cross_entropy(logits, batch.labels) + teacher_weight * distance(batch, logits)

    smallest = math.ceil(len(task.forget_ids) / ascent_steps)
    forgotten = task.batches(task.forget_ids, max(forget_batch_size, smallest), "forget")
    retained = task.batches(task.retain_ids, batch_size, "retain")
    samples = 0
    for epoch in range(epochs):
        if epoch < msteps:
            samples += train_epoch(forgotten, disobey, optimizer)
        samples += train_epoch(retained, obey, optimizer)
    return Unlearned(student, epochs, samples)
