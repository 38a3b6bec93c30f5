"""The log's replicate rows: which trial each belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]
"""A row of trials.parquet, `config` as a mapping; with `start_time` and `end_time` in epoch milliseconds."""

TrialKey = tuple[str, str, str, int]
"""(cell, method, phase, trial)."""


def trial_key(row: Row) -> TrialKey:
    """The trial that a row belongs to."""
    return row["cell"], row["method"], row["phase"], int(row["trial"])
