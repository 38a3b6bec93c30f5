"""figures/: every figure of the report for paper, as PNG and PDF, by matplotlib."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from rem_study.report import heat_maps, plots
from rem_study.report.measures import NAMES
from rem_study.report.source import StudyData
from rem_study.results import importances
from rem_study.spec import SearchSpace
from rem_study.storage import Folder, write_atomically

REM = "rem"
REM_CHOICES = ("redirect_width", "layer_position", "erase_mode")
REM_TRENDS = ("redirect_width", "mask_density", "lr", "epochs", "beta")
RESAMPLES = 60
MOST_PIXELS = 4_000_000
"""Of one picture: a figure of a hundred cells at full resolution would take half a gigabyte to draw."""


@dataclass(frozen=True)
class RemAnalysis:
    """What is computed of REM's trials for figures and page.

    Attributes:
        choices: hyperparameters of REM_CHOICES that its configurations have.
        trends: by hyperparameter, `importances.trends` where more than one value was searched.
        pooled, by_cell: `importances.importances` of all cells, and of each where these are not too many.
    """

    choices: list[str]
    trends: dict[str, pd.DataFrame]
    pooled: pd.DataFrame
    by_cell: pd.DataFrame


def analyse_rem(trials: pd.DataFrame, cells: pd.DataFrame, space: SearchSpace | None) -> RemAnalysis:
    """RemAnalysis of a study's tables; without its search space there are no importances."""
    trials = trials[trials["method"] == REM]
    configs = cells.loc[(cells["method"] == REM) & cells["config"].notna(), "config"].map(json.loads)
    draws = min(200, max(50, 5_000 // max(1, trials["cell"].nunique())))
    trends = {name: importances.trends(trials, name, resamples=draws) for name in REM_TRENDS}
    pooled = by_cell = pd.DataFrame(columns=importances.COLUMNS)
    if space is not None:
        pooled = importances.importances(trials, space, resamples=RESAMPLES)
        if len(pooled):
            few = trials["cell"].nunique() <= plots.MANY_CELLS  # more columns than that nobody can read
            by_cell = importances.cell_importances(trials if few else trials.iloc[:0], space)
    return RemAnalysis(
        [name for name in REM_CHOICES if any(name in config for config in configs)],
        {name: table for name, table in trends.items() if table["value"].nunique() > 1},
        pooled,
        by_cell,
    )


def draw(trials: pd.DataFrame, cells: pd.DataFrame, rem: RemAnalysis) -> dict[str, Figure]:
    """Every figure of the report by its file's name. Those for which there is nothing to draw are left out: `spread`
    with one replicate, REM's without REM, `rem_importances` without enough trials or its search space."""
    maps = {name: heat_maps.heat_map(cells, name) for name in NAMES}
    drawn = {name: figure for name, figure in maps.items() if figure is not None}
    drawn |= {"methods": plots.method_bars(cells, trials), "cost": plots.cost_curve(cells)}
    if cells["healed"].notna().any():
        drawn["pareto"] = plots.pareto_fronts(trials, cells)
    if rem.choices:
        drawn["rem_choices"] = heat_maps.choice_map(cells, REM, rem.choices)
    if rem.trends:
        drawn["rem_trends"] = plots.trend_lines(rem.trends, cells)
    if len(rem.pooled):
        drawn["rem_importances"] = plots.importance_bars(rem.pooled, rem.by_cell)
    isolation = plots.isolation_curves(trials, cells, REM)
    if isolation is not None:
        drawn["rem_isolation"] = isolation
    return drawn


def write_figures(data: StudyData, rem: RemAnalysis) -> None:
    """Write figures/*.png and *.pdf into the study's folder; what it held by another name stays."""
    folder: Folder = data.folder / "figures"
    folder.mkdir(exist_ok=True)
    for name, figure in draw(data.trials, data.cells, rem).items():
        width, height = figure.get_size_inches()
        dpi = min(200.0, math.sqrt(MOST_PIXELS / (width * height)))
        forms: Mapping[str, dict[str, Any]] = {"png": {"dpi": dpi}, "pdf": {"metadata": {"CreationDate": None}}}
        for form, options in forms.items():
            image = io.BytesIO()
            figure.savefig(image, format=form, **options)
            figure.set_layout_engine("none")  # it is laid out: of a hundred panels, that takes longer than drawing
            write_atomically(folder / f"{name}.{form}", image.getvalue())
