"""What gpu_cells.py is to run: configurations read and checked, and the order of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from rem_study.errors import InputError
from rem_study.spec.frozen import Frozen
from rem_study.spec.space import Configuration
from rem_study.spec.study import Study
from rem_study.spec.yaml_file import load_yaml, one_line, read_text, validate
from rem_study.storage.canonical import canonical_json
from rem_study.trial.trial import Trial, cells_of
from rem_study.unlearning.run import needed_original


class Entry(Frozen):
    """One of the list of configurations."""

    label: Annotated[str, Field(min_length=1)]
    method: str
    set: Configuration = Field({}, description="hyperparameters; the others are at the study's default")
    cells: Annotated[list[str], Field(min_length=1)] | None = None


@dataclass(frozen=True)
class Run:
    """One configuration in one cell on one replicate."""

    entry: Entry
    trial: Trial

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What tells it from other runs of the same study; its label does not."""
        return key_of(self.trial.cell.name, self.trial.method, self.trial.configuration, self.trial.replicate)

    @property
    def base(self) -> tuple[str, int]:
        """Corruption and replicate: the original that it starts from."""
        return self.trial.cell.corruption.name, self.trial.replicate


def key_of(cell: str, method: str, configuration: Configuration, replicate: int) -> tuple[str, str, str, int]:
    """Cell, method, configuration and replicate, fit for a set."""
    return cell, method, canonical_json(configuration), replicate


def defaults(study: Study, origin: Path) -> list[Entry]:
    """Each method of the study at its default, REM first. Raises InputError where an original does not suit one."""
    methods = sorted(study.spaces, key=lambda method: method != "rem")
    entries = [Entry(label=method, method=method) for method in methods]
    if mistakes := [line for entry in entries for line in _misfits(entry, study, [], str(origin))]:
        raise InputError("\n".join(mistakes))
    return entries


def read_entries(path: Path, study: Study) -> list[Entry]:
    """The list of configurations in a file. Raises InputError, one line a mistake: file, place, field."""
    document = load_yaml(read_text(path), str(path))
    if not isinstance(document, list) or not document:
        raise InputError(f"{path}: must be a list of configurations, each with label and method")
    entries: list[Entry] = []
    mistakes: list[str] = []
    names = [cell.name for cell in cells_of(study.spec)]
    for number, item in enumerate(document):
        origin = f"{path}: {number}"
        try:
            entry = validate(Entry, item, origin)
        except InputError as error:
            mistakes.append(str(error))
            continue
        entries.append(entry)
        mistakes += _misfits(entry, study, names, origin)
    labelled = [(entry.label, cell) for entry in entries for cell in dict.fromkeys(entry.cells or names)]
    twice = dict.fromkeys(label for label, cell in labelled if labelled.count((label, cell)) > 1)
    mistakes += [f"{path}: label: {one_line(label)} stands twice for the same cell" for label in twice]
    if mistakes:
        raise InputError("\n".join(mistakes))
    return entries


def _misfits(entry: Entry, study: Study, cells: list[str], origin: str) -> list[str]:
    """What `entry` asks for and the study does not have."""
    mistakes = [
        f"{origin}: cells: the study has no cell {one_line(cell)}; it has {', '.join(cells)}"
        for cell in entry.cells or []
        if cell not in cells
    ]
    if entry.method not in study.spaces:
        there = ", ".join(study.spaces)
        return [*mistakes, f"{origin}: method: the study has no method {one_line(entry.method)}; it has {there}"]
    try:
        study.spaces[entry.method].complete(entry.set)
    except InputError as error:
        mistakes.append(f"{origin}: set.{error}")
    needed = needed_original(entry.method)
    if needed not in (None, study.spec.original.kind):
        mistakes.append(f"{origin}: method: {entry.method} needs original.kind: {needed}")
    return mistakes


def plan(study: Study, entries: Sequence[Entry], cells: Sequence[str] | None, replicates: int) -> list[Run]:
    """All runs in their order. Raises InputError where the study lacks one of `cells`, or nothing is to run in them."""
    there = {cell.name: cell for cell in cells_of(study.spec)}
    wanted = list(dict.fromkeys(cells or there))
    if missing := [cell for cell in wanted if cell not in there]:
        raise InputError(f"--cells: the study has no cell {one_line(missing[0])}; it has {', '.join(there)}")
    runs = [
        Run(entry, Trial(there[name], entry.method, study.spaces[entry.method].complete(entry.set), replicate))
        for replicate in range(replicates)
        for entry in entries
        for name in dict.fromkeys(entry.cells or wanted)
        if name in wanted
    ]
    if not runs:
        raise InputError(f"--cells: no configuration is to run in {', '.join(wanted)}")
    return runs
