"""A distributed hyperparameter study of REM and its rivals over the plane of corrupted-data unlearning tasks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rem_study.local import run_cell, run_trial
    from rem_study.notebook import open_study
    from rem_study.recommendation import recommend

__version__ = "0.1.0"
__all__ = ["open_study", "recommend", "run_cell", "run_trial"]

_HOMES = {"open_study": "notebook", "recommend": "recommendation", "run_cell": "local", "run_trial": "local"}


def __getattr__(name: str) -> Any:
    """Loaded when asked for, so that importing the package costs nothing."""
    if name in _HOMES:
        return getattr(import_module(f"rem_study.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
