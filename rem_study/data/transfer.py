"""Sending small tensors (orders, shifts, places in a batch), made on the CPU, to the device that computes."""

from __future__ import annotations

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
