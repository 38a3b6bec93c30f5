"""Methods by name: `methods/<name>.py`, found when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import torch

from rem_study.errors import UnlearningError
from rem_study.seeds import seeded
from rem_study.training import compiling, computing_in
from rem_study.unlearning.task import Unlearned, UnlearningTask


def needed_original(method: str) -> str | None:
    """The one `original.kind` that `method` works on (its module's NEEDS_ORIGINAL); None: any."""
    return getattr(importlib.import_module(f"rem_study.unlearning.methods.{method}"), "NEEDS_ORIGINAL", None)


def unlearn(method: str, task: UnlearningTask, configuration: Mapping[str, object]) -> Unlearned:
    """Run `method` with a complete configuration.

    Raises:
        UnlearningError: a loss or a weight was not finite.
        TypeError: a hyperparameter is missing or unknown.
    """
    module = importlib.import_module(f"rem_study.unlearning.methods.{method}")
    device = task.data.device
    with seeded(device, "dropout", task.seed), computing_in(task.precision, device), compiling(task.compile):
        unlearned: Unlearned = module.unlearn(task, **configuration)
    if not torch.stack([value.isfinite().all() for value in unlearned.network.state_dict().values()]).all():
        raise UnlearningError("a weight of the healed network is not finite")
    return unlearned
