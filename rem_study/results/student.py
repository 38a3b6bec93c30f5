"""The half width of Student's interval of a mean."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.special import stdtrit

LEVEL = 0.95


def half_width(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of independent values, two or more."""
    quantile = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))
