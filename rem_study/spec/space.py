"""Search spaces: one YAML file a method, mapped one to one to Optuna's distributions.

A parameter is `float`, `int` or `categorical`, with a default and the source of its range. `when` makes it
conditional on a categorical one before it; `search: false` keeps it at its default unless a study fixes it.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rem_study.errors import InputError, did_you_mean
from rem_study.spec.shipped import shipped_folder, shipped_names
from rem_study.spec.yaml_file import field_name, parse_file, validate
from rem_study.storage import Folder

Value = bool | int | Annotated[float, Field(allow_inf_nan=False)] | str
Configuration = dict[str, Value]


Finite = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
"""What a float holds exactly, since Optuna reckons in floats."""


class _Parameter(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    source: str
    when: dict[str, list[Value]] = {}
    search: bool = True
    before: Value | None = None  # what an export that does not name it means, since it was made before there was one

    def check_reached(self: Any) -> None:
        """Raise ValueError if the parameter is searched and its default is a value that can only be fixed."""
        if self.search and not self.reaches(self.default):
            raise ValueError(f"{self.default!r} may be fixed, but a search does not reach it")


class _Range(_Parameter):
    log: bool = False
    also: list[Finite | int] = []  # values out of the range that a study may fix

    @model_validator(mode="after")
    def _ordered(self: Any) -> Any:
        if not math.isfinite(self.high - self.low):
            raise ValueError(f"from low {self.low} to high {self.high} is too far")
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low > 0, not {self.low}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        self.check(self.default)
        self.check_reached()
        return self

    def reaches(self: Any, value: Any) -> bool:
        """Whether a search may suggest `value`."""
        return bool(self.low <= value <= self.high)

    def check(self: Any, value: Value) -> None:
        """Raise ValueError unless `value` lies in the range."""
        if isinstance(value, (bool, str)) or not (self.low <= value <= self.high or value in self.also):
            besides = f" or {self.also}" if self.also else ""
            raise ValueError(f"{value!r} is not in [{self.low}, {self.high}]{besides}")


class FloatParameter(_Range):
    """A real number in [low, high], on a logarithmic scale or in steps if so said."""

    type: Literal["float"]
    low: Finite
    high: Finite
    default: Finite
    step: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    @property
    def cardinality(self) -> float:
        """How many values there are."""
        return math.inf if self.step is None else math.floor((self.high - self.low) / self.step + 1e-9) + 1


class IntParameter(_Range):
    """A whole number in [low, high]."""

    type: Literal["int"]
    low: Whole
    high: Whole
    default: Whole
    step: Annotated[int, Field(gt=0, le=2**53)] | None = None

    def check(self, value: Value) -> None:
        """Raise ValueError unless `value` is a whole number in the range."""
        if isinstance(value, float):
            raise ValueError(f"{value!r} is not a whole number")
        super().check(value)

    @property
    def cardinality(self) -> float:
        """How many values there are."""
        return (self.high - self.low) // (self.step or 1) + 1


class CategoricalParameter(_Parameter):
    """One of the listed choices. With `open`, a study may fix any other text too; the method says if it is wrong."""

    type: Literal["categorical"]
    choices: Annotated[list[Value], Field(min_length=1)]
    default: Value
    open: bool = False

    @model_validator(mode="after")
    def _has_default(self) -> CategoricalParameter:
        if len({(type(choice), choice) for choice in self.choices}) < len(self.choices):
            raise ValueError("a choice is listed twice")
        self.check(self.default)
        self.check_reached()
        return self

    def reaches(self, value: Value) -> bool:
        """Whether a search may suggest `value`."""
        return any(type(value) is type(choice) and value == choice for choice in self.choices)

    def check(self, value: Value) -> None:
        """Raise ValueError unless `value` is one of the choices."""
        if not self.reaches(value) and not (self.open and isinstance(value, str)):
            raise ValueError(f"{value!r} is not one of {self.choices}{did_you_mean(value, map(str, self.choices))}")

    @property
    def cardinality(self) -> float:
        """How many values there are."""
        return len(self.choices)


Parameter = Annotated[FloatParameter | IntParameter | CategoricalParameter, Field(discriminator="type")]


_CHANGEABLE = ("low", "high", "log", "step", "choices", "default", "search")
"""What of a parameter a study may say otherwise (`ranges`)."""


class SearchSpace(BaseModel):
    """What may vary in a method, and where it starts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: str
    summary: str
    reference: str
    parameters: dict[str, Parameter]

    @model_validator(mode="after")
    def _conditions_point_back(self) -> SearchSpace:
        seen: dict[str, CategoricalParameter] = {}
        for name, parameter in self.parameters.items():
            for other, values in parameter.when.items():
                if other not in seen:
                    raise ValueError(f"{name}.when: {other!r} is not a categorical parameter before it")
                for value in values:
                    try:
                        seen[other].check(value)
                    except ValueError as error:
                        raise ValueError(f"{name}.when.{other}: {error}") from None
            if isinstance(parameter, CategoricalParameter):
                seen[name] = parameter
        return self

    @property
    def defaults(self) -> Configuration:
        """The default configuration: every parameter, inactive ones included."""
        return {name: parameter.default for name, parameter in self.parameters.items()}

    def is_active(self, name: str, configuration: Configuration) -> bool:
        """Whether the conditions of the parameter `name` hold in `configuration`."""
        when = self.parameters[name].when
        return all(configuration[other] in values for other, values in when.items())

    def cardinality(self) -> float:
        """How many different configurations a search may draw (an upper bound where `when` is used)."""
        return math.prod(p.cardinality for p in self.parameters.values() if p.search)

    def with_ranges(self, changes: dict[str, dict[str, Any]]) -> SearchSpace:
        """The same space with fields of some parameters (low, high, log, step, choices, default, search) changed.

        Raises:
            InputError: naming parameter and field.
        """
        parameters = dict(self.parameters)
        for name, fields in changes.items():
            self._check_known(name)
            for field in fields:
                if field not in _CHANGEABLE:
                    told = f"unknown key{did_you_mean(field, _CHANGEABLE)}; there are {', '.join(_CHANGEABLE)}"
                    raise InputError(f"{name}: {field_name(field)}: {told}")
            given = parameters[name].model_dump(exclude_unset=True) | fields
            parameters[name] = validate(type(parameters[name]), given, name)
        return self.model_copy(update={"parameters": parameters})

    def with_defaults(self, values: Configuration) -> SearchSpace:
        """The same space starting from other defaults. Raises InputError naming the parameter."""
        return self._changed(values, {})

    def fixed(self, values: Configuration) -> SearchSpace:
        """The same space with some parameters held at a value. Raises InputError naming the parameter."""
        return self._changed(values, {"search": False})

    def _changed(self, values: Configuration, update: dict[str, Any]) -> SearchSpace:
        parameters = dict(self.parameters)
        for name, value in values.items():
            self._check_known(name)
            if isinstance(parameters[name], FloatParameter) and type(value) is int:
                value = float(value)
            changed = parameters[name].model_copy(update={"default": value, **update})
            try:
                changed.check(value)
                changed.check_reached()
            except ValueError as error:
                raise InputError(f"{name}: {error}") from None
            parameters[name] = changed
        return self.model_copy(update={"parameters": parameters})

    def _check_known(self, name: str) -> None:
        if name not in self.parameters:
            raise InputError(
                f"{field_name(name)}: {self.method} has no such hyperparameter{did_you_mean(name, self.parameters)}; "
                f"it has {', '.join(self.parameters)}"
            )

    def check_searched(self, configuration: Configuration) -> None:
        """Check that a search could have suggested `configuration`. Raises InputError naming the parameter."""
        if missing := [name for name in self.parameters if name not in configuration]:
            raise InputError(f"{missing[0]}: is missing")
        for name, value in configuration.items():
            self._check_known(name)
            parameter = self.parameters[name]
            try:
                parameter.check(value)
            except ValueError as error:
                raise InputError(f"{name}: {error}") from None
            if parameter.search and self.is_active(name, configuration) and not parameter.reaches(value):
                raise InputError(f"{name}: {value!r} is out of this study's reach")
            if not parameter.search and value != parameter.default:
                raise InputError(f"{name}: is held at {parameter.default!r} by this study, not at {value!r}")

    def exported(self, configuration: Configuration) -> Configuration:
        """An exported configuration, which says all there was then, with what later parameters were without saying."""
        then = {name: p.before for name, p in self.parameters.items() if p.before is not None}
        return {**then, **configuration}

    def complete(self, configuration: Configuration) -> Configuration:
        """`configuration` checked and filled up with defaults. Raises InputError naming the parameter."""
        return self.fixed(configuration).defaults


def known_methods() -> list[str]:
    """The methods that ship with a search space, in alphabetical order."""
    return shipped_names("search_spaces")


def load_space(method: str, path: Folder | None = None) -> SearchSpace:
    """The search space of `method`, its own or the file at `path`. Raises InputError naming file and field."""
    if method not in known_methods():
        known = known_methods()
        raise InputError(f"unknown method {method[:60]!r}{did_you_mean(method, known)}; known are {', '.join(known)}")
    space = parse_file(SearchSpace, path or shipped_folder("search_spaces") / f"{method}.yaml")
    if space.method != method:
        raise InputError(f"{path}: method: is {space.method!r}, but the study uses it for {method!r}")
    return space
