"""Heat maps of a study over its grid, for paper: each function takes a cells frame and returns a matplotlib Figure (no
pyplot, no state). What they show is in `measures`; all other figures are in `plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from rem_study.report.measures import NAMES, Measure, Paint, by_mean, ink, measure, method_name, palette, present
from rem_study.results import plane

WIDTH = 12.4  # inches
EMPTY = "#eeeeee"
_LINES = {"won": "-", "level": ":"}


def heat_map(cells: pd.DataFrame, name: str, methods: Sequence[str] | None = None) -> Figure | None:
    """Heat maps of one of `measures.NAMES`, one a method on one colour scale; None where there is nothing to draw.

    On the map of utility × healed a black frame is round the method that has won its cell, a dotted one round those
    that are level in it.
    """
    shown = measure(cells, name)
    return None if shown is None else _panels(shown, cells, methods or by_mean(cells))


def choice_map(cells: pd.DataFrame, method: str, hyperparameters: Sequence[str]) -> Figure:
    """The selected value of each of these hyperparameters over the plane, written in the cell, side by
    side."""
    figure, axes, across = _canvas(cells, list(hyperparameters), colour_bar=False, cell=1.1)
    for index, (ax, name) in enumerate(zip(axes, hyperparameters, strict=True)):
        table = plane.axis_table(cells, method, name)
        _heat(ax, cells, table, palette(table), f"{method_name(method)} · {name}", label_y=index % across == 0)
    return figure


def _canvas(
    cells: pd.DataFrame, titles: Sequence[str], colour_bar: bool, cell: float
) -> tuple[Figure, list[Axes], int]:
    """A figure of WIDTH with one axes a title, in rows of as many as fit with cells of `cell` inches."""
    rates, corruptions = cells["discovery_rate"].nunique(), cells["corruption"].nunique()
    margin = max(1.4, 0.2 + 0.07 * cells["corruption"].str.len().max())
    bar = 0.75 if colour_bar else 0.2
    across = int(max(1, min(len(titles), (WIDTH - margin - bar) // (cell * rates + 0.2))))
    down = -(-len(titles) // across)
    panel = min(cell * 1.6 * rates, (WIDTH - margin - bar) / across - 0.2)
    row_height, gap, title = 0.42 * corruptions, 0.82, 0.46
    tall = title + down * (row_height + gap) - (gap - 0.4)
    figure = Figure(figsize=(WIDTH, tall), dpi=96)
    axes = []
    for index in range(len(titles)):
        row, column = divmod(index, across)
        bottom = tall - title - row * (row_height + gap) - row_height
        left = margin + column * (panel + 0.2)
        axes.append(figure.add_axes((left / WIDTH, bottom / tall, panel / WIDTH, row_height / tall)))
    return figure, axes, across


def _panels(shown: Measure, cells: pd.DataFrame, methods: Sequence[str]) -> Figure:
    figure, axes, across = _canvas(shown.values, list(methods), colour_bar=True, cell=0.48)
    for index, (ax, method) in enumerate(zip(axes, methods, strict=True)):
        framed = {place[1:]: standing for place, standing in shown.framed.items() if place[0] == method}
        title = f"{method_name(method)}\n{shown.headline(method)}"
        label_y = index % across == 0
        _heat(ax, cells, shown.grid(method), shown.paint, title, label_y, framed, shown.words(method))
    last = axes[min(across, len(axes)) - 1].get_position()
    colour_axes = figure.add_axes((last.x1 + 0.15 / WIDTH, last.y0, 0.13 / WIDTH, last.height))
    figure.colorbar(ScalarMappable(shown.scale, shown.colours), cax=colour_axes).set_label(
        NAMES[shown.name], fontsize=8
    )
    colour_axes.tick_params(labelsize=8)
    return figure


def _heat(
    ax: Axes,
    cells: pd.DataFrame,
    table: pd.DataFrame,
    paint: Paint,
    title: str,
    label_y: bool,
    framed: Mapping[tuple[str, float], str] | None = None,
    instead: pd.DataFrame | None = None,
) -> None:
    """One grid: the table's first row on top, a number (or word) in each cell. `instead` has the words for cells
    without a value."""
    down, across = table.shape
    room = ax.get_position().width * WIDTH * 72 / across * 0.95 / 0.62  # points for one letter's width of text
    colours, outlines, places, inks = [], [], [], []
    for row, corruption in enumerate(table.index):
        for column, rate in enumerate(table.columns):
            value = table.iat[row, column]
            word = None if instead is None else instead.iat[row, column]
            colour, text = paint(value) if present(value) else (EMPTY, word if isinstance(word, str) else "–")
            colours.append(colour)
            outlines.append(_outline(text.replace(" + ", "\n+ "), _size(text, room)))
            places.append((column + 0.5, down - row - 0.5))
            inks.append(ink(colour))
            standing = (framed or {}).get((str(corruption), float(rate)))
            if standing is not None:
                _frame(ax, column, down - 1 - row, _LINES[standing])
    mesh = ax.pcolormesh(
        range(across + 1), range(down, -1, -1), [[0.0] * across] * down, edgecolors="white", linewidth=1.5
    )
    mesh.set_array(None)
    mesh.set_facecolor(colours)
    to_pixels = Affine2D().scale(1 / 72) + ax.figure.dpi_scale_trans
    texts = PathCollection(outlines, offsets=places, offset_transform=ax.transData, facecolors=inks, linewidths=0)
    texts.set(transform=to_pixels, zorder=3)
    ax.add_collection(texts, autolim=False)
    regularity = cells.groupby("corruption")["regularity"].mean()
    names = [
        f"{name}\nregularity {regularity[name]:.2f}" if pd.notna(regularity[name]) else name for name in table.index
    ]
    ax.set(xlim=(0, across), ylim=(0, down))
    ax.set_xticks([i + 0.5 for i in range(across)], [f"{rate:g}" for rate in table.columns], fontsize=8)
    ax.set_yticks([down - 0.5 - i for i in range(down)] if label_y else [], names if label_y else [], fontsize=8)
    ax.set_title(title, fontsize=10, fontweight="bold", loc="left", pad=4)
    ax.set_xlabel("discovery rate", fontsize=8, labelpad=1)
    ax.tick_params(length=0, pad=3)
    ax.spines[:].set_visible(False)


def _size(text: str, room: float) -> float:
    """Points, so that the longest part of a list fits."""
    wide = max(len(part) + 2 * (" + " in text) for part in text.split(" + "))
    return round(max(5.5, min(9.0, room / wide)), 1)


@lru_cache(maxsize=4096)
def _outline(text: str, size: float) -> Path:
    """Lines of text as an outline around (0, 0), in points: the thousands of numbers of a large grid are drawn as one
    collection, in a tenth of the time of as many texts."""
    lines = text.split("\n")
    parts = []
    for number, line in enumerate(lines):
        path = TextPath((0, 0), line, size=size)
        width = path.get_extents().width if len(path.vertices) else 0.0
        down = ((len(lines) - 1) / 2 - number) * 1.2 * size - 0.36 * size
        parts.append(path.transformed(Affine2D().translate(-width / 2, down)))
    return Path.make_compound_path(*parts)


def _frame(ax: Axes, column: int, row: int, line: str) -> None:
    frame = Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, fill=False, linewidth=2, linestyle=line)
    frame.set(edgecolor="black", joinstyle="miter", zorder=2.5)
    ax.add_patch(frame)
