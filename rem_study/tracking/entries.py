"""Rows of the log as MLflow's run names, parameters, tags and metrics."""

from __future__ import annotations

import getpass
import json
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rem_study.storage import Row, TrialKey, trial_key
from rem_study.version import __version__

CELL_TAGS = ("dataset", "model", "corruption", "regularity", "discovery_rate", "cell")
TRIAL_TAGS = (*CELL_TAGS, "method", "trial", "phase", "proposed_by", "state", "error")
MOVED = ("proposed_by",)
"""Tags of a trial that may become others where a study is extended."""

_FIRST = ("utility_x_healed", "healed", "utility", "test_accuracy")
"""The metrics written first: MLflow opens its charts and its comparison of runs on the first that a run has."""
_NOT_METRICS = {*TRIAL_TAGS, "replicate", "start_time", "end_time"}
_LONGEST_TAG = 1_000

MetricPoint = tuple[str, float, int, int]
"""Name, value, epoch milliseconds, step."""

Outline = Mapping[TrialKey, tuple[Mapping[str, str], frozenset[int]]]
"""By trial: its parameters as MLflow has them, and its replicates."""


def outline(rows: Iterable[Row]) -> dict[TrialKey, tuple[dict[str, str], frozenset[int]]]:
    """Which trials and replicates `rows` are."""
    trials: dict[TrialKey, tuple[dict[str, str], frozenset[int]]] = {}
    for row in rows:
        parameters, replicates = trials.get(trial_key(row)) or (params(row), frozenset[int]())
        trials[trial_key(row)] = parameters, replicates | {row["replicate"]}
    return trials


def run_name(key: TrialKey) -> str:
    """`rem #7 @0.1 poison`: what tells trials apart comes first, since MLflow cuts names at some twenty characters."""
    cell, method, phase, trial = key
    corruption, _, rate = cell.rpartition("@")
    return (
        f"{method} #{trial} @{rate} {corruption}"
        if phase == "search"
        else f"{method} {phase} #{trial} @{rate} {corruption}"
    )


def origin() -> dict[str, str]:
    """What made a run and who, as the columns Source and User of MLflow's list show it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # in a container, an id without a name
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": f"rem-study {__version__}", "mlflow.source.type": "LOCAL"}


def tags(row: Row, names: Sequence[str]) -> dict[str, str]:
    """Those columns of `names` that have a value."""
    values = {name: row.get(name) for name in names}
    return {name: str(value)[:_LONGEST_TAG] for name, value in values.items() if not _is_missing(value)}


def params(row: Row) -> dict[str, str]:
    """The method and its configuration."""
    given = {"method": row["method"], **row["config"]}
    return {name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in given.items()}


def metrics(row: Row) -> Iterator[MetricPoint]:
    """Every finite number of a replicate, as one step."""
    for name, value in sorted(
        row.items(), key=lambda item: _FIRST.index(item[0]) if item[0] in _FIRST else len(_FIRST)
    ):
        if name in _NOT_METRICS or isinstance(value, bool) or not isinstance(value, numbers.Real):
            continue
        if math.isfinite(value):
            # The replicate's own time, not now: MLflow takes a point that is sent twice for the same one.
            yield name, float(value), int(row["end_time"]), int(row["replicate"])


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
