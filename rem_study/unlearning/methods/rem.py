"""REM, Redirection for Erasing Memory (arXiv 2505.17730).

1. Expand the trained network (theta 1) by new channels (theta 2).
2. Flush: on the forget set, through theta 1 alone, minimise NPO until the wrong labels are gone. Again before
   every epoch.
3. Redirect and remove: train theta 1 and theta 2 on all data, corrupted labels as they are. Every forget sample
   shares one mask over theta 2, every other sample has its own.
   3.1 redirect: lower the loss of all samples through theta 1 + masked theta 2.
   3.2 remove: raise the loss of forget samples through theta 1 alone. Ours: lower that of the retained samples that
       pass with them, by the loss of 3.1, lest what is not corrupted leave theta 1 with the corruption
       (`retain_weight`); lower the cross-entropy of the half of each class with the smallest, lest a class that a
       strong push loses stay lost (`small_loss_weight`); and hold theta 1's mean prediction on them at the proportions
       of their labels, for the same end (`proportion_weight`). Where a study asks for it: bring theta 1's mean output
       on forget samples to that on retained ones, lest a trigger that no longer means its class come to mean another
       (`mmd_weight`).
   After each epoch, keep the network if it is the best by retain accuracy x (1 - max(forget accuracy, 0.2)) on
   the given labels.
4. Erase theta 2.

Step 3.2 is the mean over the forget samples, as in the paper's equation. The released code divides it by the whole
batch instead, which makes it |forget| / |train| times as strong: `remove_average: batch`. Which is better depends on
the scale: the equation on digits and small Fashion-MNIST, where all wrong labels are memorised (docs/rem.md); the
released code's, with gradients not clipped, on CIFAR-10 whole, where about half of them are (docs/results.md).

The defaults differ from the paper in these places (docs/rem.md says what each was measured on): the flush is gradient
ascent (the paper's: `flush_loss: npo`); gradients of step 3 are clipped (`max_grad_norm: 0` for none); the learning
rate falls from epoch to epoch (`final_lr: 1` for not); step 3.2 passes only a part of the batch through theta 1
(`remove_company: 8192` for the whole), holds theta 1 on it (`retain_weight: 0`, `small_loss_weight: 0` and
`proportion_weight: 0` for not) and is the weaker the more batches an epoch has (`remove_steps: 100000` for not).

Ascent has no bound, and wrecks a network without batch norm: there its gradients are clipped to ASCENT_SHARE of the
weights' norm (ours; after adaptive gradient clipping, Brock et al., arXiv 2102.06171, section 4).

Ablations by configuration: `redirect_weight: 0` and `remove_weight: 0` leave out 3.1 and 3.2; `forget_mask: own`
shares no mask, and `ideal` has every corrupted sample share it, undiscovered ones included, which takes knowledge that
nobody has.

An original that has such channels already is not expanded: step 1 takes the memorisation channels of example-tied
dropout, with the masks of its training where `mask_density` is its p_mem, or wakes the silent half of a network
trained at half capacity. `redirect_width` has no meaning then, nor `initialisation` with example-tied dropout.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rem_study.data import Batch
from rem_study.data.transfer import send
from rem_study.errors import UnlearningError
from rem_study.models import ExpandedNetwork, SplitNetwork, evaluating, select_sites
from rem_study.models.masks import SHARED_ID, EraseMode, Initialisation
from rem_study.models.path_statistics import batch_norms
from rem_study.seeds import generator
from rem_study.training import given_label_accuracy, predict, scale_momentum, train_epoch
from rem_study.training.evaluation import BATCH
from rem_study.unlearning.flush import flush
from rem_study.unlearning.objectives import (
    linear_mmd,
    npo_loss,
    proportion_loss,
    redirect_loss,
    sample_cross_entropy,
    small_loss,
)
from rem_study.unlearning.task import Predict, Unlearned, UnlearningTask, frozen

MMD_SAMPLES = 16  # forget samples whose mean output is compared, drawn anew at each step
STATISTICS_SAMPLES = 2048  # that the statistics of theta 1 are estimated on after each epoch
ASCENT_SHARE = 0.5  # of the weights' norm, which bounds an ascending gradient where no batch norm does (ours)
ACCURACY_FLOOR = 0.2  # of the checkpoint rule: forgetting below it earns nothing (released code)


def unlearn(
    task: UnlearningTask,
    *,
    redirect_width: float,
    layer_position: str,
    mask_density: float,
    erase_mode: EraseMode,
    anneal_share: float,
    epochs: int,
    lr: float,
    final_lr: float,
    batch_size: int,
    beta: float,
    stop_accuracy: float,
    flush_loss: Literal["npo", "ascent"],
    flush_momentum: float,
    flush_limit: int,
    redirect_weight: float,
    remove_weight: float,
    remove_average: Literal["forget", "batch"],
    remove_steps: int,
    remove_company: int,
    retain_weight: float,
    proportion_weight: float,
    small_loss_weight: float,
    mmd_weight: float,
    max_grad_norm: float,
    forget_mask: Literal["shared", "own", "ideal"],
    initialisation: Initialisation,
    trainable: Literal["all", "new_and_norm"],
) -> Unlearned:
    """Heal `task.network`; hyperparameters as in `search_spaces/rem.yaml`."""
    data = task.data
    everything = task.all_ids
    in_forget_set = torch.zeros(len(data), dtype=torch.bool)  # on the CPU, where batches are taken apart
    in_forget_set[task.forget_ids.cpu()] = True

    # 1. Expand.
    expanded = _with_new_channels(task, redirect_width, layer_position, initialisation, trainable)
    masks = expanded.draw_masks(everything, mask_density, task.seed)
    shared_mask = expanded.draw_masks(torch.full((1,), SHARED_ID, device=data.device), mask_density, task.seed)
    if forget_mask != "own":
        masks[task.forget_ids] = shared_mask
    if forget_mask == "ideal":
        if task.corrupted_ids is None:
            raise UnlearningError("forget_mask: ideal needs to know every corrupted sample")
        masks[task.corrupted_ids] = shared_mask
    reference = _reference(task, expanded, masks)
    optimizer = task.optimizer(expanded, lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, final_lr, total_iters=max(1, epochs - 1))
    forget_batches = task.batches(task.forget_ids, batch_size, "forget")
    all_batches = task.batches(everything, batch_size, "all")
    share = 1.0  # of a forget sample in its batch's mean
    if remove_average == "forget":
        share = len(data) / len(task.forget_ids) * min(1.0, remove_steps / len(all_batches))
    weighted = {
        "remove": remove_weight * share,
        "retain": retain_weight,
        "proportion": proportion_weight,
        "small_loss": small_loss_weight,
        "mmd": mmd_weight,
    }
    weights = {term: task.number(weight) for term, weight in weighted.items() if weight > 0}
    redirection, slope, fade = (task.number(value) for value in (redirect_weight, beta, 1.0))
    samples = 0

    def forgetting(batch: Batch) -> Tensor:
        if flush_loss == "ascent":
            return -F.cross_entropy(expanded(batch.images), batch.labels)
        return npo_loss(sample_cross_entropy(expanded(batch.images), batch.labels), reference(batch), slope).mean()

    def redirect_and_remove(batch: Batch, removal: _Removal | None = None) -> Tensor:
        reference_ce = reference(batch)
        through_both = expanded(batch.images, masks[batch.ids] * fade)
        loss = redirect_loss(sample_cross_entropy(through_both, batch.labels), reference_ce, slope)
        total = redirection * loss.mean()
        if removal is None:
            return total
        known, company = removal.known, removal.company
        # Batch norm has to see forget samples among retained ones: alone, they would be normalised away.
        alone = expanded(batch.images[torch.cat([known, company])])
        forgotten, retained = alone[: len(known)], alone[len(known) :]
        loss = npo_loss(sample_cross_entropy(forgotten, batch.labels[known]), reference_ce[known], slope)
        total = total + weights["remove"] * loss.sum() / len(batch.ids)
        if len(company):
            labels = batch.labels[company]
            own = sample_cross_entropy(retained, labels)
            if "retain" in weights:
                total = total + weights["retain"] * redirect_loss(own, reference_ce[company], slope).mean()
            if "proportion" in weights:
                total = total + weights["proportion"] * proportion_loss(retained, labels)
            if "small_loss" in weights:
                total = total + weights["small_loss"] * small_loss(own, labels)
        if removal.shown is not None:
            among = expanded(torch.cat([removal.shown, batch.images[company]]))[: len(removal.shown)]
            total = total + weights["mmd"] * linear_mmd(among, retained.detach())
        return total

    removals = _Removals(task, in_forget_set, remove_company, mmd="mmd" in weights) if "remove" in weights else None
    order = torch.randperm(len(task.retain_ids), generator=generator("statistics", task.seed)).to(data.device)
    some_retained = task.retain_ids[order[:STATISTICS_SAMPLES]].split(256)
    eraser = _Eraser(task, expanded, erase_mode, mask_density, masks)
    best_score, best_state, best_means = eraser.score(), copy.deepcopy(expanded.state_dict()), eraser.means
    task.observe(_paths(task, expanded, masks, shared_mask))
    for epoch in range(epochs):
        # 2. Flush.
        bound = _ascent_bound(expanded) if flush_loss == "ascent" else 0.0
        passes, taken = flush(task, expanded, forget_batches, forgetting, optimizer, stop_accuracy, flush_limit, bound)
        samples += taken
        if passes and flush_momentum != 1:
            scale_momentum(optimizer, flush_momentum)
        # 3. Redirect and remove.
        if erase_mode == "anneal":
            fade = task.number(_fade(epochs - epoch, math.ceil(anneal_share * epochs)))
        expanded.train()
        batches = all_batches if removals is None else map(removals.beside, all_batches)
        samples += train_epoch(batches, redirect_and_remove, optimizer, max_grad_norm=max_grad_norm)
        schedule.step()
        expanded.estimate_statistics(task.data.images(ids) for ids in some_retained)
        score = eraser.score()
        if score > best_score:
            best_score, best_state, best_means = score, copy.deepcopy(expanded.state_dict()), eraser.means
        task.observe(_paths(task, expanded, masks, shared_mask))

    # 4. Erase.
    expanded.load_state_dict(best_state)
    return Unlearned(expanded.erased(erase_mode, mask_density, best_means), epochs, samples)


@dataclass(frozen=True)
class _Removal:
    """What passes through theta 1 alone beside a batch.

    Attributes:
        known, company: int64, the places in the batch of its forget samples and of the retained ones with them.
        shown: images of other forget samples, whose mean output is compared; None: it is not.
    """

    known: Tensor
    company: Tensor
    shown: Tensor | None

    def __len__(self) -> int:
        alone = len(self.known) + len(self.company)
        return alone if self.shown is None else alone + len(self.shown) + len(self.company)


class _Removals:
    """Takes batches apart, on the CPU, where it is known how many forget samples they have."""

    def __init__(self, task: UnlearningTask, in_forget_set: Tensor, company: int, mmd: bool) -> None:
        self._task, self._in_forget_set, self._company, self._mmd = task, in_forget_set, company, mmd
        self._forget_ids_on_host = task.forget_ids.cpu()
        self._rng = generator("mmd", task.seed)

    def beside(self, batch: Batch) -> tuple[Batch] | tuple[Batch, _Removal]:
        """The batch, and its removal where it has forget samples."""
        device, forget_ids = self._task.data.device, self._task.forget_ids
        forget = self._in_forget_set[batch.host_ids]
        known, company = forget.nonzero().squeeze(1), (~forget).nonzero().squeeze(1)[: self._company]
        if not len(known):
            return (batch,)
        shown = None
        if self._mmd and len(company):
            order = torch.randperm(len(forget_ids), generator=self._rng)[:MMD_SAMPLES]
            shown = self._task.data.images(forget_ids[send(order, device)], host_ids=self._forget_ids_on_host[order])
        return batch, _Removal(send(known, device), send(company, device), shown)


def _with_new_channels(
    task: UnlearningTask,
    width: float,
    position: str,
    initialisation: Initialisation,
    trainable: Literal["all", "new_and_norm"],
) -> RedirectNetwork:
    if not isinstance(task.network, SplitNetwork):
        sites = select_sites(task.network.sites(), position)  # type: ignore[operator]
        expanded = ExpandedNetwork(task.network, sites, width, initialisation, task.seed)
        if trainable == "new_and_norm":
            expanded.freeze_old_weights()
        return expanded
    if trainable == "new_and_norm":
        raise UnlearningError("trainable: this original adds no channels, so new_and_norm does not apply to it")
    task.network.wake(position)
    if initialisation == "zero" and task.network.silent:
        task.network.clear_outgoing()
    return task.network


def _ascent_bound(network: nn.Module) -> float:
    """What an ascending gradient's norm may be, as `max_grad_norm`: ASCENT_SHARE of the weights' where `network` has no
    batch norm."""
    if batch_norms(network):
        return 0.0
    return ASCENT_SHARE * nn.utils.get_total_norm(p.detach() for p in network.parameters() if p.requires_grad).item()


def _fade(left: int, fading: int) -> float:
    """How much of the new channels is on with `left` epochs to go, the last `fading` of them fading; never nothing,
    lest the corruption be led back into the old channels."""
    return min(1.0, left / (fading + 1))


RedirectNetwork = ExpandedNetwork | SplitNetwork
"""What has channels to redirect into: new ones, or memorisation or silent ones of its own."""


def _reference(task: UnlearningTask, expanded: RedirectNetwork, masks: Tensor) -> Callable[[Batch], Tensor]:
    """Cross-entropies (B,) of the expanded network as it stands, in evaluation mode, masked; one pass over all samples
    tells them where images are not augmented."""
    if task.data.dataset.augmentation is not None:
        network = frozen(expanded)
        return torch.no_grad()(
            lambda batch: sample_cross_entropy(network(batch.images, masks[batch.ids]), batch.labels)
        )

    def of(ids: Tensor) -> Tensor:
        return sample_cross_entropy(expanded(task.data.images(ids), masks[ids]), task.data.labels[ids])

    with torch.no_grad(), evaluating(expanded):
        known = torch.cat([of(ids) for ids in task.all_ids.split(BATCH)])
    return lambda batch: known[batch.ids]


class _Eraser:
    """How good the network would be if its new channels were erased now."""

    def __init__(self, task: UnlearningTask, expanded: RedirectNetwork, mode: EraseMode, density: float, masks: Tensor):
        self._task, self._expanded, self._masks = task, expanded, masks
        self._mode, self._density = mode, density
        self.means: tuple[Tensor, ...] | None = None

    def score(self) -> float:
        """Retain accuracy x (1 - max(forget accuracy, 0.2)), on given labels; refreshes `means`."""
        if self._mode == "mean":
            self.means = self._expanded.mean_activations(self._retained())
        network: nn.Module = self._expanded
        if self._mode in ("attenuate", "mean"):
            network = self._expanded.kept(self._mode, self._density, self.means)
        keep = given_label_accuracy(network, self._task.data, self._task.retain_ids)
        wrong = given_label_accuracy(network, self._task.data, self._task.forget_ids)
        return keep * (1 - max(wrong, ACCURACY_FLOOR))

    def _retained(self) -> Iterator[tuple[Tensor, Tensor]]:
        for ids in self._task.retain_ids.split(BATCH):
            yield self._task.data.images(ids), self._masks[ids]


def _paths(task: UnlearningTask, expanded: RedirectNetwork, masks: Tensor, shared_mask: Tensor) -> dict[str, Predict]:
    """Predictions through the old channels alone, through both with each sample's mask, and with the shared one."""

    def through(masks_of: Callable[[Tensor], Tensor | None]) -> Predict:
        def logits(ids: Tensor) -> Tensor:
            return expanded(task.data.images(ids), masks_of(ids))

        return lambda ids: predict(expanded, logits, ids)

    return {
        "old": through(lambda ids: None),
        "both": through(lambda ids: masks[ids]),
        "shared": through(lambda ids: shared_mask.expand(len(ids), -1)),
    }
