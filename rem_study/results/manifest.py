"""What a study was made with."""

from __future__ import annotations

import json
import os
import platform
import time
from importlib import metadata
from typing import Any

from rem_study.spec import Study
from rem_study.storage import Folder, write_atomically
from rem_study.trial import Setting
from rem_study.trial.code import code_fingerprint
from rem_study.version import __version__


def write_manifest(
    folder: Folder,
    study: Study,
    started: float,
    originals: list[dict[str, Any]],
    extensions: list[dict[str, Any]],
    compile_seconds: float,
) -> None:
    """Write manifest.json: versions, hardware, seeds, data and code fingerprints, compiling, extensions, originals."""
    names = ("ray", "torch", "torchvision", "optuna", "mlflow", "pyarrow", "numpy", "pandas", "pydantic")
    content = {
        "study": study.spec.name,
        "rem_study": __version__,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names},
        "hardware": {"machine": platform.platform(), "cpus": os.cpu_count()},
        "seed": study.spec.seed,
        "data_fingerprint": Setting(study.spec, study.spec.corruptions[0], 0).dataset.fingerprint,
        "code_fingerprint": code_fingerprint(),
        "launched": _utc(started),
        "seconds_of_last_launch": round(time.time() - started, 1),
        "compile": study.spec.compile,
        "seconds_compiling": round(compile_seconds, 1),
        "extended": [{"at": _utc(record["time"] / 1000), "changed": record["changed"]} for record in extensions],
        "originals": {f"{r['corruption']} #{r['replicate']}": r.get("facts", r.get("error")) for r in originals},
    }
    write_atomically(folder / "manifest.json", json.dumps(content, indent=1, sort_keys=False))


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
