"""What the curves of a selected trial are called in MLflow, where a chart's title is all that explains it."""

from __future__ import annotations

CURVES = {
    "old": "old channels alone - wrong labels kept",
    "both": "both with own mask - wrong labels kept",
    "shared": "both with shared mask - wrong labels kept",
}
"""By the curve's name in trials.parquet. What tells them apart comes first: MLflow cuts titles."""
