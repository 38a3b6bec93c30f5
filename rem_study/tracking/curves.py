"""What the curves of a selected trial are called in MLflow, where a chart's title is all that explains it."""

from __future__ import annotations

CURVES = {
    "old": "wrong labels kept by the old channels alone",
    "both": "wrong labels kept by old and new channels with own mask",
    "shared": "wrong labels kept by old and new channels with the shared mask",
}
