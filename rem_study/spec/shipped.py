"""What comes with the program: search spaces and studies, by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from rem_study.errors import InputError, did_you_mean


def shipped_folder(name: str) -> Path:
    """`search_spaces` or `studies`: package data of an installed wheel, a top-level folder of a checkout otherwise."""
    package = Path(str(resources.files("rem_study")))
    installed = package / name
    return installed if installed.is_dir() else package.parent / name


def shipped_names(folder: str) -> list[str]:
    """What there is in a shipped folder, in alphabetical order."""
    return sorted(file.stem for file in shipped_folder(folder).glob("*.yaml"))


def find_study(given: Path) -> Path:
    """The study file that `given` names: a file, or else one of the shipped studies by its name (`quickstart`).

    Raises:
        InputError: a bare name that is neither.
    """
    if given.is_file() or given.suffix or len(given.parts) != 1:
        return given
    names = shipped_names("studies")
    if given.name not in names:
        meant = did_you_mean(given.name, names)
        told = f"{given}: no such file, and no study of this name comes with rem-study: {', '.join(names)}"
        raise InputError(f"{told}{meant}")
    return shipped_folder("studies") / f"{given.name}.yaml"
