"""The columns of trials.parquet and cells.parquet, and rows put into them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

CELL = ["dataset", "model", "cell"]

KEY = [*CELL, "method"]

REPORTED = ["healed", "utility", "test_accuracy", "utility_x_healed"]

PHASES = ("search", "transfer", "confirm")


def _schema(strings: str, integers: str, order: str) -> pa.Schema:
    """Fields in `order`; those named in `strings` and `integers` so typed, all others float64."""
    kinds = {**dict.fromkeys(strings.split(), pa.string()), **dict.fromkeys(integers.split(), pa.int64())}
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in order.split()])


_PLACE = "dataset model corruption regularity regularity_rank discovery_rate cell method trial"

TRIALS_SCHEMA = _schema(
    strings="study dataset model corruption regularity_rank cell method phase proposed_by state config curves "
    "mlflow_run_id error",
    integers="trial replicate sample_passes",
    order=f"study {_PLACE} phase proposed_by replicate state config memorised healed healed_discovered "
    "healed_undiscovered utility test_accuracy utility_x_healed forget_accuracy retain_accuracy score_oracle "
    "score_deployable score score_healed score_utility epochs sample_passes seconds curves mlflow_run_id error",
)

CELLS_SCHEMA = _schema(
    strings="dataset model corruption regularity_rank cell method config health",
    integers="trial replicates trials pruned failed sample_passes",
    order=f"{_PLACE} memorised config search_score shrinkage healed utility test_accuracy utility_x_healed "
    "utility_x_healed_low utility_x_healed_high default_utility_x_healed gain gain_low gain_high replicates trials "
    "pruned failed sample_passes seconds health",
)


def canonical(config: str | Mapping[str, Any]) -> str:
    """A configuration as the one JSON text that stands for it: its keys sorted."""
    return json.dumps(json.loads(config) if isinstance(config, str) else dict(config), sort_keys=True)


def trials_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """The log's rows as a table with TRIALS_SCHEMA, in one order whatever order they finished in.

    Missing keys and NaN become null; `config` may be a mapping or JSON text. Raises ValueError for a key that
    is no column, pyarrow.ArrowInvalid for a value of the wrong type.
    """
    records = [dict(row) for row in rows]
    unknown = sorted({key for row in records for key in row} - set(TRIALS_SCHEMA.names))
    if unknown:
        raise ValueError(f"no such column in trials: {', '.join(unknown)}")
    for row in records:
        for key, value in row.items():
            if isinstance(value, float) and math.isnan(value):
                row[key] = None
        if row.get("config") is not None:
            row["config"] = canonical(row["config"])
    place = ("dataset", "model", "corruption", "discovery_rate", "method")
    records.sort(
        key=lambda row: (
            *(row[name] for name in place),
            PHASES.index(row["phase"]),
            row["trial"],
            row["replicate"],
        )
    )
    return pa.Table.from_pylist(records, schema=TRIALS_SCHEMA)


def cells_table(cells: pd.DataFrame) -> pa.Table:
    """`cells_frame`'s frame as a table with CELLS_SCHEMA; NaN becomes null."""
    return pa.Table.from_pandas(cells, schema=CELLS_SCHEMA, preserve_index=False)
