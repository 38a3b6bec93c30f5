"""A study's folder for a notebook: its tables as pandas frames, its figures, its trials as Optuna has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from rem_study.errors import InputError
from rem_study.report import cell_plots, heat_maps, plots
from rem_study.report.measures import NAMES
from rem_study.results import importances, load_resolved, plane
from rem_study.results.read import read_tables, read_yaml
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
            raise InputError(f"{cell}: no such cell; there are {', '.join(sorted(self.trials['cell'].unique()))}")
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
            raise InputError(f"{name}: no such figure; there are {', '.join(sorted(drawers))}")
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
            raise InputError(f"{cell}: no such cell; there are {', '.join(sorted(self.cells['cell'].unique()))}")
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
            raise InputError(f"{method}: no such method in the study; there are {', '.join(self.study.spaces)}")
        return method


def open_study(folder: Folder | str) -> OpenStudy:
    """The study in `folder` (a path or a URL), for a look at it in Python. Raises InputError."""
    return OpenStudy(folder)
