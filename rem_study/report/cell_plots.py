"""What happened in one cell: the history of its search, and its configurations side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rem_study.report.heat_maps import WIDTH
from rem_study.report.measures import by_mean, method_name, readable
from rem_study.report.plots import spans_decades
from rem_study.report.styles import method_styles
from rem_study.results import selection


def history(trials: pd.DataFrame, cells: pd.DataFrame, cell: str) -> Figure:
    """The search of one cell: each trial's score on the selection split by its number, and the best so far, a method a
    line; crosses were stopped early, ticks at the foot failed."""
    means = selection.trial_means(trials[trials["cell"] == cell])
    styles = method_styles(by_mean(cells))
    figure = Figure(figsize=(WIDTH * 0.62, 2.9), layout="constrained", dpi=96)
    ax = figure.subplots()
    for method, own in styles.items():
        colour = own.colour
        mine = means[means["method"] == method].sort_values("trial")
        done = mine[mine["finished"]]
        for row in mine[mine["state"] == "pruned"].dropna(subset="score").to_dict("records"):
            ax.plot(row["trial"], row["score"], "x", color=colour, ms=4, alpha=0.7)
        failed = mine[mine["state"] == "failed"]
        ax.plot(failed["trial"], np.full(len(failed), -0.03), "|", color=colour, ms=8)
        if len(done):
            dots: dict[str, Any] = {"color": colour, "marker": own.marker, "ms": 3.5}
            ax.plot(done["trial"], done["score"], linestyle="", alpha=0.55, **dots)
            best = np.maximum.accumulate(done["score"].to_numpy())
            ax.step(done["trial"], best, where="post", color=colour, linewidth=1.7)
            ax.plot([], [], label=method_name(method), **dots)  # the legend's line has the marker
    ax.set(ylim=(-0.06, 1.03), xlabel="trial (0 is the default configuration)", ylabel="score, selection split")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def parallel_coordinates(trials: pd.DataFrame, cell: str, method: str, selected: int | None = None) -> Figure | None:
    """Every finished trial of one (cell, method) as a line through its hyperparameters to its score: darker is
    better, the selected one is black and thick. None where fewer than two configurations were finished."""
    means = selection.trial_means(trials[(trials["cell"] == cell) & (trials["method"] == method)])
    means = means[means["finished"]].sort_values("score")
    configs = [json.loads(text) for text in means["config"]]
    names = [name for name in (configs[0] if configs else {}) if len({readable(c.get(name)) for c in configs}) > 1]
    if not names:
        return None
    columns = [_axis([config.get(name) for config in configs]) for name in names]
    score = means["score"].to_numpy(dtype=float)
    reach = (score.min(), max(score.max(), score.min() + 1e-9))
    columns.append((Normalize(*reach)(score).filled(0.5), [f"{reach[0]:.2f}", f"{reach[1]:.2f}"], [0.0, 1.0]))
    places = np.stack([column[0] for column in columns], axis=1)
    figure = Figure(figsize=(WIDTH, 2.6), dpi=96)
    ax = figure.add_axes((0.03, 0.14, 0.94, 0.55))
    shade = colormaps["Blues"](0.25 + 0.75 * Normalize(*reach)(score).filled(0.5))
    lines = [np.column_stack([np.arange(len(columns)), row]) for row in places]
    ax.add_collection(LineCollection(lines, colors=shade, linewidths=1.2))
    for line, number in zip(lines, means["trial"], strict=True):
        if number == selected:
            ax.plot(line[:, 0], line[:, 1], color="black", linewidth=2.6, marker="D", markersize=4)
    for x, (name, (_, labels, heights)) in enumerate(zip([*names, "score"], columns, strict=True)):
        ax.axvline(x, color="#999999", linewidth=0.8, zorder=0)
        ax.text(x, 1.16, name.replace("_", "\n"), ha="center", va="bottom", fontsize=8, fontweight="bold")
        for label, height in zip(labels, heights, strict=True):
            at_end = height in (0.0, 1.0)
            ax.text(x + (0 if at_end else 0.03), height + (0.04 if height == 1 else -0.04 if height == 0 else 0), label,
                    ha="center" if at_end else "left", fontsize=7, color="#333333",
                    va="bottom" if height == 1 else "top" if height == 0 else "center")  # fmt: skip
    ax.set(xlim=(-0.4, len(columns) - 0.6), ylim=(-0.02, 1.02))
    ax.axis("off")
    return figure


def _axis(values: Sequence[Any]) -> tuple[np.ndarray, list[str], list[float]]:
    """Where values lie on an axis from 0 to 1, its labels, and where these stand. Absent values lie at its foot."""
    if all(value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)) for value in values):
        numbers = np.array([np.nan if value is None else float(value) for value in values])
        low, high = np.nanmin(numbers), np.nanmax(numbers)
        scaled, ends = (np.log(numbers), np.log([low, high])) if spans_decades(numbers) else (numbers, (low, high))
        return np.nan_to_num((scaled - ends[0]) / (ends[1] - ends[0] or 1.0)), [f"{low:.3g}", f"{high:.3g}"], [0.0, 1.0]
    names = sorted({readable(value) for value in values})
    heights = [0.5] if len(names) == 1 else [i / (len(names) - 1) for i in range(len(names))]
    return np.array([heights[names.index(readable(value))] for value in values]), names, heights
