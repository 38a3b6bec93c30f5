"""What the report says in words and tables; each function takes frames and returns HTML."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

import pandas as pd

from rem_study.report import heat_maps as figures
from rem_study.report.html import (
    absent,
    cell_link,
    counted,
    duration,
    folded,
    interval,
    large,
    listed,
    mean_and_error,
    method_html,
    number,
    table,
)
from rem_study.results import columns, plane
from rem_study.results.confirmation import regrets

REM = "rem"
WEAK = 0.5
FAILURES_SHOWN = 50
OBJECTIVES = {
    "score_oracle": "utility × healed",
    "score_deployable": "a score that needs no clean labels",
}


def summary(cells: pd.DataFrame) -> str:
    """What was studied, which method wins where and by how much, in plain words, as HTML."""
    methods = plane.methods_frame(cells)
    total = len(cells.drop_duplicates(columns.CELL))
    where = " and ".join(
        f"{model} on {data}" for model, data in sorted(set(zip(cells["model"], cells["dataset"], strict=True)))
    )
    studied = (
        f"{counted(len(methods), 'method')} tuned to heal {escape(where)} of corrupted training data, in "
        f"{counted(total, 'cell')}: {counted(cells['corruption'].nunique(), 'corruption')} × "
        f"{counted(cells['discovery_rate'].nunique(), 'discovery rate')}."
    )
    broken = cells[(cells["trials"] > 0) & (cells["failed"] == cells["trials"])]
    if len(broken):
        where = ", ".join(f"{row['cell']} ({row['method']})" for _, row in broken.iterrows())
        studied += f" <strong>No result in {escape(where)}: every trial failed there.</strong>"
    if not methods["cells"].any() and cells["search_score"].notna().any():
        return f"{studied} <strong>No clean labels are known: what was healed cannot be measured.</strong>"
    if not methods["cells"].any():
        return f"{studied} <strong>No trial has finished: there is nothing to compare.</strong>"
    first = methods.iloc[0]
    text = f"{studied} <strong>{method_html(first['method'])} has the highest mean utility × healed, "
    text += mean_and_error(first)
    if len(methods) == 1:
        return f"{text}, over {int(first['cells'])} of {total} cells.</strong> No other method was studied."
    second = methods.iloc[1]
    if second["cells"]:
        text += f", against {mean_and_error(second)} for {method_html(second['method'])}, the next best"
    text += f"; it is the best method in {first['cells_won']} of {total} cells.</strong>"
    won = cells[plane.wins(cells)]
    for method, times in won.loc[won["method"] != first["method"], "method"].value_counts().items():
        text += f" {method_html(str(method))} wins {times}: {_where(won[won['method'] == method])}."
    undecided = total - len(won)
    if undecided:
        text += f" In {counted(undecided, 'cell')} no method is ahead."
    partial = methods[methods["cells"] < total]
    if len(partial):
        covered = (f"{method_html(row['method'])} ({row['cells']} of {total})" for _, row in partial.iterrows())
        text += f" Means cover fewer cells for {', '.join(covered)}."
    return text


def _where(cells: pd.DataFrame) -> str:
    """A few cells by name, many by how many of each corruption."""
    if len(cells) <= 3:
        return escape(", ".join(cells["cell"]))
    return escape(", ".join(f"{times} in {name}" for name, times in cells["corruption"].value_counts().items()))


def words(study: Any) -> str:
    """What the figures count, and how configurations were chosen."""
    objective = str(study.get("objective")) if isinstance(study, dict) else ""
    by = f" by {OBJECTIVES[objective]}" if objective in OBJECTIVES else ""
    bound = study.get("max_utility_loss") if isinstance(study, dict) else None
    if isinstance(bound, int | float):
        by += f" (0 for a replicate that loses more than {bound:g} of utility)"
    splits = "on one set of samples and scored on another."
    if isinstance(study, dict) and study.get("protocol") == "paper":
        splits = (
            "<b>by the paper’s protocol: on the very samples that they are scored on</b> (all corrupted samples, all "
            "test images), so the scores of what was chosen among several are too good."
        )
    return (
        "<b>Healed</b>: share of the corrupted training samples that get their true label back. "
        "<b>Utility</b>: accuracy on clean test data. <b>Discovery rate</b>: share of the corrupted samples "
        f"known when unlearning. Configurations are chosen{by} {splits}"
    )


def spent(cells: pd.DataFrame) -> str:
    """Trials and time of the whole study."""
    return (
        f"Spent: {counted(int(cells['trials'].sum()), 'trial')} ({cells['pruned'].sum()} stopped early, "
        f"{cells['failed'].sum()} failed), {duration(cells['seconds'].sum())} of trial time."
    )


def methods_table(cells: pd.DataFrame) -> str:
    """Methods side by side over all cells."""
    rows = [
        {
            "method": method_html(row["method"]),
            "utility × healed": mean_and_error(row),
            "healed": mean_and_error(row, "healed"),
            "utility": mean_and_error(row, "utility"),
            "cells won": str(row["cells_won"]),
            "default, utility × healed": number(row["default_utility_x_healed"]),
            "gain": number(row["gain"], "+.3f"),
            "trials (stopped / failed)": f"{row['trials']} ({row['pruned']} / {row['failed']})",
            "sample passes": large(row["sample_passes"]),
            "time": duration(row["seconds"]),
        }
        for _, row in plane.methods_frame(cells).iterrows()
    ]
    note = "Mean ± standard error over the cells. A tie wins no cell. Gain: selected minus default."
    return table(rows, text=["method"], best=[0]) + f'<p class="note">{note}</p>'


def focus_of(cells: pd.DataFrame) -> str:
    """REM, or the best method where REM was not studied."""
    methods = figures.by_mean(cells)
    return REM if REM in methods else methods[0]


def weakest_cells(cells: pd.DataFrame) -> str:
    """Where the focus method is beaten, or weak, or has no result; the lowest first."""
    method = focus_of(cells)
    rows = []
    for _, cell in cells.groupby(columns.CELL, sort=False):
        own = cell[cell["method"] == method]
        score = own["utility_x_healed"].iloc[0] if len(own) else float("nan")
        others = cell[cell["method"] != method].dropna(subset="utility_x_healed")
        rival = others.loc[others["utility_x_healed"].idxmax()] if len(others) else None
        why = [] if pd.notna(score) else ["no result"]
        if rival is not None and score < rival["utility_x_healed"] - plane.TIE:
            why.append(f"{rival['method']} is better")
        if score < WEAK:
            why.append(f"below {WEAK:g}")
        if why:
            best = f"{rival['method']}, {number(rival['utility_x_healed'])}" if rival is not None else "–"
            row = {
                "cell": cell_link(str(cell["cell"].iloc[0])),
                "utility × healed": number(score),
                "best other method": escape(best),
                "why it is listed": escape("; ".join(why)),
            }
            rows.append((score, row))
    if not rows:
        return f"<p>None: {method_html(method)} is the best method in every cell, and nowhere below {WEAK:g}.</p>"
    rows.sort(key=lambda pair: (pd.notna(pair[0]), pair[0]))  # those without a result first, then the lowest
    return table([row for _, row in rows], text=["cell", "best other method", "why it is listed"])


def cells_table(cells: pd.DataFrame) -> str:
    """Every figure of every (cell, method): what the heat maps show, as numbers."""
    rows = [
        {
            "cell": cell_link(row["cell"]),
            "regularity": number(row["regularity"], ".2f"),
            "method": method_html(row["method"]),
        }
        | measured(row)
        for _, row in cells.iterrows()
    ]
    best = [place for place, won in enumerate(plane.wins(cells)) if won]
    return table(rows, text=["cell", "method", "health"], best=best)


def measured(row: pd.Series) -> dict[str, str]:
    """What is known of one (cell, method); with 95 % intervals where its configuration was confirmed."""
    return {
        "utility × healed": interval(row),
        "healed": number(row["healed"]),
        "utility": number(row["utility"]),
        "default": number(row["default_utility_x_healed"]),
        "gain": interval(row, "gain", "+.3f"),
        "spread": number(row["spread"]),
        "replicates": str(row["replicates"]),
        "trials (stopped / failed)": f"{row['trials']} ({row['pruned']} / {row['failed']})",
        "sample passes": large(row["sample_passes"]),
        "health": escape(row["health"] or "–"),
    }


def selected_table(cells: pd.DataFrame) -> str:
    """The configuration that was selected in each cell, per method."""
    rows = [
        {
            "cell": cell_link(row["cell"]),
            "method": method_html(row["method"]),
            "utility × healed": interval(row),
            "trial": "–" if pd.isna(row["trial"]) else str(row["trial"]),
            "configuration": configuration(row["config"]),
        }
        for _, row in cells.iterrows()
    ]
    best = [place for place, won in enumerate(plane.wins(cells)) if won]
    return table(rows, text=["cell", "method", "configuration"], best=best)


def universal_table(best: Any) -> str:
    """Configurations for the whole grid, per method, from best.yaml (a mapping)."""
    universal = best.get("universal") if isinstance(best, dict) else None
    if not universal:
        return absent("No configuration was run in every cell: there is no universal one.")
    rows = []
    for method, found in universal.items():
        for choice, one in (("least worst regret", found), ("best mean", found.get("best_mean"))):
            if one is None:
                continue
            score = one["utility_x_healed"]
            frame = pd.Series({"score": score["mean"], "score_low": score["low"], "score_high": score["high"]})
            rows.append(
                {
                    "method": method_html(method),
                    "universal by": choice,
                    "utility × healed, mean": interval(frame.astype(float), "score"),
                    "worst regret": number(one["worst_regret"]),
                    "configuration": configuration(json.dumps(one["config"])),
                }
            )
    note = (
        '<p class="note"><b>Universal</b>: one configuration for every cell. <b>Regret</b>: how much worse it is than '
        "the cell’s own choice.</p>"
    )
    return note + table(rows, text=["method", "universal by", "configuration"])


def regret_tables(trials: pd.DataFrame) -> str:
    """The regret of each candidate for the universal configuration in each cell, per method; nothing where the cells'
    winners have not been run everywhere."""
    shown = []
    for method in sorted(trials["method"].unique()):
        regret = regrets(trials, method)
        if regret.empty:
            continue
        regret = regret.iloc[regret.max(axis=1).argsort()]
        rows = [
            {"configuration": configuration(str(config))}
            | {cell: number(value, "+.3f") for cell, value in line.items()}
            | {"worst": number(line.max(), "+.3f"), "mean": number(line.mean(), "+.3f")}
            for config, line in regret.iterrows()
        ]
        title = f"regret of {figures.method_name(method)}’s candidates in every cell, fresh replicates"
        shown.append(folded(title, table(rows, text=["configuration"])))
    return "\n".join(shown)


def objectives_table(trials: pd.DataFrame) -> str:
    """What it costs to choose configurations without clean labels, per cell and method."""
    costs = plane.objectives_frame(trials)
    if costs.empty:
        return absent("Without clean labels nobody knows what choosing without them costs.")
    by_mean = costs.groupby("method")["by_oracle"].mean().sort_values(ascending=False, kind="stable")
    grid = costs.pivot(index="cell", columns="method", values="cost")
    cells = [cell for cell in dict.fromkeys(trials["cell"]) if cell in grid.index]
    rows = [
        {"cell": cell_link(cell)}
        | {figures.method_name(name): number(grid.at[cell, name], "+.3f") for name in by_mean.index}
        for cell in cells
    ]
    means = {figures.method_name(name): f"<b>{number(grid[name].mean(), '+.3f')}</b>" for name in by_mean.index}
    note = (
        '<p class="note">Utility × healed of the trial that the oracle score would choose, minus that of the trial '
        "that the score without clean labels would choose. A positive number is lost by not having clean labels.</p>"
    )
    return (
        note + table([{"cell": "<b>mean</b>"} | means], text=["cell"]) + folded("per cell", table(rows, text=["cell"]))
    )


def configuration(config: str | None) -> str:
    """Name=value pairs of a configuration in JSON; a dash for none."""
    if not isinstance(config, str):
        return "–"
    settings = ", ".join(f"{key}={figures.readable(value)}" for key, value in json.loads(config).items())
    return f"<code>{escape(settings)}</code>"


def failed_trials(trials: pd.DataFrame) -> str:
    """Failed trials by their reason."""
    failed = trials[trials["state"] == "failed"]
    if failed.empty:
        return "<p>None.</p>"
    failed = failed.assign(error=failed["error"].fillna("no error recorded"))
    rows = [
        {
            "cell": cell_link(cell),
            "method": method_html(method),
            "trials": listed([str(n) for n in sorted(set(group["trial"]))], shown=12),
            "error": f"<pre>{escape(error)}</pre>",
        }
        for (cell, method, error), group in failed.groupby(["cell", "method", "error"])
    ]
    more = len(rows) - FAILURES_SHOWN
    note = f'<p class="note">And {more} more in trials.parquet.</p>' if more > 0 else ""
    return table(rows[:FAILURES_SHOWN], text=["cell", "method", "trials", "error"]) + note


def pairs(content: dict[str, Any], otherwise: str) -> str:
    """A nested mapping as a table of dotted keys and values."""

    def flat(value: Any, key: str) -> Iterable[dict[str, str]]:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                yield from flat(inner, f"{key}.{name}" if key else str(name))
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            yield {"key": escape(key), "value": f"<code>{escape(text)}</code>"}

    if not content:
        return f"<p>{escape(otherwise)}</p>"
    return table(list(flat(content, "")), text=["key", "value"])
