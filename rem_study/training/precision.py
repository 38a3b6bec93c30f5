"""The number format that networks compute in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from rem_study.spec.original import Precision


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Inside, networks on `device` run in `precision`.

    bfloat16 is PyTorch's automatic mixed precision: convolutions and matrix products in bfloat16; weights, gradients,
    optimiser states, batch-norm statistics and losses stay float32, so no loss scaling is needed.
    """
    if precision == "float32":
        return nullcontext()
    # Uncached: a cached cast of a weight would outlive the optimiser's step, since whole trials run inside.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
