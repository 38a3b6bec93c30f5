"""The report's page of one cell: its search, its configurations, its trials; shown when its link is followed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd

from rem_study.report import cell_plots
from rem_study.report.html import absent, figure_html, folded, method_html, number, table
from rem_study.report.tables import configuration, measured_table, searched_table
from rem_study.report.verdicts import verdict
from rem_study.results import columns, plane, selection

PARALLEL_AT_MOST = 300
"""Drawings of parallel coordinates in one report; of a larger grid only REM's are drawn."""
MOST_TRIALS = 5_000
"""Trials whose lines and rows one report holds; of a larger study no parallel coordinates are drawn, and the tables
have the best of each cell: a page of more is slow to make and to open."""
BEST_SHOWN = 30
"""Trials in a cell's table then."""


def cell_pages(trials: pd.DataFrame, cells: pd.DataFrame) -> str:
    """One section a cell, hidden until its link is followed (CSS alone)."""
    names = list(dict.fromkeys(cells["cell"]))
    every = len(cells) <= PARALLEL_AT_MOST
    means = selection.trial_means(trials, phases=columns.PHASES)
    large = len(means) > MOST_TRIALS
    return "\n".join(_page(trials, cells, means[means["cell"] == name], name, names, every, large) for name in names)


def _page(
    trials: pd.DataFrame,
    cells: pd.DataFrame,
    means: pd.DataFrame,
    name: str,
    names: Sequence[str],
    every: bool,
    large: bool,
) -> str:
    rows = cells[cells["cell"] == name].sort_values("utility_x_healed", ascending=False, na_position="last")
    first = rows.iloc[0]
    regularity = "not measured" if pd.isna(first["regularity"]) else f"{first['regularity']:.2f}"
    place = names.index(name)
    ways = ['<a href="#utility_x_healed">← the whole grid</a>']
    ways += [_way(names[place - 1], "previous")] if place else []
    ways += [_way(names[place + 1], "next")] if place + 1 < len(names) else []
    sections = [
        f"<p>{' · '.join(ways)}</p>",
        f"<h1>{escape(name)}</h1>",
        f'<p class="summary">{escape(first["corruption"])} with {first["discovery_rate"]:.0%} of the corrupted samples '
        f"known. Measured regularity: {regularity}. {_verdict(rows)}</p>",
        _methods(rows),
        "<h3>History of the search</h3>",
        figure_html(
            cell_plots.history(trials, cells, name),
            f"history-{place}",
            "A dot is a trial, a line the best so far. The score is the one that configurations are chosen by.",
        ),
        "<h3>Selected configurations</h3>",
        _selected(rows),
        "<h3>Hyperparameters and score</h3>",
        *([_TOO_LARGE] if large else _parallel(trials, rows, every, place)),
        _folded_trials(means, large),
    ]
    return f'<section class="cell" id="cell-{escape(name)}">' + "\n".join(sections) + "</section>"


def _verdict(rows: pd.DataFrame) -> str:
    leader = plane.leaders(rows)
    text = verdict(leader.iloc[0]) if len(leader) else "no result"
    return f"<b>{text[0].upper()}{text[1:]}.</b>"


def _way(name: str, word: str) -> str:
    return f'<a href="#cell-{escape(name)}">{word}: {escape(name)}</a>'


def _methods(rows: pd.DataFrame) -> str:
    confirmed = rows["utility_x_healed_low"].notna().any()
    note = "" if confirmed else absent("Not confirmed on fresh replicates: there are no intervals.")
    return measured_table(rows) + note + searched_table(rows)


def _selected(rows: pd.DataFrame) -> str:
    lines = [
        {
            "method": method_html(row["method"]),
            "trial": "–" if pd.isna(row["trial"]) else str(row["trial"]),
            "configuration": configuration(row["config"]),
        }
        for _, row in rows.iterrows()
    ]
    return table(lines, text=["method", "configuration"])


def _parallel(trials: pd.DataFrame, rows: pd.DataFrame, every: bool, place: int) -> list[str]:
    found = []
    for index, row in enumerate(rows.to_dict("records")):
        if not every and row["method"] != "rem":
            continue
        selected = None if pd.isna(row["trial"]) else int(row["trial"])
        drawn = cell_plots.parallel_coordinates(trials, row["cell"], row["method"], selected)
        if drawn is not None:
            caption = f"<b>{method_html(row['method'])}</b>: a line a trial, brighter is better; orange: selected."
            found.append(figure_html(drawn, f"parallel-{place}-{index}", caption))
    if not every:
        found.append(absent("Of so large a grid only REM’s are drawn; rem_study.open_study draws any other."))
    return found or [absent("Fewer than two configurations were finished: nothing to compare.")]


_TOO_LARGE = absent(f"Of a study of more than {MOST_TRIALS} trials none are drawn; rem_study.open_study draws them.")


def _folded_trials(means: pd.DataFrame, large: bool) -> str:
    if not large or len(means) <= BEST_SHOWN:
        return folded(f"all {len(means)} trials as a table", _trials(means))
    best = means.sort_values("score", ascending=False, kind="stable", na_position="last").head(BEST_SHOWN)
    title = f"the best {BEST_SHOWN} of {len(means)} trials as a table (all of them: trials.parquet)"
    return folded(title, _trials(best))


def _trials(means: pd.DataFrame) -> str:
    lines = [
        {
            "method": method_html(row["method"]),
            "trial": str(row["trial"]),
            "phase": escape(row["phase"]),
            "state": escape(row["state"]),
            "replicates": str(row["replicates"]),
            "score": number(row["score"]),
            "utility × healed": number(row["utility_x_healed"]),
            "healed": number(row["healed"]),
            "utility": number(row["utility"]),
            "configuration": configuration(row["config"]),
        }
        for _, row in means.iterrows()
    ]
    return table(lines, text=["method", "phase", "state", "configuration"])
