"""What the labels of corrupted samples have in common: a poison's one label, the two classes that are confused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

from rem_study.heal.suspects import Suspects

LABELS_ASKED = 10
KIND_SHARE = 0.6


@dataclass(frozen=True)
class Common:
    """The commonest two classes that samples lie between, the commonest given label, and the share that has them."""

    pair: tuple[int, ...]
    pair_share: float
    target: int
    target_share: float


def in_common(suspects: Suspects) -> Common:
    """Of the known samples, and of the surest suspects as many as it takes to make LABELS_ASKED."""
    known = suspects.known.nonzero().squeeze(1)
    more = suspects.suspect.nonzero().squeeze(1)[: max(0, LABELS_ASKED - len(known))]
    chosen = torch.cat([known, more])
    given, proposed = suspects.given[chosen].tolist(), suspects.proposed[chosen].tolist()
    [(pair, pairs)] = Counter(tuple(sorted(both)) for both in zip(given, proposed, strict=True)).most_common(1)
    [(target, targets)] = Counter(given).most_common(1)
    return Common(pair, pairs / len(given), target, targets / len(given))


def named_kind(common: Common) -> str | None:
    """`interclass_confusion` or `poison`, where that much of the labels is the same."""
    if common.pair_share >= KIND_SHARE:
        return "interclass_confusion"
    return "poison" if common.target_share >= KIND_SHARE else None


def explained(suspects: Suspects) -> Tensor:
    """The suspects whose labels are like those of the known samples, bool (N,): with the poison's label, or between the
    two confused classes; all of them where the known labels name neither."""
    common = in_common(suspects)
    kind = named_kind(common)
    if kind == "poison":
        return suspects.suspect & (suspects.given == common.target)
    if kind == "interclass_confusion":
        between = torch.tensor(common.pair)
        return suspects.suspect & torch.isin(suspects.given, between) & torch.isin(suspects.proposed, between)
    return suspects.suspect


def explained_share(suspects: Suspects) -> float:
    """The share of the suspects that are `explained`; 1 where there are none."""
    count = int(suspects.suspect.sum())
    return int(explained(suspects).sum()) / count if count else 1.0
