"""Pieces of the report as HTML: tables, figures, numbers for people. Whatever comes from the data is escaped here or by
the caller; nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd
from matplotlib.figure import Figure

from rem_study.report import heat_maps as figures

STYLE = """
:root { color-scheme: light }
html { scroll-padding-top: 3rem }
body { font: 15px/1.45 system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; color: #1b1f24;
  background: #fff; max-width: 1210px; margin: 0 auto 4rem; padding: 0 1.2rem }
nav { position: sticky; top: 0; background: #fff; border-bottom: 1px solid #d5dae0; padding: .5rem 0;
  margin-bottom: 1rem; font-size: .87rem; z-index: 1 }
nav a { margin-right: 1.1rem } a { color: #0b57a4; text-decoration: none } a:hover { text-decoration: underline }
h1 { font-size: 1.55rem; margin: 0 } h2 { font-size: 1.15rem; margin: 1.9rem 0 .3rem }
h3 { font-size: 1rem; margin: 1.3rem 0 .2rem }
p { margin: .4rem 0; max-width: 75rem } .note { color: #4d5661; font-size: .87rem }
.summary { font-size: 1.06rem } .absent { color: #4d5661; font-style: italic }
table { border-collapse: collapse; font-size: .87rem; margin: .5rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .2rem .7rem .2rem 0 }
th { border-bottom: 2px solid #1b1f24; vertical-align: bottom }
td { border-bottom: 1px solid #d5dae0; vertical-align: top }
.number { text-align: right } td.number { white-space: nowrap } tr.best td { font-weight: 600 }
code, pre { font: .8rem/1.4 ui-monospace, 'DejaVu Sans Mono', monospace; overflow-wrap: anywhere }
pre { white-space: pre-wrap; margin: .3rem 0 }
details { margin: .3rem 0 } summary { cursor: pointer; color: #0b57a4; font-size: .87rem }
figure { margin: .4rem 0; overflow-x: auto } figure svg { max-width: 100%; height: auto }
svg text { pointer-events: none } svg a { cursor: pointer } svg a:hover path { stroke: #d55e00; stroke-width: 3 }
.cell { display: none } .cell:target { display: block }
body:has(.cell:target) #overview { display: none }
@media print {
  html { font-size: 11px } nav { display: none }
  body { max-width: none; margin: 0; font-size: 11px; print-color-adjust: exact;
    -webkit-print-color-adjust: exact }
  figure, tr { break-inside: avoid } h2, h3 { break-after: avoid }
}
"""


def table(rows: Sequence[dict[str, str]], text: Sequence[str], best: Sequence[int] = ()) -> str:
    """Rows map a column's head (text) to its cell (HTML, already escaped); heads not in `text` go right."""
    kind = {head: "" if head in text else ' class="number"' for head in rows[0]}
    head = "".join(f"<th{kind[name]}>{escape(name)}</th>" for name in kind)
    lines = [f"<table><thead><tr>{head}</tr></thead>", "<tbody>"]
    for place, row in enumerate(rows):
        opening = '<tr class="best">' if place in best else "<tr>"
        lines.append(opening + "".join(f"<td{kind[name]}>{cell}</td>" for name, cell in row.items()) + "</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def figure_html(drawn: Figure, name: str, caption: str) -> str:
    """A figure inline, its caption (HTML) above it; the page links to it by `name`."""
    note = f'<p class="note">{caption}</p>'
    return f'{note}<figure id="{name}">{figures.svg(drawn, name)}</figure>'


def method_html(method: str) -> str:
    """A method as the reader sees it, escaped."""
    return escape(figures.method_name(method))


def number(value: float, form: str = ".3f") -> str:
    """A number with three digits; a dash where there is none."""
    return "–" if pd.isna(value) else format(value, form)


def over_cells(row: pd.Series, name: str = "utility_x_healed") -> str:
    """`0.933 (0.550 to 0.960)`: the mean over cells, the lowest and the highest, from `_mean`, `_min` and `_max`."""
    mean, low, high = (row[f"{name}_{part}"] for part in ("mean", "min", "max"))
    return number(mean) if pd.isna(mean) or low == high else f"{mean:.3f} ({low:.3f} to {high:.3f})"


def over_replicates(row: pd.Series) -> str:
    """`0.780 to 0.840 (3)`: the 95 % interval of a mean over cells, and over how many replicates; a dash for none."""
    if pd.isna(row["utility_x_healed_low"]):
        return "–"
    low, high = row["utility_x_healed_low"], row["utility_x_healed_high"]
    return f"{low:.3f} to {high:.3f} ({int(row['replicates'])})"


def chosen(row: pd.Series) -> str:
    """How the exported configuration was chosen: `the default; raced on 2`, `won the race on 4`, `search's best`."""
    rounds = row["race_replicates"]
    raced = "" if pd.isna(rounds) or not rounds else f" on {int(rounds)}"
    if not isinstance(row["chosen"], str):
        return "–"
    if row["chosen"] == "default":
        return f"the default; raced{raced}" if raced else "the default"
    return f"won the race{raced}" if row["chosen"] == "race" else "search's best"


def share(value: float, samples: float, few: bool) -> str:
    """`0.933 (n 30)`: a share and how many samples it is of, where that is known; of too few, only that."""
    if few and pd.notna(value):
        return f"too few (n {samples:.0f})"
    return number(value) if pd.isna(value) or pd.isna(samples) else f"{value:.3f} (n {samples:.0f})"


def listed(names: Sequence[str], shown: int = 4) -> str:
    """Some of the names, and how many more there are, escaped."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return escape(", ".join(names[:shown]) + more)


def counted(number: int, noun: str) -> str:
    """`3 cells`, `1 cell`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def large(number: float) -> str:
    """A count with k, M or G."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def interval(row: pd.Series, name: str = "utility_x_healed", form: str = ".3f") -> str:
    """`0.933 [0.910, 0.951]` where the columns `_low` and `_high` are known, else the number alone."""
    text = number(row[name], form)
    if pd.isna(row[f"{name}_low"]) or pd.isna(row[f"{name}_high"]):
        return text
    return f"{text} [{row[f'{name}_low']:{form}}, {row[f'{name}_high']:{form}}]"


def cell_link(cell: str) -> str:
    """A cell's name, which leads to its page."""
    return f'<a href="#cell-{escape(cell)}">{escape(cell)}</a>'


def folded(summary: str, content: str) -> str:
    """`content` (HTML) behind a line that opens it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def absent(text: str) -> str:
    """Says plainly that something is not there, and why (text)."""
    return f'<p class="absent">{escape(text)}</p>'
