"""The grid as HTML: one map of who wins each cell, and small maps of every figure, a table each, so that they can be
read aloud, followed by keyboard, printed, and folded onto a narrow screen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Colormap, to_hex

from rem_study.report.html import method_html, number
from rem_study.report.measures import Measure, ink, measure, method_name, palette, present, readable
from rem_study.report.source import StudyData
from rem_study.report.styles import MethodStyle
from rem_study.report.verdicts import verdict
from rem_study.results import plane, selection
from rem_study.spec import cell_name

Square = Callable[[str, float], str]
"""A corruption and a discovery rate to a table's cell (HTML)."""


def marks(styles: dict[str, MethodStyle]) -> str:
    """The methods' markers, drawn once; `mark` shows them."""
    shapes = "".join(
        f'<symbol id="mark-{index}" viewBox="-10 -10 20 20">'
        f'<path fill="{style.colour}" d="{style.svg_path()}"/></symbol>'
        for index, style in enumerate(styles.values())
    )
    return f'<svg width="0" height="0" style="position:absolute" aria-hidden="true">{shapes}</svg>'


def mark(styles: dict[str, MethodStyle], method: str) -> str:
    """A method's marker, in its colour."""
    index = list(styles).index(method)
    return f'<svg class="mark" aria-hidden="true"><use href="#mark-{index}"/></svg>'


def keys(styles: dict[str, MethodStyle]) -> str:
    """Which marker is which method's."""
    return (
        '<ul class="keys" aria-label="methods">'
        + "".join(f"<li>{mark(styles, name)}{method_html(name)}</li>" for name in styles)
        + "</ul>"
    )


def axes(data: StudyData) -> tuple[list[str], list[float]]:
    """Corruptions, high regularity first, and rising discovery rates: of the whole study, run or not."""
    corruptions = selection.corruption_order(data.cells)[::-1] if len(data.cells) else []
    rates = set(data.cells["discovery_rate"]) if len(data.cells) else set()
    if data.resolved is not None:
        named = [one.name for one in data.resolved.spec.corruptions]
        corruptions = [*(name for name in named[::-1] if name not in corruptions), *corruptions]
        rates |= set(data.resolved.spec.discovery_rates)
    return corruptions, sorted(rates)


def _table(
    kind: str,
    label: str,
    corruptions: Iterable[Any],
    rates: Sequence[Any],
    square: Square,
    row: Callable[[str], str] | None = None,
) -> str:
    head = "".join(f'<th scope="col">{rate:g}</th>' for rate in rates)
    lines = "".join(
        f'<tr><th scope="row">{(row or _words)(name)}</th>' + "".join(square(name, rate) for rate in rates) + "</tr>"
        for name in corruptions
    )
    corner = '<th scope="col">discovery rate:</th>'
    return f'<table class="{kind}" aria-label="{escape(label)}"><tr>{corner}{head}</tr>{lines}</table>'


def winners_map(data: StudyData, styles: dict[str, MethodStyle]) -> str:
    """Who wins each cell and by how much; of a study that runs, how far each cell is."""
    cells = data.cells
    corruptions, rates = axes(data)
    best = plane.leaders(cells).set_index("cell") if len(cells) else cells
    regularity: Mapping[Any, float] = cells.groupby("corruption")["regularity"].mean().to_dict() if len(cells) else {}
    ranked = cells.sort_values("utility_x_healed", ascending=False) if len(cells) else cells
    level = ranked.loc[plane.level(ranked)].groupby("cell")["method"].apply(list).to_dict() if len(cells) else {}
    some = set(cells["cell"]) if len(cells) else set()

    def row(corruption: str) -> str:
        measured = regularity.get(corruption, float("nan"))
        return _words(corruption) + ("" if pd.isna(measured) else f"<br>regularity {measured:.2f}")

    def square(corruption: str, rate: float) -> str:
        name = cell_name(corruption, rate)
        bar = ""
        if data.progress is not None:
            done, total = data.progress.finished.get(name, 0), data.progress.total
            bar = f'<span class="by">{done} of {total} trials</span><progress value="{done}" max="{total}"></progress>'
        if name not in some:
            return f'<td class="waiting">{bar or "not run"}</td>'
        if name not in best.index:
            return f'<td><a href="#cell-{escape(name)}">no result{bar}</a></td>'
        leader = best.loc[name].rename(name)
        style, told = _square(leader, level.get(name, []), styles)
        tip = f"{escape(name)}: {verdict(leader)}"
        return f'<td {style}><a href="#cell-{escape(name)}" data-tip="{tip}">{told}{bar}</a></td>'

    return f'<div class="wide">{_table("wins", "who wins each cell", corruptions, rates, square, row)}</div>'


def _square(leader: pd.Series, level: list[str], styles: dict[str, MethodStyle]) -> tuple[str, str]:
    method, score = leader["method"], f'<span class="by">best score {number(leader["utility_x_healed"], ".2f")}</span>'
    if leader["standing"] == "won":
        name = f"<b>{mark(styles, method)}{method_html(method)}</b>"
        by = f'<span class="by">by {number(leader["lead"], ".2f")} over {method_html(leader["rival"])}</span>'
        return f'class="won" style="--c:{styles[method].colour}"', name + by + score
    if leader["standing"] == "level":
        names = "".join(mark(styles, one) for one in level[:6])
        more = f" +{len(level) - 6}" if len(level) > 6 else ""
        words = "no verdict" if pd.isna(leader["lead_low"]) else "level"
        told = f'{names}{more}<span class="by">{words}: {len(level)} methods</span>'
        return 'class="level"', told + score
    return 'class="alone"', f'<b>{mark(styles, method)}{method_html(method)}</b><span class="by">alone</span>{score}'


def _words(name: str) -> str:
    return escape(name.replace("_", " "))


def measure_maps(cells: pd.DataFrame, name: str, methods: Sequence[str]) -> str | None:
    """One figure of every cell, a map a method; None where there is nothing to show."""
    shown = measure(cells, name)
    if shown is None:
        return None
    columns = shown.values["discovery_rate"].nunique()
    panels = "".join(_panel(shown, method, place) for place, method in enumerate(methods))
    return f'{_scale(shown)}<div class="maps" style="--wide:{7 + 2.6 * columns:.1f}rem">{panels}</div>'


def _panel(shown: Measure, method: str, place: int) -> str:
    table, words = shown.grid(method), shown.words(method)

    def square(corruption: str, rate: float) -> str:
        value, word = table.at[corruption, rate], words.at[corruption, rate]
        colour, text = shown.paint(value) if present(value) else ("", word if isinstance(word, str) else "–")
        name = cell_name(corruption, rate)
        framed = shown.framed.get((method, corruption, rate), "")
        kind = " ".join(filter(None, [framed, ink(colour)[0] if colour else ""]))
        opening = f'<td class="{kind}" style="background:{colour}">' if colour else f'<td class="{kind}">'
        return f'{opening}<a href="#cell-{escape(name)}" data-of="{place}">{escape(text)}</a></td>'

    label = f"{method_name(method)}: {shown.name.replace('_', ' ')}"
    grid = _table("map", label, table.index, list(table.columns), square)
    title = f"{method_html(method)} <span>{shown.headline(method)}</span>"
    return f"<figure><figcaption>{title}</figcaption>{grid}</figure>"


def _scale(shown: Measure) -> str:
    low, high = shown.scale.vmin or 0.0, shown.scale.vmax or 1.0
    form = "+.2f" if low < 0 else "g"
    return (
        f'<p class="note">{number(low, form)} '
        f'<span class="scale" style="background:{_gradient(shown.colours)}"></span> '
        f"{number(high, form)}</p>"
    )


def _gradient(colours: Colormap) -> str:
    return f"linear-gradient(to right,{','.join(to_hex(colours(step / 8)) for step in range(9))})"


def choice_maps(cells: pd.DataFrame, method: str, hyperparameters: Sequence[str]) -> str:
    """The selected value of each of these hyperparameters over the grid."""
    panels = []
    for name in hyperparameters:
        table = plane.axis_table(cells, method, name)
        paint = palette(table)

        def square(corruption: str, rate: float, table: pd.DataFrame = table, paint: Any = paint) -> str:
            value = table.at[corruption, rate]
            if not present(value):
                return "<td>–</td>"
            colour, text = paint(value)
            cell = escape(cell_name(corruption, rate))
            opening = f'<td class="{ink(colour)[0]} words-in" style="background:{colour}">'
            return f'{opening}<a href="#cell-{cell}">{escape(text)}</a></td>'

        grid = _table("map", name, table.index, list(table.columns), square)
        panels.append(f"<figure><figcaption>{escape(name)}</figcaption>{grid}</figure>")
    width = 7 + 4.5 * cells["discovery_rate"].nunique()
    return f'<div class="maps" style="--wide:{width:.1f}rem">{"".join(panels)}</div>'


def importance_map(per_cell: pd.DataFrame) -> str:
    """How much each hyperparameter decides in each cell, a row a hyperparameter."""
    table = per_cell.pivot(index="hyperparameter", columns="cell", values="importance")
    table = table.reindex(columns=list(dict.fromkeys(per_cell["cell"])))
    table = table.loc[table.mean(axis=1).sort_values(ascending=False).index]
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.columns)
    lines = []
    for name, values in table.iterrows():
        squares = []
        for value in values:
            if pd.isna(value):
                squares.append("<td>–</td>")
                continue
            colour = to_hex(colormaps["cividis"](value))
            squares.append(f'<td class="{ink(colour)[0]}" style="background:{colour}">{number(value, ".2f")}</td>')
        lines.append(f'<tr><th scope="row">{escape(str(name))}</th>{"".join(squares)}</tr>')
    grid = f'<table class="map" aria-label="importances by cell"><tr><th></th>{head}</tr>{"".join(lines)}</table>'
    return f'<div class="wide">{grid}</div>'


def value_lines(row: pd.Series) -> str:
    """Every figure of one (cell, method), a line each: what a square of any map shows when it is pointed at."""
    shares = {"healed": "healed", "healed_discovered": "of the discovered",
              "healed_undiscovered": "of the undiscovered", "utility": "utility",
              "found_average_precision": "found", "attack_success": "attack success"}  # fmt: skip
    lines = [f"{row['cell']} · {method_name(row['method'])}"]
    score = f"utility × healed {number(row['utility_x_healed'])}"
    if pd.notna(row["utility_x_healed_low"]):
        score += f" (95 % {number(row['utility_x_healed_low'])} to {number(row['utility_x_healed_high'])})"
    lines.append(score)
    lines += [f"{words} {number(row[column])}" for column, words in shares.items() if pd.notna(row[column])]
    lines.append(f"gain over the default {number(row['gain'], '+.3f')}")
    if pd.notna(row["spread"]):
        lines.append(f"SD over {row['replicates']} replicates {number(row['spread'])}")
    lines.append(f"{row['trials']} trials, {row['pruned']} stopped early, {row['failed']} failed")
    if isinstance(row["config"], str):
        settings = json.loads(row["config"])
        lines.append(", ".join(f"{key}={readable(value)}" for key, value in settings.items()))
    return "\n".join(lines)
