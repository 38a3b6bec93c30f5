"""Which hyperparameters decide: PED-ANOVA importances (Watanabe et al. 2023, by Optuna) per cell and pooled."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from rem_study.results.columns import CELL
from rem_study.results.selection import trial_means
from rem_study.search.optuna_studies import filled_study, frozen_trials
from rem_study.spec import SearchSpace

MOST_TRIALS, MOST_DRAWN, FEWEST_RESAMPLES = 1_200, 24_000, 20
"""In a large study: trials that are looked at, trials drawn in all for an interval, resamples for one."""

FEWEST_TRIALS = 20
"""Finished trials below which no importance is computed: the best tenth would be fewer than two."""

COLUMNS = ["hyperparameter", "importance", "low", "high", "trials"]


def importances(
    trials: pd.DataFrame, space: SearchSpace, *, resamples: int = 0, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """How much each searched hyperparameter of one method matters for reaching the best tenth of its trials.

    Shares of PED-ANOVA's importances, which sum to 1 (Optuna's `PedAnovaImportanceEvaluator` with its defaults).
    Where `trials` hold several cells these are pooled, each trial scored by its rank within its own cell, so that a
    cell in which every configuration does well does not decide alone. Of more than MOST_TRIALS finished trials, a
    random part of each cell's is looked at.

    Args:
        trials: rows of trials.parquet, of one method; only the search is looked at.
        resamples: how often the trials of each cell are drawn anew, with replacement, for the interval; less often,
            but FEWEST_RESAMPLES times at least, where that would take more than MOST_DRAWN draws in all.
        level: of that interval: a percentile interval of the bootstrap.
        seed: of the draws.

    Returns:
        COLUMNS, the most important first; `low` and `high` are NaN without `resamples`; `trials` are those that
        were finished. Empty where there are fewer than FEWEST_TRIALS of them, or nothing was searched.
    """
    pools = _thinned(_pools(trials, space), np.random.default_rng(seed))
    total = sum(map(len, pools))
    shares = _shares([trial for pool in pools for trial in pool]) if total >= FEWEST_TRIALS else {}
    table = pd.DataFrame(
        {
            "hyperparameter": pd.Series(list(shares), dtype="object"),
            "importance": pd.Series(list(shares.values()), dtype="float64"),
        }
    )
    table["low"] = table["high"] = np.nan
    table["trials"] = total
    if resamples and len(table):
        resamples = min(resamples, max(FEWEST_RESAMPLES, MOST_DRAWN // total))
        random = np.random.default_rng(seed)
        drawn = [
            _shares([pool[i] for pool in pools for i in random.integers(len(pool), size=len(pool))])
            for _ in range(resamples)
        ]
        values = np.array([[one.get(name, 0.0) for name in table["hyperparameter"]] for one in drawn])
        table["low"], table["high"] = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return table[COLUMNS]


def cell_importances(trials: pd.DataFrame, space: SearchSpace) -> pd.DataFrame:
    """`importances` of each cell by itself: CELL, then COLUMNS, one row a (cell, hyperparameter)."""
    found = [_of_cell(importances(rows, space), tuple(key)) for key, rows in trials.groupby(CELL)]
    kept = [table for table in found if len(table)]
    return pd.concat(kept, ignore_index=True)[[*CELL, *COLUMNS]] if kept else pd.DataFrame(columns=[*CELL, *COLUMNS])


def _thinned(pools: list[list[FrozenTrial]], random: np.random.Generator) -> list[list[FrozenTrial]]:
    """A random part of each pool, MOST_TRIALS in all, where there are more: the evaluator takes 0.5 ms a trial."""
    if sum(map(len, pools)) <= MOST_TRIALS:
        return pools
    share = -(-MOST_TRIALS // len(pools))
    return [[pool[i] for i in sorted(random.permutation(len(pool))[:share])] for pool in pools]


def _of_cell(table: pd.DataFrame, key: Iterable[Any]) -> pd.DataFrame:
    for name, value in zip(CELL, key, strict=True):
        table[name] = value
    return table


def _pools(trials: pd.DataFrame, space: SearchSpace) -> list[list[FrozenTrial]]:
    """By cell the finished trials; several cells' values are ranks within their own, from 0 to 1."""
    found = []
    for _, rows in trials[trials["phase"] == "search"].groupby(CELL):
        whole = frozen_trials(space, rows.to_dict("records"))
        found.append([trial for trial in whole if trial.state is TrialState.COMPLETE and trial.params])
    found = [pool for pool in found if pool]
    return found if len(found) < 2 else [_ranked(pool) for pool in found]


def _ranked(pool: list[FrozenTrial]) -> list[FrozenTrial]:
    ranks = pd.Series([trial.value for trial in pool]).rank(pct=True)
    return [
        create_trial(value=float(rank), params=trial.params, distributions=trial.distributions)
        for trial, rank in zip(pool, ranks, strict=True)
    ]


def _shares(trials: list[FrozenTrial]) -> dict[str, float]:
    """Importances that sum to 1, largest first, ties by name; empty where no trial stands out from another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a regime of one trial, which PED-ANOVA leaves out, and its being experimental
        study = filled_study(InMemoryStorage(), None, trials)
        found = PedAnovaImportanceEvaluator().evaluate(study)
    total = sum(found.values())
    ordered = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    return {name: value / total for name, value in ordered} if total > 0 else {}


TREND_COLUMNS = [*CELL, "corruption", "discovery_rate", "value", "low", "high", "trials"]


def trends(
    trials: pd.DataFrame, hyperparameter: str, *, best: float = 0.25, resamples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Where the good values of a numeric hyperparameter lie in each cell, for one method.

    Of each cell's finished trials the best quarter by `score` (at least three) are taken; the value is the median of
    the hyperparameter over them. Its interval (95 %) is that of the bootstrap over the cell's trials, the choice of
    the best quarter made anew in each draw. Cells in which fewer than three trials have it are left out.

    Returns:
        TREND_COLUMNS, one row a cell.
    """
    means = trial_means(trials)
    means = means[means["finished"]]
    where = trials.drop_duplicates(CELL).set_index(CELL)[["corruption", "discovery_rate"]]
    random = np.random.default_rng(seed)
    found = []
    for key, rows in means.groupby(CELL):
        values = [_number(config, hyperparameter) for config in rows["config"]]
        table = np.column_stack([rows["score"].to_numpy(dtype=float), np.array(values, dtype=float)])
        table = table[~np.isnan(table[:, 1])]
        if len(table) < 3:
            continue
        median = _median_of_best(best)
        draws = [median(table[random.integers(len(table), size=len(table))]) for _ in range(resamples)]
        low, high = np.quantile(draws, [0.025, 0.975])
        place = where.loc[key]
        found.append((*key, place["corruption"], place["discovery_rate"], median(table), low, high, len(table)))
    return pd.DataFrame(found, columns=TREND_COLUMNS)


def _median_of_best(share: float) -> Callable[[np.ndarray], float]:
    def median(table: np.ndarray) -> float:
        kept = max(3, round(share * len(table)))
        order = np.argsort(-table[:, 0], kind="stable")[:kept]
        return float(np.median(table[order, 1]))

    return median


def _number(config: str, name: str) -> float:
    value = json.loads(config).get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else np.nan
