"""What fresh replicates say of the selected configurations: intervals, regrets, one configuration for the whole grid.

Student's t over replicates, paired where two configurations are compared: a replicate is one whole set of seeds, so
replicates are independent, and there are few of them. A percentile bootstrap over so few cannot work: of three values
it never leaves their range, which holds the true mean in three cases of four at best (2^-2 of all sets of three lie
wholly on one side of it). A test holds the coverage of these intervals to 90 to 99 percent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from rem_study.results.student import half_width

FRESH = ("confirm", "transfer")


def interval(values: Sequence[float] | pd.Series, floor: float, ceiling: float) -> tuple[float, float]:
    """The 95 % interval of the mean of independent values (R,) that lie in [floor, ceiling]; NaN for fewer than two."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return math.nan, math.nan
    half, middle = half_width(known.tolist()), float(known.mean())
    return max(floor, middle - half), min(ceiling, middle + half)


def whole_trials(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of those trials (cell, method, phase, trial) of which every replicate is there and complete."""
    key = ["dataset", "model", "cell", "method", "phase", "trial"]
    complete = rows.assign(complete=rows["state"] == "complete").groupby(key)["complete"].transform("all")
    count = rows.groupby(key)["replicate"].transform("nunique")
    return rows[complete & (count == rows["replicate"].nunique())]


def regrets(trials: pd.DataFrame, method: str) -> pd.DataFrame:
    """How much worse than the cell's own selected configuration each candidate is, on fresh replicates.

    Args:
        trials: the whole trials table.

    Returns:
        one row a configuration (JSON) that has come to its end in every cell, one column a cell: the selected
        utility × healed minus the candidate's, on the report split; negative where the candidate is better. A
        candidate that failed in any cell is left out. Empty where the winners have not been run everywhere
        (`confirm.everywhere`).
    """
    tried = trials[(trials["method"] == method) & trials["phase"].isin(FRESH)]
    rows = whole_trials(tried)
    cells = trials["cell"].unique()

    def in_every_cell(some: pd.DataFrame, values: str) -> pd.DataFrame:
        return some.pivot_table(index="config", columns="cell", values=values).reindex(columns=cells).dropna()

    scores = in_every_cell(rows, "utility_x_healed")
    winners = tried[tried["proposed_by"] == "selected"]
    if winners.empty or not winners["config"].isin(in_every_cell(tried, "replicate").index).all():
        return scores.iloc[:0]
    return scores.rsub(selected_on_fresh(rows).reindex(cells), axis="columns")


def selected_on_fresh(rows: pd.DataFrame) -> pd.Series:
    """By cell, the utility × healed of what was selected there, over the fresh replicates of one method's `rows`."""
    chosen = rows[(rows["phase"] == "confirm") & (rows["proposed_by"] == "selected")]
    return chosen.groupby("cell")["utility_x_healed"].mean()


def mean_over_cells(trials: pd.DataFrame, method: str, config: str) -> tuple[float, float, float]:
    """Utility × healed of one configuration, averaged over all cells: mean over fresh replicates, and its interval."""
    rows = trials[(trials["method"] == method) & (trials["config"] == config) & trials["phase"].isin(FRESH)]
    by_replicate = rows.groupby(["replicate", "cell"])["utility_x_healed"].mean().groupby("replicate").mean()
    return float(by_replicate.mean()), *interval(by_replicate, 0, 1)
