"""What is selected in each (cell, method), and what it reached: pure functions over frames.

One row of `trials` is one replicate of one trial; one row of `cells` is one (cell, method). Choosing looks only at
`score` (selection split); every reported figure comes from the report split.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rem_study.results.columns import CELLS_SCHEMA, KEY, REPORTED
from rem_study.results.confirmation import interval, whole_trials
from rem_study.results.health import Selection, examine
from rem_study.results.standing import with_standing
from rem_study.spec import SearchSpace
from rem_study.spec.corruption import RANKS


def trial_means(trials: pd.DataFrame, phases: Sequence[str] = ("search",)) -> pd.DataFrame:
    """One row a trial of these phases: dataset model cell method phase trial config state replicates finished
    score and REPORTED, the scores as means over its replicates.

    `state` is the worst of its replicates' (failed, pruned, complete). `finished`: all complete, every score
    finite, and as many replicates as the study's fullest trial, so that one still running is not compared.
    """
    rows = trials[trials["phase"].isin(phases)]
    rows = rows.assign(
        failed=rows["state"] == "failed",
        pruned=rows["state"] == "pruned",
        scored=np.isfinite(rows["score"].astype(float)),
    )
    groups = rows.groupby([*KEY, "phase", "trial"], sort=True)
    means = groups[["score", *REPORTED]].mean()
    means["replicates"] = groups["replicate"].nunique()
    means["config"] = groups["config"].first()
    failed, pruned = groups["failed"].any(), groups["pruned"].any()
    means["state"] = np.select([failed, pruned], ["failed", "pruned"], "complete")
    full = means["replicates"] == means["replicates"].max()
    means["finished"] = ~failed & ~pruned & groups["scored"].all() & full
    return means.reset_index()


def _measured(trials: pd.DataFrame, column: str) -> pd.Series:
    """By (dataset, model, corruption): the column's mean over replicates, each of which has its own original."""
    place = ["dataset", "model", "corruption"]
    return trials.groupby([*place, "replicate"])[column].first().groupby(level=place).mean()


def cells_frame(trials: pd.DataFrame, spaces: Mapping[str, SearchSpace] | None = None) -> pd.DataFrame:
    """One row a (cell, method), with CELLS_SCHEMA's columns, by rising regularity, discovery rate and method.

    Selected: what won the race (`rem_study.search.race`); where there was none, the finished search trial with the
    highest mean `score`, ties to the lowest number. `chosen` says how: `default` (nothing beat it), `race`, or
    `search`; `race_replicates` on how many fresh replicates at most. Its scores are means over its replicates on the
    report split; trial 0 is the default configuration and `gain` = selected − default. Where the selection ran whole
    on the replicates of the confirm phase, the scores are theirs, with 95 % intervals (the gain's paired), and
    `shrinkage` is the mean `score` of the search minus theirs. Without a finished trial the scores are null.
    `trials`, `pruned` and `failed` count search trials; `sample_passes` and `seconds` sum every row of the
    (cell, method), whatever its phase. `health`: see `rem_study.results.health`. Who wins, and what stands behind the
    scores: see `rem_study.results.standing`.

    Args:
        spaces: the methods' search spaces, for the health rules that need them.
    """
    means = trial_means(trials)
    by_key = {key: rows for key, rows in means.groupby(KEY)}
    confirmed = whole_trials(trials[trials["phase"] == "confirm"])
    fresh_by_key = {key: rows for key, rows in confirmed.groupby(KEY)}
    regularity = _measured(trials, "regularity")
    memorised = _measured(trials, "memorised")
    carry_over = _measured(trials, "carry_over")
    records = []
    for key, rows in trials.groupby(KEY):
        searched = by_key.get(key, means.iloc[:0])
        finished = searched[searched["finished"]].sort_values(["score", "trial"], ascending=[False, True])
        first = rows.iloc[0]
        place = (first["dataset"], first["model"], first["corruption"])
        ranks = rows["regularity_rank"].dropna()
        record: dict[str, Any] = dict.fromkeys(CELLS_SCHEMA.names, np.nan)
        record |= {
            **{name: first[name] for name in (*KEY, "corruption", "discovery_rate")},
            "regularity": regularity.get(place, np.nan),
            "regularity_rank": None if ranks.empty else ranks.iloc[0],
            "memorised": memorised.get(place, np.nan),
            "carry_over": carry_over.get(place, np.nan),
            "config": None,
            "replicates": 0,
            "trials": len(searched),
            **{state: int((searched["state"] == state).sum()) for state in ("pruned", "failed")},
            "sample_passes": int(rows["sample_passes"].sum()),
            "seconds": float(rows["seconds"].sum()),
        }
        fresh = fresh_by_key.get(key, confirmed.iloc[:0])
        number = exported(rows)
        record |= _confirmed_scores(fresh, finished, number) or _searched_scores(finished, number)
        record |= _race(rows, record["trial"], over=number is not None)
        default_finished = bool((finished["trial"] == 0).any() or (fresh["trial"] == 0).any())
        record["health"] = examine(Selection(record, (spaces or {}).get(first["method"]), default_finished))
        records.append(record)
    return _ordered(with_standing(pd.DataFrame(records, columns=CELLS_SCHEMA.names), trials))


def exported(rows: pd.DataFrame) -> int | None:
    """Which trial of a (cell, method) was chosen in the end, as its confirm phase has it; None where there is none."""
    chosen = rows.loc[(rows["phase"] == "confirm") & (rows["proposed_by"] == "selected"), "trial"]
    return None if chosen.empty else int(chosen.iloc[0])


def _race(rows: pd.DataFrame, selected: float, over: bool) -> dict[str, Any]:
    """How the selected trial was chosen, and on how many fresh replicates at most; `over`: no race is under way."""
    raced = rows[rows["phase"] == "race"]
    if math.isnan(selected):
        return {"chosen": None}
    chosen = "default" if selected == 0 else "race" if over and not raced.empty else "search"
    return {"chosen": chosen, "race_replicates": raced["replicate"].nunique()}


def _searched_scores(finished: pd.DataFrame, number: int | None) -> dict[str, Any]:
    """What the search's own replicates say of trial `number`, or of the best of its `finished` trials (best first)."""
    default = finished.loc[finished["trial"] == 0, "utility_x_healed"]
    scores: dict[str, Any] = {"default_utility_x_healed": default.iloc[0] if len(default) else np.nan}
    mine = finished if number is None else finished[finished["trial"] == number]
    if not mine.empty:
        selected = mine.iloc[0]
        scores |= {name: selected[name] for name in (*REPORTED, "trial", "config", "replicates")}
        scores["search_score"] = selected["score"]
        scores["gain"] = selected["utility_x_healed"] - scores["default_utility_x_healed"]
    return scores


def _confirmed_scores(fresh: pd.DataFrame, finished: pd.DataFrame, number: int | None) -> dict[str, Any] | None:
    """What fresh replicates say of trial `number` and of the default; None if it did not run whole on them."""
    rows = fresh[fresh["trial"] == number].set_index("replicate").sort_index()
    if rows.empty:
        return None
    default = fresh[fresh["trial"] == 0].set_index("replicate")["utility_x_healed"]
    gain = rows["utility_x_healed"] - default.reindex(rows.index)
    search_score = finished.loc[finished["trial"] == number, "score"].iloc[0]
    low, high = interval(rows["utility_x_healed"], 0, 1)
    gain_low, gain_high = interval(gain, -1, 1)
    return {
        **{name: float(rows[name].mean()) for name in REPORTED},
        "trial": number,
        "config": rows["config"].iloc[0],
        "replicates": len(rows),
        "search_score": search_score,
        "shrinkage": search_score - float(rows["score"].mean()),
        "default_utility_x_healed": float(default.mean()),
        "utility_x_healed_low": low,
        "utility_x_healed_high": high,
        "gain": float(gain.mean()),
        "gain_low": gain_low,
        "gain_high": gain_high,
    }


def corruption_order(frame: pd.DataFrame) -> list[str]:
    """The corruptions of a trials or cells frame, by rising regularity: draw the first at the bottom.

    Measured regularity decides; where it is missing or equal, the rank (RANKS), then the name.
    """
    rank: dict[str, int] = {name: place for place, name in enumerate(RANKS)}

    def key(name: str) -> tuple[float, int, str]:
        rows = frame[frame["corruption"] == name]
        measured = rows["regularity"].mean()
        ranks = [rank[r] for r in rows["regularity_rank"] if r in rank]
        ordinal = ranks[0] if ranks else len(rank)
        return (ordinal / (len(RANKS) - 1) if math.isnan(measured) else float(measured), ordinal, name)

    return sorted(frame["corruption"].unique(), key=key)


def _ordered(cells: pd.DataFrame) -> pd.DataFrame:
    """Rows by dataset, model, regularity, discovery rate, method."""
    cells = cells.assign(place=cells["corruption"].map({n: i for i, n in enumerate(corruption_order(cells))}))
    cells = cells.sort_values(["dataset", "model", "place", "discovery_rate", "method"], ignore_index=True)
    return cells.drop(columns="place")
