"""report.html from a study's folder: one file that opens offline. First who wins each cell and by how much, then the
methods side by side, then every figure over the grid. Tables and maps are HTML and stand without the script; the charts
are Plotly's, which the page carries."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from rem_study.errors import InputError
from rem_study.report import charts, maps
from rem_study.report.cells import cell_pages
from rem_study.report.figures import REM, RemAnalysis, analyse_rem, write_figures
from rem_study.report.html import ASSETS, absent, chart, counted, folded, style
from rem_study.report.links import LOOPBACK, files, mlflow_base
from rem_study.report.maps import axes, keys, marks, measure_maps, winners_map
from rem_study.report.measures import by_mean
from rem_study.report.payload import packed, payload, squeezed
from rem_study.report.sections import MEASURES, isolation_told, measure_tabs, words_used
from rem_study.report.source import StudyData, read_study
from rem_study.report.styles import MethodStyle, method_styles
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
from rem_study.report.verdicts import answer, methods_table, summary, verdicts_table, weakest_cells
from rem_study.results import importances
from rem_study.storage import Folder, write_atomically
from rem_study.storage.folder import require_plain


def write_report(folder: Folder) -> Folder:
    """Write `report.html`, `figures/*.png` and `figures/*.pdf` into a study's folder and return the report's path.

    Reads trials.parquet, cells.parquet and, where they are there, study.yaml, best.yaml, manifest.json and mlflow.db;
    of a study that runs, its log: the page is then marked as partial. Raises InputError (one line) where there is
    neither, a file is damaged, or no trial has finished yet.
    """
    data = read_study(folder)
    if data.cells.empty:
        raise InputError(f"{folder}: no trial in it yet")
    require_plain(folder)
    rem = analyse_rem(data.trials, data.cells, data.spaces.get(REM))
    write_figures(data, rem)
    path = folder / "report.html"
    write_atomically(path, page(data, rem))
    return path


def study_page(folder: Folder) -> str:
    """The report of the study in `folder` as it is now, running or not, as one HTML document; writes nothing.

    Of a study without a result yet, the empty grid. Raises InputError where `folder` is no study's, or a file in it is
    damaged.
    """
    data = read_study(folder)
    return page(data, analyse_rem(data.trials, data.cells, data.spaces.get(REM)) if len(data.cells) else None)


def page(data: StudyData, rem: RemAnalysis | None) -> str:
    """The report as one HTML document; everything that comes from the data is escaped. `rem` is None of a study without
    a result."""
    name = escape(data.name)
    styles = method_styles(by_mean(data.cells)) if rem else {}
    sections, content = (_sections(data, styles, rem), _content(data, styles, rem)) if rem else (_waiting(data), "")
    anchors = {title: f"section-{title.lower().replace(' ', '-')}" for title in sections}
    links = "".join(f'<a href="#{anchor}">{title}</a>' for title, anchor in anchors.items())
    body = "\n".join(f'<section id="{anchors[title]}">{content}</section>' for title, content in sections.items())
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: REM study</title><style>{style()}</style></head>\n<body>\n"
        f'<a class="skip" href="#section-winners">to who wins where</a>{marks(styles)}\n<main id="overview">\n'
        f'<header>{_head(data)}</header>\n<nav aria-label="sections">{links}</nav>\n{body}\n</main>\n'
        f"{cell_pages(data, list(styles)) if rem else ''}\n"
        f'<div id="tip" role="status" hidden></div>\n{content}</body></html>\n'
    )


def _content(data: StudyData, styles: dict[str, MethodStyle], rem: RemAnalysis) -> str:
    """The payload, Plotly and the scripts: last, so that the page is seen before they are read."""
    from plotly.offline import get_plotlyjs

    drawn = {"methods": charts.methods_chart(data.cells, data.trials), "cost": charts.cost_chart(data.cells)}
    drawn |= charts.trend_charts(rem.trends, data.cells)
    if len(rem.pooled):
        drawn["rem_importances"] = charts.importance_chart(rem.pooled)
    script = "".join((ASSETS / name).read_text(encoding="utf-8") for name in ("charts.js", "page.js"))
    hidden = '<script type="application/octet-stream" id="{}">{}</script>\n'
    return (
        hidden.format("payload", packed(payload(data, styles, drawn)))
        + hidden.format("plotly", squeezed(get_plotlyjs().encode()))
        + f"<script>{script}</script>\n"
    )


def _head(data: StudyData) -> str:
    """What it is, the words, whether it is all, and the answer."""
    parts = [f"<h1>{escape(data.name)}</h1>", words_used()]
    if data.progress is not None:
        done, total = sum(data.progress.finished.values()), data.progress.total * len(data.progress.finished)
        fresh = (
            f", {counted(data.progress.fresh, 'replicate')} of the race and what follows" if data.progress.fresh else ""
        )
        parts.append(
            f'<p class="partial" role="status"><b>Partial.</b> {done} of {total} search trials are through{fresh}. '
            "What follows is drawn from these; it may change.</p>"
        )
    if len(data.cells):
        parts.append(f'<p class="answer">{answer(data.cells, data.trials)}</p>')
    return "\n".join(parts)


def _waiting(data: StudyData) -> dict[str, str]:
    return {"Winners": f"<h2>No trial has finished yet</h2>{winners_map(data, {})}"}


def _sections(data: StudyData, styles: dict[str, MethodStyle], rem: RemAnalysis) -> dict[str, str]:
    cells, trials = data.cells, data.trials
    return {
        "Winners": _winners(data, styles),
        "Methods": _methods(data, styles),
        "Maps": _maps(data, list(styles)),
        "Cells": f"<h2>Cell by cell</h2>{verdicts_table(cells)}<h2>Weakest cells, by their best method</h2>"
        f"{weakest_cells(cells)}",
        "Trade-off": _trade_off(data),
        "REM": _rem(data, rem),
        "Configurations": "\n".join(
            [
                "<h2>Selected configurations</h2>",
                universal_table(data.best),
                regret_tables(trials),
                folded("of each cell", selected_table(cells)),
                "<h2>Choosing without clean labels</h2>",
                objectives_table(trials),
            ]
        ),
        "Cost and failures": _cost(data),
        "Files": _files(data),
    }


def _winners(data: StudyData, styles: dict[str, MethodStyle]) -> str:
    corruptions, rates = axes(data)
    note = (
        f"A square is a cell: {counted(len(corruptions), 'corruption')}, the more regular the higher, × "
        f"{counted(len(rates), 'discovery rate')}. It names the method that leads every other beyond noise, and by how "
        "much; where none does, the marks of those that are level. <b>Click a cell to open it.</b>"
    )
    return (
        f'<h2>Who wins each cell, and by how much</h2><p class="note">{note}</p>'
        f"{keys(styles)}{winners_map(data, styles)}"
        f'<p class="summary">{summary(data.cells, data.trials)}</p>'
    )


def _methods(data: StudyData, styles: dict[str, MethodStyle]) -> str:
    caption = (
        "A large mark is the mean over the cells, with the 95 % interval over replicates where there are two or more; "
        "a small one is a cell; a hollow diamond is the default configuration’s mean. Point at any for its values."
    )
    height = charts.height_of_methods(len(styles))
    shown = chart("methods", caption, "utility times healed of each method: mean, cells, default", height)
    return f"<h2>Methods side by side</h2>{shown}{methods_table(data.cells, data.trials)}"


def _maps(data: StudyData, methods: Sequence[str]) -> str:
    found = {name: measure_maps(data.cells, name, methods) for name in MEASURES}
    bodies = "".join(
        f'<div class="measure" id="map-{name}"><p class="note">{MEASURES[name].caption}</p>{content}</div>'
        for name, content in found.items()
        if content is not None
    )
    missing = "".join(absent(MEASURES[name].missing) for name, content in found.items() if content is None)
    tabs = measure_tabs([name for name, content in found.items() if content is not None])
    every = folded("every figure of every cell as a table", cells_tables(data.cells))
    return f"<h2>Every method over the grid</h2>{tabs}{bodies}{missing}{every}"


def _trade_off(data: StudyData) -> str:
    head = "<h2>Healed against utility</h2>"
    if data.cells["healed"].isna().all():
        return head + absent("Not drawn: without clean labels nobody knows what was healed.")
    caption = (
        "Of all cells: what was selected. Of one cell: every finished trial, larger where several lie on one point, "
        "with a rim where it was selected; the line is the Pareto front, which no other trial beats in both."
    )
    label = "healed against utility, a mark a trial"
    stretch = '<label class="control"><input type="checkbox" checked> stretch the axes towards 1</label>'
    return head + chart("pareto", caption, label, 520, _cell_choice(data, "all cells") + stretch)


def _cell_choice(data: StudyData, every: str) -> str:
    names = dict.fromkeys(data.cells["cell"])
    options = "".join(f'<option value="{place}">{escape(name)}</option>' for place, name in enumerate(names))
    return f'<label class="control">cell <select><option value="-1">{every}</option>{options}</select></label>'


def _rem(data: StudyData, rem: RemAnalysis) -> str:
    isolation = isolation_told(data)
    if not rem.choices and not rem.trends and not len(rem.pooled) and isolation is None:
        return "<h2>REM</h2>" + absent("REM was not studied, or nothing of it finished.")
    parts = []
    if rem.choices:
        parts += [
            "<h2>What REM’s search chose</h2>",
            '<p class="note">The selected configuration’s value in each cell.</p>',
        ]
        parts.append(maps.choice_maps(data.cells, REM, rem.choices))
    if rem.trends:
        parts += ["<h2>How REM’s good values move over the grid</h2>", _trends(rem)]
    else:
        parts.append(absent("Trends: no hyperparameter of REM was searched in enough trials."))
    parts += _importances(rem)
    if isolation is not None:
        label = "accuracy on the wrong labels by epoch, along three paths through the network"
        parts += ["<h2>Where the corruption sits in REM</h2>"]
        parts.append(chart("rem_isolation", isolation, label, 340, _cell_choice(data, "mean of all cells")))
    return "\n".join(parts)


def _trends(rem: RemAnalysis) -> str:
    note = (
        "Median over the best quarter of each cell’s trials; bands are 95 % bootstrap intervals. A flat band as wide "
        "as the range says: it does not matter here, or too few trials. Brown: a corruption, darker for more regular. "
        "Blue: a discovery rate, darker for more."
    )
    plots = "".join(
        chart(
            f"trend-{name}-{across}", f"<b>{escape(name)}</b> against the {words}", f"{name} against the {words}", 300
        )
        for name in rem.trends
        for across, words in (("discovery_rate", "discovery rate"), ("regularity", "measured regularity"))
    )
    return f'<p class="note">{note}</p><div class="maps" style="--wide:26rem">{plots}</div>'


def _importances(rem: RemAnalysis) -> list[str]:
    if not len(rem.pooled):
        return [
            absent(
                f"Importances: REM has fewer than {importances.FEWEST_TRIALS} finished trials, or study.yaml has no "
                "search space that this version can read."
            )
        ]
    caption = (
        "PED-ANOVA (Optuna): which hyperparameters tell the best tenth of the trials from the rest. Lines are 95 % "
        "bootstrap intervals."
    )
    height = 110 + 26 * len(rem.pooled)
    parts = ["<h2>Which of REM’s hyperparameters decide</h2>"]
    parts.append(chart("rem_importances", caption, "importance of each hyperparameter", height))
    return [*parts, folded("by cell", maps.importance_map(rem.by_cell))] if len(rem.by_cell) else parts


def _cost(data: StudyData) -> str:
    caption = "Sample passes (forward and backward) of all trials of a method, and the quality that they bought."
    return (
        f'<h2>Cost</h2><p class="note">{spent(data.cells)}</p>'
        + chart("cost", caption, "mean utility times healed against sample passes, a mark a method", 380)
        + "<h2>Failed trials</h2>"
        + failed_trials(data.trials)
    )


def _files(data: StudyData) -> str:
    base = mlflow_base(data)
    served = f" while <code>rem-study ui {escape(str(data.folder))}</code> runs" if base == LOOPBACK else ""
    study: Any = data.study if isinstance(data.study, dict) else {}
    return (
        f'<h2>Files beside this page</h2><ul>{files(data)}</ul><p><label class="control">MLflow’s UI, which links to '
        f'runs lead to{served}: <input data-base size="32" value="{escape(base)}"></label></p>'
        f'<p class="note">{words(data.study)}</p>'
        + folded("manifest: versions, hardware, seeds", pairs(data.manifest, "No manifest.json in the folder."))
        + folded("study file as resolved", pairs(study, "No study.yaml in the folder."))
    )
