"""Rules on what was selected in a cell: each names a reason not to trust it, or not to bother.

They look only at what the tables hold. A cell without words is sound.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rem_study.spec import SearchSpace
from rem_study.spec.space import FloatParameter, IntParameter

MEMORISED_ENOUGH = 0.8
FINISHED_ENOUGH = 0.5
AT_A_BOUND = 0.02  # of the range, on its own scale
TIE = 1e-9


@dataclass(frozen=True)
class Selection:
    """What the rules see of one (cell, method): its row of cells.parquet, and where it was searched.

    Attributes:
        cell: the row, numbers possibly NaN; `config` is JSON or None.
        space: as searched; None if it is not known any more.
        default_finished: whether there is a default to compare with.
    """

    cell: Mapping[str, Any]
    space: SearchSpace | None
    default_finished: bool = True

    def number(self, name: str) -> float:
        """A column's value; NaN where it is null."""
        value = self.cell[name]
        return math.nan if value is None else float(value)

    @property
    def is_default(self) -> bool:
        """Whether the default configuration was selected, trial 0."""
        return self.number("trial") == 0


def every_trial_failed(selection: Selection) -> str | None:
    """Nothing came of this (cell, method)."""
    cell = selection.cell
    return "every trial failed" if cell["trials"] and cell["failed"] == cell["trials"] else None


def no_finished_trial(selection: Selection) -> str | None:
    """Nothing could be selected, though not everything failed."""
    cell = selection.cell
    return "no finished trial" if cell["config"] is None and cell["failed"] < cell["trials"] else None


def default_not_finished(selection: Selection) -> str | None:
    """There is nothing to compare the selected configuration with."""
    missing = selection.cell["config"] is not None and not selection.default_finished
    return "default not finished" if missing else None


def no_gain(selection: Selection) -> str | None:
    """What is exported does not beat the default; that it is the default itself is no fault."""
    beaten = not selection.is_default and selection.number("gain") <= TIE
    return "no gain over the default" if beaten else None


def gain_within_its_interval(selection: Selection) -> str | None:
    """The gain may well be none: its interval over fresh replicates holds zero."""
    unsure = selection.number("gain") > TIE and selection.number("gain_low") <= 0
    return "gain not beyond its interval" if unsure else None


def optimum_on_a_bound(selection: Selection) -> str | None:
    """A hyperparameter of the selected configuration lies at the end of its range: a wider one may hold a better."""
    config, space = selection.cell["config"], selection.space
    if config is None or space is None or selection.is_default:
        return None
    configuration = json.loads(config)
    at_a_bound = [
        name
        for name, parameter in space.parameters.items()
        if parameter.search
        and isinstance(parameter, FloatParameter | IntParameter)
        and parameter.default != configuration[name]
        and space.is_active(name, configuration)
        and _is_at_a_bound(parameter, float(configuration[name]))
    ]
    return f"optimum on a bound ({', '.join(at_a_bound)})" if at_a_bound else None


def original_did_not_memorise(selection: Selection) -> str | None:
    """The original does not give the corrupted samples their wrong labels: there is little to heal."""
    share = selection.number("memorised")
    return f"original memorised only {share:.0%} of the corruption" if share < MEMORISED_ENOUGH else None


def too_few_finished(selection: Selection) -> str | None:
    """Most trials failed, so that hardly anything was searched."""
    cell = selection.cell
    usable = cell["trials"] - cell["failed"]
    few = 0 < usable < FINISHED_ENOUGH * cell["trials"]
    return f"only {usable} of {cell['trials']} trials did not fail" if few else None


RULES: tuple[Callable[[Selection], str | None], ...] = (
    every_trial_failed,
    no_finished_trial,
    default_not_finished,
    no_gain,
    gain_within_its_interval,
    optimum_on_a_bound,
    original_did_not_memorise,
    too_few_finished,
)


def examine(selection: Selection) -> str:
    """What the rules have to say, in one text; empty if nothing."""
    return "; ".join(word for rule in RULES if (word := rule(selection)))


def _is_at_a_bound(parameter: FloatParameter | IntParameter, value: float) -> bool:
    low, high = float(parameter.low), float(parameter.high)
    if parameter.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    place = (value - low) / (high - low)
    return min(place, 1 - place) <= AT_A_BOUND
