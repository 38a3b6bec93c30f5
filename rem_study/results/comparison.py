"""Several studies side by side: the same cells, and how far each one's scores lie from the first one's.

Two studies of the same data, corruption, seed and protocol give replicate n the same corrupted samples, network weights
and splits: their differences are paired by replicate, as methods within a study are. Else the replicates of one say
nothing of those of the other, and the interval is Welch's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from scipy.special import stdtrit

from rem_study.results.standing import reported_rows, scores_by_cell
from rem_study.results.student import LEVEL
from rem_study.results.winners import Lead, Scored, compare
from rem_study.spec import Study
from rem_study.spec.corruption import CorruptionSpec

ELSEWHERE = {"root", "download", "columns"}
"""Fields of `data` that say where the images lie, not which ones they are."""


@dataclass(frozen=True)
class Opened:
    """One of the studies that are compared: as it was resolved, and its tables as `read_tables` gives them."""

    study: Study
    trials: pd.DataFrame
    cells: pd.DataFrame

    def scores(self) -> dict[str, dict[str, Scored]]:
        """By cell and method, what its selected configuration reached."""
        counted = self.cells.set_index(["dataset", "model", "cell", "method"])
        rows = reported_rows(self.trials, self.cells)
        return {place[2]: methods for place, methods in scores_by_cell(rows, counted).items()}


def share_seeds(one: Study, other: Study, corruption: str) -> bool:
    """Whether replicate n of a corruption (by name) is the same set of seeds and samples in both studies."""

    def stands_on(study: Study) -> tuple[object, ...]:
        return (
            study.spec.seed,
            study.spec.protocol,
            study.spec.data.model_dump(exclude=ELSEWHERE),
            _corruption(study, corruption),
        )

    return stands_on(one) == stands_on(other)


def _corruption(study: Study, name: str) -> CorruptionSpec | None:
    return next((one for one in study.spec.corruptions if one.name == name), None)


def difference(own: Scored, base: Scored, paired: bool) -> Lead:
    """How far `own` lies above `base`.

    Paired: as methods of one study are compared (`winners.compare`). Else: the difference of the means and Welch's
    95 % interval, NaN where one of them has fewer than two replicates; `replicates` is 0 then.
    """
    lead = compare(own, base, "")
    if paired and (lead.replicates > 1 or not math.isnan(lead.low)):
        return lead
    half = _welch(list(own.utility_x_healed.values()), list(base.utility_x_healed.values()))
    value = own.score - base.score
    return Lead("", value, value - half, value + half, 0, lead.samples, lead.worth)


def beyond_noise(own: Scored, base: Scored, paired: bool) -> int:
    """1 where `own` lies above `base` beyond noise, -1 where below, 0 where neither can be said: the rule by which a
    method wins a cell (`winners.judge`)."""
    if difference(own, base, paired).beyond_noise:
        return 1
    return -1 if difference(base, own, paired).beyond_noise else 0


def _welch(own: list[float], base: list[float]) -> float:
    """Half of Welch's 95 % interval of the difference of two independent means (Welch 1947)."""
    if min(len(own), len(base)) < 2:
        return math.nan
    shares = [statistics.variance(values) / len(values) for values in (own, base)]
    if not sum(shares):
        return 0.0
    freedom = sum(shares) ** 2 / sum(
        share**2 / (len(values) - 1) for share, values in zip(shares, (own, base), strict=True)
    )
    return float(stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(sum(shares))


def over_cells(scores: Mapping[str, Mapping[str, Scored]], method: str, cells: list[str]) -> Scored:
    """A method's mean over `cells`, by the replicates that all of them have; without any: the mean of the cells' means,
    as of one replicate that no study has (-1)."""
    own = [scores[cell][method] for cell in cells]
    shared = sorted(set.intersection(*(set(one.utility_x_healed) for one in own)))
    return Scored(
        {n: statistics.fmean(one.utility_x_healed[n] for one in own) for n in shared}
        or {-1: statistics.fmean(one.score for one in own)},
        healed=statistics.fmean(one.healed for one in own),
        utility=statistics.fmean(one.utility for one in own),
    )
