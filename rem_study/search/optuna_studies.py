"""A study's trials as Optuna has them: for its importances, its plots, and a storage that optuna-dashboard opens."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.trial import FrozenTrial, TrialState

from rem_study.errors import InputError
from rem_study.search.dashboard import describe, with_whole_configurations
from rem_study.spec import Configuration, SearchSpace, Study
from rem_study.spec.space import FloatParameter, IntParameter, Parameter
from rem_study.storage import write_atomically

Rows = Iterable[Mapping[str, Any]]
"""Rows of the log or of trials.parquet: `config` as a mapping or JSON text; `start_time` and `end_time` (epoch
milliseconds) where they are known."""

_STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
_SHOWN = ("healed", "utility", "test_accuracy", "utility_x_healed", "seconds")


def distribution(parameter: Parameter) -> BaseDistribution:
    """What Optuna calls the range of a hyperparameter."""
    if isinstance(parameter, FloatParameter):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    if isinstance(parameter, IntParameter):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step or 1)
    return CategoricalDistribution(parameter.choices)


def distributions(space: SearchSpace, configuration: Configuration) -> dict[str, BaseDistribution]:
    """The ranges of what was searched in `configuration`: neither fixed nor switched off by another choice."""
    return {
        name: distribution(parameter)
        for name, parameter in space.parameters.items()
        if parameter.search and space.is_active(name, configuration)
    }


def frozen_trials(space: SearchSpace, rows: Rows) -> list[FrozenTrial]:
    """One Optuna trial a trial of one (cell, method), in the order of their numbers.

    A trial's value is the mean of its replicates' `score`, each of which is one intermediate value; its state is
    the worst of theirs. Configuration, phase, the means of the reported scores and errors are user attributes.
    """
    trials: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        trials.setdefault(int(row["trial"]), []).append(row)
    return [_frozen(space, trials[number]) for number in sorted(trials)]


def _frozen(space: SearchSpace, rows: list[Mapping[str, Any]]) -> FrozenTrial:
    rows = sorted(rows, key=lambda row: row["replicate"])
    config = rows[0]["config"]
    configuration = json.loads(config) if isinstance(config, str) else dict(config)
    states = {row["state"] for row in rows}
    state = next(_STATES[name] for name in ("failed", "pruned", "complete") if name in states)
    scores = {int(row["replicate"]): float(row["score"]) for row in rows if _known(row.get("score"))}
    if state is TrialState.COMPLETE and len(scores) < len(rows):
        state = TrialState.FAIL  # a score that is no number: Optuna takes none
    ranges = distributions(space, configuration)
    shown = {name: _mean(rows, name) for name in _SHOWN}
    trial = optuna.trial.create_trial(
        state=state,
        value=sum(scores.values()) / len(scores) if state is TrialState.COMPLETE else None,
        params={name: configuration[name] for name in ranges},
        distributions=ranges,
        intermediate_values=scores,
        user_attrs={
            "trial": int(rows[0]["trial"]),
            "phase": rows[0]["phase"],
            "config": configuration,
            **{name: value for name, value in shown.items() if value is not None},
            **{f"error #{row['replicate']}": row["error"] for row in rows if isinstance(row.get("error"), str)},
        },
    )
    times = [float(row[end]) for row in rows for end in ("start_time", "end_time") if _known(row.get(end))]
    if len(times) == 2 * len(rows):
        trial.datetime_start = datetime.fromtimestamp(min(times) / 1000)
        trial.datetime_complete = datetime.fromtimestamp(max(times) / 1000)
    return trial


def _known(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == value


def _mean(rows: list[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if _known(row.get(name))]
    return sum(values) / len(values) if values else None


def optuna_study(space: SearchSpace, rows: Rows, name: str | None = None) -> optuna.Study:
    """The trials of one (cell, method) as an Optuna study in memory, for `optuna.visualization` and the like."""
    return filled_study(InMemoryStorage(), name, frozen_trials(space, rows))


def write_storage(
    study: Study, rows: Rows, output: Path, selected: Mapping[tuple[str, str], Mapping[str, Any]] | None = None
) -> int:
    """Write a journal file with one Optuna study a (cell, method), `STUDY/CELL/METHOD`; returns how many.

    `optuna-dashboard FILE` opens it, and `JournalStorage(JournalFileBackend(FILE))` in Python: Optuna's own text
    format, written eight times as fast as its SQLite tables. A file that is there is replaced. Search trials only:
    confirmed scores are of fresh replicates and no part of what the sampler saw. Configurations are parameters, the
    value has the objective's name, and a note says what was `selected`: rows of cells.parquet by (cell, method).
    Raises InputError: it cannot be written, or there is no trial yet.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["phase"] == "search":
            groups.setdefault((row["cell"], row["method"]), []).append(row)
    if not groups:
        raise InputError(f"{study.spec.name}: no trial in it yet")
    journal = _Journal()
    storage = JournalStorage(journal)
    for (cell, method), own in sorted(groups.items()):
        name = f"{study.spec.name}/{cell}/{method}"
        space = study.spaces[method]
        filled = filled_study(storage, name, with_whole_configurations(space, frozen_trials(space, own)))
        for key, value in (("cell", cell), ("method", method), ("objective", study.spec.objective)):
            filled.set_user_attr(key, value)
        describe(filled, study.spec.objective, (selected or {}).get((cell, method)))
    try:
        write_atomically(output, "".join(journal.lines))
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror or error})") from None
    return len(groups)


class _Journal(BaseJournalBackend):
    """What `JournalFileBackend` writes, kept here: to its file it would write each trial by itself, and wait for it."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """What was appended, from that number on."""
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Keep them, and the lines that they are in a file."""
        self._logs += logs
        self.lines += [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]


def filled_study(storage: BaseStorage, name: str | None, trials: list[FrozenTrial]) -> optuna.Study:
    """A new Optuna study in `storage` that holds `trials`, larger values being better."""
    said = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # else it says that it made a study, each time
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    finally:
        optuna.logging.set_verbosity(said)
    study.add_trials(trials)
    return study
