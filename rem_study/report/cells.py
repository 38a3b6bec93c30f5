"""The report's page of one cell: its verdict, its methods, its search; shown when its link is followed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd

from rem_study.report.html import absent, chart, chosen, method_html, table
from rem_study.report.links import buttons, run_link
from rem_study.report.measures import method_name
from rem_study.report.source import StudyData
from rem_study.report.tables import configuration, measured_table, searched_table
from rem_study.report.verdicts import verdict
from rem_study.results import plane


def cell_pages(data: StudyData, methods: Sequence[str]) -> str:
    """One section a cell, hidden until its link is followed (CSS alone). `methods` are those of the payload, in its
    order."""
    names = list(dict.fromkeys(data.cells["cell"]))
    return "\n".join(_page(data, place, names, methods) for place in range(len(names)))


def _page(data: StudyData, place: int, names: Sequence[str], methods: Sequence[str]) -> str:
    name, cells = names[place], data.cells
    rows = cells[cells["cell"] == name].sort_values("utility_x_healed", ascending=False, na_position="last")
    first = rows.iloc[0]
    regularity = "not measured" if pd.isna(first["regularity"]) else f"{first['regularity']:.2f}"
    ways = ['<a href="#section-winners">← the whole grid</a>']
    ways += [_way(names[place - 1], "previous")] if place else []
    ways += [_way(names[place + 1], "next")] if place + 1 < len(names) else []
    ways += [run] if (run := run_link(data, data.runs.get(name), "this cell’s MLflow run")) else []
    trials = int((data.trials["cell"] == name).sum())
    sections = [
        f'<nav aria-label="cell"><p>{" · ".join(ways)}</p></nav>',
        f"<h2>{escape(name)}</h2>",
        f'<p class="summary">{escape(first["corruption"])} with {first["discovery_rate"]:.0%} of the corrupted samples '
        f"known. Measured regularity: {regularity}. {_verdict(rows)}</p>",
        _methods(rows),
        "<h3>Selected configurations</h3>",
        _selected(data, rows),
        "<h3>History of the search</h3>",
        chart(
            f"history:{place}",
            "A mark is a trial, a line the best so far, a cross one that was stopped early or failed. The score is the "
            "one that configurations are chosen by.",
            f"score of each trial of {name}, by method",
            380,
        ),
        "<h3>Hyperparameters and score</h3>",
        chart(
            f"parallel:{place}",
            "A line is a trial, from its hyperparameters to its score: the better, the stronger. With diamonds: the "
            "selected one.",
            f"configurations of one method in {name}, as lines to their scores",
            340,
            _choice(rows, methods),
        ),
        f'<details data-trials="{place}"><summary>all trials as a table ({trials} replicates)</summary>'
        '<div class="wide"></div></details>',
    ]
    return f'<section class="cell" id="cell-{escape(name)}">' + "\n".join(sections) + "</section>"


def _choice(rows: pd.DataFrame, methods: Sequence[str]) -> str:
    """Which method's configurations are shown: the cell's best first."""
    options = "".join(
        f'<option value="{methods.index(name)}">{escape(method_name(name))}</option>' for name in rows["method"]
    )
    return f'<label class="control">method <select>{options}</select></label>'


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


def _selected(data: StudyData, rows: pd.DataFrame) -> str:
    lines = [
        {
            "method": method_html(row["method"]),
            "exported": chosen(row),
            "trial": "–" if pd.isna(row["trial"]) else str(row["trial"]),
            "configuration": configuration(row["config"]),
            "use it": buttons(data, row),
        }
        for _, row in rows.iterrows()
    ]
    return table(lines, text=["method", "exported", "configuration", "use it"])
