"""The training loop that originals and methods share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rem_study.data import Batch, CorruptedTrainingSet
from rem_study.data.dataset import augment
from rem_study.data.transfer import send
from rem_study.errors import UnlearningError
from rem_study.models import SplitNetwork
from rem_study.spec import RecipeSpec
from rem_study.training.compilation import Step, compiled


class BatchLoader:
    """Batches of the training samples `ids` (M,), on the data's device, in a new random order at each iteration.

    The samples are dealt into ceil(M / batch_size) batches of nearly equal size, or one fewer where a batch would
    be left with a single sample, which batch norm could not normalise (an odd M in twos).
    """

    def __init__(self, data: CorruptedTrainingSet, ids: Tensor, batch_size: int, rng: torch.Generator) -> None:
        self.data, self._ids, self._batch_size, self._rng = data, ids.cpu(), batch_size, rng

    def __len__(self) -> int:
        return max(1, min(-(-len(self._ids) // self._batch_size), len(self._ids) // 2))

    def __iter__(self) -> Iterator[Batch]:
        host_order = self._ids[torch.randperm(len(self._ids), generator=self._rng)]
        order = send(host_order, self.data.device)
        augmentation = self.data.dataset.augmentation
        transform = None if augmentation is None else lambda images: augment(images, augmentation, self._rng)
        for view, host_ids in zip(order.tensor_split(len(self)), host_order.tensor_split(len(self)), strict=True):
            ids = view.clone()  # of its own memory: the compiler takes a view's place in the order for a shape
            yield Batch(ids, self.data.images(ids, transform, host_ids), self.data.labels[ids], host_ids)


class PairedBatches:
    """Each of `batches` with the next one of `others`, which do not end; iterated again, `others` go on."""

    def __init__(self, batches: BatchLoader, others: Iterator[Batch]) -> None:
        self._batches, self._others = batches, others

    def __iter__(self) -> Iterator[tuple[Batch, Batch]]:
        return zip(self._batches, self._others, strict=False)


def make_optimizer(recipe: RecipeSpec, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """The recipe's kind of optimiser over those `parameters` that may move, with learning rate `lr`."""
    movable = [p for p in parameters if p.requires_grad]
    fused = _one_launch(movable)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(movable, lr, weight_decay=recipe.weight_decay, fused=fused)
    sgd = torch.optim.SGD(movable, lr, recipe.momentum, weight_decay=recipe.weight_decay, fused=fused)
    if fused and recipe.momentum:
        # Fused, PyTorch fails in a step that moves a parameter for the first time beside others that have moved before,
        # as new channels after a flush. From zero the first step's momentum is its gradient, as without.
        for parameter in movable:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def _one_launch(parameters: list[nn.Parameter]) -> bool | None:
    """Whether all of `parameters` are stepped in one launch; None: as PyTorch has it."""
    return all(p.is_cuda for p in parameters) or None


def scale_momentum(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Multiply the momentum of SGD or Adam, the gradients that it remembers."""
    for state in optimizer.state.values():
        for name in ("momentum_buffer", "exp_avg"):
            if state.get(name) is not None:
                state[name].mul_(factor)


def train_epoch(
    batches: Iterable[Batch | tuple[Sized, ...]],
    loss: Step,
    optimizer: torch.optim.Optimizer,
    after_step: Callable[[], None] | None = None,
    max_grad_norm: float = 0.0,
) -> int:
    """One pass over `batches`: a step down `loss` (a scalar) for each. Returns the number of samples.

    Args:
        batches: what `loss` is called with, one thing or several; the length of each is its number of samples.
        loss: compiled where the study asks for it (see `compilation`): it sees tensors only, draws nothing and counts
            nothing, and numbers that differ between configurations are tensors too (`UnlearningTask.number`).
        max_grad_norm: gradients of all parameters together are scaled down to this 2-norm; 0: they are not.

    Raises:
        UnlearningError: a loss was not finite.
    """
    samples = 0
    total: Tensor | float = 0.0  # stays on the device: a number read back for each step would wait for it
    step = compiled(loss)
    for batch in batches:
        inputs = batch if isinstance(batch, tuple) else (batch,)
        optimizer.zero_grad(set_to_none=True)
        value = step(*inputs)
        value.backward()
        if max_grad_norm:
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_grad_norm)
        optimizer.step()
        if after_step is not None:
            after_step()
        total = total + value.detach()
        samples += sum(map(len, inputs))
    _require_finite(torch.as_tensor(total))
    return samples


def _require_finite(loss: Tensor) -> None:
    """Wait for the device, and raise UnlearningError where `loss` is not finite."""
    if not loss.isfinite():
        raise UnlearningError("the loss is not finite")


def train_classifier(network: nn.Module, batches: BatchLoader, recipe: RecipeSpec) -> int:
    """Train `network` in place by `recipe` with cross-entropy on the given labels; returns sample passes.

    A split network (example-tied dropout, half capacity) is trained with its samples' masks.

    The learning rate rises over the first `warmup` share of the steps, then falls linearly to `final_lr` of its top.
    """
    optimizer = make_optimizer(recipe, network.parameters(), recipe.lr)
    steps = recipe.epochs * len(batches)
    rising = max(1, round(recipe.warmup * steps))

    def factor(step: int) -> float:
        return min((step + 1) / rising, 1.0) * (1 - (1 - recipe.final_lr) * step / steps)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    everything = torch.arange(len(batches.data), device=batches.data.device)
    masks = network.training_masks(everything) if isinstance(network, SplitNetwork) else None

    def loss(batch: Batch) -> Tensor:
        logits = network(batch.images) if masks is None else network(batch.images, masks[batch.ids])
        return F.cross_entropy(logits, batch.labels)

    network.train()
    return sum(train_epoch(batches, loss, optimizer, schedule.step) for _ in range(recipe.epochs))
