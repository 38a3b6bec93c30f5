"""What a study leaves behind, written from the log's rows: tables, best.yaml, report, manifest."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import yaml

from rem_study import __version__
from rem_study.folder import CHECKSUMS, Folder, write_atomically
from rem_study.rows import TrialKey, trial_key
from rem_study.spec import Study, canonical_json


def write_results(
    folder: Folder,
    study: Study,
    rows: list[dict[str, Any]],
    states: Mapping[TrialKey, str],
    run_ids: Mapping[TrialKey, str],
) -> None:
    """Write trials.parquet, cells.parquet, best.yaml, their checksums, and the report from the log's rows.

    Args:
        states: how each trial ended; whether one was pruned stands in no row.
    """
    import pyarrow.parquet

    from rem_study.analysis import best, cells_frame, cells_table, trials_table
    from rem_study.report import write_report

    def as_in_table(row: dict[str, Any]) -> dict[str, Any]:
        shown = {name: value for name, value in row.items() if name not in _TIMES}
        if row.get("curves") is not None:
            shown["curves"] = canonical_json(row["curves"])
        if states.get(trial_key(row)) == "pruned":
            shown["state"] = "pruned"
        return shown | {"mlflow_run_id": run_ids.get(trial_key(row))}

    table = trials_table(map(as_in_table, rows))
    trials = table.to_pandas()
    cells = cells_frame(trials, study.spaces)
    files = {}
    for file, content in (("trials.parquet", table), ("cells.parquet", cells_table(cells))):
        sink = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(content, sink)
        files[file] = sink.getvalue().to_pybytes()
    document = best(study.spec.name, study.spec.objective, trials, cells)
    files["best.yaml"] = yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()
    for file, data in files.items():
        write_atomically(folder / file, data)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {file}\n" for file, data in files.items())
    write_atomically(folder / CHECKSUMS, sums)
    write_report(folder)


_TIMES = ("start_time", "end_time")


def artifacts(folder: Folder) -> list[Folder]:
    """What of the folder belongs on the study's MLflow run, as far as it is there."""
    return [
        folder / name for name in ("report.html", "best.yaml", "manifest.json", "figures") if (folder / name).exists()
    ]


def write_manifest(folder: Folder, study: Study, started: float, originals: list[dict[str, Any]]) -> None:
    """Write manifest.json: versions, hardware, seeds, data and code fingerprints, what the originals learned."""
    from rem_study.originals import Setting, code_fingerprint

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
        "launched": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds_of_last_launch": round(time.time() - started, 1),
        "originals": {f"{r['corruption']} #{r['replicate']}": r.get("facts", r.get("error")) for r in originals},
    }
    write_atomically(folder / "manifest.json", json.dumps(content, indent=1, sort_keys=False))
