"""Ready views of a study in MLflow's UI: lists of runs that open filtered, sorted and with the columns that matter.

MLflow's UI keeps a shared view as a tag of the experiment, `mlflow.sharedViewState.NAME`, whose value is `deflate;` and
the view's state as JSON, compressed by zlib, in base64; `viewStateShareKey=NAME` in a link opens it (its "Share" button
writes such tags; read from the UI's source, MLflow 3.1 to 3.17). What a state leaves out is as in a new list.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from rem_study.tracking.curves import CURVES

TAG = "mlflow.sharedViewState."
PRIMARY_METRIC = "mlflow.experiment.primaryMetric.name"
LONGEST_TAG = 5_000
"""Characters that every MLflow takes as the value of an experiment's tag."""

KIND = "kind"
"""The tag that says what a run is: `study`, `cell`, `trial` or `curves`."""
REPORTED = "reported/"
"""Before the names of what is reported of a selected trial; without it they are those of its search."""

_NAME_WIDTH = 230
_NAME_COLUMN = "attributes.`Run Name`"


def shared_views(methods: Sequence[str], hyperparameters: Sequence[str] = ()) -> dict[str, str]:
    """The experiment's tags for the views of a study that compares `methods`, by tag.

    `hyperparameters` are shown beside the scores. A view that is too long for a tag is left out.
    """
    scores = [_metric(REPORTED + name) for name in ("utility_x_healed", "healed", "utility")]
    chosen, gain, cell = "tags.selected = 'yes'", _metric(f"{REPORTED}gain"), _tag("cell")
    searched = [_param(name) for name in hyperparameters]
    by_method = [_metric(f"{method}/utility_x_healed") for method in methods]
    best = [_metric(name) for name in ("utility_x_healed", "healed", "utility")]
    curves = [_metric(f"epoch/{name}") for name in CURVES.values()]
    states = {
        "Selected": _list(chosen, scores[0], [*scores, gain, cell, _param("method"), *searched]),
        "By cell": _list(f"tags.{KIND} = 'cell'", best[0], [_tag("winner"), _tag("leads"), *best, *by_method]),
        "REM and its rivals": _list(chosen, scores[0], [*scores, gain, cell]) | _grouped("method", methods),
        "Failures": _list(
            "tags.state = 'failed'", _param("method"), [_param("method"), *searched, cell, _tag("error")]
        ),
        "Epoch by epoch": _list(f"tags.{KIND} = 'curves'", curves[0], [*curves, cell]),
    }
    packed = {f"{TAG}{name}": _packed(state) for name, state in states.items()}
    return {name: value for name, value in packed.items() if len(value) <= LONGEST_TAG}


def views_in(tags: Iterable[str]) -> list[str]:
    """The names of the views among an experiment's tags, in the order in which one looks at them."""
    there = {tag.removeprefix(TAG) for tag in tags if tag.startswith(TAG)}
    return [name for name in NAMES if name in there]


LOCAL_UI = "http://127.0.0.1:5000"
"""Where `rem-study ui` listens unless it is told another port."""

NAMES = ("Selected", "By cell", "REM and its rivals", "Failures", "Epoch by epoch")


def runs_link(experiment_id: str, view: str | None = None) -> str:
    """The list of an experiment's runs, as the part of a link that follows the server's address."""
    link = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning"
    if view is None:
        return link
    mode = "&compareRunsMode=CHART" if view == "Epoch by epoch" else ""
    return f"{link}&viewStateShareKey={quote(view)}{mode}"


def links(address: str, experiment_id: str, views: Iterable[str]) -> dict[str, str]:
    """By name the whole link to each of an experiment's views on the server at `address`."""
    return {name: f"{address.rstrip('/')}/{runs_link(experiment_id, name)}" for name in views}


def run_link(experiment_id: str, run_id: str) -> str:
    """A run's page, as the part of a link that follows the server's address."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _param(name: str) -> str:
    return f"params.`{name}`"


def _tag(name: str) -> str:
    return f"tags.`{name}`"


def _list(only: str, by: str, columns: Sequence[str]) -> dict[str, Any]:
    """Runs in a flat list, highest first: sorted by the time of their creation, MLflow would nest them."""
    widths = {_NAME_COLUMN: _NAME_WIDTH, **{column: _width(column) for column in columns}}
    return {
        "searchFilter": only,
        "orderByKey": by,
        "orderByAsc": False,
        "selectedColumns": list(columns),
        "columnOrder": list(widths),
        "columnWidths": widths,
        "runsHiddenMode": "FIRST_20_RUNS",
    }


def _width(column: str) -> int:
    """Pixels for a column's heading, or for what is below it where that is longer."""
    _, name, _ = column.split("`")
    return _WIDE.get(name, min(220, max(80, 7 * len(name) + 30)))


_WIDE = {"cell": 180, "winner": 100, "leads": 100, "error": 400}


def _grouped(tag: str, values: Sequence[str]) -> dict[str, Any]:
    """The list folded by a tag that has `values`: a line each, with means."""
    return {
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": tag}]},
        "groupsExpanded": {f"tag.{tag}.{value}": False for value in values},
    }


def _packed(state: dict[str, Any]) -> str:
    text = json.dumps(state, separators=(",", ":"), sort_keys=True).encode()
    return "deflate;" + base64.b64encode(zlib.compress(text, 9)).decode()
