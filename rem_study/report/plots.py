"""The figures of a study that are no heat maps: each function takes frames and returns a matplotlib Figure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rem_study.report.heat_maps import WIDTH
from rem_study.report.measures import by_mean, method_name
from rem_study.report.styles import MethodStyle, method_styles
from rem_study.results import columns, plane, selection

RAMPS = {"corruption": "YlOrBr", "discovery_rate": "PuBu"}
"""Both are ordered, so each has a ramp of its own, light to dark; no method's colour is used for them."""
MARKERS = "osD^vPX*"
LOG_FROM = 30.0
"""Values that span more than this factor are drawn on a logarithmic axis."""


MOST_DOTS = 2_000
"""Trials that one figure shows as dots; of more, a random part."""
MANY_CELLS = 40
"""From here on panels have few ticks, which take longer to draw than what they measure."""


def ramp(kind: str, count: int) -> list[str]:
    """As many colours of RAMPS[kind], none of them too light for white or too dark for black."""
    return [to_hex(colormaps[RAMPS[kind]](0.45 + 0.45 * i / max(1, count - 1))) for i in range(count)]


def method_bars(cells: pd.DataFrame, trials: pd.DataFrame) -> Figure:
    """Utility × healed of each method: a bar for the mean over the cells, a dot a cell, a black line for the 95 %
    interval of the mean over replicates, where there are several; a diamond is the default configuration's mean."""
    methods = plane.methods_frame(cells, trials).iloc[::-1].reset_index(drop=True)
    styles = method_styles(by_mean(cells))
    total = len(cells.drop_duplicates(columns.CELL))
    figure = Figure(figsize=(WIDTH * 0.72, 0.9 + 0.34 * len(methods)), layout="constrained", dpi=96)
    ax = figure.subplots()
    for place, row in methods.iterrows():
        mean, colour = row["utility_x_healed_mean"], styles[row["method"]].colour
        text = "no result" if pd.isna(mean) else f"{mean:.3f}"
        text += f", {row['cells_won']} of {total} cells won, {row['cells_level']} level"
        ax.barh(place, 0 if pd.isna(mean) else mean, height=0.66, color=colour, alpha=0.75)
        own = cells.loc[cells["method"] == row["method"], "utility_x_healed"].dropna()
        ax.plot(own, np.full(len(own), place + 0.16), "o", color="#333333", alpha=0.55, ms=3.5, mew=0, clip_on=False)
        if pd.notna(row["utility_x_healed_low"]):
            ends = [row["utility_x_healed_low"], row["utility_x_healed_high"]]
            ax.errorbar(mean, place - 0.1, xerr=np.abs([[e - mean] for e in ends]), color="black", capsize=3, lw=1.3)
        if pd.notna(row["default_utility_x_healed"]):
            ax.plot(row["default_utility_x_healed"], place, "d", mfc="white", mec="black", ms=5)
        ax.text(1.015, place, text, va="center", fontsize=8.5)
    ax.set(
        xlim=(0, 1), ylim=(-0.6, len(methods) - 0.4), xlabel="utility × healed: bar, mean over the cells; dots, cells"
    )
    ax.set_yticks(range(len(methods)), [method_name(name) for name in methods["method"]], fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return figure


def pareto_fronts(trials: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """Healed against utility in each cell: every finished trial a dot, the Pareto front of all methods together a line,
    each method's selected configuration a large mark."""
    means = selection.trial_means(trials)
    means = means[means["finished"]].dropna(subset=["healed", "utility"])
    styles = method_styles(by_mean(cells))
    figure, panels = _grid_of_cells(cells)
    shown = means if len(means) <= MOST_DOTS else means.sample(MOST_DOTS, random_state=0)
    for name, ax in panels.items():
        own = means[means["cell"] == name]
        front = pareto_front(own[["healed", "utility"]].to_numpy())
        ax.step(front[:, 0], front[:, 1], where="pre", color="#777777", linewidth=1, zorder=1)
        dots = shown[shown["cell"] == name]
        colours = [styles[method].colour for method in dots["method"]]
        ax.scatter(dots["healed"], dots["utility"], s=7, c=colours, alpha=0.5, linewidths=0)
        for row in cells[cells["cell"] == name].to_dict("records"):
            if pd.notna(row["healed"]) and pd.notna(row["utility"]):
                own = styles[row["method"]]
                ax.plot(row["healed"], row["utility"], marker=own.marker, color=own.colour, mec="black", mew=0.5, ms=6)
    lowest = means["utility"].min() if len(means) else 0.0
    next(iter(panels.values())).set(xlim=(-0.04, 1.04), ylim=(max(-0.03, lowest - 0.05), 1.03))  # all share them
    figure.supxlabel("healed", fontsize=9)
    figure.supylabel("utility", fontsize=9)
    _legend(figure, styles)
    return figure


def pareto_front(points: np.ndarray) -> np.ndarray:
    """The points that no other is at least as good as in both coordinates and better in one, by rising first one.

    Args:
        points: float, (n, 2); larger is better.
    """
    best, front = -np.inf, []
    for point in sorted(map(tuple, points), reverse=True):
        if point[1] > best:
            best = point[1]
            front.append(point)
    return np.array(front[::-1], dtype=float).reshape(-1, 2)


def trend_lines(trends: Mapping[str, pd.DataFrame], cells: pd.DataFrame) -> Figure:
    """How the good values of each hyperparameter move: against the discovery rate, one line a corruption (left), and
    against the measured regularity, one line a discovery rate (right); see `importances.trends`."""
    measured = cells.groupby("corruption")["regularity"].mean()
    figure = Figure(figsize=(WIDTH * 0.8, 0.5 + 2.0 * len(trends)), layout="constrained", dpi=96)
    rows = figure.subplots(len(trends), 2, squeeze=False, sharey="row")
    for (left, right), (name, table) in zip(rows, trends.items(), strict=True):
        table = table.assign(regularity=table["corruption"].map(measured))
        for ax, by, across, word in (
            (left, "corruption", "discovery_rate", ""),
            (right, "discovery_rate", "regularity", "discovery "),
        ):
            order = selection.corruption_order(cells) if by == "corruption" else sorted(table[by].unique())
            colours = ramp(by, len(order))
            for index, key in enumerate(order):
                line = table[table[by] == key].dropna(subset=across).sort_values(across)
                style = {"color": colours[index], "marker": MARKERS[index % len(MARKERS)]}
                label = f"{word}{key:g}" if isinstance(key, float) else f"{word}{key}"
                ax.plot(line[across], line["value"], markersize=4, label=label, **style)
                ax.fill_between(line[across], line["low"], line["high"], color=style["color"], alpha=0.13, linewidth=0)
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize=8)
        left.set_ylabel(name, fontsize=9)
        left.set_xscale("log")
        rates = sorted(table["discovery_rate"].unique())
        left.set_xticks(rates, [f"{rate:g}" for rate in rates], minor=False)
        left.minorticks_off()
        if spans_decades(table["value"]):
            left.set_yscale("log")
    rows[-1][0].set_xlabel("discovery rate", fontsize=9)
    rows[-1][1].set_xlabel("measured regularity", fontsize=9)
    for ax in rows[0]:
        handles, labels = ax.get_legend_handles_labels()
        ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False, fontsize=8)
    return figure


def importance_bars(pooled: pd.DataFrame, per_cell: pd.DataFrame) -> Figure:
    """PED-ANOVA importances: pooled over the cells with their intervals (left); of each cell where it has trials enough
    (right, a number in each square)."""
    names = list(pooled["hyperparameter"])
    cells = list(dict.fromkeys(per_cell["cell"]))
    figure = Figure(figsize=(WIDTH if cells else WIDTH * 0.62, 1.2 + 0.27 * len(names)), layout="constrained", dpi=96)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.7)) if cells else (figure.subplots(), None)
    places = np.arange(len(names))[::-1]
    for place, row in zip(places, pooled.to_dict("records"), strict=True):
        left.barh(place, row["importance"], color="#777777")
        if pd.notna(row["low"]):
            left.plot([row["low"], row["high"]], [place, place], color="black", linewidth=1.3)
    left.set_yticks(places, names, fontsize=8.5)
    left.set_xlabel("share of the importance, all cells together", fontsize=9)
    left.set_xlim(left=0)
    left.spines[["top", "right"]].set_visible(False)
    if right is not None:
        table = per_cell.pivot(index="hyperparameter", columns="cell", values="importance").reindex(
            names, columns=cells
        )
        right.imshow(table.to_numpy(dtype=float), cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(table.to_numpy(dtype=float)):
            if value == value:
                ink = "white" if value < 0.55 else "black"
                right.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=ink)
        right.set_yticks([])
        right.set_xticks(range(len(cells)), cells, rotation=35, ha="right", fontsize=8)
        right.set_title("by cell", fontsize=9, loc="left")
    return figure


def cost_curve(cells: pd.DataFrame) -> Figure:
    """What each method cost, in sample passes of all its trials, against the mean utility × healed it reached."""
    styles = method_styles(by_mean(cells))
    figure = Figure(figsize=(WIDTH * 0.62, 3.0), layout="constrained", dpi=96)
    ax = figure.subplots()
    for row in plane.methods_frame(cells).to_dict("records"):
        if row["sample_passes"] > 0 and pd.notna(row["utility_x_healed_mean"]):
            own = styles[row["method"]]
            place = (row["sample_passes"], row["utility_x_healed_mean"])
            ax.plot(*place, marker=own.marker, color=own.colour, mec="black", mew=0.6, ms=8)
            ax.annotate(method_name(row["method"]), place, (6, 3), textcoords="offset points", fontsize=8.5)
    ax.set(xscale="log", ylim=(0, 1.03), xlabel="sample passes of the whole search", ylabel="mean utility × healed")
    ax.margins(x=0.15)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def isolation_curves(trials: pd.DataFrame, cells: pd.DataFrame, method: str) -> Figure | None:
    """Where the corruption sits, epoch by epoch, in the selected trial of each cell: accuracy on the wrong labels of
    all corrupted samples through the old channels alone, through both with each sample's mask, and with the shared
    mask; mean over replicates. None where no trial of `method` recorded it (`curves` of trials.parquet)."""
    selected = cells.loc[cells["method"] == method, ["cell", "trial"]]
    own = (trials["method"] == method) & (trials["phase"] != "transfer")  # there, numbers mean something else
    recorded = trials[own & trials["curves"].notna()]
    if selected.empty or recorded.empty:
        return None
    figure, panels = _grid_of_cells(cells)
    for cell in selected.to_dict("records"):
        ax = panels[cell["cell"]]
        curves = recorded.loc[(recorded["cell"] == cell["cell"]) & (recorded["trial"] == cell["trial"]), "curves"]
        for (path, label), style in zip(PATHS.items(), _PATH_STYLES, strict=True):
            values = [json.loads(text)[path] for text in curves]
            if values:
                mean = np.mean(values, axis=0)
                ax.plot(range(len(mean)), mean, label=label, **style)
    shared = next(iter(panels.values()))
    shared.set_ylim(-0.03, 1.03)
    shared.xaxis.set_major_locator(MaxNLocator("auto" if len(panels) <= MANY_CELLS else 3, integer=True))
    drawn = next((ax for ax in panels.values() if ax.lines), next(iter(panels.values())))
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("accuracy on the wrong labels", fontsize=9)
    figure.legend(*drawn.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


PATHS = {"both": "both, own mask", "shared": "both, shared mask", "old": "old channels alone"}
_PATH_STYLES: tuple[dict[str, Any], ...] = (  # lines that lie on each other are all seen
    {"color": "#b0b0b0", "linewidth": 5},
    {"color": "#707070", "linewidth": 2.4, "linestyle": ":"},
    {"color": "#000000", "linewidth": 1.1, "marker": ".", "markersize": 3},
)


def _grid_of_cells(cells: pd.DataFrame) -> tuple[Figure, dict[str, Axes]]:
    """One axes a cell by its name, laid out as the heat maps are: low regularity at the bottom."""
    rows = selection.corruption_order(cells)[::-1]
    columns = sorted(cells["discovery_rate"].unique())
    width = min(WIDTH, 1.2 + 2.6 * len(columns))
    figure = Figure(figsize=(width, 0.9 + 1.5 * len(rows)), layout="constrained", dpi=96)
    axes = figure.subplots(len(rows), len(columns), sharex=True, sharey=True, squeeze=False)
    if axes.size > MANY_CELLS:
        axes[0, 0].xaxis.set_major_locator(MaxNLocator(3))
        axes[0, 0].yaxis.set_major_locator(MaxNLocator(3))
    panels = {}
    for place in cells.drop_duplicates("cell").to_dict("records"):
        panels[place["cell"]] = axes[rows.index(place["corruption"])][columns.index(place["discovery_rate"])]
    for row, corruption in zip(axes, rows, strict=True):
        row[0].set_ylabel(corruption.replace("_", "\n"), fontsize=8.5)
    for ax, rate in zip(axes[0], columns, strict=True):
        ax.set_title(f"discovery rate {rate:g}", fontsize=9)
    for ax in axes.ravel():
        ax.tick_params(labelsize=7.5)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _legend(figure: Figure, styles: Mapping[str, MethodStyle]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=own.colour, marker=own.marker, linestyle="", label=method_name(name))
        for name, own in styles.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(8, len(handles)), frameon=False, fontsize=8.5)


def spans_decades(values: Any) -> bool:
    """Whether positive values differ so much that they want a logarithmic axis."""
    numbers = np.asarray(values, dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    return len(numbers) > 0 and numbers.min() > 0 and numbers.max() / numbers.min() >= LOG_FROM
