"""Which configuration of an exported best.yaml serves a case: the nearest cell's, and how far it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rem_study.errors import InputError, did_you_mean
from rem_study.spec.cell import DiscoveryRate, cell_name
from rem_study.spec.space import Configuration, known_methods, load_space
from rem_study.spec.yaml_file import load_yaml, read_text, validate
from rem_study.storage import Folder, open_folder

UNIVERSAL = "universal"


@dataclass(frozen=True)
class Recommendation:
    """A configuration and where it comes from.

    Attributes:
        cell: its cell, `poison@0.5` say, or `universal`.
        regularity: the cell's, measured by its study; None where unknown.
        distance: from the case asked for to the cell, in the plane of regularity and log10 of the discovery rate;
            0 for that very cell, and for `universal`.
        rate_factor: the cell's discovery rate / the one asked for.
        regularity_gap: the cell's regularity - the one asked for.
        utility_x_healed: what the configuration reached in its study; None where unknown.
        passed_over: nearer cells, whose configurations cannot be used here.
    """

    method: str
    configuration: Configuration
    cell: str
    regularity: float | None
    distance: float
    rate_factor: float
    regularity_gap: float
    utility_x_healed: float | None
    passed_over: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = f"{self.method} of {self.cell}"
        if self.distance:
            gaps = [f"{self.rate_factor:.2g} times the discovery rate"] if self.rate_factor != 1 else []
            gaps += [f"regularity {self.regularity_gap:+.2f}"] if self.regularity_gap else []
            told += f", at distance {self.distance:.2f} ({', '.join(gaps)})"
        if self.passed_over:
            told += f"; what {', '.join(self.passed_over)} chose cannot be used here"
        return told


def recommend(
    best: Folder | str | Mapping[str, Any], *, corruption: str | float, discovery_rate: float, method: str = "rem"
) -> Recommendation:
    """The configuration of the cell that is nearest to a case.

    The nearest is picked and nothing is interpolated: winners of neighbouring cells differ in choices as much as in
    numbers, and half-way between two of them nothing was ever tried. Distances are Euclidean in regularity (0 to 1)
    and log10 of the discovery rate, so that knowing a tenth as much counts like all the way from no regularity to
    full. Of two cells as near, the one of the lower discovery rate is taken.

    Args:
        best: the path of a best.yaml, or its document.
        corruption: one of its corruptions by name, or a regularity from 0 to 1: how often the model gives the
            corrupted label to new samples put through the same corruption. Only cells of a known regularity
            are compared with the latter.
        discovery_rate: share of the corrupted samples that is known, in (0, 1].
        method: whose configuration.

    Raises:
        InputError: the file is missing or malformed, or has no cell of that corruption or method; a number out
            of range.
    """
    return candidates(best, corruption, discovery_rate, method)[0]


def candidates(
    best: Folder | str | Mapping[str, Any],
    corruption: str | float,
    discovery_rate: float,
    method: str,
    usable: Callable[[Configuration], bool] = lambda configuration: True,
) -> list[Recommendation]:
    """Every configuration worth trying in a case, each once: those of the cells that `recommend` compares, nearest
    first, then the one for the whole grid. Other arguments and errors: see `recommend`.

    Args:
        usable: whether a configuration can be used; where it cannot it is passed over, unless none can: then the
            nearest one is given, so that the caller may say what is wrong with it.
    """
    origin, document = _read(best)
    if not 0 < discovery_rate <= 1:
        raise InputError(f"discovery_rate: {discovery_rate} is not above 0 and at most 1")
    cells = [cell for cell in document.cells if method in cell.methods]
    if not cells:
        known = sorted({name for cell in document.cells for name in cell.methods})
        meant = did_you_mean(method, known)
        raise InputError(
            f"{origin}: cells: none has a configuration of {method!r}{meant}; there are {', '.join(known)}"
        )

    def gap(cell: _Cell) -> float:
        return 0.0 if isinstance(corruption, str) else (cell.regularity or 0.0) - corruption

    if isinstance(corruption, str):
        near = [cell for cell in cells if cell.corruption == corruption]
        names = list(dict.fromkeys(cell.corruption for cell in cells))
        missing = f"no cell of corruption {corruption!r}{did_you_mean(corruption, names)}; "
        missing += f"there are {', '.join(names)}, or a regularity from 0 to 1"
    elif 0 <= corruption <= 1:
        near, missing = [cell for cell in cells if cell.regularity is not None], "no cell has a measured regularity"
    else:
        raise InputError(f"corruption: a regularity lies from 0 to 1, not at {corruption}")
    if not near:
        raise InputError(f"{origin}: cells: {missing}")

    def distance(cell: _Cell) -> float:
        return round(math.hypot(gap(cell), math.log10(cell.discovery_rate / discovery_rate)), 9)

    near.sort(key=lambda cell: (distance(cell), cell.discovery_rate))
    found = [
        _of(
            method,
            cell.methods[method],
            cell.name,
            cell.regularity,
            distance(cell),
            cell.discovery_rate / discovery_rate,
            gap(cell),
        )
        for cell in near
    ]
    if method in document.universal:
        found.append(_of(method, document.universal[method], UNIVERSAL, None))
    able = [one for one in found if usable(one.configuration)]
    if not able:
        return found[:1]
    kept: list[Recommendation] = []
    for one in able:
        if all(one.configuration != other.configuration for other in kept):
            kept.append(one)
    kept[0] = replace(able[0], passed_over=tuple(one.cell for one in found[: found.index(able[0])]))
    return kept


def of_cell(best: Folder | str | Mapping[str, Any], cell: str, method: str = "rem") -> Recommendation:
    """The configuration of one cell, `poison@0.5` say, or the one for the whole grid (`universal`).

    Raises:
        InputError: the file is missing or malformed, or has no such cell, or not for that method.
    """
    origin, document = _read(best)
    if cell == UNIVERSAL:
        if method not in document.universal:
            raise InputError(f"{origin}: universal: {_lacks(method, document.universal)}")
        return _of(method, document.universal[method], UNIVERSAL, None)
    named = {candidate.name: candidate for candidate in document.cells}
    if cell not in named:
        meant = did_you_mean(cell, [*named, UNIVERSAL])
        raise InputError(f"{origin}: cells: there is no {cell!r}{meant}; there are {', '.join(named)}")
    if method not in named[cell].methods:
        raise InputError(f"{origin}: cells: {cell} {_lacks(method, named[cell].methods)}")
    return _of(method, named[cell].methods[method], cell, named[cell].regularity)


def _lacks(method: str, there: Iterable[str]) -> str:
    known = list(there)
    return f"has no configuration of {method!r}{did_you_mean(method, known)}; there are {', '.join(known) or 'none'}"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


_Unit = Annotated[float, Field(ge=0, le=1)]


_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]


class _Winner(_Part):
    config: Configuration
    utility_x_healed: dict[str, _Unit | None] = {}


class _Cell(_Part):
    corruption: _Name
    discovery_rate: DiscoveryRate
    regularity: _Unit | None = None
    methods: dict[_Name, _Winner]

    @property
    def name(self) -> str:
        return cell_name(self.corruption, self.discovery_rate)


class _Best(_Part):
    format: Literal[1]
    universal: dict[_Name, _Winner] = {}
    cells: list[_Cell]

    @model_validator(mode="after")
    def _each_cell_once(self) -> _Best:
        names = [cell.name for cell in self.cells]
        if len(set(names)) < len(names):
            raise ValueError("cells: one is listed twice")
        return self


def read_best(path: Folder) -> _Best:
    """A best.yaml, checked. Raises InputError."""
    return _read(path)[1]


def _read(best: Folder | str | Mapping[str, Any]) -> tuple[str, _Best]:
    if isinstance(best, Mapping):
        return "best", validate(_Best, dict(best), "best")
    return str(best), validate(
        _Best, load_yaml(read_text(open_folder(best) if isinstance(best, str) else best), str(best)), str(best)
    )


def _of(
    method: str,
    winner: _Winner,
    cell: str,
    regularity: float | None,
    distance: float = 0.0,
    rate_factor: float = 1.0,
    regularity_gap: float = 0.0,
) -> Recommendation:
    score = winner.utility_x_healed.get("mean")
    config = load_space(method).exported(winner.config) if method in known_methods() else winner.config
    return Recommendation(method, config, cell, regularity, distance, rate_factor, regularity_gap, score)
