"""A cell of the grid by its name."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

DiscoveryRate = Annotated[float, Field(gt=0, le=1)]


def cell_name(corruption: str, discovery_rate: float) -> str:
    """What tables and pictures call a cell: `poison@0.1`."""
    return f"{corruption}@{discovery_rate:g}"
