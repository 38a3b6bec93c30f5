"""What a study's folder holds, by name."""

from __future__ import annotations

from typing import Any

from rem_study.errors import InputError
from rem_study.spec import Study
from rem_study.spec.resolve import read_document, resolve
from rem_study.spec.yaml_file import field_name
from rem_study.storage import Folder
from rem_study.storage.folder import require_plain

LOG_FOLDER = "log"
STUDY_FILE = "study.yaml"


def load_resolved(folder: Folder) -> Study:
    """The study that a folder holds, as it was resolved when it was first launched. Raises InputError."""
    path = folder / STUDY_FILE
    if not path.is_file():
        if path.exists():
            require_plain(folder)
        raise InputError(f"{folder}: is not a study's folder (it has no {STUDY_FILE})")
    require_plain(folder)
    document = read_document(path)
    methods = document.get("methods")
    for method, given in methods.items() if isinstance(methods, dict) else ():
        if isinstance(given, dict) and isinstance(given.get("space"), str):  # no path leads out of the folder
            raise InputError(f"{path}: methods.{field_name(method)}.space: must be written out, not a path")
    if isinstance(document.get("warm_start"), str):
        raise InputError(f"{path}: warm_start: must be written out, not a path")
    return resolve(_with_race(document), str(path), folder)


def _with_race(document: dict[str, Any]) -> dict[str, Any]:
    """The document of a study that was launched before there was a race: it has none, whatever the default is now."""
    confirm = document.get("confirm")
    if "race" in document or not isinstance(confirm, dict):
        return document
    kept = {name: value for name, value in confirm.items() if name != "top"}
    return document | {"race": {"replicates": 0}, "confirm": kept}


def artifacts(folder: Folder) -> list[Folder]:
    """What of the folder belongs on the study's MLflow run, as far as it is there."""
    return [
        folder / name for name in ("report.html", "best.yaml", "manifest.json", "figures") if (folder / name).exists()
    ]
