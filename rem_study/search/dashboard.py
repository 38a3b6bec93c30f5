"""What optuna-dashboard shows of a study besides its trials: whole configurations, the value's name, a note."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from rem_study.spec import SearchSpace

_VALUES = {
    "score_oracle": "utility × healed",
    "score_deployable": "retain accuracy × (1 − accuracy on the forget set's wrong labels)",
}
_NOTE_PART = 2_045  # characters of one attribute, as optuna-dashboard cuts its notes


def with_whole_configurations(space: SearchSpace, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials with what was held fixed among their parameters, each a choice of the values that there are.

    Optuna takes a parameter with one choice for what it is: nothing to search. What another choice switches off stays
    out. The user attribute `config`, which says the same on one line of JSON, goes.
    """
    held = [_held(space, trial) for trial in trials]
    choices: dict[str, list[Any]] = {}
    for one in held:
        for name, value in one.items():
            known = choices.setdefault(name, [])
            if not any(value is other or (type(value) is type(other) and value == other) for other in known):
                known.append(value)
    for trial, one in zip(trials, held, strict=True):
        distributions = {name: CategoricalDistribution(choices[name]) for name in one}
        trial.params = {**trial.params, **one}
        trial.distributions = {**trial.distributions, **distributions}
        trial.user_attrs = {name: value for name, value in trial.user_attrs.items() if name != "config"}
    return list(trials)


def _held(space: SearchSpace, trial: FrozenTrial) -> dict[str, Any]:
    configuration = trial.user_attrs["config"]
    return {
        name: value if value is None or isinstance(value, (bool, int, float, str)) else json.dumps(value)
        for name, value in configuration.items()
        if name in space.parameters and name not in trial.params and space.is_active(name, configuration)
    }


def describe(study: optuna.Study, objective: str, selected: Mapping[str, Any] | None) -> None:
    """Name the study's value and give the study, its default and its selected trial their notes.

    Args:
        objective: the score that the search went by.
        selected: of the row of cells.parquet, `trial`, `chosen` and the reported scores; None where there is none yet.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([objective])
    _attach(study, "dashboard", _note(study, objective, selected))
    for trial in study.get_trials(deepcopy=False):
        said = ["The default configuration."] if trial.user_attrs["trial"] == 0 else []
        if selected is not None and trial.user_attrs["trial"] == int(selected["trial"]):
            said.append(f"Selected. Reported: {_reported(selected)}.")
        if said:
            _attach(study, f"dashboard:{trial._trial_id}", " ".join(said))


def _attach(study: optuna.Study, to: str, text: str) -> None:
    """A note as optuna-dashboard keeps it: attributes of the study, in parts."""
    storage = study._storage
    storage.set_study_system_attr(study._study_id, f"{to}:note_ver", 1)
    for part, start in enumerate(range(0, len(text), _NOTE_PART)):
        storage.set_study_system_attr(study._study_id, f"{to}:note_str:{part}", text[start : start + _NOTE_PART])


def _note(study: optuna.Study, objective: str, selected: Mapping[str, Any] | None) -> str:
    trials = study.get_trials(deepcopy=False)
    count = {state: sum(trial.state is state for trial in trials) for state in TrialState}
    lines = [
        f"**{study.user_attrs['method']} in {study.user_attrs['cell']}**: {len(trials)} trials, "
        f"{count[TrialState.PRUNED]} of them pruned, {count[TrialState.FAIL]} failed.",
        "",
        f"- The value is `{objective}`, {_VALUES.get(objective, objective)} on the selection split, mean over the "
        "trial's replicates; an intermediate value is a replicate. Trial 0 is the default configuration.",
    ]
    if count[TrialState.COMPLETE]:
        best = study.best_trial
        lines.append(f"- Best value: **{best.value:.4f}**, trial {best.number}.")
    if selected is not None:
        lines.append(
            f"- Selected: **trial {int(selected['trial'])}**. Reported, on the report split: {_reported(selected)}."
        )
    lines.append("- `healed`, `utility` and the like among a trial's user attributes are of the report split.")
    return "\n".join(lines)


def _reported(selected: Mapping[str, Any]) -> str:
    titles = {"utility_x_healed": "utility × healed", "healed": "healed", "utility": "utility"}
    known = {title: selected[name] for name, title in titles.items() if selected[name] == selected[name]}
    return ", ".join(f"{title} {value:.3f}" for title, value in known.items())
