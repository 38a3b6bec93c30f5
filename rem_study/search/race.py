"""The final race of one (cell, method): the best configurations of the search against the default, on fresh replicates.

The best of many noisy scores is mostly luck: what is exported has to beat the default once more, where nothing has been
chosen yet. All that are still in run on the same replicate, so that differences are paired (common random numbers).
After each, the last ones in the order of means go out, at even steps, so that one is left in the last rounds:
successive rejects (Audibert, Bubeck and Munos, COLT 2010, section 4; there with the lengths of rounds that its bound
wants, here with one replicate each). From the second round on, so does whoever has not been ahead of the default on
average. Who is left is taken only if the mean lead is beyond its noise: Student's one-sided lower bound of the paired
differences, at CONFIDENCE, above zero. Else it is the default.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from scipy.special import stdtrit

CONFIDENCE = 0.8
"""One-sided. Over replayed studies (docs/searching.md) less than 3 % of the exports are then worse than the default by
0.01. At 0.7 one of the quickstart's four was worse, on twenty fresh replicates."""
PATIENCE = 2
"""Rounds after which whoever is not ahead of the default goes out: one is too noisy a verdict."""


class Race:
    """Who is still in, and who has won. What it is told may come in any order within a round.

    Args:
        challengers: the trials that race, best first.
        default: the default's trial; None where it did not come to its end: then the best mean wins.
        rounds: replicates at most, 2 or more where there is anything to decide.

    Attributes:
        rounds_run: rounds that are over.
        winner: the trial that is exported, once the race is over; None before. Where every one has failed on a fresh
            replicate, it is what the search found best.
        out: how each trial that is out, or through, has ended: complete, pruned or failed.
    """

    def __init__(self, challengers: Sequence[int], default: int | None, rounds: int) -> None:
        if not challengers and default is None:
            raise ValueError("nobody races")
        self._first, self._best = len(challengers), [*challengers, default][0]
        self._in = list(challengers)
        self._default = default
        self._rounds = rounds
        self._scores: dict[int, list[float]] = {trial: [] for trial in self._all()}
        self._told: dict[int, float | None] = {}
        self.rounds_run = 0
        self.winner: int | None = None
        self.out: dict[int, str] = {}
        self._finish_if_decided()

    def _all(self) -> list[int]:
        return self._in if self._default is None else [*self._in, self._default]

    @property
    def over(self) -> bool:
        """Whether the winner is known."""
        return self.winner is not None

    @property
    def size(self) -> int:
        """The trials that have run on a replicate or are to."""
        return len(self._scores) if self.rounds_run or not self.over else 0

    def wanted(self) -> list[int]:
        """The trials whose score on replicate `rounds_run` is still missing; none once the race is over."""
        return [] if self.over else [trial for trial in self._all() if trial not in self._told]

    def tell(self, trial: int, score: float | None) -> None:
        """The score of a wanted trial on the round's replicate; None (or a non-finite one) if it failed."""
        self._told[trial] = None if score is None or not math.isfinite(score) else score
        if not self.wanted():
            self._end_round()

    def _end_round(self) -> None:
        told, self._told = self._told, {}
        self.rounds_run += 1
        for trial, score in told.items():
            if score is None:
                self.out[trial] = "failed"
            else:
                self._scores[trial].append(score)
        self._in = [trial for trial in self._in if trial not in self.out]
        if self._default in self.out:
            self._default = None
        leads = {trial: statistics.fmean(self._leads(trial)) for trial in self._in}
        if self.rounds_run < self._rounds:
            kept = self._in
            if self._default is not None and self.rounds_run >= PATIENCE:
                kept = [trial for trial in kept if leads[trial] > 0]
            places = _places(self._first, self.rounds_run, self._rounds)
            kept = sorted(kept, key=lambda trial: (-leads[trial], self._in.index(trial)))[:places]
            self.out |= {trial: "pruned" for trial in self._in if trial not in kept}
            self._in = kept
        elif self._in:
            best = max(self._in, key=lambda trial: leads[trial])
            kept = [best] if self._default is None or beyond_noise(self._leads(best)) else []
            self.out |= dict.fromkeys(self._in, "complete")
            self._in = kept
            self._end(best if kept else self._default)
            return
        self._finish_if_decided()

    def _leads(self, trial: int) -> list[float]:
        """The trial's scores, as differences from the default's on the same replicates where there is one."""
        own = self._scores[trial]
        if self._default is None:
            return own
        return [score - other for score, other in zip(own, self._scores[self._default], strict=True)]

    def _finish_if_decided(self) -> None:
        if not self._in:
            self._end(self._best if self._default is None else self._default)
        elif self._default is None and len(self._in) == 1:
            self.out.update({self._in[0]: "complete"} if self.rounds_run else {})
            self._end(self._in[0])
        elif not self._rounds:
            self._end(self._in[0])

    def _end(self, winner: int | None) -> None:
        if self._default is not None and self.rounds_run:
            self.out[self._default] = "complete"
        self.winner = winner


def _places(first: int, rounds_run: int, rounds: int) -> int:
    """How many of `first` challengers may go on after `rounds_run` of `rounds` rounds."""
    return first if not rounds_run else max(1, math.ceil(first * (1 - rounds_run / (rounds - 1))))


def longest_race(challengers: int, rounds: int) -> int:
    """Replicates, the default's included, of a race in which no challenger falls behind the default."""
    return sum(_places(challengers, number, rounds) + 1 for number in range(rounds)) if challengers else 0


def beyond_noise(leads: Sequence[float]) -> bool:
    """Whether the mean of paired differences, two or more, is above zero beyond its noise (one-sided, CONFIDENCE)."""
    quantile = float(stdtrit(len(leads) - 1, CONFIDENCE))
    return statistics.fmean(leads) > quantile * statistics.stdev(leads) / math.sqrt(len(leads))
