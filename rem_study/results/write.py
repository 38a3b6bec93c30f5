"""Tables and best.yaml, written from the log's rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from rem_study.spec import Study
from rem_study.storage import Folder, Row, TrialKey, trial_key, write_atomically
from rem_study.storage.canonical import canonical_json
from rem_study.storage.folder import CHECKSUMS

if TYPE_CHECKING:
    import pyarrow

    from rem_study.tracking import Selection


def write_results(
    folder: Folder,
    study: Study,
    rows: list[dict[str, Any]],
    states: Mapping[TrialKey, str],
    run_ids: Mapping[TrialKey, str],
) -> None:
    """Write trials.parquet, cells.parquet, best.yaml and their checksums from the log's rows.

    Args:
        states: how each trial ended; whether one was pruned stands in no row.
    """
    import pyarrow.parquet

    from rem_study.results.best_document import best
    from rem_study.results.columns import cells_table
    from rem_study.results.selection import cells_frame

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


def trials_of(
    rows: Iterable[dict[str, Any]], states: Mapping[TrialKey, str], run_ids: Mapping[TrialKey, str]
) -> pyarrow.Table:
    """The log's rows as the table of trials.parquet; arguments as in `write_results`."""
    from rem_study.results.columns import trials_table

    def as_in_table(row: dict[str, Any]) -> dict[str, Any]:
        shown = {name: value for name, value in row.items() if name not in _TIMES}
        if row.get("curves") is not None and not isinstance(row["curves"], str):  # as the log's reader leaves them
            shown["curves"] = canonical_json(row["curves"])
        if states.get(trial_key(row)) == "pruned":
            shown["state"] = "pruned"
        return shown | {"mlflow_run_id": run_ids.get(trial_key(row))}

    return trials_table(map(as_in_table, rows))


_SHOWN = (
    *(
        "utility_x_healed",
        "utility_x_healed_low",
        "utility_x_healed_high",
        "healed",
        "utility",
        "test_accuracy",
        "gain",
    ),
    *("healed_discovered", "healed_undiscovered", "attack_success"),
    *("found_average_precision", "found_recall", "healed_samples", "utility_samples", "replicates"),
)
"""Columns of cells.parquet that MLflow shows on the runs of cells."""
_TIMES = ("start_time", "end_time")


def selections(folder: Folder, rows: Iterable[Row]) -> list[Selection]:
    """What cells.parquet says was selected, for MLflow; `rows` are the log's, and know when each trial ended."""
    import pandas

    from rem_study.results.read import read_table
    from rem_study.tracking import Selection

    ended: dict[TrialKey, int] = {}
    for row in rows:
        ended[trial_key(row)] = max(int(row["end_time"]), ended.get(trial_key(row), 0))
    trials = read_table(folder, "trials.parquet")
    found = []
    for cell in read_table(folder, "cells.parquet").to_dict("records"):
        if not isinstance(cell["config"], str):
            continue
        key = (cell["cell"], cell["method"], "search", int(cell["trial"]))
        scores = {name: cell[name] for name in _SHOWN}
        own = trials[(trials["cell"] == key[0]) & (trials["method"] == key[1]) & (trials["phase"] == "search")]
        recorded = own.loc[(own["trial"] == key[3]) & own["curves"].notna(), "curves"]
        found.append(
            Selection(
                key,
                {name: float(value) for name, value in scores.items() if not pandas.isna(value)},
                _mean_curves([json.loads(text) for text in recorded]),
                ended[key],
                cell["standing"] if isinstance(cell["standing"], str) else None,
            )
        )
    return found


def _mean_curves(replicates: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    """The mean over replicates, epoch by epoch, of curves that all of them have."""
    names = set.intersection(*map(set, replicates)) if replicates else set()
    from rem_study.tracking.curves import CURVES

    return {
        CURVES.get(name, name): [
            sum(values) / len(values) for values in zip(*(curves[name] for curves in replicates), strict=True)
        ]
        for name in sorted(names)
    }
