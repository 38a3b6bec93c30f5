"""The tables of a paper: methods over all cells, and each method in each cell, with booktabs."""

from __future__ import annotations

import pandas as pd

from rem_study.report.heat_maps import by_mean, method_name
from rem_study.results import columns, plane, selection

_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}


def escape(text: str) -> str:
    """`text` as LaTeX prints it."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def tables(cells: pd.DataFrame) -> str:
    """Both tables; `\\usepackage{booktabs}` is all they need."""
    return f"% needs \\usepackage{{booktabs}}\n{methods_table(cells)}\n{grid_table(cells)}"


def methods_table(cells: pd.DataFrame) -> str:
    """A row a method, best mean first: mean ± standard error over the cells, cells won, the default, sample passes."""
    total = len(cells.drop_duplicates(columns.CELL))
    head = ["method", r"utility $\times$ healed", "healed", "utility", f"cells won of {total}", "default", "passes"]
    rows = [
        [
            escape(method_name(row["method"])),
            *(_spread(row, name) for name in ("utility_x_healed", "healed", "utility")),
            str(row["cells_won"]),
            _number(row["default_utility_x_healed"], 3),
            f"{row['sample_passes'] / 1000:.0f}\\,k",
        ]
        for _, row in plane.methods_frame(cells).iterrows()
    ]
    caption = r"Mean $\pm$ standard error over the cells. A tie wins no cell; \emph{default}: mean of the default "
    caption += "configuration; \\emph{passes}: sample passes of the whole search."
    return _table([head, *rows], "l" + "r" * (len(head) - 1), caption, "tab:methods")


def grid_table(cells: pd.DataFrame) -> str:
    """Utility x healed of each method (rows) in each cell (columns); the cell's best method is bold, an interval stands
    below its number where it is known."""
    places = [
        (name, rate)
        for name in selection.corruption_order(cells)
        for rate in sorted(cells.loc[cells["corruption"] == name, "discovery_rate"].unique())
    ]
    shown = cells.assign(won=plane.wins(cells)).set_index(["method", "corruption", "discovery_rate"])
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
    caption = r"Utility $\times$ healed of each method's selected configuration; bold: the cell's best method."
    return _table([head, *rows], "l" + "r" * len(places), caption, "tab:grid", above=f" & {groups} \\\\")


def _cell(row: pd.Series) -> str:
    text = _number(row["utility_x_healed"], 2)
    if row["won"]:
        text = f"\\textbf{{{text}}}"
    low, high = row["utility_x_healed_low"], row["utility_x_healed_high"]
    if pd.isna(low) or pd.isna(high):
        return text
    return f"\\shortstack{{{text}\\\\{{\\tiny [{low:.2f}, {high:.2f}]}}}}"


def _spread(row: pd.Series, name: str) -> str:
    mean, sem = row[f"{name}_mean"], row[f"{name}_sem"]
    return _number(mean, 3) if pd.isna(mean) or pd.isna(sem) else f"${mean:.3f} \\pm {sem:.3f}$"


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
