"""The log's replicate rows: which trial each belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rem_study.storage.canonical import canonical_json

Row = Mapping[str, Any]
"""A row of trials.parquet, `config` as a mapping; with `start_time` and `end_time` in epoch milliseconds."""

PHASES = ("search", "race", "transfer", "confirm")
"""What a trial may be for, in the order of the tables."""

TrialKey = tuple[str, str, str, int]
"""(cell, method, phase, trial)."""


def trial_key(row: Row) -> TrialKey:
    """The trial that a row belongs to."""
    return row["cell"], row["method"], row["phase"], int(row["trial"])


ResultKey = tuple[str, str, str, int]
"""(cell, method, configuration, replicate): all that a result depends on within one study."""


def result_key(row: Row) -> ResultKey:
    """What the result in a row is a result of, whichever trial had it run."""
    return row["cell"], row["method"], canonical_json(row["config"]), int(row["replicate"])


def placed(row: Row, key: TrialKey, proposed_by: str) -> dict[str, Any]:
    """The same result as a replicate of the trial `key`."""
    _, _, phase, trial = key
    return {**row, "phase": phase, "trial": trial, "proposed_by": proposed_by}
