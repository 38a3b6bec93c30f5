"""What the pixels and labels of a data set come to: a hash of all of them, and their moments; a piece at a time, so
that a set may be larger than the memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PIECE = 2**24
"""Bytes that are looked at together."""


@dataclass(frozen=True)
class Array:
    """An array, piece by piece along its first axis."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: Iterable[np.ndarray]


def array_of(tensor: Tensor) -> Array:
    """`tensor` as it is, on the CPU."""

    def pieces() -> Iterator[np.ndarray]:
        each = rows_a_piece(tuple(tensor.shape), tensor.element_size())
        return (np.ascontiguousarray(part.cpu().numpy()) for part in tensor.split(each)) if len(tensor) else iter(())

    return Array(tuple(tensor.shape), tensor.dtype, pieces())


def rows_a_piece(shape: tuple[int, ...], itemsize: int) -> int:
    """Rows of an array of `shape` that take PIECE bytes."""
    return max(1, PIECE // max(1, itemsize * int(np.prod(shape[1:]))))


def content_hash(arrays: Iterable[Array]) -> str:
    """A hash of shapes, types and all values, the same on every machine."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, array.dtype)).encode())
        for piece in array.pieces:
            digest.update(piece.data)
    return digest.hexdigest()


def pixel_counts(pieces: Iterable[np.ndarray], channels: int) -> Tensor:
    """How often each value stands in each channel of images uint8 (n, C, H, W): int64 (C, 256)."""
    from PIL import Image  # counts several times as fast as torch and NumPy do

    counts = torch.zeros((channels, 256), dtype=torch.int64)
    for piece in pieces:
        for channel in range(channels):
            pixels = np.ascontiguousarray(piece[:, channel])
            size = (pixels.shape[2], pixels.shape[0] * pixels.shape[1])
            image = Image.frombuffer("L", size, pixels.reshape(-1).view(), "raw", "L", 0, 1)
            counts[channel] += torch.tensor(image.histogram())
    return counts


def moments(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of pixels in [0, 1], float32 (1, C, 1, 1), from `pixel_counts`.

    The deviation of a channel whose pixels are all equal (the empty blue of a two-colour microscope, say) is 1: it is
    normalised to zeros.
    """
    counts = counts.double()
    shares = counts / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = shares @ values
    std = (shares * (values - mean[:, None]).square()).sum(1).sqrt()
    std[(counts > 0).sum(1) == 1] = 1.0
    return mean.float().view(1, -1, 1, 1), std.float().view(1, -1, 1, 1)
