"""How much each parameter matters to some samples, and the dampening of those that matter to the forget set.

Importances depend on the original and the ids, not on the configuration: take them through `UnlearningTask.once`.
They are computed in evaluation mode, in batches of an order drawn from the task's seed, without augmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rem_study.models import evaluating
from rem_study.seeds import generator
from rem_study.training.compilation import compiled
from rem_study.unlearning.task import UnlearningTask

Importance = dict[str, Tensor]
"""A tensor of its shape for each parameter's name."""


def compute_squared_gradients(task: UnlearningTask, ids: Tensor, batch_size: int) -> Importance:
    """The mean over batches of the squared gradient of their mean cross-entropy (SSD)."""
    return _mean_over_batches(task, ids, batch_size, _cross_entropy, torch.square)


def compute_label_free_importance(task: UnlearningTask, ids: Tensor, batch_size: int) -> Importance:
    """The mean over batches of the absolute gradient of their mean L2 norm of the logits (label-free SSD)."""
    return _mean_over_batches(task, ids, batch_size, lambda logits, _: logits.norm(dim=1).mean(), torch.abs)


def compute_mean_gradient(task: UnlearningTask, ids: Tensor) -> Importance:
    """The gradient of the mean cross-entropy of all of `ids`, with its sign (MSG)."""
    total = {name: torch.zeros_like(p) for name, p in task.network.named_parameters()}
    for samples, gradients in _gradients(task, ids, 512, _cross_entropy):
        for name, gradient in gradients.items():
            total[name] += gradient * (samples / len(ids))
    return total


def compute_saliency(task: UnlearningTask, ids: Tensor) -> Importance:
    """The absolute gradient of the mean cross-entropy of all of `ids` (SalUn)."""
    return {name: gradient.abs() for name, gradient in compute_mean_gradient(task, ids).items()}


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels)


def _mean_over_batches(
    task: UnlearningTask,
    ids: Tensor,
    batch_size: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    of_gradient: Callable[[Tensor], Tensor],
) -> Importance:
    total = {name: torch.zeros_like(p) for name, p in task.network.named_parameters()}
    count = 0
    for _, gradients in _gradients(task, ids, batch_size, loss):
        count += 1
        for name, gradient in gradients.items():
            total[name] += of_gradient(gradient)
    return {name: value / count for name, value in total.items()}


def _gradients(
    task: UnlearningTask, ids: Tensor, batch_size: int, loss: Callable[[Tensor, Tensor], Tensor]
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """For each batch, how many samples it has and the gradients of its loss."""
    network = task.network
    parameters = dict(network.named_parameters())
    order = torch.randperm(len(ids), generator=generator("importance", task.seed)).to(ids.device)
    step = compiled(lambda images, labels: loss(network(images), labels))
    with evaluating(network):
        for part in ids[order].tensor_split(-(-len(ids) // batch_size)):
            value = step(task.data.images(part), task.data.labels[part])
            yield len(part), dict(zip(parameters, torch.autograd.grad(value, list(parameters.values())), strict=True))


@torch.no_grad()
def dampen(
    network: nn.Module,
    original: Mapping[str, Tensor],
    forget: Importance,
    everything: Importance,
    alpha: float,
    strength: float,
) -> None:
    """Set `network`'s parameters to `original`, dampened where I_f > alpha I_D: theta min(strength I_D / I_f, 1).

    Selective synaptic dampening (Foster et al. 2024, arXiv 2308.07707); `strength` is its lambda.
    """
    for name, parameter in network.named_parameters():
        ratio = strength * everything[name] / forget[name]
        factor = torch.where(forget[name] > alpha * everything[name], ratio.clamp(max=1), 1)
        parameter.copy_(original[name] * factor)
