"""The search of one (cell, method): an Optuna study whose n-th suggestion does not depend on timing.

With k trials in flight, suggestion n is made when results 0 ... n-k are known and sees exactly these, even if later
ones have come in; its sampler is seeded by (study seed, cell, method, n). So the trajectory is the same on one
worker and on a hundred, and after any interruption.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from rem_study.seeds import derive_seed
from rem_study.space import Configuration, FloatParameter, IntParameter, Parameter, SearchSpace
from rem_study.spec import SamplerSpec

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class CellSearch:
    """Asks for configurations and is told their scores (larger is better).

    Args:
        trials: how many configurations it may ask for.
        in_flight: k, the trials that may run at once.
        seed: parts of the samplers' seeds: study seed, cell, method.
    """

    def __init__(
        self, space: SearchSpace, sampler: SamplerSpec, trials: int, in_flight: int, seed: tuple[object, ...]
    ) -> None:
        self._space, self._sampler, self._in_flight, self._seed = space, sampler, in_flight, seed
        self.trials = trials
        self.asked = 0
        self._shared = _shared_by_all(space)
        self._study = optuna.create_study(direction="maximize")
        self._open: dict[int, optuna.Trial] = {}
        self._scores: dict[int, float | None] = {}
        self._told = 0

    @property
    def done(self) -> bool:
        """Whether every trial has a result."""
        return len(self._scores) == self.trials

    def may_ask(self) -> bool:
        """Whether the results that the next suggestion must see are there."""
        return self.asked < self.trials and self._results_in_a_row() > self.asked - self._in_flight

    def ask(self, known: Configuration | None = None) -> tuple[int, Configuration]:
        """The next trial's number and complete configuration.

        Args:
            known: the configuration that this trial has had already, when a study is resumed.
        """
        number = self.asked
        while self._told <= number - self._in_flight:
            self._tell_optuna(self._told)
            self._told += 1
        if number == 0 and known is None:
            known = self._space.defaults
        self._study.sampler = self._make_sampler(number)
        if known is not None:
            parameters = self._space.parameters
            self._study.enqueue_trial(
                {n: v for n, v in known.items() if parameters[n].search and self._space.is_active(n, known)}
            )
        trial = self._study.ask()
        configuration = self._space.defaults
        for name, parameter in self._space.parameters.items():
            if not parameter.search or not self._space.is_active(name, configuration):
                continue
            if isinstance(parameter, FloatParameter):
                value: Any = trial.suggest_float(
                    name, parameter.low, parameter.high, log=parameter.log, step=parameter.step
                )
            elif isinstance(parameter, IntParameter):
                value = trial.suggest_int(
                    name, parameter.low, parameter.high, log=parameter.log, step=parameter.step or 1
                )
            else:
                value = trial.suggest_categorical(name, parameter.choices)
            configuration[name] = value
        self._open[number] = trial
        self.asked += 1
        return number, configuration

    def tell(self, number: int, score: float | None) -> None:
        """The result of trial `number`: its score, or None (or a non-finite one) if it failed."""
        self._scores[number] = score if score is not None and math.isfinite(score) else None

    def _tell_optuna(self, number: int) -> None:
        score = self._scores[number]
        if score is None:
            self._study.tell(self._open.pop(number), state=TrialState.FAIL)
        else:
            self._study.tell(self._open.pop(number), score)

    def _results_in_a_row(self) -> int:
        row = self._told
        while row in self._scores:
            row += 1
        return row

    def _make_sampler(self, number: int) -> optuna.samplers.BaseSampler:
        seed = derive_seed(*self._seed, number) % 2**32
        if self._sampler.name == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        return _CellSampler(self._shared, seed=seed, n_startup_trials=self._sampler.startup_trials)


class _CellSampler(optuna.samplers.TPESampler):
    """TPE that is told which parameters every trial has; Optuna would find the same ones in all trials at each ask."""

    def __init__(self, shared: dict[str, BaseDistribution], **options: Any) -> None:
        super().__init__(**options)
        self._shared = shared

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is modelled jointly; the others are sampled one by one."""
        return self._shared


def _distribution(parameter: Parameter) -> BaseDistribution:
    if isinstance(parameter, FloatParameter):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    if isinstance(parameter, IntParameter):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step or 1)
    return CategoricalDistribution(parameter.choices)


def _shared_by_all(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The searched parameters that no searched one switches on or off, in alphabetical order, as Optuna has them."""
    defaults, parameters = space.defaults, space.parameters
    shared = {
        name: _distribution(parameter)
        for name, parameter in sorted(parameters.items())
        if parameter.search
        and space.is_active(name, defaults)
        and not any(parameters[other].search for other in parameter.when)
    }
    return {name: distribution for name, distribution in shared.items() if not distribution.single()}
