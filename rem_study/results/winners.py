"""Who wins a cell, by how much, and how sure that is: the one rule that report, LaTeX, tables and MLflow ask.

Nothing here knows pandas: a cell's scores come in as plain numbers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rem_study.results.student import half_width

TIE = 1e-9
STANDARD_ERRORS = 2.0
FEWEST_LED = 6
"""Samples that a lead must be worth: with fewer, all of them in its favour, a sign test says p = 2 / 2^5 = .06."""
FEWEST_SAMPLES = 10
"""A share of fewer is shown as a sentence, and decides nothing."""


@dataclass(frozen=True)
class Scored:
    """What one method's selected configuration reached in a cell, on the report split.

    Attributes:
        utility_x_healed: by replicate, at least one.
        healed, utility: means over these replicates.
        healed_samples, utility_samples: behind these means, all replicates together; None where not recorded.
    """

    utility_x_healed: Mapping[int, float]
    healed: float
    utility: float
    healed_samples: int | None = None
    utility_samples: int | None = None

    @property
    def score(self) -> float:
        """Mean utility × healed."""
        return statistics.fmean(self.utility_x_healed.values())


@dataclass(frozen=True)
class Lead:
    """How far one method is ahead of another (behind it, where negative).

    Attributes:
        rival: the other method.
        value: the difference of utility × healed.
        low, high: what is compatible with it, see `compare`; NaN where nothing can be said.
        replicates: how many both have run.
        samples: of the healed share, of whichever method has fewer; None where not recorded.
        worth: samples that speak for it, healed ones and test images; None where not recorded.
    """

    rival: str
    value: float
    low: float
    high: float
    replicates: int
    samples: int | None
    worth: float | None

    @property
    def beyond_noise(self) -> bool:
        """Whether it counts as won, see `judge`."""
        few = self.samples is not None and self.samples < FEWEST_SAMPLES
        small = self.worth is not None and self.worth < FEWEST_LED - TIE
        return self.low > 0 and not few and not small


@dataclass(frozen=True)
class Standing:
    """Where a method stands in a cell: `won`, `level`, `behind` or `alone`, and its lead (None: `alone`)."""

    standing: str
    lead: Lead | None


def judge(scores: Mapping[str, Scored]) -> dict[str, Standing]:
    """The standing of each method of one cell.

    The leader is the method with the highest mean utility × healed (report split).

    1. It has `won` if it leads every other method beyond noise. With two or more replicates that both methods ran, that
       is: the 95 % interval (Student's t) of the differences, paired by replicate, lies above zero.
    2. With one replicate there is no such interval: the lead must be more than two standard errors of the difference,
       as binomial sampling gives them for the samples behind both figures. Without their numbers it is not won.
    3. And never by fewer than FEWEST_LED samples, nor on fewer than FEWEST_SAMPLES (where the numbers are known): the
       replicates' differences come in steps of a sample, and two or three that are equal by chance have no spread.

    Else the cell is `level`: so stand the leader and all that it does not lead beyond noise; the others are `behind`. A
    tie (within 1e-9) has no leader, and is level. A method that alone has a result is `alone`: it beat nobody.

    A leader's lead is that over the method which comes closest to deciding otherwise: one that is level with it first,
    then the one with the lowest `low`. All others' are over the leader, so negative.
    """
    if len(scores) == 1:
        return {method: Standing("alone", None) for method in scores}
    best = max((one.score for one in scores.values()), default=math.nan)
    tops = sorted(method for method, one in scores.items() if one.score >= best - TIE)
    found = {}
    for method, own in scores.items():
        rivals = [other for other in tops if other != method] or [other for other in scores if other != method]
        leads = [(compare(own, scores[other], other), compare(scores[other], own, method)) for other in rivals]
        ours, theirs = min(leads, key=lambda pair: _closest(pair[0] if method in tops else pair[1]))
        if method in tops:
            won = len(tops) == 1 and ours.beyond_noise
            found[method] = Standing("won" if won else "level", ours)
        else:
            found[method] = Standing("behind" if theirs.beyond_noise else "level", ours)
    return found


def _closest(lead: Lead) -> tuple[bool, float, float, str]:
    return lead.beyond_noise, -math.inf if math.isnan(lead.low) else lead.low, lead.value, lead.rival


def compare(own: Scored, other: Scored, rival: str) -> Lead:
    """The lead of one method over another, and its noise.

    With two replicates or more in common: mean and 95 % interval of the paired differences. With one, and no other:
    the difference and STANDARD_ERRORS standard errors to either side. Else (no two replicates in common) the
    difference of the means alone.
    """
    shared = sorted(own.utility_x_healed.keys() & other.utility_x_healed.keys())
    differences = [own.utility_x_healed[one] - other.utility_x_healed[one] for one in shared]
    value, half = own.score - other.score, math.nan
    if len(shared) > 1:
        value, half = statistics.fmean(differences), half_width(differences)
    elif len(shared) == len(own.utility_x_healed) == len(other.utility_x_healed):
        half = STANDARD_ERRORS * math.sqrt(_variance(own) + _variance(other))
    samples = _fewer(own.healed_samples, other.healed_samples)
    images = _fewer(own.utility_samples, other.utility_samples)
    worth = None
    if samples is not None and images is not None:
        way = math.copysign(1, value)
        worth = max(0.0, way * (own.healed - other.healed)) * samples
        worth += max(0.0, way * (own.utility - other.utility)) * images
    return Lead(rival, value, value - half, value + half, len(shared), samples, worth)


def _fewer(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else min(one, other)


def _variance(scored: Scored) -> float:
    """The sampling variance of utility × healed, NaN where the samples are not known.

    By the delta method, both shares taken with one success and one failure added (Agresti and Caffo 2000), so that a
    share of none or all of the samples has one, too.
    """
    if scored.healed_samples is None or scored.utility_samples is None:
        return math.nan
    healed, utility = scored.healed, scored.utility
    return utility**2 * _of_share(healed, scored.healed_samples) + healed**2 * _of_share(
        utility, scored.utility_samples
    )


def _of_share(share: float, samples: int) -> float:
    adjusted = (share * samples + 1) / (samples + 2)
    return adjusted * (1 - adjusted) / (samples + 2)


def sentence(method: str, standing: str, lead: Lead | None, name: Callable[[str], str] = str) -> str:
    """A cell's verdict in words, from the standing of its leader (or, of a tie, of any that lead).

    Args:
        name: a method as the reader knows it.
    """
    own = name(method)
    if lead is None:
        return f"only {own} has a result"
    rival, by = name(lead.rival), f"{lead.value:.3f}"
    if abs(lead.value) <= TIE:
        return f"level: {own} and {rival} have the same score"
    if lead.value < 0:  # of several replicates, not all of them shared
        return f"level: {own} has the higher mean, {rival} that of the {lead.replicates} replicates in common"
    if standing == "won" and lead.replicates > 1:
        return f"{own} wins: {by} above {rival}, {_interval(lead)}"
    if standing == "won":
        noise = f"more than {STANDARD_ERRORS:g} standard errors of {lead.samples} samples"
        return f"{own} wins on one replicate: {by} above {rival}, {noise}; other seeds are untested"
    ahead = f"{own} leads {rival} by {by}"
    if lead.samples is not None and lead.samples < FEWEST_SAMPLES:
        return f"level: {ahead}, on {lead.samples} samples, which are too few"
    if lead.low > 0 and lead.worth is not None:
        return f"level: {ahead}, which is worth {lead.worth:.0f} samples, fewer than {FEWEST_LED}"
    if lead.replicates > 1:
        return f"level: {ahead}, {_interval(lead)}"
    if lead.replicates == 0 or (math.isnan(lead.low) and lead.samples is not None):
        return f"level: {ahead}, with no two replicates in common"
    if math.isnan(lead.low):
        return f"level, one replicate: {ahead}; on how many samples was not recorded"
    noise = f"within the noise of {lead.samples} samples ({lead.low:+.3f} to {lead.high:+.3f})"
    return f"level, one replicate: {ahead}, {noise}"


def _interval(lead: Lead) -> str:
    return f"95 % interval over {lead.replicates} replicates {lead.low:+.3f} to {lead.high:+.3f}"
