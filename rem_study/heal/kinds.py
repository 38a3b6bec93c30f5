"""What the labels of corrupted samples have in common: a poison's one label, the two classes that are confused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

LABELS_ASKED = 10
KIND_SHARE = 0.6


@dataclass(frozen=True)
class Common:
    """The commonest two classes that samples lie between, the commonest given label, and the share that has them."""

    pair: tuple[int, ...]
    pair_share: float
    target: int
    target_share: float

    @property
    def kind(self) -> str | None:
        """`interclass_confusion` or `poison`, whose share is larger and at least KIND_SHARE. (A handful of samples with
        a trigger may all look like one class; confusion goes both ways.)"""
        if max(self.pair_share, self.target_share) < KIND_SHARE:
            return None
        return "interclass_confusion" if self.pair_share >= self.target_share else "poison"

    def has(self, given: Tensor, proposed: Tensor) -> Tensor:
        """Which of these samples, labels int64 (N,) each, share the poison's label, or lie between the two confused
        classes; all of them where there is neither; bool (N,)."""
        if self.kind == "poison":
            return given == self.target
        if self.kind == "interclass_confusion":
            between = torch.tensor(self.pair)
            return torch.isin(given, between) & torch.isin(proposed, between)
        return torch.ones_like(given, dtype=torch.bool)


def in_common(given: Tensor, proposed: Tensor, known: Tensor, rejected: Tensor) -> Common:
    """Of the known samples, whose labels are certain, and of the surest others as many as it takes to make
    LABELS_ASKED.

    Args:
        given, proposed: int64 (N,), the most doubted sample first. known, rejected: bool (N,).
    """
    told = known.nonzero().squeeze(1)
    more = (rejected & ~known).nonzero().squeeze(1)[: max(0, LABELS_ASKED - len(told))]
    chosen = torch.cat([told, more])
    labels, others = given[chosen].tolist(), proposed[chosen].tolist()
    if not labels:
        return Common((), 0.0, -1, 0.0)
    [(pair, pairs)] = Counter(tuple(sorted(both)) for both in zip(labels, others, strict=True)).most_common(1)
    [(target, targets)] = Counter(labels).most_common(1)
    return Common(pair, pairs / len(labels), target, targets / len(labels))
