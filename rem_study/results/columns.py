"""The columns of trials.parquet and cells.parquet, and rows put into them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

from rem_study.storage.rows import PHASES

CELL = ["dataset", "model", "cell"]

KEY = [*CELL, "method"]

REPORTED = ["healed", "utility", "test_accuracy", "utility_x_healed"]


def _schema(strings: str, integers: str, order: str) -> pa.Schema:
    """Fields in `order`; those named in `strings` and `integers` so typed, all others float64."""
    kinds = {**dict.fromkeys(strings.split(), pa.string()), **dict.fromkeys(integers.split(), pa.int64())}
    return pa.schema([(name, kinds.get(name, pa.float64())) for name in order.split()])


SAMPLES = ["healed_samples", "healed_discovered_samples", "utility_samples", "attack_samples"]
"""How many samples of the report split stand behind a share."""

_SAMPLES = " ".join(SAMPLES)

_PLACE = "dataset model corruption regularity regularity_rank discovery_rate cell method trial"

TRIALS_SCHEMA = _schema(
    strings="study dataset model corruption regularity_rank cell method phase proposed_by state config curves "
    "mlflow_run_id error",
    integers=f"trial replicate sample_passes {_SAMPLES}",
    order=f"study {_PLACE} phase proposed_by replicate state config memorised carry_over healed healed_discovered "
    "healed_undiscovered utility test_accuracy utility_x_healed attack_success found_average_precision found_recall "
    "forget_accuracy retain_accuracy "
    f"score_oracle score_deployable score score_healed score_utility {_SAMPLES} epochs sample_passes seconds "
    "compile_seconds curves mlflow_run_id error",
)

CELLS_SCHEMA = _schema(
    strings="dataset model corruption regularity_rank cell method config chosen standing rival health",
    integers=f"trial race_replicates replicates {_SAMPLES} lead_replicates trials pruned failed sample_passes",
    order=f"{_PLACE} memorised carry_over config chosen race_replicates search_score shrinkage healed "
    "healed_discovered healed_undiscovered utility test_accuracy utility_x_healed utility_x_healed_low "
    "utility_x_healed_high attack_success found_average_precision found_recall replicates "
    f"{_SAMPLES} standing rival lead lead_low lead_high lead_replicates lead_samples default_utility_x_healed gain "
    "gain_low gain_high trials pruned failed sample_passes seconds health",
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


def typed_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Those of CELLS_SCHEMA's columns that `cells` has, as it types them; whole numbers may be missing (Int64)."""
    kinds = {
        field.name: "float64" if pa.types.is_floating(field.type) else "Int64"
        for field in CELLS_SCHEMA
        if field.name in cells and not pa.types.is_string(field.type)
    }
    return cells.astype(kinds)


def cells_table(cells: pd.DataFrame) -> pa.Table:
    """`cells_frame`'s frame as a table with CELLS_SCHEMA; NaN becomes null."""
    return pa.Table.from_pandas(cells, schema=CELLS_SCHEMA, preserve_index=False)
