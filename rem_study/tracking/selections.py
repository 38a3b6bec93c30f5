"""What was selected in a study, as MLflow's runs show it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rem_study.storage import TrialKey
from rem_study.tracking.entries import MetricPoint
from rem_study.tracking.views import REPORTED

_OF_TRIALS = (
    *("utility_x_healed", "utility_x_healed_low", "utility_x_healed_high", "healed", "utility", "test_accuracy"),
    "gain",
)
"""Of the scores, those that a selected trial's run shows."""
_LEADER = ("utility_x_healed", "utility_x_healed_low", "utility_x_healed_high", "healed", "utility")
"""Those of a cell's best method that its run shows under their plain names."""
_DIGITS = 4  # MLflow's lists cut what is longer
_NO_MEANS = ("_low", "_high", "_samples", "replicates")


@dataclass(frozen=True)
class Selection:
    """What was selected in one (cell, method), as MLflow shows it.

    Attributes:
        scores: what is reported of it, by name.
        curves: by name one value an epoch, the mean over replicates.
        time: epoch milliseconds, the same whenever it is written.
        standing: `won` where the method has won the cell.
    """

    trial: TrialKey
    scores: dict[str, float]
    curves: dict[str, list[float]]
    time: int
    standing: str | None = None

    @property
    def method(self) -> str:
        """Of the trial."""
        return self.trial[1]

    def reported(self) -> dict[str, float]:
        """The metrics of its trial's run."""
        return {f"{REPORTED}{name}": round(self.scores[name], _DIGITS) for name in _OF_TRIALS if name in self.scores}

    def curve_points(self) -> Iterator[MetricPoint]:
        """The metrics of the run of its curves."""
        for name, values in self.curves.items():
            for epoch, value in enumerate(values):
                yield f"epoch/{name}", value, self.time, epoch


def ranked(selections: Sequence[Selection]) -> list[Selection]:
    """Best mean utility × healed first; those without a score last."""
    return sorted(selections, key=lambda one: -one.scores.get("utility_x_healed", float("-inf")))


def cell_scores(selections: Sequence[Selection]) -> dict[str, float]:
    """The metrics of a cell's run: its best method's under their plain names, then each method's as `METHOD/NAME`."""
    best = ranked(selections)[0].scores
    scores = {name: best[name] for name in _LEADER if name in best}
    scores |= {f"{one.method}/{name}": value for one in ranked(selections) for name, value in one.scores.items()}
    return {name: round(value, _DIGITS) for name, value in scores.items()}


def cell_tags(selections: Sequence[Selection]) -> dict[str, str]:
    """Which method leads a cell, and which has won it beyond noise, or that it is `level`."""
    leader = ranked(selections)[0]
    tags = {"leads": leader.method} if "utility_x_healed" in leader.scores else {}
    for one in selections:
        if one.standing in ("won", "level"):
            tags["winner"] = one.method if one.standing == "won" else "level"
    return tags


def study_scores(cells: Mapping[str, Sequence[Selection]]) -> dict[str, float]:
    """The metrics of the study's run: each method's mean over the cells, as `METHOD/NAME_mean`, best method first."""
    everywhere: dict[str, dict[str, list[float]]] = {}
    for selections in cells.values():
        for one in selections:
            for name, value in one.scores.items():
                if not name.endswith(_NO_MEANS):
                    everywhere.setdefault(one.method, {}).setdefault(name, []).append(value)
    means = {method: {name: fmean(values) for name, values in own.items()} for method, own in everywhere.items()}
    best_first = sorted(means, key=lambda method: -means[method].get("utility_x_healed", float("-inf")))
    return {
        f"{method}/{name}_mean": round(means[method][name], _DIGITS) for method in best_first for name in means[method]
    }


def digest(shown: Mapping[str, Any]) -> str:
    """Tells whether a run shows just this already."""
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
