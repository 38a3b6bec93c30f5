"""The document of best.yaml: the configuration of each cell, and the one for the whole grid."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from rem_study.results.columns import CELL, KEY
from rem_study.results.confirmation import mean_over_cells, regrets
from rem_study.results.selection import trial_means


def universal(trials: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By method, one configuration for all cells: the one with the least worst regret.

    Where what was confirmed ran in every cell (`confirm.everywhere`), candidates are that and the default, on
    fresh replicates, with the interval of the mean over cells. Otherwise they are the search trials that happen to
    have finished in every cell, the default among them.
    Regret in a cell: the selected utility × healed minus this configuration's, on the report split (negative
    where the choice was beaten). Ties go to the higher mean, then to the first in text order. A method
    without such a configuration is absent. Gives {config, utility_x_healed: {mean, low, high}, worst_regret,
    best_mean: the same of the candidate with the best mean}.
    """
    found = {}
    for method in sorted(trials["method"].unique()):
        regret, fresh = regrets(trials, method), True
        if regret.empty:
            regret, fresh = _search_regrets(trials, method), False
        if regret.empty:
            continue
        ranked = pd.DataFrame({"worst": regret.max(axis=1), "mean": -regret.mean(axis=1)}).round(12).reset_index()
        by_worst = ranked.sort_values(["worst", "mean", "config"], ascending=[True, False, True]).iloc[0]
        by_mean = ranked.sort_values(["mean", "worst", "config"], ascending=[False, True, True]).iloc[0]

        def told(row: pd.Series, method: str = method, fresh: bool = fresh) -> dict[str, Any]:
            if fresh:
                score = _interval(*mean_over_cells(trials, method, row["config"]))
            else:
                score = _interval(_mean_in_search(trials, method, row["config"]))
            return {
                "config": json.loads(row["config"]),
                "utility_x_healed": score,
                "worst_regret": float(row["worst"]),
            }

        found[method] = told(by_worst) | {"best_mean": told(by_mean)}
    return found


def _search_regrets(trials: pd.DataFrame, method: str) -> pd.DataFrame:
    """As `confirmation.regrets`, of search trials that have finished in every cell."""
    means = trial_means(trials[trials["method"] == method])
    means = means[means["finished"]]
    scores = means.pivot_table(index="config", columns=CELL, values="utility_x_healed").dropna()
    if scores.shape[1] < len(trials.drop_duplicates(CELL)):
        return scores.iloc[:0]
    best = means.sort_values(["score", "trial"], ascending=[False, True]).groupby(CELL)["utility_x_healed"].first()
    return scores.rsub(best, axis="columns")


def _mean_in_search(trials: pd.DataFrame, method: str, config: str) -> float:
    means = trial_means(trials[trials["method"] == method])
    return float(means.loc[means["finished"] & (means["config"] == config), "utility_x_healed"].mean())


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _count(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _interval(mean: Any, low: Any = None, high: Any = None) -> dict[str, float | None]:
    return {"mean": _number(mean), "low": _number(low), "high": _number(high)}


def best(study: str, objective: str, trials: pd.DataFrame, cells: pd.DataFrame) -> dict[str, Any]:
    """The document of best.yaml (format 1), of plain Python values; unknown numbers are None.

    Cells come in the order of `cells`; a method without a finished trial in a cell is absent there.
    `chosen`, `gain` and `replicates` are the columns of cells.parquet, `samples` those behind both shares, all
    replicates together. `mlflow_run_id` is that of the selected trial's first search replicate which has one.
    """
    runs = trials[(trials["phase"] == "search") & trials["mlflow_run_id"].notna()].sort_values("replicate")
    run_ids = runs.groupby([*KEY, "trial"])["mlflow_run_id"].first()
    document: dict[str, Any] = {
        "format": 1,
        "study": study,
        "objective": objective,
        "universal": universal(trials),
        "cells": [],
    }
    for _, rows in cells.groupby(CELL, sort=False):
        first = rows.iloc[0]
        methods = {
            row["method"]: {
                "config": json.loads(row["config"]),
                "utility_x_healed": _interval(
                    row["utility_x_healed"], row["utility_x_healed_low"], row["utility_x_healed_high"]
                ),
                "chosen": row["chosen"],
                "default_utility_x_healed": _number(row["default_utility_x_healed"]),
                "gain": _interval(row["gain"], row["gain_low"], row["gain_high"]),
                "replicates": int(row["replicates"]),
                "samples": {"healed": _count(row["healed_samples"]), "utility": _count(row["utility_samples"])},
                "trial": int(row["trial"]),
                "mlflow_run_id": run_ids.get((*(row[name] for name in KEY), row["trial"])),
            }
            for _, row in rows[rows["config"].notna()].iterrows()
        }
        document["cells"].append(
            {
                "corruption": first["corruption"],
                "discovery_rate": float(first["discovery_rate"]),
                "regularity": _number(first["regularity"]),
                "methods": methods,
            }
        )
    return document
