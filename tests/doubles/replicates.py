"""Replicates as the log has them, nothing run."""

from __future__ import annotations

from typing import Any

import pandas as pd

from rem_study.results import columns

REGULARITY = {"random_label": 0.1, "interclass_confusion": 0.4, "poison": 0.9}
RANK = {"random_label": "low", "interclass_confusion": "medium", "poison": "high"}


def row(
    trial: int,
    replicate: int = 0,
    score: float | None = 0.5,
    report: float | None = 0.5,
    *,
    method: str = "rem",
    corruption: str = "poison",
    rate: float = 0.1,
    **more: Any,
) -> dict[str, Any]:
    """One replicate; `score` is on the selection split, `report` its utility × healed (utility is 1)."""
    return {
        "study": "toy",
        "dataset": "digits",
        "model": "resnet9",
        "corruption": corruption,
        "regularity": REGULARITY[corruption],
        "regularity_rank": RANK[corruption],
        "discovery_rate": rate,
        "cell": f"{corruption}@{rate:g}",
        "method": method,
        "trial": trial,
        "phase": "search",
        "replicate": replicate,
        "state": "complete",
        "config": {"width": trial},
        "healed": report,
        "utility": 1.0,
        "test_accuracy": 1.0,
        "utility_x_healed": report,
        "score": score,
        "sample_passes": 10,
        "seconds": 1.5,
        **more,
    }


def trials(*rows: dict[str, Any]) -> pd.DataFrame:
    return columns.trials_table(rows).to_pandas()


def only(frame: pd.DataFrame) -> pd.Series:
    assert len(frame) == 1
    return frame.iloc[0]
