"""Pieces of the report as HTML: tables, places of charts, numbers for people. Whatever comes from the data is escaped
here or by the caller; nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd

from rem_study.report.measures import method_name, minus

ASSETS = Path(__file__).with_name("assets")


def style() -> str:
    """The style sheet of every page: light and dark, wide and narrow, screen and paper."""
    return (ASSETS / "page.css").read_text(encoding="utf-8")


def table(rows: Sequence[dict[str, str]], text: Sequence[str], best: Sequence[int] = ()) -> str:
    """Rows map a column's head (text) to its cell (HTML, already escaped); heads not in `text` go right. The page's
    script lets a reader sort it by any column, by what `sortable` says where that is used."""
    kind = {head: "" if head in text else ' class="number"' for head in rows[0]}
    head = "".join(f'<th scope="col"{kind[name]}>{escape(name)}</th>' for name in kind)
    lines = [f'<div class="wide"><table class="list"><thead><tr>{head}</tr></thead>', "<tbody>"]
    for place, row in enumerate(rows):
        opening = '<tr class="best">' if place in best else "<tr>"
        lines.append(opening + "".join(f"<td{kind[name]}>{cell}</td>" for name, cell in row.items()) + "</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def sortable(value: float, text: str) -> str:
    """What a reader sees of a number whose text does not sort, `3.4 k` or `1.2 h`."""
    return f'<data value="{value:g}">{escape(text)}</data>'


def chart(name: str, caption: str, label: str, height: int, control: str = "") -> str:
    """Where the page's script draws a chart, its caption (HTML) above it.

    Args:
        label: what the chart shows, for those who cannot see it (text).
        control: a choice that the chart follows (HTML).
    """
    return (
        f'<figure class="chart" id="{escape(name)}"><figcaption class="note">{caption}</figcaption>{control}'
        f'<div class="plot" role="img" aria-label="{escape(label)}" data-chart="{escape(name)}" '
        f'style="min-height:{height}px"></div></figure>'
    )


def copy_button(words: str, content: str) -> str:
    """A button that puts `content` on the clipboard."""
    return f'<button type="button" class="copy" data-copy="{escape(content)}">{escape(words)}</button>'


def method_html(method: str) -> str:
    """A method as the reader sees it, escaped."""
    return escape(method_name(method))


def number(value: float, form: str = ".3f") -> str:
    """A number with three digits; a dash where there is none."""
    return "–" if pd.isna(value) else minus(format(value, form))


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
    return minus(f"{text} [{row[f'{name}_low']:{form}}, {row[f'{name}_high']:{form}}]")


def cell_link(cell: str) -> str:
    """A cell's name, which leads to its page."""
    return f'<a href="#cell-{escape(cell)}">{escape(cell)}</a>'


def folded(summary: str, content: str) -> str:
    """`content` (HTML) behind a line that opens it."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def absent(text: str) -> str:
    """Says plainly that something is not there, and why (text)."""
    return f'<p class="absent">{escape(text)}</p>'
