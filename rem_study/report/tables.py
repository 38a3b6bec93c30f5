"""What the report says in words and tables; each function takes frames and returns HTML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import pandas as pd

from rem_study.report.html import (
    absent,
    cell_link,
    chosen,
    counted,
    duration,
    folded,
    interval,
    large,
    listed,
    method_html,
    number,
    share,
    sortable,
    table,
)
from rem_study.report.measures import method_name, readable
from rem_study.results import plane
from rem_study.results.confirmation import regrets

FAILURES_SHOWN = 50
OBJECTIVES = {
    "score_oracle": "utility × healed",
    "score_deployable": "a score that needs no clean labels",
}


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


def cells_tables(cells: pd.DataFrame) -> str:
    """Every figure of every (cell, method): what the heat maps show, as numbers; then what the search did there."""
    return measured_table(cells, ("cell", "method")) + searched_table(cells, ("cell", "regularity", "method"))


NOTE = (
    '<p class="note">n: samples of the report split, all replicates together. [ ]: 95 % interval over replicates. '
    "Standing: won, level with the cell’s best, behind it beyond noise, or alone with a result.</p>"
)


def won(cells: pd.DataFrame) -> list[int]:
    """Places of the rows whose method has won its cell."""
    return [place for place, one in enumerate(plane.wins(cells)) if one]


def _named(row: pd.Series, names: Sequence[str]) -> dict[str, str]:
    shown = {
        "cell": cell_link(row["cell"]),
        "regularity": number(row["regularity"], ".2f"),
        "method": method_html(row["method"]),
    }
    return {name: shown[name] for name in names}


def measured_table(cells: pd.DataFrame, names: Sequence[str] = ("method",)) -> str:
    """What each method reached, with 95 % intervals where its configuration was confirmed, and on how many samples.

    Args:
        names: of `cell`, `regularity` and `method`, what stands in front.
    """
    shares = {
        "healed": "healed",
        "of the discovered": "healed_discovered",
        "of the undiscovered": "healed_undiscovered",
        "utility": "utility",
        "found": "found_average_precision",
        "attack success": "attack_success",
    }
    if cells["found_average_precision"].isna().all():
        del shares["found"]
    if cells["attack_success"].isna().all():
        del shares["attack success"]
    shown = {title: _shares(cells, column) for title, column in shares.items()}
    enough = plane.enough(cells, "utility_x_healed").tolist()
    rows = [
        _named(row, names)
        | {
            "utility × healed": interval(row) if enough[place] else "too few samples",
            "standing": escape(row["standing"]) if isinstance(row["standing"], str) else "–",
            **{title: texts[place] for title, texts in shown.items()},
            "replicates": str(row["replicates"]),
            "SD over replicates": number(row["spread"]),
        }
        for place, (_, row) in enumerate(cells.iterrows())
    ]
    return table(rows, text=["cell", "method", "standing"], best=won(cells)) + NOTE


def searched_table(cells: pd.DataFrame, names: Sequence[str] = ("method",)) -> str:
    """What each method's search gained over the default, what it cost, and what the health rules say; `names` as in
    `measured_table`."""
    rows = [
        _named(row, names)
        | {
            "default": number(row["default_utility_x_healed"]),
            "exported": chosen(row),
            "gain": interval(row, "gain", "+.3f"),
            "trials (stopped / failed)": f"{row['trials']} ({row['pruned']} / {row['failed']})",
            "sample passes": sortable(row["sample_passes"], large(row["sample_passes"])),
            "health": escape(row["health"] or "–"),
        }
        for _, row in cells.iterrows()
    ]
    return table(rows, text=["cell", "method", "exported", "health"])


def _shares(cells: pd.DataFrame, column: str) -> list[str]:
    figures = zip(cells[column], plane.samples(cells, column), plane.enough(cells, column), strict=True)
    return [share(value, count, not many) for value, count, many in figures]


def selected_table(cells: pd.DataFrame) -> str:
    """The configuration that was selected in each cell, per method."""
    rows = [
        {
            "cell": cell_link(row["cell"]),
            "method": method_html(row["method"]),
            "utility × healed": interval(row),
            "exported": chosen(row),
            "trial": "–" if pd.isna(row["trial"]) else str(row["trial"]),
            "configuration": configuration(row["config"]),
        }
        for _, row in cells.iterrows()
    ]
    return table(rows, text=["cell", "method", "exported", "configuration"], best=won(cells))


def universal_table(best: Any) -> str:
    """Configurations for the whole grid from best.yaml (a mapping), the best mean first; one that is both of a method's
    choices stands once."""
    universal = best.get("universal") if isinstance(best, dict) else None
    if not universal:
        return absent("No configuration was run in every cell: there is no universal one.")
    choices = []
    for method, found in universal.items():
        by_mean = found.get("best_mean")
        if by_mean is None or by_mean["config"] == found["config"]:
            choices.append((method, "both" if by_mean else "least worst regret", found))
        else:
            choices += [(method, "least worst regret", found), (method, "best mean", by_mean)]
    choices.sort(key=lambda choice: -choice[2]["utility_x_healed"]["mean"])
    rows = []
    for method, choice, one in choices:
        score = one["utility_x_healed"]
        frame = pd.Series({"score": score["mean"], "score_low": score["low"], "score_high": score["high"]})
        rows.append(
            {
                "method": method_html(method),
                "utility × healed, mean": interval(frame.astype(float), "score"),
                "worst regret": number(one["worst_regret"]),
                "universal by": choice,
                "configuration": configuration(json.dumps(one["config"])),
            }
        )
    note = (
        '<p class="note"><b>Universal</b>: one configuration for every cell, chosen by the least worst regret and by '
        "the best mean. <b>Regret</b>: how much worse it is than the cell’s own choice.</p>"
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
        title = f"regret of {method_name(method)}’s candidates in every cell, fresh replicates"
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
        {"cell": cell_link(cell)} | {method_name(name): number(grid.at[cell, name], "+.3f") for name in by_mean.index}
        for cell in cells
    ]
    means = {method_name(name): f"<b>{number(grid[name].mean(), '+.3f')}</b>" for name in by_mean.index}
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
    settings = ", ".join(f"{key}={readable(value)}" for key, value in json.loads(config).items())
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
