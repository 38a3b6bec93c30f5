"""report.html and figures/ (PNG and PDF) from a study's files alone: one page that opens offline, prints, and can be
read. No script, nothing loaded: cells open by their link, values show on hover and stand in tables."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from rem_study.errors import InputError
from rem_study.report import heat_maps as figures
from rem_study.report import plots
from rem_study.report.cells import cell_pages
from rem_study.report.html import STYLE, absent, figure_html, folded
from rem_study.report.tables import (
    cells_tables,
    failed_trials,
    objectives_table,
    pairs,
    regret_tables,
    selected_table,
    spent,
    universal_table,
    words,
)
from rem_study.report.verdicts import methods_table, summary, verdicts_table, weakest_cells
from rem_study.results import importances, plane
from rem_study.results.read import read_tables, read_yaml
from rem_study.results.winners import FEWEST_SAMPLES
from rem_study.spec import SearchSpace
from rem_study.storage import Folder, write_atomically
from rem_study.storage.folder import require_plain

REM = "rem"
REM_CHOICES = ("redirect_width", "layer_position", "erase_mode")
REM_TRENDS = ("redirect_width", "mask_density", "lr", "epochs", "beta")
RESAMPLES = 60
SHOWN = ("utility_x_healed", "healed", "utility")
"""Maps that are drawn even where they are empty."""
MOST_PIXELS = 8_000_000
"""Of one picture: a figure of a hundred cells at full resolution would take half a gigabyte to draw."""


def write_report(folder: Folder) -> Folder:
    """Write `report.html`, `figures/*.png` and `figures/*.pdf` into a study's folder and return the report's path.

    Reads trials.parquet, cells.parquet and, where they are there, study.yaml, best.yaml and manifest.json. Raises
    InputError (one line) where a table is missing or damaged, or holds no trial yet.
    """
    trials, cells = read_tables(folder)
    if cells.empty:
        raise InputError(f"{folder / 'cells.parquet'}: no trial in it yet")
    study = read_yaml(folder, "study.yaml") if (folder / "study.yaml").is_file() else {}
    best = read_yaml(folder, "best.yaml") if (folder / "best.yaml").is_file() else {}
    cells = plane.with_spread(cells, trials)
    drawn = draw(trials, cells, spaces_of(study))
    require_plain(folder)
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in drawn.items():
        width, height = figure.get_size_inches()
        dpi = min(200.0, math.sqrt(MOST_PIXELS / (width * height)))
        forms: dict[str, dict[str, Any]] = {"png": {"dpi": dpi}, "pdf": {"metadata": {"CreationDate": None}}}
        for form, options in forms.items():
            image = io.BytesIO()
            figure.savefig(image, format=form, **options)
            figure.set_layout_engine("none")  # it is laid out: of a hundred panels, that takes longer than drawing
            write_atomically(folder / "figures" / f"{name}.{form}", image.getvalue())
    path = folder / "report.html"
    write_atomically(path, page(trials, cells, study, best, _manifest(folder / "manifest.json"), drawn))
    return path


def spaces_of(study: Any) -> dict[str, SearchSpace]:
    """The search spaces of a resolved study.yaml (a mapping), by method; empty where it has none written out, or was
    written by a version that this one does not understand."""
    from rem_study.spec.resolve import resolve

    methods = study.get("methods") if isinstance(study, dict) else None
    written_out = isinstance(methods, dict) and all(
        isinstance(method, dict) and isinstance(method.get("space"), dict) for method in methods.values()
    )
    try:
        return resolve(study, "study.yaml", Path()).spaces if written_out else {}
    except InputError:
        return {}


def draw(trials: pd.DataFrame, cells: pd.DataFrame, spaces: Mapping[str, SearchSpace]) -> dict[str, Figure]:
    """Every figure of the report by its file's name. Those for which there is nothing to draw are left out: `spread`
    with one replicate, REM's without REM, `rem_importances` without enough trials or its search space."""
    scores = ("utility_x_healed", "healed", "utility", "healed_discovered")
    drawn = {score: figures.score_map(cells, score) for score in scores if score in SHOWN or cells[score].notna().any()}
    more = {
        "healed_undiscovered": figures.undiscovered_map(cells),
        "found": figures.found_map(cells),
        "attack_success": figures.attack_map(cells),
    }
    drawn |= {name: figure for name, figure in more.items() if figure is not None}
    drawn |= {"gain": figures.gain_map(cells), "trials": figures.trials_map(cells)}
    if cells["spread"].notna().any():
        drawn["spread"] = figures.spread_map(cells)
    drawn |= {"methods": plots.method_bars(cells, trials), "cost": plots.cost_curve(cells)}
    if cells["healed"].notna().any():
        drawn["pareto"] = plots.pareto_fronts(trials, cells)
    return drawn | _draw_rem(trials[trials["method"] == REM], cells, spaces.get(REM))


def _draw_rem(trials: pd.DataFrame, cells: pd.DataFrame, space: SearchSpace | None) -> dict[str, Figure]:
    drawn = {}
    configs = cells.loc[(cells["method"] == REM) & cells["config"].notna(), "config"].map(json.loads)
    present = [name for name in REM_CHOICES if any(name in config for config in configs)]
    if present:
        drawn["rem_choices"] = figures.choice_map(cells, REM, present)
    draws = min(200, max(50, 5_000 // max(1, trials["cell"].nunique())))
    trends = {name: importances.trends(trials, name, resamples=draws) for name in REM_TRENDS}
    trends = {name: table for name, table in trends.items() if table["value"].nunique() > 1}
    if trends:
        drawn["rem_trends"] = plots.trend_lines(trends, cells)
    if space is not None:
        pooled = importances.importances(trials, space, resamples=RESAMPLES)
        if len(pooled):
            few = trials["cell"].nunique() <= plots.MANY_CELLS  # more columns than that nobody can read
            by_cell = importances.cell_importances(trials if few else trials.iloc[:0], space)
            drawn["rem_importances"] = plots.importance_bars(pooled, by_cell)
    isolation = plots.isolation_curves(trials, cells, REM)
    if isolation is not None:
        drawn["rem_isolation"] = isolation
    return drawn


def page(
    trials: pd.DataFrame,
    cells: pd.DataFrame,
    study: Any,
    best: Any,
    manifest: dict[str, Any],
    drawn: dict[str, Figure],
) -> str:
    """The report as one HTML document; everything that comes from the data is escaped."""
    name = escape(str(trials["study"].iloc[0]))
    sections = {
        "Grid": _grid(cells, drawn),
        "Winners": f"<h2>Who wins where</h2>{verdicts_table(cells)}",
        "Methods": _methods(trials, cells, drawn),
        "Weak cells": f"<h2>Weakest cells, by their best method</h2>{weakest_cells(cells)}",
        "Trade-off": _trade_off(drawn),
        "REM": _rem(drawn),
        "Configurations": _configurations(trials, cells, best),
        "Cost and failures": _cost(trials, cells, drawn),
        "Manifest": _manifest_section(study, manifest),
    }
    anchors = {title: f"section-{title.lower().replace(' ', '-')}" for title in sections}
    links = "".join(f'<a href="#{anchor}">{title}</a>' for title, anchor in anchors.items())
    body = "\n".join(f'<section id="{anchors[title]}">{content}</section>' for title, content in sections.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{name}: REM study</title><style>{STYLE}</style></head>\n<body>\n"
        f'<div id="overview"><nav>{links}</nav>\n<h1>{name}</h1>\n'
        f'<p class="summary">{summary(cells, trials)}</p>\n{body}\n'
        f'<p class="note">{words(study)}</p></div>\n'
        f"{cell_pages(trials, cells)}\n</body></html>\n"
    )


def _grid(cells: pd.DataFrame, drawn: dict[str, Figure]) -> str:
    more = [
        figure_html(drawn["gain"], "gain", "<b>Gain</b>: selected minus default configuration, utility × healed. "
                    "Purple: the search gained; orange: it lost."),
        figure_html(drawn["healed"], "healed", "<b>Healed</b>: share of the corrupted training samples that get their "
                    "true label back."),
        *_apart(drawn),
        figure_html(drawn["utility"], "utility", "<b>Utility</b>: accuracy on clean test data."),
        figure_html(drawn["spread"], "spread", "<b>Spread</b>: standard deviation of the selected configuration’s "
                    "utility × healed over replicates.")
        if "spread" in drawn
        else absent("Spread: each trial ran on one replicate, so there is none."),
        figure_html(drawn["trials"], "trials", "<b>Trials spent</b>; in brackets those that were stopped early or "
                    "failed."),
    ]  # fmt: skip
    first = (
        "How well the best configuration of each method heals the network: utility × healed, 1 is perfect, brighter is "
        "better; a black frame marks the method that wins the cell, a dotted one those that are level in it (no lead "
        "beyond noise). To the right, more of the corruption is known; upwards, "
        "the corrupted samples have more in common (measured regularity). <b>Click a cell to open it.</b>"
    )
    return "\n".join(
        [
            figure_html(drawn["utility_x_healed"], "utility_x_healed", first),
            folded("every figure of every cell as a table", cells_tables(cells)),
            "<h2>The same grid, otherwise</h2>",
            *more,
        ]
    )


def _apart(drawn: dict[str, Figure]) -> list[str]:
    """Healing of what was known and of what was not, and whether a trigger still works."""
    few = f"(A share of fewer than {FEWEST_SAMPLES} samples is not shown; their number stands there: n 3.)"
    captions = {
        "healed_discovered": f"<b>Discovered healed</b>: healed of the samples known when unlearning. {few}",
        "healed_undiscovered": f"<b>Undiscovered healed</b>: healed of those that nobody pointed at. {few}",
        "found": "<b>Found</b>: how well the healed network’s doubt of given labels finds the corruption that nobody "
        "pointed at among the retained samples (average precision; 1: all of it comes first).",
        "attack_success": "<b>Attack success</b>: how often a clean test image of another class gets the trigger’s "
        "target once the trigger is on it. Lower is better, and brighter.",
    }
    missing = {
        "healed_discovered": "Healed of the discovered: not recorded.",
        "healed_undiscovered": "Healed of the undiscovered: nothing was, or it was not recorded.",
        "found": "Found: nothing was undiscovered, or it was not recorded.",
        "attack_success": "Attack success: no corruption here has a trigger, or it was not recorded.",
    }
    return [
        figure_html(drawn[name], name, caption) if name in drawn else absent(missing[name])
        for name, caption in captions.items()
    ]


def _methods(trials: pd.DataFrame, cells: pd.DataFrame, drawn: dict[str, Figure]) -> str:
    caption = (
        "A bar is the mean over the cells, a dot a cell, a diamond the default configuration’s mean; a black line is "
        "the 95 % interval of the mean over replicates, where there are two or more."
    )
    shown = figure_html(drawn["methods"], "methods", caption)
    return f"<h2>Methods side by side</h2>{shown}{methods_table(cells, trials)}"


def _trade_off(drawn: dict[str, Figure]) -> str:
    head = "<h2>Healed against utility</h2>"
    if "pareto" not in drawn:
        return head + absent("Not drawn: without clean labels nobody knows what was healed.")
    caption = (
        "Each dot is a trial (a random part of more than 2,000), large marks are the selected configurations, the line "
        "is the Pareto front: what no other trial beats in both."
    )
    return head + figure_html(drawn["pareto"], "pareto", caption)


def _rem(drawn: dict[str, Figure]) -> str:
    captions = {
        "rem_choices": ("What REM’s search chose", "The selected configuration’s value in each cell."),
        "rem_trends": (
            "How REM’s good values move over the grid",
            "Median over the best quarter of each cell’s trials; bands are 95 % bootstrap intervals. A flat band as "
            "wide as the range says: it does not matter here, or too few trials.",
        ),
        "rem_importances": (
            "Which of REM’s hyperparameters decide",
            "PED-ANOVA (Optuna): which hyperparameters tell the best tenth of the trials from the rest. Lines are 95 % "
            "bootstrap intervals.",
        ),
        "rem_isolation": (
            "Where the corruption sits in REM",
            "The selected configuration, epoch by epoch. Erasing the new channels leaves the old ones: the solid line "
            "is what is left of the corruption then.",
        ),
    }
    missing = {
        "rem_importances": f"Importances: REM has fewer than {importances.FEWEST_TRIALS} finished trials, or "
        "study.yaml has no search space that this version can read.",
        "rem_trends": "Trends: no hyperparameter of REM was searched in enough trials.",
    }
    if not any(name in drawn for name in captions):
        return "<h2>REM</h2>" + absent("REM was not studied, or nothing of it finished.")
    parts = []
    for name, (title, caption) in captions.items():
        if name in drawn:
            parts += [f"<h2>{title}</h2>", figure_html(drawn[name], name, caption)]
        elif name in missing:
            parts.append(absent(missing[name]))
    return "\n".join(parts)


def _configurations(trials: pd.DataFrame, cells: pd.DataFrame, best: Any) -> str:
    return "\n".join(
        [
            "<h2>Selected configurations</h2>",
            universal_table(best),
            regret_tables(trials),
            folded("of each cell", selected_table(cells)),
            "<h2>Choosing without clean labels</h2>",
            objectives_table(trials),
        ]
    )


def _cost(trials: pd.DataFrame, cells: pd.DataFrame, drawn: dict[str, Figure]) -> str:
    caption = "Sample passes (forward and backward) of all trials of a method, and the quality that they bought."
    return (
        f'<h2>Cost</h2><p class="note">{spent(cells)}</p>'
        + figure_html(drawn["cost"], "cost", caption)
        + "<h2>Failed trials</h2>"
        + failed_trials(trials)
    )


def _manifest_section(study: Any, manifest: dict[str, Any]) -> str:
    return (
        "<h2>Manifest</h2>"
        + pairs(manifest, "No manifest.json in the folder.")
        + "<h2>Study file</h2>"
        + folded("as resolved", pairs(study if isinstance(study, dict) else {}, "No study.yaml in the folder."))
    )


def _manifest(path: Folder) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    return content if isinstance(content, dict) else {"manifest": content}
