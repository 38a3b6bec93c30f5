"""Sending tensors that are made on the CPU to the device that computes: orders, shifts, places in a batch; and batches
of images, where a set is too large for the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_UNPINNED = ("cpu", "mps")
"""Devices that share the CPU's memory: pages need no pinning."""


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor`, which is on the CPU, on `device`; the copy joins an accelerator's queue instead of waiting for it.

    PyTorch waits for the whole queue when it copies from pageable memory; from pinned memory it need not.
    """
    if device.type in _UNPINNED:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def taken(images: Tensor, ids: Tensor, host_ids: Tensor | None, device: torch.device) -> Tensor:
    """Images `ids` (B,) of all `images` (N, C, H, W), on `device`.

    Images in the CPU's memory are gathered there, from `host_ids` if given: else the ids are read back, which waits for
    an accelerator. As nothing else in a step waits, batches are gathered and sent while those before are computed with.
    """
    if images.device == device:
        return images[ids.to(device)]
    return send(images[ids.cpu() if host_ids is None else host_ids].contiguous(), device)


def memory_of(device: torch.device) -> float:
    """Bytes of an accelerator's memory; infinite where the CPU's is used, or it cannot be told."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return math.inf
