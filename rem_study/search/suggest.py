"""The search of one (cell, method): an Optuna study whose n-th suggestion does not depend on timing.

With k trials in flight, suggestion n is made when results 0 ... n-k are known and sees exactly these, even if later
ones have come in; its sampler is seeded by (study seed, cell, method, n). Whether trial n is pruned is decided on the
same results. So the trajectory is the same on one worker and on a hundred, and after any interruption.
"""

from __future__ import annotations

import functools
import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner, PercentilePruner, WilcoxonPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from rem_study.errors import InputError
from rem_study.search.optuna_studies import distribution
from rem_study.seeds import derive_seed
from rem_study.spec import Configuration, SearchSpace
from rem_study.spec.search import PrunerSpec, SamplerSpec
from rem_study.spec.space import FloatParameter, IntParameter, Value
from rem_study.spec.yaml_file import field_name

optuna.logging.set_verbosity(optuna.logging.ERROR)


Made = TypeVar("Made")
Arguments = ParamSpec("Arguments")


def _without_experimental_warnings(make: Callable[Arguments, Made]) -> Callable[Arguments, Made]:
    """QMC and Wilcoxon are called experimental since years; a study's user need not hear it at each suggestion."""

    @functools.wraps(make)
    def quietly(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Made:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return make(*args, **kwargs)

    return quietly


_COUNTING = ("qmc", "nsga2")
"""Samplers that keep count of their suggestions in the Optuna study, each time that they are asked for one."""


@dataclass(frozen=True)
class Score:
    """What the search is told of one replicate; larger is better.

    Attributes:
        value: the objective.
        factors: its two factors (healed, utility), for a search with two objectives.
    """

    value: float
    factors: tuple[float, float]

    @property
    def finite(self) -> bool:
        """Whether it can be compared at all."""
        return all(map(math.isfinite, (self.value, *self.factors)))


@dataclass(frozen=True)
class _Result:
    """How a trial ended: the scores of its replicates, one after another, and what they cost."""

    state: TrialState
    scores: tuple[Score, ...]
    sample_passes: int

    @property
    def value(self) -> float:
        return statistics.fmean(score.value for score in self.scores)

    @property
    def factors(self) -> list[float]:
        return [statistics.fmean(each) for each in zip(*(score.factors for score in self.scores), strict=True)]


class CellSearch:
    """Asks for configurations and is told their scores (larger is better).

    Args:
        trials: how many configurations it may ask for.
        in_flight: k, the trials that may run at once.
        seed: parts of the samplers' seeds: study seed, cell, method.
        sample_passes: what its trials may cost together; None: no limit.
    """

    def __init__(
        self,
        space: SearchSpace,
        sampler: SamplerSpec,
        trials: int,
        in_flight: int,
        seed: tuple[object, ...],
        pruner: PrunerSpec = PrunerSpec(),  # noqa: B008  frozen
        sample_passes: int | None = None,
    ) -> None:
        self._space, self._sampler, self._in_flight, self._seed = space, sampler, in_flight, seed
        self._sample_passes = math.inf if sample_passes is None else sample_passes
        self._limit = trials
        self.asked = 0
        self.configurations: list[Configuration] = []
        self._shared = _shared_by_all(space)
        self._ranges = {name: distribution(one) for name, one in space.parameters.items() if one.search}
        self._pruner, self._pruner_spec = _make_pruner(pruner), pruner
        objectives = 2 if sampler.name == "nsga2" else 1
        self._study = optuna.create_study(directions=[StudyDirection.MAXIMIZE] * objectives)
        self._open: dict[int, optuna.Trial] = {}
        self._results: dict[int, _Result] = {}
        self._told = 0  # results that the Optuna study has
        self._added = 0  # trials that it has
        self._costs = [0]  # what the first n trials have cost together, as far as all of them have results

    @property
    def trials(self) -> int:
        """How many trials there will be, as far as is known: fewer than allowed once the sample passes are spent."""
        return self.asked if self._spent() else self._limit

    @property
    def done(self) -> bool:
        """Whether every trial has a result."""
        return len(self._results) == self.trials

    @property
    def usable(self) -> bool:
        """Whether any trial has come to its end."""
        return any(result.state == TrialState.COMPLETE for result in self._results.values())

    def may_ask(self) -> bool:
        """Whether there is a next suggestion, and the results that it must see are there."""
        return self.asked < self._limit and self._sees_enough() and not self._spent()

    def finished_first(self, count: int) -> bool:
        """Whether the first `count` trials, or all if there are fewer, have their results."""
        return self.done or all(number in self._results for number in range(min(count, self._limit)))

    def ranking(self, first: int | None = None) -> list[int]:
        """The numbers of the complete trials (among the `first` ones), best first; ties to the lower number."""
        complete = [
            (-result.value, number)
            for number, result in self._results.items()
            if result.state == TrialState.COMPLETE and (first is None or number < first)
        ]
        return [number for _, number in sorted(complete)]

    def contenders(self) -> tuple[list[int], int | None]:
        """The complete trials that were ahead of the default (trial 0), best first, each configuration once; and the
        default, None where it did not come to its end: then all are ahead of it."""
        ranking = self.ranking()
        if 0 not in ranking:
            return self._distinct(ranking), None
        default = self._results[0].value
        return self._distinct([number for number in ranking if self._results[number].value > default]), 0

    def _distinct(self, numbers: Sequence[int]) -> list[int]:
        kept: list[int] = []
        seen = {frozenset(self.configurations[0].items())}
        for number in numbers:
            values = frozenset(self.configurations[number].items())
            if values not in seen:
                seen.add(values)
                kept.append(number)
        return kept

    def ask(self, known: Configuration | None = None) -> tuple[int, Configuration]:
        """The next trial's number and complete configuration.

        Args:
            known: the configuration that this trial has had already, when a study is resumed, or is to have.

        Raises:
            InputError: `known` has a value that the search space does not.
        """
        number = self.asked
        if number == 0 and known is None:
            known = self._space.defaults
        if known is not None:
            known = self._fitting(known)
        if known is not None and self._sampler.name not in _COUNTING:
            configuration = known  # the Optuna study learns of it when the sampler is next asked
        else:
            configuration = self._ask_optuna(number, known)
        self.configurations.append(configuration)
        self.asked += 1
        return number, configuration

    def _fitting(self, known: Configuration) -> Configuration:
        """`known` as the sampler would have said it. Raises InputError."""
        configuration, parameters = self._space.defaults, self._space.parameters
        if foreign := sorted(known.keys() - parameters.keys()):
            raise InputError(f"{field_name(foreign[0])}: {self._space.method} has no such hyperparameter")
        for name, its_range in self._ranges.items():
            if not self._space.is_active(name, configuration):
                continue
            try:
                configuration[name] = _value_in(its_range, known[name])
            except KeyError:
                raise InputError(f"{name}: is missing") from None
            except (ValueError, TypeError):
                raise InputError(f"{name}: {known[name]!r:.80} is not within the search space") from None
        same = all(
            type(known.get(name)) is type(value) and known[name] == value for name, value in configuration.items()
        )
        return known if same else configuration  # of a hundred thousand, one copy less of each

    def _searched(self, configuration: Configuration) -> list[str]:
        return [name for name in self._ranges if self._space.is_active(name, configuration)]

    def _ask_optuna(self, number: int, known: Configuration | None) -> Configuration:
        """What the sampler says, or `known`, of which it is told."""
        self._catch_up(number)
        self._study.sampler = self._make_sampler(number)
        if known is not None:
            self._study.enqueue_trial({name: known[name] for name in self._searched(known)})
        trial = self._study.ask()
        if known is not None:
            _ = trial.relative_params
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
        self._added += 1
        return configuration

    def _catch_up(self, number: int) -> None:
        """Let the Optuna study have what suggestion `number` sees: results to n - k, and the trials after them as
        running. Of trials whose configuration was known it has heard nothing so far; they are added as they are."""
        visible = max(0, number - self._in_flight + 1)
        while self._told < min(visible, self._added):
            self._tell_optuna(self._told)
            self._told += 1
        for added in range(self._added, number):
            finished = added < visible
            self._study.add_trial(self._frozen(added, self._results[added] if finished else None))
            if finished:
                self._told += 1
            else:
                self._open[added] = optuna.Trial(self._study, self._study.get_trials(deepcopy=False)[-1]._trial_id)
        self._added = max(self._added, number)

    def _frozen(self, number: int, result: _Result | None) -> FrozenTrial:
        """Trial `number` as Optuna has it once it is told of; without a result it is running."""
        configuration = self.configurations[number]
        ranges = {name: self._ranges[name] for name in self._searched(configuration)}
        steps = {} if result is None or result.state == TrialState.FAIL else self._steps(result.scores)
        value = None
        if result is not None and result.state == TrialState.COMPLETE:
            value = result.value
        elif result is not None and result.state == TrialState.PRUNED:
            value = list(steps.values())[-1]
        return optuna.trial.create_trial(
            state=TrialState.RUNNING if result is None else result.state,
            value=value,
            params={name: configuration[name] for name in ranges},
            distributions=ranges,
            intermediate_values=steps,
        )

    def prunes(self, number: int, scores: Sequence[Score]) -> bool:
        """Whether trial `number`, whose first replicates gave `scores`, is given up. Never the default (trial 0)."""
        if number == 0 or isinstance(self._pruner, NopPruner):
            return False
        # A study of its own, which holds what the trial's suggestion could see and nothing that has come in since.
        seen = optuna.create_study(direction="maximize", pruner=self._pruner)
        for earlier in range(number - self._in_flight + 1):
            if self._results[earlier].state == TrialState.COMPLETE:
                seen.add_trial(self._as_optuna_trial(self._results[earlier]))
        trial = seen.ask()
        for step, value in self._steps(scores).items():
            trial.report(value, step)
        return trial.should_prune()

    def tell(
        self, number: int, scores: Sequence[Score] | None, *, pruned: bool = False, sample_passes: int = 0
    ) -> None:
        """The result of trial `number`: its replicates' scores, or None (or a non-finite one) if it failed."""
        if not scores or not all(score.finite for score in scores):
            self._results[number] = _Result(TrialState.FAIL, (), sample_passes)
        else:
            state = TrialState.PRUNED if pruned else TrialState.COMPLETE
            self._results[number] = _Result(state, tuple(scores), sample_passes)
        while (whole := len(self._costs) - 1) in self._results:
            self._costs.append(self._costs[-1] + self._results[whole].sample_passes)

    def _tell_optuna(self, number: int) -> None:
        result, trial = self._results[number], self._open.pop(number)
        if result.state == TrialState.FAIL:
            self._study.tell(trial, state=TrialState.FAIL)
        elif self._sampler.name == "nsga2":
            self._study.tell(trial, result.factors)
        else:
            for step, value in self._steps(result.scores).items():
                trial.report(value, step)
            # A pruned trial's value is its last step's, which Optuna takes itself.
            self._study.tell(trial, None if result.state == TrialState.PRUNED else result.value, state=result.state)

    def _as_optuna_trial(self, result: _Result) -> FrozenTrial:
        return optuna.trial.create_trial(value=result.value, intermediate_values=self._steps(result.scores))

    def _steps(self, scores: Sequence[Score]) -> dict[int, float]:
        """What Optuna sees at each replicate: Wilcoxon's test the score itself, the others the mean up to there."""
        values = [score.value for score in scores]
        if self._pruner_spec.name == "wilcoxon":
            return dict(enumerate(values))
        return {step: statistics.fmean(values[: step + 1]) for step in range(len(values))}

    def _sees_enough(self) -> bool:
        return len(self._costs) > self.asked - self._in_flight + 1

    def _spent(self) -> bool:
        """Whether the results that the next suggestion sees have cost all that the search may cost."""
        if math.isinf(self._sample_passes):
            return False
        seen, whole = max(0, self.asked - self._in_flight + 1), len(self._costs) - 1
        later = (self._results[number].sample_passes for number in range(whole, seen) if number in self._results)
        return self._costs[min(seen, whole)] + sum(later) >= self._sample_passes

    @_without_experimental_warnings
    def _make_sampler(self, number: int) -> BaseSampler:
        spec, seed = self._sampler, derive_seed(*self._seed, number) % 2**32
        if spec.name == "random":
            return RandomSampler(seed=seed)
        if spec.name == "qmc":  # one sequence for all: the n-th point is found by counting
            sequence = derive_seed(*self._seed) % 2**32
            return _QMC(
                self._shared, seed=sequence, scramble=True, independent_sampler=RandomSampler(seed=seed),
                warn_independent_sampling=False,
            )  # fmt: skip
        if spec.name == "nsga2":
            return _NSGAII(self._shared, seed=seed, population_size=max(2, spec.startup_trials))
        if spec.name == "gp":
            return _GP(
                self._shared, seed=seed, n_startup_trials=spec.startup_trials, warn_independent_sampling=False
            )  # fmt: skip
        return _TPE(self._shared, seed=seed, n_startup_trials=spec.startup_trials)


class _KnownSpace:
    """For a sampler: which parameters every trial has. Optuna would find the same ones in all trials at each ask."""

    def __init__(self, shared: dict[str, BaseDistribution], **options: Any) -> None:
        super().__init__(**options)
        self._shared = shared

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is modelled jointly; the others are sampled one by one."""
        return self._shared


class _TPE(_KnownSpace, TPESampler):
    pass


class _GP(_KnownSpace, GPSampler):
    pass


class _QMC(_KnownSpace, QMCSampler):
    pass


class _NSGAII(_KnownSpace, NSGAIISampler):
    pass


@_without_experimental_warnings
def _make_pruner(spec: PrunerSpec) -> BasePruner:
    if spec.name == "median":
        return MedianPruner(n_startup_trials=spec.startup_trials)
    if spec.name == "percentile":
        return PercentilePruner(spec.percentile, n_startup_trials=spec.startup_trials)
    if spec.name == "wilcoxon":
        return WilcoxonPruner(p_threshold=spec.p_threshold)
    return NopPruner()


def _value_in(its_range: BaseDistribution, value: Value) -> Value:
    """`value` as Optuna would give it. Raises ValueError or TypeError where its range does not have it."""
    if type(value) is float and isinstance(its_range, FloatDistribution) and its_range.step is None:
        if its_range.low <= value <= its_range.high:
            return value
        raise ValueError
    inside = its_range.to_internal_repr(value)
    if not its_range._contains(inside):
        raise ValueError
    found: Value = its_range.to_external_repr(inside)
    return found


def _shared_by_all(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The searched parameters that no searched one switches on or off, in alphabetical order, as Optuna has them."""
    defaults, parameters = space.defaults, space.parameters
    shared = {
        name: distribution(parameter)
        for name, parameter in sorted(parameters.items())
        if parameter.search
        and space.is_active(name, defaults)
        and not any(parameters[other].search for other in parameter.when)
    }
    return {name: its_range for name, its_range in shared.items() if not its_range.single()}
