"""What a study leaves behind, written from the log's rows: tables, best.yaml, report, manifest."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import yaml

from rem_study import __version__
from rem_study.beside import end_with, start_beside
from rem_study.folder import CHECKSUMS, Folder, write_atomically
from rem_study.rows import Row, TrialKey, trial_key
from rem_study.spec import Study, canonical_json

if TYPE_CHECKING:
    import pyarrow

    from rem_study.mlflow_runs import Selection


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

    from rem_study.analysis import best, cells_frame, cells_table

    table = trials_of(rows, states, run_ids)
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
    _write_report(folder)


def _write_report(folder: Folder) -> None:
    """`report.write_report` in a process of its own: what the figures of a large study take, half a gigabyte, does not
    come on top of what the driver holds. Raises what `write_report` raises."""
    process, connection = start_beside(__name__, "draw_report")
    with process, connection:
        try:
            connection.send(folder)
            error = connection.recv()
        except (EOFError, OSError):
            error = RuntimeError(f"{folder}: the process that draws the report was killed")
        except BaseException:
            process.kill()
            raise
    if error is not None:
        raise error


def draw_report(descriptor: int) -> None:
    """What runs in that process: takes the folder from the pipe, sends back None or the error."""
    connection = Connection(descriptor)
    folder = connection.recv()
    end_with(connection)
    try:
        from rem_study.report import write_report

        write_report(folder)
        connection.send(None)
    except Exception as error:
        connection.send(error)


def trials_of(
    rows: Iterable[dict[str, Any]], states: Mapping[TrialKey, str], run_ids: Mapping[TrialKey, str]
) -> pyarrow.Table:
    """The log's rows as the table of trials.parquet; arguments as in `write_results`."""
    from rem_study.analysis import trials_table

    def as_in_table(row: dict[str, Any]) -> dict[str, Any]:
        shown = {name: value for name, value in row.items() if name not in _TIMES}
        if row.get("curves") is not None:
            shown["curves"] = canonical_json(row["curves"])
        if states.get(trial_key(row)) == "pruned":
            shown["state"] = "pruned"
        return shown | {"mlflow_run_id": run_ids.get(trial_key(row))}

    return trials_table(map(as_in_table, rows))


_TIMES = ("start_time", "end_time")


def selections(folder: Folder, rows: Iterable[Row]) -> list[Selection]:
    """What cells.parquet says was selected, for MLflow; `rows` are the log's, and know when each trial ended."""
    from rem_study.export import read_table
    from rem_study.mlflow_runs import Selection

    ended: dict[TrialKey, int] = {}
    for row in rows:
        ended[trial_key(row)] = max(int(row["end_time"]), ended.get(trial_key(row), 0))
    trials = read_table(folder, "trials.parquet")
    found = []
    for cell in read_table(folder, "cells.parquet").to_dict("records"):
        if not isinstance(cell["config"], str):
            continue
        key = (cell["cell"], cell["method"], "search", int(cell["trial"]))
        scores = {name: cell[name] for name in ("utility_x_healed", "healed", "utility", "gain")}
        own = trials[(trials["cell"] == key[0]) & (trials["method"] == key[1]) & (trials["phase"] == "search")]
        recorded = own.loc[(own["trial"] == key[3]) & own["curves"].notna(), "curves"]
        found.append(
            Selection(
                key,
                {name: float(value) for name, value in scores.items() if value == value},
                _mean_curves([json.loads(text) for text in recorded]),
                ended[key],
            )
        )
    return found


def _mean_curves(replicates: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    """The mean over replicates, epoch by epoch, of curves that all of them have."""
    names = set.intersection(*map(set, replicates)) if replicates else set()
    return {
        name: [sum(values) / len(values) for values in zip(*(curves[name] for curves in replicates), strict=True)]
        for name in sorted(names)
    }


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
