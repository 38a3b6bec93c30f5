"""What stands behind each cell's scores: replicates, samples, the split by discovery, and who wins there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rem_study.results.columns import CELLS_SCHEMA, KEY, SAMPLES, TRIALS_SCHEMA, typed_cells
from rem_study.results.confirmation import whole_trials
from rem_study.results.winners import Lead, Scored, Standing, judge

APART = ["healed_discovered", "healed_undiscovered", "attack_success", "found_average_precision", "found_recall"]
VERDICT = ["standing", "rival", "lead", "lead_low", "lead_high", "lead_replicates", "lead_samples"]


def reported_rows(trials: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The rows of `trials` that each cell's scores are means over: those of its selected trial, on fresh replicates
    where it ran whole on them, else in the search."""
    chosen = cells.loc[cells["trial"].notna(), [*KEY, "trial"]].astype({"trial": "int64"})
    rows = trials.merge(chosen, on=[*KEY, "trial"])
    fresh = whole_trials(trials[trials["phase"] == "confirm"])
    fresh = fresh[fresh["proposed_by"] == "selected"].merge(chosen, on=[*KEY, "trial"])
    confirmed = pd.MultiIndex.from_frame(rows[KEY]).isin(pd.MultiIndex.from_frame(fresh[KEY]))
    return pd.concat([fresh, rows[(rows["phase"] == "search") & ~confirmed]], ignore_index=True)


def with_standing(cells: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """`cells` with APART (means), SAMPLES (all replicates together, null if any is) and VERDICT (see `winners.judge`)
    filled in from the replicates that its scores come from; typed as CELLS_SCHEMA says."""
    rows = reported_rows(trials, cells)
    groups = rows.groupby(KEY)
    filled = cells.drop(columns=[name for name in (*APART, *SAMPLES) if name in cells])
    filled = filled.join(groups[APART].mean(), on=KEY)
    filled = filled.join(groups[SAMPLES].sum().where(groups[SAMPLES].count().eq(groups.size(), axis=0)), on=KEY)
    verdicts = _verdicts(rows, filled.set_index(KEY)[SAMPLES])
    told = [verdicts.get(tuple(key), {}) for key in filled[KEY].itertuples(index=False)]
    filled = filled.assign(**{name: [one.get(name) for one in told] for name in VERDICT})
    names = [*cells.columns, *(name for name in (*APART, *SAMPLES, *VERDICT) if name not in cells)]
    return typed_cells(filled[names])


def scores_by_cell(rows: pd.DataFrame, counted: pd.DataFrame) -> dict[tuple[str, ...], dict[str, Scored]]:
    """By CELL and method, what `reported_rows` say of each method that has a score there.

    Args:
        counted: SAMPLES, by KEY.
    """
    scores: dict[tuple[str, ...], dict[str, Scored]] = {}
    for key, own in rows.dropna(subset="utility_x_healed").groupby(KEY):
        scores.setdefault(tuple(key[:-1]), {})[key[-1]] = _scored(own, counted.loc[key])
    return scores


def _verdicts(rows: pd.DataFrame, counted: pd.DataFrame) -> dict[tuple[str, ...], dict[str, Any]]:
    """By KEY, the VERDICT of each method that has a score in a cell."""
    return {
        (*place, method): _told(standing)
        for place, one in scores_by_cell(rows, counted).items()
        for method, standing in judge(one).items()
    }


def completed(cells: pd.DataFrame, trials: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables with all columns of this version. What an earlier one did not record is null; the verdict and what
    else follows from the replicates is made up for."""
    trials = trials.reindex(columns=[*trials.columns, *(name for name in TRIALS_SCHEMA.names if name not in trials)])
    lacks = any(name not in cells for name in VERDICT)
    cells = cells.reindex(columns=[*cells.columns, *(name for name in CELLS_SCHEMA.names if name not in cells)])
    return (with_standing(cells, trials) if lacks else cells), trials


def lead_of(row: pd.Series) -> Lead | None:
    """The lead that a row of cells.parquet holds; None where it has none."""
    if not isinstance(row["rival"], str):
        return None

    def known(name: str) -> float | None:
        return None if pd.isna(row[name]) else float(row[name])

    low, high = (np.nan if (value := known(name)) is None else value for name in ("lead_low", "lead_high"))
    samples = known("healed_samples")
    return Lead(
        rival=row["rival"],
        value=float(row["lead"]),
        low=low,
        high=high,
        replicates=int(row["lead_replicates"]),
        samples=None if samples is None else int(samples),
        worth=known("lead_samples"),
    )


def _scored(rows: pd.DataFrame, counted: pd.Series) -> Scored:
    healed, utility = (None if pd.isna(n) else int(n) for n in (counted["healed_samples"], counted["utility_samples"]))
    return Scored(
        utility_x_healed=dict(zip(rows["replicate"].tolist(), rows["utility_x_healed"].tolist(), strict=True)),
        healed=float(rows["healed"].mean()),
        utility=float(rows["utility"].mean()),
        healed_samples=healed,
        utility_samples=utility,
    )


def _told(standing: Standing) -> dict[str, Any]:
    lead = standing.lead
    if lead is None:
        return {"standing": standing.standing}
    values = (standing.standing, lead.rival, lead.value, lead.low, lead.high, lead.replicates, lead.worth)
    return dict(zip(VERDICT, values, strict=True))
