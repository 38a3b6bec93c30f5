"""How many samples can be corrupted, by how often corrupted samples are doubted that are known.

A network doubts clean samples as well: those that it mistakes. At a threshold t, though, no more of the others can be
corrupted than are doubted by more than t, divided by the share of corrupted samples that are: of the known ones, seen
by a network that was not told of them. The lowest of these bounds, over all thresholds, is the largest proportion of
the mixture that corrupted samples can be (Blanchard, Lee and Scott, JMLR 11 (2010), section 3). As both counts are
small at a high threshold, it is chosen by the bound's upper confidence limit (best bin estimation, Garg et al.,
arXiv 2111.00980, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, gammaincinv
from torch import Tensor

TAIL = 0.005
"""Probability that an end of a range lies on the wrong side of the truth, at one threshold."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Prevalence:
    """How many of the other samples are corrupted: an estimate and its range, of counting errors alone."""

    estimate: float
    low: float
    high: float


def excess(known: Tensor, others: Tensor) -> Prevalence | None:
    """How many of `others` are corrupted, where more of them are doubted than can be.

    None where as many may be corrupted as are doubted, so that there is no sign of clean samples among those.

    Args:
        known: float (n,), the doubt of known corrupted samples, each by a network that was not told of it;
            others: float (m,), of all others, by the same networks. A label is rejected where it is above 0.
    """
    of_known, of_others = known.double().numpy(), others.double().numpy()
    thresholds = np.unique(np.append(of_known[of_known > 0], 0.0))
    caught = _above(of_known, thresholds)
    doubted = _above(of_others, thresholds)
    least_share, most_share = _share(caught, len(of_known))
    least, most = _count(doubted)
    with np.errstate(divide="ignore"):
        highest = np.where(least_share > 0, most / least_share, np.inf)
        lowest = np.where(most_share > 0, least / most_share, np.inf)
    best = int(highest.argmin())
    if highest[best] >= lowest[0]:
        return None
    return Prevalence(float(doubted[best] / caught[best] * len(of_known)), float(lowest[best]), float(highest[best]))


def _above(scores: Floats, thresholds: Floats) -> Floats:
    """How many scores lie above 0, or at a higher threshold or above it."""
    counted = [(scores > t) if t == 0 else (scores >= t) for t in thresholds]
    return np.array([one.sum() for one in counted], dtype=np.float64)


def _share(hits: Floats, total: int) -> tuple[Floats, Floats]:
    """The ends of a share of which `hits` of `total` were seen (Clopper and Pearson 1934)."""
    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), total - hits + 1, TAIL), 0.0)
    high = np.where(hits < total, betaincinv(hits + 1, np.maximum(total - hits, 1), 1 - TAIL), 1.0)
    return low, high


def _count(seen: Floats) -> tuple[Floats, Floats]:
    """The ends of the mean of a count (Garwood 1936)."""
    return np.where(seen > 0, gammaincinv(np.maximum(seen, 1), TAIL), 0.0), gammaincinv(seen + 1, 1 - TAIL)
