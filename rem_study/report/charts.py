"""The page's charts as Plotly takes them (`data` and `layout`, plain values): what can be drawn without the trials.
Those of trials are drawn by the page's script (assets/charts.js) from `payload`."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from rem_study.report.html import number, over_replicates
from rem_study.report.measures import by_mean, method_name, minus
from rem_study.report.plots import ramp, spans_decades
from rem_study.report.styles import method_styles
from rem_study.results import plane, selection

NEUTRAL = "#808892"
"""For what belongs to no method: seen on white and on near black."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star")
Chart = dict[str, Any]


def height_of_methods(methods: int) -> int:
    """Of the comparison of methods, in pixels."""
    return 90 + 34 * methods


def methods_chart(cells: pd.DataFrame, trials: pd.DataFrame) -> Chart:
    """Utility × healed of each method: its mean over the cells with the 95 % interval over replicates, its cells, and
    the default configuration's mean."""
    methods = plane.methods_frame(cells, trials).iloc[::-1].reset_index(drop=True)
    styles = method_styles(by_mean(cells))
    place = {name: index for index, name in enumerate(methods["method"])}
    known = cells.dropna(subset="utility_x_healed")
    means = methods.dropna(subset="utility_x_healed_mean")
    look = {"color": [styles[name].colour for name in means["method"]],
            "symbol": [styles[name].symbol for name in means["method"]]}  # fmt: skip
    ends = means[["utility_x_healed_low", "utility_x_healed_high"]]
    bars = {"type": "data", "symmetric": False, "color": NEUTRAL, "thickness": 2, "width": 5,
            "array": _plain(ends.iloc[:, 1] - means["utility_x_healed_mean"]),
            "arrayminus": _plain(means["utility_x_healed_mean"] - ends.iloc[:, 0])}  # fmt: skip
    defaults = methods.dropna(subset="default_utility_x_healed")
    data = [
        _points("cells", known["utility_x_healed"], [place[name] + 0.24 for name in known["method"]],
                {"size": 7, "opacity": 0.55, "color": [styles[name].colour for name in known["method"]],
                 "symbol": [styles[name].symbol for name in known["method"]]},
                [_cell_text(row) for row in known.to_dict("records")]) | {"customdata": list(known["cell"])},
        _points("mean", means["utility_x_healed_mean"], [place[name] - 0.12 for name in means["method"]],
                {"size": 14, "line": {"width": 1, "color": NEUTRAL}} | look,
                [_mean_text(row, len(cells.drop_duplicates("cell"))) for _, row in means.iterrows()])
        | {"error_x": bars},
        _points("default", defaults["default_utility_x_healed"], [place[name] - 0.12 for name in defaults["method"]],
                {"size": 10, "symbol": "diamond-open", "color": NEUTRAL, "line": {"width": 2}},
                [f"{_name(row['method'])}: default configuration, mean {row['default_utility_x_healed']:.3f}"
                 for row in defaults.to_dict("records")]),
    ]  # fmt: skip
    labels = [
        f"{_name(row['method'])}  <b>{number(row['utility_x_healed_mean'])}</b>" for row in methods.to_dict("records")
    ]
    axis = {"tickvals": list(place.values()), "ticktext": labels, "range": [-0.6, len(place) - 0.4]}
    layout = {"height": height_of_methods(len(place)), "showlegend": False,
              "xaxis": {"range": [-0.02, 1.02], "title": {"text": "utility × healed"}},
              "yaxis": axis | {"showgrid": False, "fixedrange": True}}  # fmt: skip
    return {"data": data, "layout": layout}


def _cell_text(row: Mapping[str, Any]) -> str:
    return (
        f"<b>{_name(row['method'])} · {escape(row['cell'])}</b><br>"
        f"utility × healed {number(row['utility_x_healed'])}<br>"
        f"healed {number(row['healed'])}, utility {number(row['utility'])}<br>click: open the cell"
    )


def _mean_text(row: pd.Series, total: int) -> str:
    text = f"<b>{_name(row['method'])}</b>: mean {number(row['utility_x_healed_mean'])} over {row['cells']} cells"
    if pd.notna(row["utility_x_healed_low"]):
        text += f"<br>95 % interval over replicates: {over_replicates(row)}"
    return f"{text}<br>{row['cells_won']} of {total} cells won, {row['cells_level']} level"


def cost_chart(cells: pd.DataFrame) -> Chart:
    """What each method cost, in sample passes of all its trials, against the mean utility × healed it reached."""
    styles = method_styles(by_mean(cells))
    methods = plane.methods_frame(cells)
    methods = methods[(methods["sample_passes"] > 0) & methods["utility_x_healed_mean"].notna()]
    data = [
        _points(method_name(row["method"]), [row["sample_passes"]], [row["utility_x_healed_mean"]],
                {"size": 11, "color": styles[row["method"]].colour, "symbol": styles[row["method"]].symbol},
                [f"<b>{_name(row['method'])}</b>: {row['utility_x_healed_mean']:.3f}<br>"
                 f"for {row['sample_passes']:,} sample passes"])
        for row in methods.to_dict("records")
    ]  # fmt: skip
    layout = {"height": 380, "xaxis": {"type": "log", "title": {"text": "sample passes of the whole search"}},
              "yaxis": {"range": [-0.03, 1.03], "title": {"text": "mean utility × healed"}}}  # fmt: skip
    return {"data": data, "layout": layout}


def trend_charts(trends: Mapping[str, pd.DataFrame], cells: pd.DataFrame) -> dict[str, Chart]:
    """How the good values of each hyperparameter move (see `importances.trends`), by a name for each chart: against the
    discovery rate, a line a corruption, and against the measured regularity, a line a discovery rate."""
    measured = cells.groupby("corruption")["regularity"].mean()
    found = {}
    for name, table in trends.items():
        table = table.assign(regularity=table["corruption"].map(measured))
        rates = sorted(set(table["discovery_rate"]))
        lines: dict[str, list[Any]] = {"corruption": selection.corruption_order(cells), "discovery_rate": rates}
        for by, across, title in (("corruption", "discovery_rate", "discovery rate"),
                                  ("discovery_rate", "regularity", "measured regularity")):  # fmt: skip
            data = []
            for place, (key, colour) in enumerate(zip(lines[by], ramp(by, len(lines[by])), strict=True)):
                line = table[table[by] == key].dropna(subset=across).sort_values(across)
                data += _band(line, across, key, colour, SYMBOLS[place % len(SYMBOLS)])
            x: Chart = {"title": {"text": title}}
            if by == "corruption":
                x |= {"type": "log", "tickvals": rates, "ticktext": [f"{rate:g}" for rate in rates]}
            y = {"title": {"text": name}} | ({"type": "log"} if spans_decades(table["value"]) else {})
            found[f"trend-{name}-{across}"] = {"data": data, "layout": {"height": 300, "xaxis": x, "yaxis": y}}
    return found


def _band(line: pd.DataFrame, across: str, key: Any, colour: str, symbol: str) -> list[Chart]:
    """A line with its interval."""
    label = f"discovery {key:g}" if isinstance(key, float) else str(key).replace("_", " ")
    texts = [
        f"<b>{escape(row['cell'])}</b><br>{number(row['value'], '.3g')}"
        f"<br>95 % {number(row['low'], '.3g')} to {number(row['high'], '.3g')}"
        for row in line.to_dict("records")
    ]
    x = _plain(line[across])
    band = {"type": "scatter", "mode": "lines", "x": x + x[::-1], "fill": "toself", "line": {"width": 0},
            "y": _plain(line["high"]) + _plain(line["low"])[::-1], "fillcolor": f"{colour}22", "hoverinfo": "skip",
            "showlegend": False, "legendgroup": label}  # fmt: skip
    own = _points(label, line[across], line["value"], {"size": 8, "symbol": symbol, "color": colour}, texts)
    return [band, own | {"mode": "lines+markers", "line": {"color": colour}, "legendgroup": label}]


def importance_chart(pooled: pd.DataFrame) -> Chart:
    """PED-ANOVA importances, all cells together, with their intervals."""
    rows = pooled.iloc[::-1]
    bars = {"type": "data", "symmetric": False, "color": NEUTRAL, "array": _plain(rows["high"] - rows["importance"]),
            "arrayminus": _plain(rows["importance"] - rows["low"])}  # fmt: skip
    texts = [f"<b>{escape(row['hyperparameter'])}</b>: {number(row['importance'])}<br>"
             f"95 % {number(row['low'])} to {number(row['high'])}" for row in rows.to_dict("records")]  # fmt: skip
    own = _points("", rows["importance"], [escape(name) for name in rows["hyperparameter"]],
                  {"size": 11, "color": NEUTRAL}, texts)  # fmt: skip
    layout = {"height": 110 + 26 * len(rows), "showlegend": False,
              "xaxis": {"rangemode": "tozero", "title": {"text": "share of the importance"}},
              "yaxis": {"type": "category"}}  # fmt: skip
    return {"data": [own | {"error_x": bars}], "layout": layout}


def _points(name: str, x: Any, y: Any, marker: Chart, texts: list[str]) -> Chart:
    hover = {"hoverinfo": "text", "hovertext": [minus(text) for text in texts]}
    points = {"x": _plain(x), "y": _plain(y), "marker": marker}
    return {"type": "scatter", "mode": "markers", "name": escape(name), **points, **hover}


def _plain(values: Any) -> list[Any]:
    """Values that JSON has; NaN becomes null."""
    return [None if isinstance(value, float) and value != value else value for value in list(values)]


def _name(method: str) -> str:
    return escape(method_name(method))
