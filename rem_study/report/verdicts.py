"""Which method wins where, and how sure that is, in the report's words: functions from frames to HTML."""

from __future__ import annotations

from html import escape

import pandas as pd

from rem_study.report.html import (
    cell_link,
    counted,
    duration,
    interval,
    large,
    method_html,
    number,
    over_cells,
    over_replicates,
    share,
    sortable,
    table,
)
from rem_study.report.measures import method_name, minus
from rem_study.results import columns, plane
from rem_study.results.standing import lead_of
from rem_study.results.winners import FEWEST_LED, FEWEST_SAMPLES, STANDARD_ERRORS, sentence

WEAKEST = 5
RULE = (
    '<p class="note">A method <b>wins</b> a cell when it leads every other beyond noise: with the 95 % interval of the '
    "differences, paired by replicate, above zero; on one replicate, by more than "
    f"{STANDARD_ERRORS:g} standard errors of its samples; and by {FEWEST_LED} samples at least. Else the cell is "
    "<b>level</b>. Spread over the cells says how cells differ, an interval over replicates how sure a figure is.</p>"
)


def answer(cells: pd.DataFrame, trials: pd.DataFrame) -> str:
    """The study's answer in a sentence or two, as HTML: who has the highest mean, by how much, and wins what."""
    methods = plane.methods_frame(cells, trials)
    if not methods["cells"].any():
        known = cells["search_score"].notna().any()
        return (
            "No clean labels are known: what was healed cannot be measured."
            if known
            else "No trial has finished: there is nothing to compare."
        )
    total, first = len(cells.drop_duplicates(columns.CELL)), methods.iloc[0]
    text = f"<strong>{method_html(first['method'])} has the highest mean score, {first['utility_x_healed_mean']:.3f}"
    if len(methods) > 1 and methods.iloc[1]["cells"]:
        second = methods.iloc[1]
        ahead = first["utility_x_healed_mean"] - second["utility_x_healed_mean"]
        text += f", {ahead:.3f} above {method_html(second['method'])}"
    if len(methods) == 1:
        return f"{text}.</strong> No other method was studied."
    text += f", and wins {first['cells_won']} of {counted(total, 'cell')}.</strong>"
    others = methods[(methods["cells_won"] > 0) & (methods["method"] != first["method"])]
    told = [f"{method_html(row['method'])} wins {row['cells_won']}" for _, row in others.head(4).iterrows()]
    leaders = plane.leaders(cells)
    level, unknown = (leaders["standing"] == "level"), leaders["lead_low"].isna()
    if count := int((level & ~unknown).sum()):
        told.append(f"{counted(count, 'cell')} {'is' if count == 1 else 'are'} level: no lead there is beyond noise")
    if count := int((level & unknown).sum()):
        told.append(f"in {counted(count, 'cell')} no winner can be named: what noise is there was not recorded")
    return f"{text} {'; '.join(told)}{'.' if told else ''}"


def summary(cells: pd.DataFrame, trials: pd.DataFrame) -> str:
    """What was studied, which method wins where and how sure that is, in plain words, as HTML."""
    methods = plane.methods_frame(cells, trials)
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
    text = f"{studied} <strong>{method_html(first['method'])} has the highest mean utility × healed, {_mean(first)}"
    if len(methods) == 1:
        return f"{text}.</strong> No other method was studied. {stands_on(cells)}"
    second = methods.iloc[1]
    if second["cells"]:
        text += f"; next is {method_html(second['method'])} with {_mean(second)}"
    text += f". It wins {first['cells_won']} of {counted(total, 'cell')}.</strong>"
    won = cells[plane.wins(cells)]
    for method, times in won.loc[won["method"] != first["method"], "method"].value_counts().items():
        text += f" {method_html(str(method))} wins {times}: {_where(won[won['method'] == method])}."
    best = plane.leaders(cells)
    if (best["standing"] == "level").any():
        level = best[best["standing"] == "level"]
        unknown = level["lead_low"].isna()
        if not unknown.all():
            text += f" {counted((~unknown).sum(), 'cell')} {'is' if (~unknown).sum() == 1 else 'are'} level: "
            text += f"{_where(level[~unknown])}."
        if unknown.any():
            text += f" In {counted(unknown.sum(), 'cell')} no winner can be named (why: below, cell by cell)."
    for _, row in best[best["standing"] == "alone"].iterrows():
        text += f" In {escape(row['cell'])} only {method_html(row['method'])} has a result."
    return f"{text} {stands_on(cells)}"


def _mean(row: pd.Series) -> str:
    """`0.810 over 9 cells (from 0.550 to 0.960; 95 % interval over 3 replicates 0.780 to 0.840)`."""
    mean, low, high = (row[f"utility_x_healed_{part}"] for part in ("mean", "min", "max"))
    known = [f"from {low:.3f} to {high:.3f}"] if low < high else []
    if pd.notna(row["utility_x_healed_low"]):
        ends = f"{row['utility_x_healed_low']:.3f} to {row['utility_x_healed_high']:.3f}"
        known.append(f"95 % interval over {int(row['replicates'])} replicates {ends}")
    more = f" ({'; '.join(known)})" if known else ""
    return f"{mean:.3f} over {counted(int(row['cells']), 'cell')}{more}"


def stands_on(cells: pd.DataFrame) -> str:
    """How many samples and replicates stand behind the figures of a cell."""
    finished = cells.dropna(subset="utility_x_healed")
    if finished.empty:
        return "No cell has a result."
    replicates = f"{_range(finished['replicates'])} replicate{'' if (finished['replicates'] == 1).all() else 's'}"
    healed, utility = finished["healed_samples"], finished["utility_samples"]
    if healed.isna().any() or utility.isna().any():
        return f"Behind each figure of a cell: {replicates}; of how many samples was not recorded everywhere."
    samples = f"{_range(healed)} corrupted samples, {_range(utility)} test images"
    return f"Behind each figure of a cell: {samples}, {replicates}."


def _range(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def _where(cells: pd.DataFrame) -> str:
    """A few cells by name, many by how many of each corruption."""
    if len(cells) <= 3:
        return escape(", ".join(cells["cell"]))
    return escape(", ".join(f"{times} in {name}" for name, times in cells["corruption"].value_counts().items()))


def verdict(leader: pd.Series) -> str:
    """Who wins a cell, or why nobody does, from its leader's row; escaped."""
    return escape(minus(sentence(leader["method"], leader["standing"], lead_of(leader), method_name)))


def verdicts_table(cells: pd.DataFrame) -> str:
    """The verdict on each cell, and the methods that are level there."""
    best = plane.leaders(cells).set_index("cell")
    rows = []
    for name, own in cells.groupby("cell", sort=False):
        level = own.loc[plane.level(own), "method"]
        told = verdict(best.loc[name].rename(name)) if name in best.index else "no result"
        rows.append({"cell": cell_link(str(name)), "verdict": told, "level there": _names(level)})
    return RULE + table(rows, text=["cell", "verdict", "level there"])


def _names(methods: pd.Series) -> str:
    return ", ".join(map(method_html, methods)) or "–"


def methods_table(cells: pd.DataFrame, trials: pd.DataFrame) -> str:
    """Methods side by side over all cells."""
    methods = plane.methods_frame(cells, trials)
    rows = [
        {
            "method": method_html(row["method"]),
            "utility × healed": over_cells(row),
            "95 % over replicates": over_replicates(row),
            "healed": over_cells(row, "healed"),
            "utility": over_cells(row, "utility"),
            "cells": str(row["cells"]),
            "won": str(row["cells_won"]),
            "level": str(row["cells_level"]),
            "default": number(row["default_utility_x_healed"]),
            "gain": number(row["gain"], "+.3f"),
            "trials (stopped / failed)": f"{row['trials']} ({row['pruned']} / {row['failed']})",
            "passes": sortable(row["sample_passes"], large(row["sample_passes"])),
            "time": sortable(row["seconds"], duration(row["seconds"])),
        }
        for _, row in methods.iterrows()
    ]
    note = (
        "Mean over the cells (lowest to highest cell). Won and level: cells, by the rule above. Default: its mean "
        "utility × healed; gain: selected minus default. Passes: samples taken forward and backward. "
    )
    if methods["utility_x_healed_low"].notna().any():
        note += "95 % over replicates: the interval of the mean over the cells (number of replicates)."
    else:
        note += "No interval over replicates: that takes two at least, in every cell."
    return table(rows, text=["method"], best=[0]) + f'<p class="note">{note}</p>'


def weakest_cells(cells: pd.DataFrame) -> str:
    """The cells in which even the best method heals least, the lowest first; before them those without any result."""
    best = plane.leaders(cells)
    enough = plane.enough(best, "utility_x_healed")
    few = best.loc[~enough, "cell"]
    best = best[enough].sort_values("utility_x_healed", kind="stable")
    healed, utility = (plane.samples(best, column) for column in ("healed", "utility"))
    rows = [
        {
            "cell": cell_link(row["cell"]),
            "best method": method_html(row["method"]),
            "its utility × healed": interval(row),
            "healed": share(row["healed"], healed[place], False),
            "utility": share(row["utility"], utility[place], False),
            "replicates": str(row["replicates"]),
            "verdict": verdict(row),
        }
        for place, row in best.head(WEAKEST).iterrows()
    ]
    without = [name for name in dict.fromkeys(cells["cell"]) if name not in set(best["cell"]) | set(few)]
    text = f"<p>No method has a result in {', '.join(map(cell_link, without))}.</p>" if without else ""
    if len(few):
        text += (
            f"<p>Left out, as their figures stand on fewer than {FEWEST_SAMPLES} samples: "
            f"{', '.join(map(cell_link, few))}.</p>"
        )
    return text + (table(rows, text=["cell", "best method", "verdict"]) if rows else "")
