"""Tables and frames as a reader wants them: over the plane, by method, by objective."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from rem_study.results.columns import CELL, KEY, SAMPLES
from rem_study.results.confirmation import interval
from rem_study.results.selection import corruption_order, trial_means
from rem_study.results.standing import reported_rows
from rem_study.results.winners import FEWEST_SAMPLES

SCORES = ("healed", "utility", "utility_x_healed")


def wins(cells: pd.DataFrame) -> pd.Series:
    """True on the row of the method that has won its cell: see `rem_study.results.winners.judge`."""
    return cells["standing"] == "won"


def level(cells: pd.DataFrame) -> pd.Series:
    """True on the rows of the methods that nobody has beaten beyond noise, in cells that nobody has won."""
    return cells["standing"] == "level"


def leaders(cells: pd.DataFrame) -> pd.DataFrame:
    """The row of each cell's leader, in the order of `cells`: highest utility × healed, of a tie the first by name.

    Cells without a result are left out.
    """
    best = cells.dropna(subset="utility_x_healed").sort_values(["utility_x_healed", "method"], ascending=[False, True])
    return best.drop_duplicates(CELL).sort_index()


def methods_frame(cells: pd.DataFrame, trials: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a method, best mean first: method, cells (those with a result), {healed, utility,
    utility_x_healed} as `_mean`, `_sem`, `_min` and `_max` over those cells (SEM is NaN for one), cells_won (see
    `wins`), cells_level (see `level`), default_utility_x_healed and gain (means), trials, pruned, failed,
    sample_passes, seconds (sums).

    With `trials`, too: utility_x_healed_low and _high, the 95 % interval of the mean over the cells, over the
    replicates that all these cells have run; and how many those are, replicates. NaN for fewer than two.
    """
    groups = cells.assign(won=wins(cells), level=level(cells)).groupby("method")
    out = pd.DataFrame({"cells": groups["utility_x_healed"].count()})
    for name in SCORES:
        out[f"{name}_mean"] = groups[name].mean()
        out[f"{name}_sem"] = groups[name].sem()
        out[f"{name}_min"] = groups[name].min()
        out[f"{name}_max"] = groups[name].max()
    out["cells_won"] = groups["won"].sum()
    out["cells_level"] = groups["level"].sum()
    for name in ("default_utility_x_healed", "gain"):
        out[name] = groups[name].mean()
    for name in ("trials", "pruned", "failed", "sample_passes", "seconds"):
        out[name] = groups[name].sum()
    if trials is not None:
        out = out.join(_mean_intervals(cells, trials))
    return out.reset_index().sort_values(
        ["utility_x_healed_mean", "method"], ascending=[False, True], ignore_index=True
    )


def _mean_intervals(cells: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """By method: interval of the mean over its cells over replicates, and how many replicates that is."""
    rows = reported_rows(trials, cells).dropna(subset="utility_x_healed")
    found = {}
    for method, own in rows.groupby("method"):
        table = own.pivot_table(index="replicate", columns=CELL, values="utility_x_healed").dropna()
        found[method] = (*interval(table.mean(axis=1), 0, 1), len(table))
    names = ["utility_x_healed_low", "utility_x_healed_high", "replicates"]
    return pd.DataFrame.from_dict(found, orient="index", columns=names)


def samples(cells: pd.DataFrame, column: str) -> pd.Series:
    """How many samples of the report split stand behind a column's shares, all replicates together; NaN where that was
    not recorded. Behind utility × healed: those of the share that has fewer."""
    known = cells[SAMPLES].astype(float)
    if column in ("healed_undiscovered", "found_average_precision", "found_recall"):
        return known["healed_samples"] - known["healed_discovered_samples"]
    if column == "utility_x_healed":
        return known[["healed_samples", "utility_samples"]].min(axis=1, skipna=False)
    return known["attack_samples" if column == "attack_success" else f"{column}_samples"]


def enough(cells: pd.DataFrame, column: str) -> pd.Series:
    """Whether a column's shares stand on FEWEST_SAMPLES or more; where that was not recorded, they are taken to."""
    return ~(samples(cells, column) < FEWEST_SAMPLES)


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
    """`cells` with a column `spread`: the standard deviation (n - 1) of the selected trial's utility × healed over the
    replicates that its scores come from; NaN for fewer than two."""
    spread = reported_rows(trials, cells).groupby(KEY)["utility_x_healed"].std().rename("spread")
    return cells.drop(columns="spread", errors="ignore").join(spread.astype(float), on=KEY)
