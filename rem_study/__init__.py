"""A distributed hyperparameter study of REM and its rivals over the plane of corrupted-data unlearning tasks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rem_study.version import __version__ as __version__

if TYPE_CHECKING:
    from rem_study.notebook.local import run_cell, run_trial
    from rem_study.notebook.open_study import open_study
    from rem_study.spec.best import recommend

__all__ = ["open_study", "recommend", "run_cell", "run_trial"]

_HOMES = {
    "open_study": "notebook.open_study",
    "recommend": "spec.best",
    "run_cell": "notebook.local",
    "run_trial": "notebook.local",
}


def __getattr__(name: str) -> Any:
    """Loaded when asked for, so that importing the package costs nothing."""
    if name in _HOMES:
        return getattr(import_module(f"rem_study.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
