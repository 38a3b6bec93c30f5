"""A study's folder for a notebook: its tables as pandas frames, its figures, its trials as Optuna has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from rem_study.errors import InputError, did_you_mean
from rem_study.report import cell_plots, heat_maps, plots
from rem_study.report.measures import NAMES
from rem_study.results import importances, load_resolved, plane
from rem_study.results.read import read_tables, read_yaml
from rem_study.results.selection import corruption_order
from rem_study.spec import Study
from rem_study.storage import Folder, open_folder

if TYPE_CHECKING:
    import optuna


class OpenStudy:
    """What a study left behind, read when it is asked for and kept.

    Raises InputError where the folder or a file in it is missing or damaged, or a name is unknown.
    """

    def __init__(self, folder: Folder | str) -> None:
        self.folder = open_folder(folder) if isinstance(folder, str) else folder
        self.study: Study = load_resolved(self.folder)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the study in a line, who leads each cell, the methods' means."""
        spec = self.study.spec
        head = f"<b>{escape(spec.name)}</b>: {escape(spec.model.name)} on {escape(spec.data.name)}"
        head = f"<p>{head} · <code>{escape(str(self.folder))}</code></p>"
        try:
            leading, methods = _leading(self.cells), self.methods
        except InputError as error:
            return f"{head}<p>{escape(str(error))}</p>"
        means = methods[["method", "utility_x_healed_mean", "cells_won", "cells_level", "trials", "failed"]]
        note = "Best utility × healed of each cell and whose it is; bold: beyond noise."
        return f"{head}{leading}<p>{note}</p>{means.to_html(index=False, float_format='{:.3f}'.format, border=0)}"

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a (trial, replicate): docs/reference.md has the columns."""
        return self._tables[0]

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row a (cell, method): what was selected; with `spread` (see `plane.with_spread`)."""
        return plane.with_spread(self._tables[1], self.trials)

    @cached_property
    def _tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        return read_tables(self.folder)

    @cached_property
    def methods(self) -> pd.DataFrame:
        """One row a method, best mean first (see `plane.methods_frame`)."""
        return plane.methods_frame(self.cells, self.trials)

    @cached_property
    def best(self) -> dict[str, Any]:
        """The document of best.yaml."""
        document: dict[str, Any] = read_yaml(self.folder, "best.yaml")
        return document

    def importances(self, method: str = "rem", resamples: int = 60) -> pd.DataFrame:
        """PED-ANOVA importances of a method's hyperparameters, all cells together (`importances.importances`)."""
        space = self.study.spaces[self._known(method)]
        return importances.importances(self._of(method), space, resamples=resamples)

    def trends(self, hyperparameter: str, method: str = "rem") -> pd.DataFrame:
        """Where a hyperparameter's good values lie in each cell (`importances.trends`)."""
        return importances.trends(self._of(method), hyperparameter)

    def optuna(self, cell: str, method: str = "rem") -> optuna.Study:
        """The search of one (cell, method), for `optuna.visualization` and whatever else takes a study."""
        from rem_study.search.optuna_studies import optuna_study

        rows = self._of(method)
        rows = rows[(rows["cell"] == cell) & (rows["phase"] == "search")]
        if rows.empty:
            raise self._no_such_cell(cell)
        return optuna_study(self.study.spaces[method], rows.to_dict("records"), f"{cell}/{method}")

    @property
    def figure_names(self) -> list[str]:
        """What `figure` draws."""
        return sorted(self._drawers())

    def figure(self, name: str, **options: Any) -> Figure:
        """One of the report's figures; a notebook shows it, `savefig` writes it.

        Of one cell, as `cell="poison@0.5"`: `history` and `parallel` (which takes `method`, too). `choices` takes
        `hyperparameters`, `trends` the same; both, `importances` and `isolation` take `method`.
        """
        drawers = self._drawers()
        if name not in drawers:
            meant = did_you_mean(name, drawers)
            raise InputError(f"{name}: no such figure{meant}; there are {', '.join(sorted(drawers))}")
        figure = drawers[name](**options)
        if figure is None:
            raise InputError(f"{name}: the study holds nothing to draw")
        return figure

    def _drawers(self) -> dict[str, Callable[..., Figure | None]]:
        def map_drawer(name: str) -> Callable[..., Figure | None]:
            return lambda methods=None: heat_maps.heat_map(self.cells, name, methods)

        return {
            **{name: map_drawer(name) for name in NAMES},
            "methods": lambda: plots.method_bars(self.cells, self.trials),
            "pareto": lambda: plots.pareto_fronts(self.trials, self.cells),
            "cost": lambda: plots.cost_curve(self.cells),
            "history": lambda cell: cell_plots.history(self.trials, self.cells, cell),
            "parallel": self._parallel,
            "choices": lambda hyperparameters, method="rem": heat_maps.choice_map(self.cells, method, hyperparameters),
            "trends": self._trends,
            "importances": self._importances,
            "isolation": lambda method="rem": plots.isolation_curves(self.trials, self.cells, method),
        }

    def _parallel(self, cell: str, method: str = "rem") -> Figure | None:
        rows = self.cells[(self.cells["cell"] == cell) & (self.cells["method"] == self._known(method))]
        if rows.empty:
            raise self._no_such_cell(cell)
        selected = rows["trial"].iloc[0]
        return cell_plots.parallel_coordinates(self.trials, cell, method, None if pd.isna(selected) else int(selected))

    def _trends(self, hyperparameters: list[str], method: str = "rem") -> Figure | None:
        found = {name: self.trends(name, method) for name in hyperparameters}
        found = {name: table for name, table in found.items() if len(table)}
        return plots.trend_lines(found, self.cells) if found else None

    def _importances(self, method: str = "rem") -> Figure | None:
        pooled = self.importances(method)
        per_cell = importances.cell_importances(self._of(method), self.study.spaces[method])
        return plots.importance_bars(pooled, per_cell) if len(pooled) else None

    def _of(self, method: str) -> pd.DataFrame:
        return self.trials[self.trials["method"] == self._known(method)]

    def _known(self, method: str) -> str:
        if method not in self.study.spaces:
            meant = did_you_mean(method, self.study.spaces)
            raise InputError(f"{method}: no such method in the study{meant}; there are {', '.join(self.study.spaces)}")
        return method

    def _no_such_cell(self, cell: str) -> InputError:
        names = sorted(self.trials["cell"].unique())
        return InputError(f"{cell}: no such cell{did_you_mean(cell, names)}; there are {', '.join(names)}")


def _leading(cells: pd.DataFrame) -> str:
    """A row a corruption, a column a discovery rate, as HTML: `0.93 rem`."""
    best = plane.leaders(cells)
    told = [
        f"<b>{score:.2f} {escape(method)}</b>" if standing == "won" else f"{score:.2f} {escape(method)}"
        for score, method, standing in zip(best["utility_x_healed"], best["method"], best["standing"], strict=True)
    ]
    table = best.assign(told=told).pivot(index="corruption", columns="discovery_rate", values="told")
    table = table.reindex([name for name in corruption_order(cells)[::-1] if name in table.index]).rename(index=escape)
    return str(table.rename_axis(index=None, columns="discovery rate").to_html(escape=False, na_rep="–", border=0))


def open_study(folder: Folder | str) -> OpenStudy:
    """The study in `folder` (a path or a URL), for a look at it in Python. Raises InputError."""
    return OpenStudy(folder)
