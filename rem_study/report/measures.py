"""What a map over the grid shows: a figure of each (cell, method), its colour and its words. `heat_maps` draws it for
paper, `maps` for the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Colormap, Normalize, to_hex, to_rgb

from rem_study.results import plane
from rem_study.results.selection import corruption_order

CATEGORIES = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2", "#999999")  # Okabe and Ito
NAMES = {
    "utility_x_healed": "utility × healed",
    "healed": "healed",
    "utility": "utility",
    "gain": "gain over the default",
    "healed_discovered": "discovered healed",
    "healed_undiscovered": "undiscovered healed",
    "found": "found",
    "attack_success": "attack success",
    "spread": "SD over replicates",
    "trials": "trials",
}
"""Every map by its name, in the order of the page."""
COLUMNS = {"found": "found_average_precision"}
"""Of cells.parquet, where a map is called otherwise."""
ALWAYS = ("utility_x_healed", "healed", "utility", "gain", "trials")
"""Maps that are drawn even where they are empty."""
LOWER_IS_BETTER = ("attack_success",)
FRAMED = "utility_x_healed"
"""The map whose frames say who wins; verdicts are about no other figure."""
_FEW = "_few"

Paint = Callable[[Any], tuple[str, str]]
"""A cell's value to its colour and its text."""


def ink(colour: str) -> str:
    """Black or white, whichever contrasts more with this background (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def minus(text: str) -> str:
    """The text with a true minus sign before its negative numbers; words and ranges such as `2-4` stay."""
    return re.sub(r"(?<![\w.])-(?=[\d.])", "−", text)


def readable(value: Any) -> str:
    """A hyperparameter's value as a person writes it: three digits for a float, `a + b` for a list."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return " + ".join(map(readable, value))
    return value if isinstance(value, str) else json.dumps(value)


def method_name(method: str) -> str:
    """As the reader sees it: REM for `rem`, every other as the study file writes it."""
    return "REM" if method == "rem" else method


def by_mean(cells: pd.DataFrame) -> list[str]:
    """The methods, best mean utility × healed first: the order of every table and row of panels."""
    return list(plane.methods_frame(cells)["method"])


@dataclass(frozen=True)
class Measure:
    """One map over the grid.

    Attributes:
        name: of NAMES.
        values: a cells frame whose column `shown` is what is painted, and `_few` the words where it is of too few
            samples.
        paint: the colour and the text of a value.
        colours, scale: of the colour bar.
        framed: by (method, corruption, discovery rate) `won` or `level`.
        mean: whether the mean over the cells says something.
    """

    name: str
    values: pd.DataFrame
    paint: Paint
    colours: Colormap
    scale: Normalize
    framed: dict[tuple[str, str, float], str]
    mean: bool = True

    @cached_property
    def _grids(self) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
        """By method what is shown of it and the words for cells without a value: of all methods at once, as a pivot
        takes its time."""
        order, rates = corruption_order(self.values)[::-1], sorted(self.values["discovery_rate"].unique())
        wide = self.values.pivot(index=["method", "corruption"], columns="discovery_rate", values=["shown", _FEW])
        methods = wide.index.get_level_values("method").unique()
        return {
            str(name): tuple(wide.loc[name][column].reindex(index=order, columns=rates) for column in ("shown", _FEW))
            for name in methods
        }

    @cached_property
    def _nothing(self) -> pd.DataFrame:
        return next(iter(self._grids.values()))[0].map(lambda value: None)

    def grid(self, method: str) -> pd.DataFrame:
        """What is shown of one method: rows are corruptions, high regularity first, columns rising discovery rates."""
        return self._grids[method][0] if method in self._grids else self._nothing

    def words(self, method: str) -> pd.DataFrame:
        """The words for cells without a value, laid out likewise."""
        return self._grids[method][1] if method in self._grids else self._nothing

    def headline(self, method: str) -> str:
        """`mean 0.71`, or why there is none; empty where a mean says nothing."""
        if not self.mean:
            return ""
        known = [value for value in self.grid(method).to_numpy().ravel() if present(value)]
        if known:
            return f"mean {self.paint(sum(known) / len(known))[1]}"
        return "no result" if self.words(method).isna().all(axis=None) else "too few"


def measure(cells: pd.DataFrame, name: str) -> Measure | None:
    """The map `name` of a cells frame (with `spread`, see `plane.with_spread`); None where it would be empty, unless
    it is one of ALWAYS. Maps of what cannot be everywhere leave out the corruptions or rates that never have it."""
    column = COLUMNS.get(name, name)
    known = cells[cells[column].notna()]
    if known.empty and name not in ALWAYS:
        return None
    if name in ("healed_undiscovered", "found"):
        cells = cells[cells["discovery_rate"].isin(known["discovery_rate"])]
    if name == "attack_success":
        cells = cells[cells["corruption"].isin(known["corruption"])]
    return (_OTHERS.get(name) or partial(_share, name=name))(cells)


def _share(cells: pd.DataFrame, name: str) -> Measure:
    """A share, brighter is better; of too few samples only their number is told."""
    column = COLUMNS.get(name, name)
    colours, scale = colormaps["cividis_r" if name in LOWER_IS_BETTER else "cividis"], Normalize(0, 1)
    enough, counts = plane.enough(cells, column), plane.samples(cells, column)
    few = counts.map("n {:.0f}".format).where(~enough & cells[column].notna())
    values = cells.assign(**{"shown": cells[column].where(enough), _FEW: few})

    def paint(value: Any) -> tuple[str, str]:
        return to_hex(colours(scale(value))), f"{value:.2f}"

    return Measure(name, values, paint, colours, scale, _frames(cells) if name == FRAMED else {})


def _frames(cells: pd.DataFrame) -> dict[tuple[str, str, float], str]:
    found: dict[tuple[str, str, float], str] = {}
    level = plane.level(cells) & cells["lead_low"].notna()
    for standing, rows in (("won", cells[plane.wins(cells)]), ("level", cells[level])):
        found |= dict.fromkeys(zip(rows["method"], rows["corruption"], rows["discovery_rate"], strict=True), standing)
    return found


def _gain(cells: pd.DataFrame) -> Measure:
    """Orange where the search lost to the default, purple where it gained."""
    reach = max(0.05, float(cells["gain"].abs().max(skipna=True)) if cells["gain"].notna().any() else 0.0)
    colours, scale = colormaps["PuOr"], Normalize(-reach, reach)

    def paint(value: Any) -> tuple[str, str]:
        return to_hex(colours(scale(value))), minus(f"{value:+.2f}") if abs(value) >= 0.005 else "0"

    return Measure("gain", cells.assign(**{"shown": cells["gain"], _FEW: None}), paint, colours, scale, {})


def _spread(cells: pd.DataFrame) -> Measure:
    """The standard deviation of the selected configuration's utility × healed over replicates; brighter is wider."""
    colours, scale = colormaps["cividis"], Normalize(0, max(0.05, float(cells["spread"].max(skipna=True))))

    def paint(value: Any) -> tuple[str, str]:
        return to_hex(colours(scale(value))), f"{value:.3f}"

    return Measure("spread", cells.assign(**{"shown": cells["spread"], _FEW: None}), paint, colours, scale, {})


def _trials(cells: pd.DataFrame) -> Measure:
    """The search trials that were spent; those stopped early or failed are in brackets."""
    colours, scale = colormaps["cividis"], Normalize(0, max(1, int(cells["trials"].max())))
    lost = cells["pruned"].fillna(0) + cells["failed"].fillna(0)
    told = pd.Series(list(zip(cells["trials"], lost, strict=True)), index=cells.index)

    def paint(value: Any) -> tuple[str, str]:
        spent, short = value
        return to_hex(colours(scale(spent))), f"{spent} ({short})" if short else str(spent)

    return Measure("trials", cells.assign(**{"shown": told, _FEW: None}), paint, colours, scale, {}, mean=False)


_OTHERS: dict[str, Callable[[pd.DataFrame], Measure]] = {"gain": _gain, "spread": _spread, "trials": _trials}


def palette(table: pd.DataFrame) -> Paint:
    """Numbers by value on cividis; up to eight other values by Okabe and Ito's colours; more by place on cividis."""
    values = [value for value in table.to_numpy().ravel() if present(value)]
    if values and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        scale = Normalize(min(values), max(values))
        return lambda value: (to_hex(colormaps["cividis"](0.15 + 0.85 * float(scale(value)))), readable(value))
    names = sorted({readable(value) for value in values})
    steps = [to_hex(colormaps["cividis"](i / max(1, len(names) - 1))) for i in range(len(names))]
    colours = dict(zip(names, CATEGORIES if len(names) <= len(CATEGORIES) else steps, strict=False))
    return lambda value: (colours[readable(value)], readable(value))


def present(value: Any) -> bool:
    """Whether there is a value to paint."""
    return isinstance(value, (list, tuple, dict)) or not pd.isna(value)
