"""Heat maps of a study over its grid: each function takes a cells frame and returns a matplotlib Figure (no pyplot,
no state). All other figures are in `plots`.

A drawn cell carries its hover text as `gid` and its page as `url`; `svg` turns them into an SVG title and a link.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from rem_study.results import plane
from rem_study.spec import cell_name

WIDTH = 12.4  # inches: 1190 px at the 96 px of a browser's inch, so a report fits a 1280 px window
OKABE_ITO = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2", "#999999")
NAMES = {
    "utility_x_healed": "utility × healed",
    "healed": "healed",
    "utility": "utility",
    "healed_discovered": "discovered healed",
    "healed_undiscovered": "undiscovered healed",
    "attack_success": "attack success",
    "found_average_precision": "found",
    "gain": "gain over the default",
    "spread": "SD over replicates",
    "trials": "trials",
}
LOWER_IS_BETTER = ("attack_success",)
EMPTY = "#eeeeee"
_FEW = "_few"
_TIP = "tip "
_CELL = "cell:"

Paint = Callable[[Any], tuple[str, str]]
"""A cell's value to its colour and its text."""


def ink(colour: str) -> str:
    """Black or white, whichever contrasts more with this background (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def readable(value: Any) -> str:
    """A hyperparameter's value as a person writes it: three digits for a float, `a + b` for a list."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return " + ".join(map(readable, value))
    return value if isinstance(value, str) else json.dumps(value)


def method_name(method: str) -> str:
    """As the reader sees it: REM for `rem`, every other as the study file writes it."""
    return "REM" if method == "rem" else method


def by_mean(cells: pd.DataFrame) -> list[str]:
    """The methods, best mean utility × healed first: the order of every table and row of panels."""
    return list(plane.methods_frame(cells)["method"])


def score_map(cells: pd.DataFrame, column: str = "utility_x_healed", methods: Sequence[str] | None = None) -> Figure:
    """Heat maps of a share, one a method on one colour scale, brighter is better; of too few samples only their number.

    On the maps of utility × healed and its factors a black frame is round the method that has won its cell, a dotted
    one round those that are level in it.
    """
    colours, scale = colormaps["cividis_r" if column in LOWER_IS_BETTER else "cividis"], Normalize(0, 1)
    enough, counts = plane.enough(cells, column), plane.samples(cells, column)
    few = counts.map("n {:.0f}".format).where(~enough & cells[column].notna())
    told = cells.assign(**{column: cells[column].where(enough), _FEW: few})

    frames = _frames(cells) if column in plane.SCORES else {}

    def paint(value: Any) -> tuple[str, str]:
        return to_hex(colours(scale(value))), f"{value:.2f}"

    return _panels(told, methods or by_mean(cells), column, paint, ScalarMappable(scale, colours), frames)


def attack_map(cells: pd.DataFrame, methods: Sequence[str] | None = None) -> Figure | None:
    """Heat maps of `attack_success` over the corruptions that have a trigger; None without any."""
    triggered = cells.loc[cells["attack_success"].notna(), "corruption"]
    if triggered.empty:
        return None
    return score_map(cells[cells["corruption"].isin(triggered)], "attack_success", methods or by_mean(cells))


def undiscovered_map(cells: pd.DataFrame, methods: Sequence[str] | None = None) -> Figure | None:
    """Heat maps of `healed_undiscovered`, where anything is undiscovered; None where nothing is."""
    known = cells.loc[cells["healed_undiscovered"].notna(), "discovery_rate"]
    if known.empty:
        return None
    return score_map(cells[cells["discovery_rate"].isin(known)], "healed_undiscovered", methods or by_mean(cells))


def found_map(cells: pd.DataFrame, methods: Sequence[str] | None = None) -> Figure | None:
    """Heat maps of `found_average_precision`, where anything is undiscovered; None where nothing is."""
    known = cells.loc[cells["found_average_precision"].notna(), "discovery_rate"]
    if known.empty:
        return None
    return score_map(cells[cells["discovery_rate"].isin(known)], "found_average_precision", methods or by_mean(cells))


def _frames(cells: pd.DataFrame) -> dict[tuple[str, str, float], str]:
    """The line of the frame by (method, corruption, discovery rate)."""
    found: dict[tuple[str, str, float], str] = {}
    for style, rows in (("-", cells[plane.wins(cells)]), (":", cells[plane.level(cells) & cells["lead_low"].notna()])):
        found |= dict.fromkeys(zip(rows["method"], rows["corruption"], rows["discovery_rate"], strict=True), style)
    return found


def gain_map(cells: pd.DataFrame, methods: Sequence[str] | None = None) -> Figure:
    """Heat maps of `gain`, one a method: orange where the search lost to the default, purple where it
    gained."""
    reach = max(0.05, float(cells["gain"].abs().max(skipna=True)) if cells["gain"].notna().any() else 0.0)
    colours, scale = colormaps["PuOr"], Normalize(-reach, reach)

    def paint(value: Any) -> tuple[str, str]:
        return to_hex(colours(scale(value))), f"{value:+.2f}" if abs(value) >= 0.005 else "0"

    return _panels(cells, methods or by_mean(cells), "gain", paint, ScalarMappable(scale, colours), {})


def spread_map(cells: pd.DataFrame, methods: Sequence[str] | None = None) -> Figure:
    """Heat maps of `spread`, the standard deviation of the selected configuration's utility × healed over replicates
    (see `plane.with_spread`), one a method; brighter is wider."""
    reach = max(0.05, float(cells["spread"].max(skipna=True)) if cells["spread"].notna().any() else 0.0)
    colours, scale = colormaps["cividis"], Normalize(0, reach)

    def paint(value: Any) -> tuple[str, str]:
        return to_hex(colours(scale(value))), f"{value:.3f}"

    return _panels(cells, methods or by_mean(cells), "spread", paint, ScalarMappable(scale, colours), {})


def trials_map(cells: pd.DataFrame, methods: Sequence[str] | None = None) -> Figure:
    """Heat maps of the search trials that were spent, one a method; those stopped early or failed are in brackets."""
    colours, scale = colormaps["cividis"], Normalize(0, max(1, int(cells["trials"].max())))
    lost = cells["pruned"].fillna(0) + cells["failed"].fillna(0)
    told = cells.assign(trials=pd.Series(list(zip(cells["trials"], lost, strict=True)), index=cells.index))

    def paint(value: Any) -> tuple[str, str]:
        spent, short = value
        return to_hex(colours(scale(spent))), f"{spent} ({short})" if short else str(spent)

    return _panels(told, methods or by_mean(cells), "trials", paint, ScalarMappable(scale, colours), {}, mean=False)


def choice_map(cells: pd.DataFrame, method: str, hyperparameters: Sequence[str]) -> Figure:
    """The selected value of each of these hyperparameters over the plane, written in the cell, side by
    side."""
    figure, axes, across = _canvas(cells, list(hyperparameters), colour_bar=False, cell=1.1)
    for index, (ax, name) in enumerate(zip(axes, hyperparameters, strict=True)):
        table = plane.axis_table(cells, method, name)
        _heat(ax, cells, table, _palette(table), f"{method_name(method)} · {name}", label_y=index % across == 0)
    return figure


def _palette(table: pd.DataFrame) -> Paint:
    """Numbers by value on cividis; up to eight other values by Okabe and Ito's colours; more by place on
    cividis."""
    values = [value for value in table.to_numpy().ravel() if _present(value)]
    if values and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        scale = Normalize(min(values), max(values))
        return lambda value: (
            to_hex(colormaps["cividis"](0.15 + 0.85 * float(scale(value)))),
            readable(value),
        )
    names = sorted({readable(value) for value in values})
    steps = [to_hex(colormaps["cividis"](i / max(1, len(names) - 1))) for i in range(len(names))]
    colours = dict(zip(names, OKABE_ITO if len(names) <= len(OKABE_ITO) else steps, strict=False))
    return lambda value: (colours[readable(value)], readable(value))


def _present(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict)) or not pd.isna(value)


def _canvas(
    cells: pd.DataFrame, titles: Sequence[str], colour_bar: bool, cell: float
) -> tuple[Figure, list[Axes], int]:
    """A figure of WIDTH with one axes a title, in rows of as many as fit with cells of `cell` inches."""
    rates, corruptions = cells["discovery_rate"].nunique(), cells["corruption"].nunique()
    margin, bar = 1.4, 0.75 if colour_bar else 0.2
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


def _panels(
    cells: pd.DataFrame,
    methods: Sequence[str],
    column: str,
    paint: Paint,
    bar: ScalarMappable,
    framed: dict[tuple[str, str, float], str],
    mean: bool = True,
) -> Figure:
    figure, axes, across = _canvas(cells, list(methods), colour_bar=True, cell=0.48)
    for index, (ax, method) in enumerate(zip(axes, methods, strict=True)):
        table = plane.grid(cells, method, column)
        average = table.stack().mean() if mean else float("nan")
        instead = plane.grid(cells, method, _FEW) if _FEW in cells else None
        nothing = "no result" if instead is None or instead.isna().all(axis=None) else "too few"
        text = nothing if mean and pd.isna(average) else f"mean {paint(average)[1]}" if mean else ""
        title = f"{method_name(method)}\n{text}"
        _heat(
            ax,
            cells,
            table,
            paint,
            title,
            label_y=index % across == 0,
            hover=f"{method_name(method)} · {NAMES[column]}",
            framed={place[1:]: style for place, style in framed.items() if place[0] == method},
            instead=instead,
        )
    last = axes[min(across, len(axes)) - 1].get_position()
    colour_axes = figure.add_axes((last.x1 + 0.15 / WIDTH, last.y0, 0.13 / WIDTH, last.height))
    figure.colorbar(bar, cax=colour_axes).set_label(NAMES[column], fontsize=8)
    colour_axes.tick_params(labelsize=8)
    return figure


def _heat(
    ax: Axes,
    cells: pd.DataFrame,
    table: pd.DataFrame,
    paint: Paint,
    title: str,
    label_y: bool,
    hover: str | None = None,
    framed: dict[tuple[str, float], str] | None = None,
    instead: pd.DataFrame | None = None,
) -> None:
    """One grid: the table's first row on top, a number (or word) in each cell, hover text on each.

    `instead` has the words for cells without a value.
    """
    down, across = table.shape
    room = ax.get_position().width * WIDTH * 72 / across * 0.95 / 0.62  # points for one letter's width of text
    for row, corruption in enumerate(table.index):
        for column, rate in enumerate(table.columns):
            value = table.iloc[row, column]
            word = None if instead is None else instead.iloc[row, column]
            colour, text = paint(value) if _present(value) else (EMPTY, word if isinstance(word, str) else "–")
            corner = (column, down - 1 - row)
            tip = f"{_TIP}{corruption} at discovery {rate:g} · {hover or title}: {text}"
            square = Rectangle(corner, 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5, gid=tip)
            square.set_url(_CELL + cell_name(str(corruption), float(rate)))
            ax.add_patch(square)
            wide = max(len(part) + 2 * (" + " in text) for part in text.split(" + "))
            ax.text(
                column + 0.5,
                down - row - 0.5,
                text.replace(" + ", "\n+ "),
                ha="center",
                va="center",
                color=ink(colour),
                fontsize=max(5.5, min(9.0, room / wide)),
            )
            line = (framed or {}).get((str(corruption), float(rate)))
            if line is not None:
                ax.add_patch(
                    Rectangle(
                        (column + 0.03, down - 0.97 - row),
                        0.94,
                        0.94,
                        fill=False,
                        linewidth=2,
                        linestyle=line,
                        edgecolor="black",
                        joinstyle="miter",
                    )
                )
    regularity = cells.groupby("corruption")["regularity"].mean()
    names = [
        f"{name}\nregularity {regularity[name]:.2f}" if pd.notna(regularity[name]) else name for name in table.index
    ]
    ax.set(xlim=(0, across), ylim=(0, down))
    ax.set_xticks([i + 0.5 for i in range(across)], [f"{rate:g}" for rate in table.columns], fontsize=8)
    ax.set_yticks([down - 0.5 - i for i in range(down)], names if label_y else [""] * down, fontsize=8)
    ax.set_title(title, fontsize=10, fontweight="bold", loc="left", pad=4)
    ax.set_xlabel("discovery rate", fontsize=8, labelpad=1)
    ax.tick_params(length=0, pad=3)
    ax.spines[:].set_visible(False)


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element for inlining: text as text, hover titles, links to `#cell-NAME`, and ids that begin
    with `name`, so that several live in one page."""
    page = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rem-study"}):
        figure.savefig(page, format="svg", metadata={"Date": None, "Creator": None})
    text = page.getvalue()
    text = re.sub(rf'<g id="{_TIP}([^"]*)">', r"<g><title>\1</title>", text[text.index("<svg") :])
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return re.sub(rf'xlink:href="{_CELL}([^"]*)" target="[^"]*"', r'href="#cell-\1"', text)


def tip(text: str) -> str:
    """What an artist carries as `gid` to show `text` on hover."""
    return _TIP + text
