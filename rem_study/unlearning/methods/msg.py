"""MSG, masked small gradients (Cadet et al. 2024, arXiv 2410.01276, Deep Unlearn): forget a layer's idle weights.

It comes from the NeurIPS 2023 unlearning challenge and was one of the two most reliable of 18 methods in Deep Unlearn,
whose released code has the details:

1. The gradient of CE(retained) - CE(forget set), over as many retained samples as the forget set has.
2. In each layer initialise anew the `reset_share` of weights whose absolute gradient is smallest.
3. Minimise the cross-entropy of the retain set for `epochs`, the layers' other weights at `other_rate` times the
   learning rate. It rises linearly over the first half of the epochs and falls over the rest.

Ours: layers are convolutions and linear layers, where the reference takes convolutions only, which a ViT has none of
(on digits it makes no difference). New weights are those of the network's own initialisation, not Kaiming's. The
rate scales each step, decay included, and not the gradient, so that it means the same to SGD and Adam. Weights that no
gradient reaches (into silent channels) stay and are not counted. Gradients are those of the mean over all samples, in
evaluation mode.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rem_study.models.obstacles import require_plain
from rem_study.seeds import generator
from rem_study.training import train_epoch
from rem_study.unlearning.importance import Importance, compute_mean_gradient
from rem_study.unlearning.task import Unlearned, UnlearningTask


def unlearn(
    task: UnlearningTask, *, reset_share: float, lr: float, epochs: int, other_rate: float, batch_size: int
) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/msg.yaml`."""
    network = task.network
    require_plain(network, "msg")
    compared = draw_retained(task)
    gradients = task.once("gradient difference", lambda: gradient_difference(task, compared))
    weights = layer_weights(network)
    reset = {name: select_smallest(gradients[name].abs(), reset_share) for name in weights}
    fresh = task.fresh_network()
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(torch.where(reset[name], fresh.get_parameter(name), weight))
    rates = {name: torch.where(chosen, 1.0, other_rate) for name, chosen in reset.items()}
    before = {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def hold_back() -> None:
        for name, weight in weights.items():
            weight.copy_(before[name].lerp_(weight, rates[name]))

    batches = task.batches(task.retain_ids, batch_size, "retain")
    optimizer = task.optimizer(network, lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: rise_and_fall(epoch, epochs))
    samples = 0
    for _ in range(epochs):
        samples += train_epoch(
            batches, lambda b: F.cross_entropy(network(b.images), b.labels), optimizer, after_step=hold_back
        )
        schedule.step()
    return Unlearned(network, epochs, samples + len(compared) + len(task.forget_ids))


def draw_retained(task: UnlearningTask) -> Tensor:
    """As many retained samples, int64, as the forget set has, or all of them."""
    order = torch.randperm(len(task.retain_ids), generator=generator("compared", task.seed))
    return task.retain_ids[order[: len(task.forget_ids)].to(task.retain_ids.device)]


def gradient_difference(task: UnlearningTask, retained: Tensor) -> Importance:
    """The gradient of the mean cross-entropy of `retained` less that of the forget set."""
    keeping, forgetting = (compute_mean_gradient(task, ids) for ids in (retained, task.forget_ids))
    return {name: gradient - forgetting[name] for name, gradient in keeping.items()}


def layer_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of all convolutions and linear layers by name, biases left out."""
    names = [f"{name}.weight" for name, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return {name: network.get_parameter(name) for name in names}


def select_smallest(values: Tensor, share: float) -> Tensor:
    """Which of `values` are among the `share` of the positive ones that are smallest, bool of the same shape.

    Ties at the threshold are decided by position, so that exactly round(share * positive) are chosen.
    """
    flat = values.flatten()
    positive = flat > 0
    chosen = torch.zeros_like(positive)
    order = torch.where(positive, flat, torch.inf).argsort(stable=True)
    chosen[order[: round(share * int(positive.sum()))]] = True
    return chosen.view_as(values)


def rise_and_fall(epoch: int, epochs: int) -> float:
    """The factor of the learning rate in `epoch`, from 0: up to 1 at the middle of `epochs`, and down again."""
    rising = (epochs + 1) // 2
    return (epoch + 1) / rising if epoch < rising else (epochs - epoch) / (epochs + 1 - rising)
