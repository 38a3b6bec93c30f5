"""Which configurations `heal` runs: from options, a file of hyperparameters, or a study's best.yaml."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rem_study.errors import InputError
from rem_study.heal.diagnosis import Diagnosis
from rem_study.heal.healing import check_configuration
from rem_study.spec import Configuration, SearchSpace, load_space
from rem_study.spec.best import UNIVERSAL, Recommendation, candidates, of_cell, read_best
from rem_study.spec.yaml_file import load_yaml, read_text

NOMINAL_REGULARITY = {"random_label": 0.0, "interclass_confusion": 0.15, "poison": 1.0}
"""Measured on digits; for a best.yaml that does not have the diagnosed corruption by name."""

FOR_A_TRIGGER: Configuration = {"flush_limit": 1, "remove_weight": 0.1, "mmd_weight": 0.1}
"""What REM changes of its defaults where a poison is diagnosed and nobody says what is to be run: a short flush, weak
steps against the wrong labels, and the term that keeps a trigger from meaning another class (docs/heal-measured.md has
what it gains). Measured where methods step by SGD."""


@dataclass(frozen=True)
class OfAKind:
    """Where a method's own configuration for a diagnosed kind comes from."""

    method: str
    kind: str

    def __str__(self) -> str:
        return f"{self.method}'s own for {self.kind}"


Source = Recommendation | OfAKind | None
"""What of best.yaml a configuration comes from, or which kind it is for; None: the person's own, or the defaults."""

Attempt = tuple[Source, Configuration]
"""A complete configuration within its space."""


@dataclass(frozen=True)
class Choice:
    """The options of `rem-study heal` that say what is run; the command's help says what each means."""

    method: str = "rem"
    config: Path | None = None
    best: Path | None = None
    cell: str | None = None
    corruption: str | None = None
    discovery_rate: float | None = None
    tries: int = 1
    overrides: tuple[str, ...] = ()
    space: Path | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing says what the case is, nor what is to be run."""
        return self.config is None and self.cell is None and self.corruption is None and self.discovery_rate is None

    @property
    def is_default(self) -> bool:
        """Whether REM's own defaults are to be run."""
        changed = self.config or self.best or self.space or self.overrides
        return self.method == "rem" and not changed


def load_choice_space(choice: Choice) -> SearchSpace:
    """The search space that configurations must lie in. Raises InputError."""
    try:
        space = load_space(choice.method)
    except InputError as error:
        raise InputError(f"--method: {error}") from None
    return load_space(choice.method, choice.space) if choice.space else space


def attempts(choice: Choice) -> Sequence[Attempt]:
    """The configurations to try, nearest first. Raises InputError where options exclude each other or a file is
    wrong."""
    if choice.config and choice.best:
        raise InputError("--config: excludes --best; say one of them")
    of_nearest = choice.corruption is not None or choice.discovery_rate is not None
    if choice.best is None and (of_nearest or choice.cell is not None):
        raise InputError("--cell, --corruption, --discovery-rate: these need --best, a study's best.yaml")
    if choice.cell is not None and of_nearest:
        raise InputError("--cell: excludes --corruption and --discovery-rate")
    if (choice.corruption is None) != (choice.discovery_rate is None):
        raise InputError("--corruption, --discovery-rate: say both or neither")
    if choice.tries > 1 and not of_nearest:
        raise InputError("--tries: needs --best, --corruption and --discovery-rate, of which there are several")

    checked = _checker(choice)

    def heals(given: Configuration) -> bool:
        try:
            checked(given, "")
        except InputError:
            return False
        return True

    if choice.best is not None:
        if choice.corruption is not None and choice.discovery_rate is not None:
            case = _number_or_name(choice.corruption), choice.discovery_rate
            found = candidates(choice.best, *case, choice.method, heals)[: choice.tries]
        else:
            found = [of_cell(choice.best, choice.cell or UNIVERSAL, choice.method)]
        return [(one, checked(one.configuration, f"{choice.best}: {one.cell}")) for one in found]
    given: Any = {}
    if choice.config is not None:
        given = load_yaml(read_text(choice.config), str(choice.config))
        if not isinstance(given, dict):
            raise InputError(f"{choice.config}: must be a mapping of hyperparameters to values")
    return [(None, checked(given, str(choice.config or "--set")))]


def diagnosed_attempts(choice: Choice, diagnosis: Diagnosis, optimizer: str) -> Sequence[Attempt]:
    """What serves a diagnosed case: of best.yaml, or REM's own configuration for a trigger, where `optimizer` is the
    one that it is for; nothing where there is neither, or the diagnosis can't tell the kind.

    Of best.yaml, where the kind alone is told, the rest being out of sight, the lowest discovery rate; of a handful of
    samples with a trigger, too.
    """
    if choice.best is None:
        served = (choice.method, diagnosis.kind, optimizer, choice.space) == ("rem", "poison", "sgd", None)
        return [(OfAKind("rem", "poison"), _checker(choice)(FOR_A_TRIGGER, "--set"))] if served else []
    if diagnosis.kind is None:
        return []
    cells = read_best(choice.best).cells
    named = any(cell.corruption == diagnosis.kind for cell in cells)
    corruption = diagnosis.kind if named else str(NOMINAL_REGULARITY[diagnosis.kind])
    lowest = min(cell.discovery_rate for cell in cells)
    rate = lowest if diagnosis.is_handful_of_poison else diagnosis.discovery_rate or lowest
    return attempts(replace(choice, corruption=corruption, discovery_rate=rate))


def _checker(choice: Choice) -> Callable[[Configuration, str], Configuration]:
    """Fills up a configuration from a named origin, `--set` applied. It raises InputError, as does this."""
    space = load_choice_space(choice)
    changes = dict(_override(text) for text in choice.overrides)

    def checked(given: Configuration, origin: str) -> Configuration:
        changed = {name: value for name, value in given.items() if name not in changes} | changes
        try:
            return check_configuration(choice.method, changed, space)
        except InputError as error:
            origin = "--set" if str(error).partition(":")[0] in changes else origin
            raise InputError(f"{origin}: {error}") from None

    return checked


def _number_or_name(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def _override(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InputError(f"--set {text}: must be name=value")
    return name, load_yaml(value, f"--set {text}")
