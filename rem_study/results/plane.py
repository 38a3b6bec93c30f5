"""Tables and frames as a reader wants them: over the plane, by method, by objective."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from rem_study.results.columns import CELL, KEY
from rem_study.results.selection import corruption_order, trial_means

TIE = 1e-9


def wins(cells: pd.DataFrame) -> pd.Series:
    """True on the row of a cell's single best method by utility × healed; a tie (within 1e-9) is nobody's."""
    best = cells.groupby(CELL)["utility_x_healed"].transform("max")
    top = cells["utility_x_healed"] >= best - TIE
    return top & (top.groupby([cells[name] for name in CELL]).transform("sum") == 1)


def methods_frame(cells: pd.DataFrame) -> pd.DataFrame:
    """One row a method, best mean first: method, cells (those with a result), {healed, utility,
    utility_x_healed} as `_mean` and `_sem` over those cells (SEM is NaN for one), cells_won (see `wins`),
    default_utility_x_healed and gain (means), trials, pruned, failed, sample_passes, seconds (sums)."""
    groups = cells.assign(won=wins(cells)).groupby("method")
    out = pd.DataFrame({"cells": groups["utility_x_healed"].count()})
    for name in ("healed", "utility", "utility_x_healed"):
        out[f"{name}_mean"] = groups[name].mean()
        out[f"{name}_sem"] = groups[name].sem()
    out["cells_won"] = groups["won"].sum()
    for name in ("default_utility_x_healed", "gain"):
        out[name] = groups[name].mean()
    for name in ("trials", "pruned", "failed", "sample_passes", "seconds"):
        out[name] = groups[name].sum()
    return out.reset_index().sort_values(
        ["utility_x_healed_mean", "method"], ascending=[False, True], ignore_index=True
    )


def objectives_frame(trials: pd.DataFrame) -> pd.DataFrame:
    """What choosing without clean labels costs, one row a (cell, method): utility × healed (report split) of the
    finished search trial with the best mean `score_oracle`, of the one with the best mean `score_deployable`
    (columns `by_oracle`, `by_deployable`), and `cost`, the first minus the second. Ties to the lowest number.
    Where nobody knows the clean labels there is no row.
    """
    means = trial_means(trials)
    means = means[means["finished"]]
    scores = ["score_oracle", "score_deployable"]
    rows = trials[trials["phase"] == "search"].groupby([*KEY, "trial"])[scores].mean()
    means = means.join(rows, on=[*KEY, "trial"]).dropna(subset=[*scores, "utility_x_healed"])
    chosen = {
        name: means.sort_values([score, "trial"], ascending=[False, True]).groupby(KEY)["utility_x_healed"].first()
        for name, score in (("by_oracle", "score_oracle"), ("by_deployable", "score_deployable"))
    }
    table = pd.DataFrame(chosen)
    return table.assign(cost=table["by_oracle"] - table["by_deployable"]).reset_index()


def grid(cells: pd.DataFrame, method: str, column: str) -> pd.DataFrame:
    """One method's column over the plane: rows are corruptions, high regularity first (low at the bottom),
    columns rising discovery rates. What was not run is NaN."""
    rows = cells[cells["method"] == method]
    table = rows.pivot(index="corruption", columns="discovery_rate", values=column)
    rates = sorted(cells["discovery_rate"].unique())
    return table.reindex(index=corruption_order(cells)[::-1], columns=rates)


def axis_table(cells: pd.DataFrame, method: str, hyperparameter: str) -> pd.DataFrame:
    """The selected value of one hyperparameter over the plane, laid out as by `grid`.

    None or NaN where nothing was selected or where the configuration does not have it (a conditional one).
    """

    def value(config: Any) -> Any:
        return json.loads(config).get(hyperparameter) if isinstance(config, str) else None

    chosen = pd.Series([value(config) for config in cells["config"]], index=cells.index, dtype=object)
    return grid(cells.assign(chosen=chosen), method, "chosen")


def with_spread(cells: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """`cells` with a column `spread`: the standard deviation (n - 1) of the selected trial's utility × healed over its
    replicates, of the confirmation where it was confirmed, else of the search; NaN for fewer than two."""
    scored = trials.dropna(subset="utility_x_healed")
    deviations = scored.groupby([*KEY, "phase", "trial"])["utility_x_healed"].std()

    def spread(row: pd.Series) -> float:
        if pd.isna(row["trial"]):
            return float("nan")
        place = tuple(row[name] for name in KEY)
        confirmed = deviations.get((*place, "confirm", row["trial"]), float("nan"))
        return float(confirmed if pd.notna(confirmed) else deviations.get((*place, "search", row["trial"]), np.nan))

    return cells.assign(spread=cells.apply(spread, axis=1) if len(cells) else pd.Series(dtype=float))
