"""The tables of a paper: methods over all cells, and each method in each cell, with booktabs."""

from __future__ import annotations

import pandas as pd

from rem_study.report.measures import by_mean, method_name
from rem_study.report.verdicts import stands_on
from rem_study.results import columns, plane, selection
from rem_study.results.winners import FEWEST_LED, FEWEST_SAMPLES, STANDARD_ERRORS
from rem_study.shown import shown

_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}

_RULE = (
    r"A cell is \emph{won} by a lead beyond noise over every other method (the paired 95\,\% interval over replicates "
    f"above zero; on one replicate, more than {STANDARD_ERRORS:g} standard errors of its samples; and worth at least "
    rf"{FEWEST_LED} samples); else it is \emph{{level}}."
)


def escape(text: str) -> str:
    """`text` as LaTeX prints it."""
    return "".join(_SPECIAL.get(character, character) for character in shown(text, keep=""))


def tables(cells: pd.DataFrame, trials: pd.DataFrame) -> str:
    """Both tables; `\\usepackage{booktabs}` is all they need."""
    return f"% needs \\usepackage{{booktabs}}\n{methods_table(cells, trials)}\n{grid_table(cells)}"


def methods_table(cells: pd.DataFrame, trials: pd.DataFrame) -> str:
    """A row a method, best mean first: mean and range over the cells, the mean's interval over replicates, cells won
    and level, the default, sample passes."""
    total = len(cells.drop_duplicates(columns.CELL))
    head = ["method", r"utility $\times$ healed", r"95\,\%", "healed", "utility", f"won of {total}", "level", "default"]
    head.append("passes")
    rows = [
        [
            escape(method_name(row["method"])),
            _over_cells(row, "utility_x_healed"),
            _over_replicates(row),
            *(_over_cells(row, name) for name in ("healed", "utility")),
            str(row["cells_won"]),
            str(row["cells_level"]),
            _number(row["default_utility_x_healed"], 3),
            f"{row['sample_passes'] / 1000:.0f}\\,k",
        ]
        for _, row in plane.methods_frame(cells, trials).iterrows()
    ]
    caption = (
        r"Mean over the cells, in brackets the lowest and the highest cell; \emph{95\,\%}: interval of that mean over "
        rf"replicates. {_RULE} \emph{{Default}}: mean of the default configuration; \emph{{passes}}: sample passes of "
        rf"the whole search. {escape(stands_on(cells))}"
    )
    return _table([head, *rows], "l" + "r" * (len(head) - 1), caption, "tab:methods")


def grid_table(cells: pd.DataFrame) -> str:
    """Utility x healed of each method (rows) in each cell (columns); who has won a cell is bold, who is level in it in
    italics, an interval stands below its number where it is known."""
    places = [
        (name, rate)
        for name in selection.corruption_order(cells)
        for rate in sorted(cells.loc[cells["corruption"] == name, "discovery_rate"].unique())
    ]
    enough = plane.enough(cells, "utility_x_healed")
    shown = cells.assign(enough=enough).set_index(["method", "corruption", "discovery_rate"])
    names: dict[str, int] = {}
    for name, _ in places:
        names[name] = names.get(name, 0) + 1
    groups = " & ".join(f"\\multicolumn{{{n}}}{{c}}{{{escape(name)}}}" for name, n in names.items())
    head = ["discovery rate", *(f"{rate:g}" for _, rate in places)]
    rows = []
    for method in by_mean(cells):
        row = [escape(method_name(method))]
        for place in places:
            key = (method, *place)
            found = shown.loc[key] if key in shown.index else None
            row.append("--" if found is None else _cell(found))
        rows.append(row)
    caption = (
        rf"Utility $\times$ healed of each method's selected configuration; bold: won, italics: level. {_RULE} "
        rf"{escape(stands_on(cells))}"
    )
    if not enough.all():
        caption += rf" \emph{{Few}}: fewer than {FEWEST_SAMPLES} samples, not shown."
    if cells["utility_x_healed_low"].notna().any():
        caption += r" In brackets: 95\,\% interval over replicates."
    return _table([head, *rows], "l" + "r" * len(places), caption, "tab:grid", above=f" & {groups} \\\\")


def _cell(row: pd.Series) -> str:
    if not row["enough"]:
        return r"\emph{few}"
    text = _number(row["utility_x_healed"], 2)
    style = {"won": "textbf", "level": "textit"}.get(row["standing"])
    if style is not None:
        text = f"\\{style}{{{text}}}"
    low, high = row["utility_x_healed_low"], row["utility_x_healed_high"]
    if pd.isna(low) or pd.isna(high):
        return text
    return f"\\shortstack{{{text}\\\\{{\\tiny [{low:.2f}, {high:.2f}]}}}}"


def _over_cells(row: pd.Series, name: str) -> str:
    mean, low, high = (row[f"{name}_{part}"] for part in ("mean", "min", "max"))
    return _number(mean, 3) if pd.isna(mean) or low == high else f"{mean:.3f} ({low:.3f}--{high:.3f})"


def _over_replicates(row: pd.Series) -> str:
    low, high = row["utility_x_healed_low"], row["utility_x_healed_high"]
    return "--" if pd.isna(low) else f"{low:.3f}--{high:.3f}"


def _number(value: float, digits: int) -> str:
    return "--" if pd.isna(value) else f"{value:.{digits}f}"


def _table(rows: list[list[str]], columns: str, caption: str, label: str, above: str = "") -> str:
    body = [f"{' & '.join(row)} \\\\" for row in rows]
    lines = [
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{caption}}}",
        f"\\label{{{label}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *([above] if above else []),
        body[0],
        r"\midrule",
        *body[1:],
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
