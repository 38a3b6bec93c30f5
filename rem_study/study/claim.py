"""Whether a study's folder is this study's, and stands on the same data and code."""

from __future__ import annotations

from typing import Any

import yaml

from rem_study.errors import InputError
from rem_study.results import load_resolved
from rem_study.results.study_folder import STUDY_FILE
from rem_study.spec import Study
from rem_study.storage import Folder, History, write_atomically
from rem_study.storage.credentials import without_credentials


def claim(folder: Folder, study: Study) -> None:
    """Write study.yaml, or check that what stands there is the same study. Raises InputError."""
    path = folder / STUDY_FILE
    if path.exists():
        differences = _differences(load_resolved(folder).spec.identity(), study.spec.identity())
        if differences:
            raise InputError(
                f"{folder}: holds another study; it differs in {', '.join(differences)}; "
                "choose another --name, or remove the folder"
            )
    content = study.spec.plain()
    if study.spec.tracking.uri is not None:
        content["tracking"]["uri"] = without_credentials(study.spec.tracking.uri)
    write_atomically(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _differences(before: Any, after: Any, prefix: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        return [d for k in keys for d in _differences(before.get(k), after.get(k), f"{prefix}{k}.")]
    return [] if before == after else [prefix.rstrip(".")]


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


def require_same_fingerprints(folder: Folder, history: History, now: dict[str, str]) -> None:
    """Check `now`, of `fingerprints`, against what the folder's first launch stood on. Raises InputError."""
    known = history.basis or now
    if changed := [name for name in now if known.get(name) != now[name]]:
        raise InputError(
            f"{folder}: its trials stand on other {' and '.join(changed)} than is there now; choose another --name"
        )
