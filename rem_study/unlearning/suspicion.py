"""How much a network doubts the label that a sample was given, and how well doubts find the samples that are wrong.

A network that has forgotten *some* wrong labels no longer gives the others either, where unlearning reaches them: its
doubt points at those that nobody knows yet. The doubt is a margin in logits, not only a disagreement, so that samples
can be put in order (margins of a healed network were the best of the scores that `benchmarks/suspects.py` compares).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rem_study.data import CorruptedTrainingSet
from rem_study.models import evaluating
from rem_study.training.evaluation import BATCH


def as_they_are(images: Tensor) -> Tensor:
    """A view that changes nothing."""
    return images


@torch.no_grad()
def training_logits(
    network: nn.Module,
    data: CorruptedTrainingSet,
    ids: Tensor,
    views: Sequence[Callable[[Tensor], Tensor]] = (as_they_are,),
) -> Tensor:
    """Logits float32 (M, K), on the CPU, of training samples `ids` (M,), triggers in place, not augmented: the mean
    over `views`, each of which changes the images float32 (B, C, H, W) of a batch in its way."""

    def asked(images: Tensor) -> Tensor:
        return torch.stack([network(view(images)).float() for view in views]).mean(0).cpu()

    with evaluating(network):
        return torch.cat([asked(data.images(part)) for part in ids.split(BATCH)])


def doubt(logits: Tensor, labels: Tensor) -> Tensor:
    """How far each sample's given label lies below the best other class, (M,), in logits; above 0: it is rejected.

    Args:
        logits: float (M, K).
        labels: int64 (M,), in [0, K).
    """
    own = logits.gather(1, labels[:, None]).squeeze(1)
    others = logits.scatter(1, labels[:, None], -math.inf)
    return others.max(1).values - own


def average_precision(doubts: Tensor, wrong: Tensor) -> float:
    """The mean, over the samples that are `wrong` (bool (M,)), of the precision down to their place in the order of
    falling `doubts` (M,); ties keep their order. NaN where none is wrong."""
    precision, _, hits = _along(doubts, wrong)
    return precision[hits].mean().item()


def recall_at_precision(doubts: Tensor, wrong: Tensor, precision: float) -> float:
    """The largest share of the `wrong` samples (bool (M,)) that a list of the most doubted ones holds whose precision
    is at least `precision`; 0 where no list has it, NaN where none is wrong."""
    along, recall, _ = _along(doubts, wrong)
    if not wrong.any():
        return math.nan
    good = recall[along >= precision]
    return good.max().item() if len(good) else 0.0


def _along(doubts: Tensor, wrong: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Precision and recall down to each place of the order of falling doubt, and whether the sample there is wrong."""
    hits = wrong[doubts.argsort(descending=True, stable=True)]
    found = hits.double().cumsum(0)
    return found / torch.arange(1, len(hits) + 1), found / found[-1:].clamp(min=1), hits
