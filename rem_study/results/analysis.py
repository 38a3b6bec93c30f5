"""From the log's rows to the tables of a study: pure functions over pandas frames.

One row of `trials` is one replicate of one trial; one row of `cells` is one (cell, method) and what was
selected there. Choosing looks only at `score` (selection split); every reported figure comes from the report
split.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from rem_study.results.confirmation import interval, mean_over_cells, regrets, whole_trials
from rem_study.results.health import Selection, examine
from rem_study.spec import SearchSpace
from rem_study.spec.corruption import RANKS

CELL = ["dataset", "model", "cell"]
KEY = [*CELL, "method"]
REPORTED = ["healed", "utility", "test_accuracy", "utility_x_healed"]
PHASES = ("search", "transfer", "confirm")
TIE = 1e-9


def _schema(strings: str, integers: str, order: str) -> pa.Schema:
    """Fields in `order`; those named in `strings` and `integers` so typed, all others float64."""
    kinds = {**dict.fromkeys(strings.split(), pa.string()), **dict.fromkeys(integers.split(), pa.int64())}
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in order.split()])


_PLACE = "dataset model corruption regularity regularity_rank discovery_rate cell method trial"

TRIALS_SCHEMA = _schema(
    strings="study dataset model corruption regularity_rank cell method phase proposed_by state config curves "
    "mlflow_run_id error",
    integers="trial replicate sample_passes",
    order=f"study {_PLACE} phase proposed_by replicate state config memorised healed healed_discovered "
    "healed_undiscovered utility test_accuracy utility_x_healed forget_accuracy retain_accuracy score_oracle "
    "score_deployable score score_healed score_utility epochs sample_passes seconds curves mlflow_run_id error",
)
CELLS_SCHEMA = _schema(
    strings="dataset model corruption regularity_rank cell method config health",
    integers="trial replicates trials pruned failed sample_passes",
    order=f"{_PLACE} memorised config search_score shrinkage healed utility test_accuracy utility_x_healed "
    "utility_x_healed_low utility_x_healed_high default_utility_x_healed gain gain_low gain_high replicates trials "
    "pruned failed sample_passes seconds health",
)


def canonical(config: str | Mapping[str, Any]) -> str:
    """A configuration as the one JSON text that stands for it: its keys sorted."""
    return json.dumps(json.loads(config) if isinstance(config, str) else dict(config), sort_keys=True)


def trials_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """The log's rows as a table with TRIALS_SCHEMA, in one order whatever order they finished in.

    Missing keys and NaN become null; `config` may be a mapping or JSON text. Raises ValueError for a key that
    is no column, pyarrow.ArrowInvalid for a value of the wrong type.
    """
    records = [dict(row) for row in rows]
    unknown = sorted({key for row in records for key in row} - set(TRIALS_SCHEMA.names))
    if unknown:
        raise ValueError(f"no such column in trials: {', '.join(unknown)}")
    for row in records:
        for key, value in row.items():
            if isinstance(value, float) and math.isnan(value):
                row[key] = None
        if row.get("config") is not None:
            row["config"] = canonical(row["config"])
    place = ("dataset", "model", "corruption", "discovery_rate", "method")
    records.sort(
        key=lambda row: (
            *(row[name] for name in place),
            PHASES.index(row["phase"]),
            row["trial"],
            row["replicate"],
        )
    )
    return pa.Table.from_pylist(records, schema=TRIALS_SCHEMA)


def cells_table(cells: pd.DataFrame) -> pa.Table:
    """`cells_frame`'s frame as a table with CELLS_SCHEMA; NaN becomes null."""
    return pa.Table.from_pandas(cells, schema=CELLS_SCHEMA, preserve_index=False)


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

    Selected: the finished search trial with the highest mean `score`, ties to the lowest number. Its scores are means
    over its replicates on the report split; trial 0 is the default configuration and `gain` = selected − default.
    Where the selection ran whole on fresh replicates, the scores are theirs, with 95 % intervals (the gain's paired),
    and `shrinkage` is the mean `score` of the search minus that of the fresh replicates; of several that were
    confirmed, the one with the best mean `score` there is reported. Without a finished trial the scores are null.
    `trials`, `pruned` and `failed` count search trials; `sample_passes` and `seconds` sum every row of the
    (cell, method), whatever its phase. `health`: see `rem_study.health`.

    Args:
        spaces: the methods' search spaces, for the health rules that need them.
    """
    means = trial_means(trials)
    by_key = {key: rows for key, rows in means.groupby(KEY)}
    confirmed = whole_trials(trials[trials["phase"] == "confirm"])
    fresh_by_key = {key: rows for key, rows in confirmed.groupby(KEY)}
    regularity = _measured(trials, "regularity")
    memorised = _measured(trials, "memorised")
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
            "config": None,
            "replicates": 0,
            "trials": len(searched),
            **{state: int((searched["state"] == state).sum()) for state in ("pruned", "failed")},
            "sample_passes": int(rows["sample_passes"].sum()),
            "seconds": float(rows["seconds"].sum()),
        }
        fresh = fresh_by_key.get(key, confirmed.iloc[:0])
        record |= _confirmed_scores(fresh, finished) or _searched_scores(finished)
        default_finished = bool((finished["trial"] == 0).any() or (fresh["trial"] == 0).any())
        record["health"] = examine(Selection(record, (spaces or {}).get(first["method"]), default_finished))
        records.append(record)
    return _ordered(pd.DataFrame(records, columns=CELLS_SCHEMA.names))


def _searched_scores(finished: pd.DataFrame) -> dict[str, Any]:
    """What the search's own replicates say of the best of its `finished` trials (best first)."""
    default = finished.loc[finished["trial"] == 0, "utility_x_healed"]
    scores: dict[str, Any] = {"default_utility_x_healed": default.iloc[0] if len(default) else np.nan}
    if not finished.empty:
        selected = finished.iloc[0]
        scores |= {name: selected[name] for name in (*REPORTED, "trial", "config", "replicates")}
        scores["search_score"] = selected["score"]
        scores["gain"] = selected["utility_x_healed"] - scores["default_utility_x_healed"]
    return scores


def _confirmed_scores(fresh: pd.DataFrame, finished: pd.DataFrame) -> dict[str, Any] | None:
    """What fresh replicates say of the selected trial and of the default; None if it did not run whole on them."""
    chosen = fresh[fresh["proposed_by"] == "selected"]
    if chosen.empty:
        return None
    by_trial = chosen.groupby("trial")["score"].mean().reset_index()
    number = int(by_trial.sort_values(["score", "trial"], ascending=[False, True])["trial"].iloc[0])
    rows = chosen[chosen["trial"] == number].set_index("replicate").sort_index()
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


def _ordered(cells: pd.DataFrame) -> pd.DataFrame:
    """Typed as CELLS_SCHEMA says, rows by dataset, model, regularity, discovery rate, method."""
    kinds = {
        field.name: "float64" if pa.types.is_floating(field.type) else "Int64"
        for field in CELLS_SCHEMA
        if not pa.types.is_string(field.type)
    }
    cells = cells.astype(kinds)
    cells = cells.assign(place=cells["corruption"].map({n: i for i, n in enumerate(corruption_order(cells))}))
    cells = cells.sort_values(["dataset", "model", "place", "discovery_rate", "method"], ignore_index=True)
    return cells.drop(columns="place")


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


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _interval(mean: Any, low: Any = None, high: Any = None) -> dict[str, float | None]:
    return {"mean": _number(mean), "low": _number(low), "high": _number(high)}


def best(study: str, objective: str, trials: pd.DataFrame, cells: pd.DataFrame) -> dict[str, Any]:
    """The document of best.yaml (format 1), of plain Python values; unknown numbers are None.

    Cells come in the order of `cells`; a method without a finished trial in a cell is absent there.
    `mlflow_run_id` is that of the selected trial's first search replicate which has one.
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
                "replicates": int(row["replicates"]),
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
