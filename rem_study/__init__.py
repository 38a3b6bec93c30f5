"""A distributed hyperparameter study of REM and its rivals over the plane of corrupted-data unlearning tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rem_study.recommendation import recommend

__version__ = "0.1.0"
__all__ = ["recommend"]


def __getattr__(name: str) -> Any:
    """Loaded when asked for, so that importing the package costs nothing."""
    if name == "recommend":
        from rem_study.recommendation import recommend

        return recommend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
