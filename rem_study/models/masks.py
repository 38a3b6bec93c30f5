"""Which of the channels that take the corruption each sample activates, and what may become of them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

EraseMode = Literal["drop", "deactivate", "attenuate", "mean", "anneal"]
Initialisation = Literal["zero", "random"]

SHARED_ID = -1
"""The sample id whose mask the forget set shares."""


def sample_masks(ids: Tensor, channels: int, density: float, seed: int) -> Tensor:
    """Which new channels each sample activates: bool (len(ids), channels), True with probability `density`.

    A bit depends on its sample's id, its channel and `seed` alone (splitmix64 of the three), so a sample keeps its
    mask whatever the batch, the machine or the size of the data set, and no random state is touched. It is computed on
    the device of `ids`.
    """
    rows = _splitmix64(ids ^ seed)
    columns = _splitmix64(torch.arange(channels, device=ids.device))
    threshold = math.ceil(density * 2**53)

    def of(part: Tensor) -> Tensor:
        return _unsigned_shift(_splitmix64(part[:, None] ^ columns), 11) < threshold

    return torch.cat([of(part) for part in rows.split(_AT_ONCE)])


_AT_ONCE = 512
"""Samples whose masks are drawn together: as many as a processor's cache holds the numbers of."""


def _splitmix64(x: Tensor) -> Tensor:
    """Vigna's splitmix64 of int64 taken as bits: sums and products wrap around as unsigned ones do."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ _unsigned_shift(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _unsigned_shift(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _unsigned_shift(x, 31)


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits


def _unsigned_shift(x: Tensor, by: int) -> Tensor:
    return (x >> by) & (2 ** (64 - by) - 1)
