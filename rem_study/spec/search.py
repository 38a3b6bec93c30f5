"""How each (cell, method) is searched: budget, sampler, pruner, neighbours, race, confirmation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from rem_study.spec.frozen import Frozen, PositiveInt


class BudgetSpec(Frozen):
    """What each (cell, method) may spend."""

    trials: PositiveInt = 8
    replicates: PositiveInt = 1
    in_flight: PositiveInt = Field(1, description="trials of one (cell, method) that may run at once")
    sample_passes: PositiveInt | None = Field(
        None,
        description="samples taken forward and backward that one (cell, method) may spend on its search: no new trial "
        "is begun once they are spent, and trials is then the most that it may try; default: no limit",
    )


class SamplerSpec(Frozen):
    """Optuna's sampler for each (cell, method).

    `nsga2` searches for the front of the objective's two factors (`score_healed`, `score_utility`); what is selected in
    the end is the trial with the best objective all the same.
    """

    name: Literal["tpe", "gp", "random", "qmc", "nsga2"] = "tpe"
    startup_trials: PositiveInt = Field(
        4, description="trials before tpe and gp model anything (the default is one of them); nsga2: its population"
    )


class PrunerSpec(Frozen):
    """Optuna's pruner: whether a trial is given up before its last replicate, for what its first ones gave.

    A trial is compared within its own cell and method, and with those results only that its suggestion could see. Not
    for `sampler: {name: gp}`, which learns from whole trials only: pruned, it finds less than random search
    (docs/searching.md).
    """

    name: Literal["none", "median", "percentile", "wilcoxon"] = "none"
    startup_trials: PositiveInt = Field(4, description="whole trials that median and percentile need to compare with")
    percentile: Annotated[float, Field(gt=0, lt=100)] = Field(
        25.0, description="percentile: a trial goes on while it is among so many percent of the best; median: 50"
    )
    p_threshold: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="wilcoxon: one-sided p below which a trial counts as worse than the best one"
    )


class NeighboursSpec(Frozen):
    """Transfer: what the adjacent cells found first is tried early in each cell."""

    from_trial: PositiveInt | None = Field(
        None,
        description="the best configuration of each adjacent cell's first from_trial trials is tried here from trial "
        "from_trial on (lower and higher discovery rate, lower and higher regularity); default: none is",
    )


class RaceSpec(Frozen):
    """The best configurations of each (cell, method) against the default, before one of them is exported."""

    replicates: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        4,
        description="fresh replicates that a challenger runs on, 2 or more, unless it drops out before; what is not "
        "ahead of the default beyond its noise is not exported; 0: no race, the search's best is",
    )
    top: PositiveInt = Field(
        3, description="how many challengers there are at most: the search's best that were ahead of the default there"
    )

    @model_validator(mode="after")
    def _noisy(self) -> RaceSpec:
        if self.replicates == 1:
            raise ValueError("replicates: one says nothing of noise; 0 for no race, or 2 or more")
        return self


class ConfirmSpec(Frozen):
    """Further fresh replicates for what is exported and the default, which neither search nor race has seen."""

    replicates: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        3, description="how many; 2 or more give intervals; 0: none"
    )
    everywhere: bool = Field(
        False, description="also run what is exported for one cell in all the others, for the universal configuration"
    )

    @model_validator(mode="after")
    def _somewhere(self) -> ConfirmSpec:
        if self.everywhere and not self.replicates:
            raise ValueError("everywhere: needs replicates of 1 or more")
        return self
