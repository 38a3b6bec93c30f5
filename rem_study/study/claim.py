"""Whether a study's folder is this study's, or may become it, and stands on the same data and code."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import yaml

from rem_study.errors import InputError
from rem_study.results import load_resolved
from rem_study.results.study_folder import STUDY_FILE
from rem_study.spec import Study
from rem_study.storage import Folder, History, StudyLog, write_atomically
from rem_study.storage.credentials import without_credentials
from rem_study.study.extension import MAY_CHANGE, differences


@dataclass(frozen=True)
class Extension:
    """What a folder's study was before it becomes a larger one.

    Attributes:
        before: its study.yaml as it was.
        changed: what changes, by field.
    """

    before: dict[str, Any]
    changed: list[str]


def claim(folder: Folder, study: Study, origin: str) -> Extension | None:
    """Write study.yaml, if the folder is new or holds this very study.

    Returns:
        how the study that the folder holds is to be extended, and nothing has been written then (see `extend`).

    Raises:
        InputError: the folder holds another study, which cannot become this one.
    """
    extension = required_extension(folder, study, origin)
    if extension is None:
        _write(folder, study)
    return extension


def required_extension(folder: Folder, study: Study, origin: str) -> Extension | None:
    """How the study that the folder holds has to be extended to be this one; None where it is, or the folder is new.

    Raises:
        InputError: the folder holds another study, which cannot become this one.
    """
    if (folder / STUDY_FILE).exists():
        there = load_resolved(folder).spec
        found = differences(there, study.spec)
        if found.forbidden:
            raise InputError(
                f"{origin}: {folder} holds another study; it differs in {', '.join(found.forbidden)}; {MAY_CHANGE}; "
                "for this choose another --name, or remove the folder"
            )
        if there.identity() != study.spec.identity():
            return Extension(there.plain(), found.extending or ["the order of corruptions or discovery_rates"])
    return None


def extend(folder: Folder, study: Study, extension: Extension, history: History, log: StudyLog) -> History:
    """Note in the log that the folder's study is this one from now on, then say so in study.yaml; the history after it.

    A kill between the two costs nothing: what follows such a record in the log is found anew for whichever study is
    launched next.
    """
    record = {
        "kind": "extended",
        "extension": history.extension + 1,
        "changed": extension.changed,
        "before": extension.before,
        "time": int(time.time() * 1000),
    }
    log.append(record)
    _write(folder, study)
    return history.extended(record)


def _write(folder: Folder, study: Study) -> None:
    content = study.spec.plain()
    if study.spec.tracking.uri is not None:
        content["tracking"]["uri"] = without_credentials(study.spec.tracking.uri)
    write_atomically(folder / STUDY_FILE, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def fingerprints(study: Study) -> dict[str, str]:
    """Hashes of what results depend on and the study file does not hold."""
    from rem_study.data.given import fingerprint
    from rem_study.trial import Setting
    from rem_study.trial.code import results_fingerprint

    spec = study.spec
    ids = {f"ids of corruptions.{c.name}": hash_ for c in spec.corruptions if (hash_ := fingerprint(c))}
    return {
        "data": Setting(spec, spec.corruptions[0], 0).dataset.fingerprint,
        **ids,
        "code (rem_study)": results_fingerprint(),
    }


def require_same_fingerprints(folder: Folder, history: History, now: dict[str, str]) -> dict[str, str]:
    """Check `now`, of `fingerprints`, against what the folder's launches so far stood on.

    Returns:
        what of it is new: all at the first launch, the ids of a corruption that was added.

    Raises:
        InputError: something else is there than was.
    """
    known = history.basis or {}
    if changed := [name for name in now if known.get(name, now[name]) != now[name]]:
        raise InputError(
            f"{folder}: its trials stand on other {' and '.join(changed)} than is there now; choose another --name"
        )
    return {name: hash_ for name, hash_ in now.items() if name not in known}
