"""report.html and figures/*.png from a study's files alone: one page that opens offline, prints, and can
be read."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from rem_study import analysis, figures
from rem_study.errors import InputError
from rem_study.export import read_table, read_yaml
from rem_study.folder import Folder, write_atomically

REM = "rem"
REM_CHOICES = ("redirect_width", "layer_position", "erase_mode")
WEAK = 0.5
FAILURES_SHOWN = 50
OBJECTIVES = {
    "score_oracle": "utility × healed",
    "score_deployable": "a score that needs no clean labels",
}
STYLE = """
:root { color-scheme: light }
body { font: 15px/1.45 system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; color: #1b1f24;
  background: #fff; max-width: 1210px; margin: 1.2rem auto 4rem; padding: 0 1.2rem }
h1 { font-size: 1.55rem; margin: 0 } h2 { font-size: 1.15rem; margin: 1.7rem 0 .3rem }
p { margin: .4rem 0; max-width: 75rem } .note { color: #4d5661; font-size: .87rem }
.summary { font-size: 1.06rem }
table { border-collapse: collapse; font-size: .87rem; margin: .5rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .2rem .7rem .2rem 0 }
th { border-bottom: 2px solid #1b1f24; vertical-align: bottom }
td { border-bottom: 1px solid #d5dae0; vertical-align: top }
.number { text-align: right } td.number { white-space: nowrap } tr.best td { font-weight: 600 }
code, pre { font: .8rem/1.4 ui-monospace, 'DejaVu Sans Mono', monospace; overflow-wrap: anywhere }
pre { white-space: pre-wrap; margin: .3rem 0 }
figure { margin: .4rem 0 } figure svg { width: 100%; height: auto } svg text { pointer-events: none }
@media print {
  html { font-size: 11px }
  body { max-width: none; margin: 0; font-size: 11px; print-color-adjust: exact;
    -webkit-print-color-adjust: exact }
  figure, tr { break-inside: avoid } h2 { break-after: avoid }
}
"""


def write_report(folder: Folder) -> Folder:
    """Write `report.html` and `figures/*.png` into a study's folder and return the report's path.

    Reads trials.parquet, cells.parquet and, where they are there, study.yaml and manifest.json; nothing else.
    Raises InputError (one line) where a table is missing or damaged, or holds no trial yet.
    """
    trials, cells = read_table(folder, "trials.parquet"), read_table(folder, "cells.parquet")
    if cells.empty:
        raise InputError(f"{folder / 'cells.parquet'}: no trial in it yet")
    study = read_yaml(folder, "study.yaml") if (folder / "study.yaml").is_file() else {}
    drawn = draw(trials, cells)
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in drawn.items():
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=200)
        write_atomically(folder / "figures" / f"{name}.png", image.getvalue())
    path = folder / "report.html"
    write_atomically(path, page(trials, cells, study, _manifest(folder / "manifest.json"), drawn))
    return path


def draw(trials: pd.DataFrame, cells: pd.DataFrame) -> dict[str, Figure]:
    """Every figure of the report by its file's name: utility_x_healed, healed, utility, gain, and where REM is there
    rem_choices and rem_isolation."""
    scores = ("utility_x_healed", "healed", "utility")
    drawn = {score: figures.score_map(cells, score) for score in scores} | {"gain": figures.gain_map(cells)}
    isolation = figures.isolation_curves(trials, cells, REM)
    if isolation is not None:
        drawn["rem_isolation"] = isolation
    configs = cells.loc[(cells["method"] == REM) & cells["config"].notna(), "config"].map(json.loads)
    present = [name for name in REM_CHOICES if any(name in config for config in configs)]
    if present:
        drawn["rem_choices"] = figures.choice_map(cells, REM, present)
    return drawn


def page(
    trials: pd.DataFrame, cells: pd.DataFrame, study: Any, manifest: dict[str, Any], drawn: dict[str, Figure]
) -> str:
    """The report as one HTML document; everything that comes from the data is escaped."""
    name = str(trials["study"].iloc[0])
    sections = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="summary">{summary(cells)}</p>',
        f'<p class="note">{_words(study)} {_spent(cells)}</p>',
        "<h2>Methods over all cells</h2>",
        _methods(cells),
        "<h2>Utility × healed in each cell</h2>",
        _figure(
            drawn,
            "utility_x_healed",
            "Best configuration of each method. Brighter is better, 1 is perfect; "
            "the black frame marks the cell’s best method. Up: corruption that shares more (measured).",
        ),
        "<h2>Healed and utility, one by one</h2>",
        _figure(drawn, "healed", "Share of the corrupted training samples that get their true label back."),
        _figure(drawn, "utility", "Accuracy on clean test data."),
        "<h2>What searching gained over the default configuration</h2>",
        _figure(
            drawn,
            "gain",
            "Selected minus default, utility × healed. Purple: the search gained; orange: it lost.",
        ),
    ]
    if "rem_choices" in drawn:
        sections += [
            "<h2>What REM’s search chose</h2>",
            _figure(drawn, "rem_choices", "The selected configuration’s value in each cell."),
        ]
    if "rem_isolation" in drawn:
        sections += [
            "<h2>Where the corruption sits in REM</h2>",
            _figure(
                drawn,
                "rem_isolation",
                "The selected configuration, epoch by epoch. Erasing the new channels leaves the old ones: the "
                "solid line is what is left of the corruption then.",
            ),
        ]
    sections += [
        f"<h2>Weakest cells of {_name(_focus(cells))}</h2>",
        _weakest(cells),
        "<h2>Selected configurations</h2>",
        _selected(cells),
        "<h2>Failed trials</h2>",
        _failures(trials),
        "<h2>Manifest</h2>",
        _pairs(manifest, "No manifest.json in the folder."),
        "<h2>Study file</h2>",
        _pairs(study if isinstance(study, dict) else {}, "No study.yaml in the folder."),
    ]
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(name)}: REM study</title><style>{STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def summary(cells: pd.DataFrame) -> str:
    """What was studied, which method wins where and by how much, in plain words, as HTML."""
    methods = analysis.methods_frame(cells)
    total = len(cells.drop_duplicates(analysis.CELL))
    where = " and ".join(
        f"{model} on {data}" for model, data in sorted(set(zip(cells["model"], cells["dataset"], strict=True)))
    )
    studied = (
        f"{_count(len(methods), 'method')} tuned to heal {escape(where)} of corrupted training data, in "
        f"{_count(total, 'cell')}: {_count(cells['corruption'].nunique(), 'corruption')} × "
        f"{_count(cells['discovery_rate'].nunique(), 'discovery rate')}."
    )
    broken = cells[(cells["trials"] > 0) & (cells["failed"] == cells["trials"])]
    if len(broken):
        where = ", ".join(f"{row['cell']} ({row['method']})" for _, row in broken.iterrows())
        studied += f" <strong>No result in {escape(where)}: every trial failed there.</strong>"
    if not methods["cells"].any() and cells["search_score"].notna().any():
        return f"{studied} <strong>No clean labels are known: what was healed cannot be measured.</strong>"
    if not methods["cells"].any():
        return f"{studied} <strong>No trial has finished: there is nothing to compare.</strong>"
    first = methods.iloc[0]
    text = f"{studied} <strong>{_name(first['method'])} has the highest mean utility × healed, "
    text += _spread(first)
    if len(methods) == 1:
        return f"{text}, over {int(first['cells'])} of {total} cells.</strong> No other method was studied."
    second = methods.iloc[1]
    if second["cells"]:
        text += f", against {_spread(second)} for {_name(second['method'])}, the next best"
    text += f"; it is the best method in {first['cells_won']} of {total} cells.</strong>"
    won = cells[analysis.wins(cells)]
    for method, count in won.loc[won["method"] != first["method"], "method"].value_counts().items():
        text += f" {_name(str(method))} wins {count}: {_where(won[won['method'] == method])}."
    undecided = total - len(won)
    if undecided:
        text += f" In {_count(undecided, 'cell')} no method is ahead."
    partial = methods[methods["cells"] < total]
    if len(partial):
        covered = (f"{_name(row['method'])} ({row['cells']} of {total})" for _, row in partial.iterrows())
        text += f" Means cover fewer cells for {', '.join(covered)}."
    return text


def _where(cells: pd.DataFrame) -> str:
    """A few cells by name, many by how many of each corruption."""
    if len(cells) <= 3:
        return escape(", ".join(cells["cell"]))
    return escape(", ".join(f"{count} in {name}" for name, count in cells["corruption"].value_counts().items()))


def _words(study: Any) -> str:
    objective = str(study.get("objective")) if isinstance(study, dict) else ""
    by = f" by {OBJECTIVES[objective]}" if objective in OBJECTIVES else ""
    splits = "on one set of samples and scored on another."
    if isinstance(study, dict) and study.get("protocol") == "paper":
        splits = (
            "<b>by the paper’s protocol: on the very samples that they are scored on</b> (all corrupted samples, all "
            "test images), so the scores of what was chosen among several are too good."
        )
    return (
        "<b>Healed</b>: share of the corrupted training samples that get their true label back. "
        "<b>Utility</b>: accuracy on clean test data. <b>Discovery rate</b>: share of the corrupted samples "
        f"known when unlearning. Configurations are chosen{by} {splits}"
    )


def _spent(cells: pd.DataFrame) -> str:
    return (
        f"Spent: {_count(int(cells['trials'].sum()), 'trial')} ({cells['pruned'].sum()} stopped early, "
        f"{cells['failed'].sum()} failed), {_duration(cells['seconds'].sum())} of trial time."
    )


def _methods(cells: pd.DataFrame) -> str:
    rows = [
        {
            "method": _name(row["method"]),
            "utility × healed": _spread(row),
            "healed": _spread(row, "healed"),
            "utility": _spread(row, "utility"),
            "cells won": str(row["cells_won"]),
            "default, utility × healed": _score(row["default_utility_x_healed"]),
            "gain": _score(row["gain"], "+.3f"),
            "trials (stopped / failed)": f"{row['trials']} ({row['pruned']} / {row['failed']})",
            "sample passes": _large(row["sample_passes"]),
            "time": _duration(row["seconds"]),
        }
        for _, row in analysis.methods_frame(cells).iterrows()
    ]
    note = "Mean ± standard error over the cells. A tie wins no cell. Gain: selected minus default."
    return _table(rows, text=["method"], best=[0]) + f'<p class="note">{note}</p>'


def _focus(cells: pd.DataFrame) -> str:
    methods = figures.by_mean(cells)
    return REM if REM in methods else methods[0]


def _weakest(cells: pd.DataFrame) -> str:
    focus = _focus(cells)
    rows = []
    for _, cell in cells.groupby(analysis.CELL, sort=False):
        own = cell[cell["method"] == focus]
        score = own["utility_x_healed"].iloc[0] if len(own) else float("nan")
        others = cell[cell["method"] != focus].dropna(subset="utility_x_healed")
        rival = others.loc[others["utility_x_healed"].idxmax()] if len(others) else None
        why = [] if pd.notna(score) else ["no result"]
        if rival is not None and score < rival["utility_x_healed"] - analysis.TIE:
            why.append(f"{rival['method']} is better")
        if score < WEAK:
            why.append(f"below {WEAK:g}")
        if why:
            best = f"{rival['method']}, {_score(rival['utility_x_healed'])}" if rival is not None else "–"
            row = {
                "cell": escape(str(cell["cell"].iloc[0])),
                "utility × healed": _score(score),
                "best other method": escape(best),
                "why it is listed": escape("; ".join(why)),
            }
            rows.append((score, row))
    if not rows:
        return f"<p>None: {_name(focus)} is the best method in every cell, and nowhere below {WEAK:g}.</p>"
    rows.sort(key=lambda pair: (pd.notna(pair[0]), pair[0]))  # those without a result first, then the lowest
    return _table([row for _, row in rows], text=["cell", "best other method", "why it is listed"])


def _selected(cells: pd.DataFrame) -> str:
    rows = []
    for _, row in cells.iterrows():
        config = json.loads(row["config"]) if isinstance(row["config"], str) else {}
        settings = ", ".join(f"{key}={figures.readable(value)}" for key, value in config.items())
        rows.append(
            {
                "cell": escape(row["cell"]),
                "method": _name(row["method"]),
                "utility × healed": _score(row["utility_x_healed"]),
                "healed": _score(row["healed"]),
                "utility": _score(row["utility"]),
                "gain": _score(row["gain"], "+.3f"),
                "trial": "–" if pd.isna(row["trial"]) else str(row["trial"]),
                "replicates": str(row["replicates"]),
                "configuration": f"<code>{escape(settings)}</code>",
                "health": escape(row["health"] or ""),
            }
        )
    best = [place for place, won in enumerate(analysis.wins(cells)) if won]
    return _table(rows, text=["cell", "method", "configuration", "health"], best=best)


def _failures(trials: pd.DataFrame) -> str:
    failed = trials[trials["state"] == "failed"]
    if failed.empty:
        return "<p>None.</p>"
    failed = failed.assign(error=failed["error"].fillna("no error recorded"))
    rows = [
        {
            "cell": escape(cell),
            "method": _name(method),
            "trials": _listed([str(n) for n in sorted(set(group["trial"]))], shown=12),
            "error": f"<pre>{escape(error)}</pre>",
        }
        for (cell, method, error), group in failed.groupby(["cell", "method", "error"])
    ]
    more = len(rows) - FAILURES_SHOWN
    note = f'<p class="note">And {more} more in trials.parquet.</p>' if more > 0 else ""
    return _table(rows[:FAILURES_SHOWN], text=["cell", "method", "trials", "error"]) + note


def _manifest(path: Folder) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    return content if isinstance(content, dict) else {"manifest": content}


def _pairs(content: dict[str, Any], otherwise: str) -> str:
    """A nested mapping as a table of dotted keys and values."""

    def flat(value: Any, key: str) -> Iterable[dict[str, str]]:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                yield from flat(inner, f"{key}.{name}" if key else str(name))
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            yield {"key": escape(key), "value": f"<code>{escape(text)}</code>"}

    if not content:
        return f"<p>{escape(otherwise)}</p>"
    return _table(list(flat(content, "")), text=["key", "value"])


def _table(rows: Sequence[dict[str, str]], text: Sequence[str], best: Sequence[int] = ()) -> str:
    """Rows map a column's head (text) to its cell (HTML, already escaped); heads not in `text` go right."""
    kind = {head: "" if head in text else ' class="number"' for head in rows[0]}
    head = "".join(f"<th{kind[name]}>{escape(name)}</th>" for name in kind)
    lines = [f"<table><thead><tr>{head}</tr></thead>", "<tbody>"]
    for place, row in enumerate(rows):
        opening = '<tr class="best">' if place in best else "<tr>"
        lines.append(opening + "".join(f"<td{kind[name]}>{cell}</td>" for name, cell in row.items()) + "</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _figure(drawn: dict[str, Figure], name: str, caption: str) -> str:
    note = f'<p class="note">{escape(caption)}</p>'
    return f'{note}<figure id="{name}">{figures.svg(drawn[name], name)}</figure>'


def _name(method: str) -> str:
    return escape(figures.method_name(method))


def _score(value: float, form: str = ".3f") -> str:
    return "–" if pd.isna(value) else format(value, form)


def _spread(row: pd.Series, name: str = "utility_x_healed") -> str:
    mean, sem = row[f"{name}_mean"], row[f"{name}_sem"]
    return _score(mean) if pd.isna(sem) else f"{mean:.3f} ± {sem:.3f}"


def _listed(names: Sequence[str], shown: int = 4) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return escape(", ".join(names[:shown]) + more)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _large(number: float) -> str:
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"
