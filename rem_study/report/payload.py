"""What the page's script draws from: the study's trials by columns, what the maps say when pointed at, and the charts.

As JSON, compressed: the trials of a study of 10,000 take a third of a megabyte so.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rem_study.report.charts import Chart
from rem_study.report.maps import value_lines
from rem_study.report.measures import method_name
from rem_study.report.source import StudyData
from rem_study.report.styles import MethodStyle
from rem_study.results import columns, selection

PATHS = ("both", "shared", "old")


def payload(data: StudyData, styles: Mapping[str, MethodStyle], charts: Mapping[str, Chart]) -> dict[str, Any]:
    """Everything that the script needs, as plain values.

    `trials` has a list a column, one entry a trial: c and m (places in `cells` and `methods`), t (number), phase,
    state, n (replicates), s (score), x (utility × healed), h (healed), u (utility), v (configuration, in the order of
    the method's `names`; null where it has not that hyperparameter), run (MLflow's id, of search trials).
    """
    methods = list(styles)
    cells = list(dict.fromkeys(data.cells["cell"]))
    means = selection.trial_means(data.trials, phases=columns.PHASES)
    means = means[means["method"].isin(methods) & means["cell"].isin(cells)]
    configs = [json.loads(text) for text in means["config"]]
    names = _names(means["method"].tolist(), configs)
    return {
        "methods": [
            {"name": name, "label": method_name(name), "colour": style.colour, "symbol": style.symbol,
             "names": names.get(name, [])}
            for name, style in styles.items()
        ],
        "cells": cells,
        "tips": _by_place(data.cells, cells, methods, value_lines),
        "selected": _by_place(data.cells, cells, methods, lambda row: _number(row["trial"])),
        "trials": _columns(data, means, configs, names, cells, methods),
        "curves": _curves(data, cells),
        "charts": dict(charts),
    }  # fmt: skip


def packed(content: Any) -> str:
    """JSON, compressed, in base64; the same content gives the same text."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return squeezed(text.encode())


def squeezed(content: bytes) -> str:
    """Bytes compressed with gzip, in base64."""
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


def _names(methods: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """By method its hyperparameters, in the order in which its configurations have them."""
    found: dict[str, dict[str, None]] = {}
    for method, config in zip(methods, configs, strict=True):
        found.setdefault(method, {}).update(dict.fromkeys(config))
    return {method: list(names) for method, names in found.items()}


def _columns(
    data: StudyData,
    means: pd.DataFrame,
    configs: Sequence[Mapping[str, Any]],
    names: Mapping[str, Sequence[str]],
    cells: Sequence[str],
    methods: Sequence[str],
) -> dict[str, list[Any]]:
    in_cells = {name: place for place, name in enumerate(cells)}
    in_methods = {name: place for place, name in enumerate(methods)}
    own = means["method"].tolist()
    keys = zip(means["cell"], own, means["trial"], means["phase"], strict=True)
    return {
        "c": [in_cells[name] for name in means["cell"]],
        "m": [in_methods[name] for name in own],
        "t": means["trial"].tolist(),
        "phase": means["phase"].tolist(),
        "state": means["state"].mask(_running(means), "running").tolist(),
        "n": means["replicates"].tolist(),
        **{key: _rounded(means[name]) for key, name in (("s", "score"), ("x", "utility_x_healed"), ("h", "healed"),
                                                        ("u", "utility"))},
        "v": [[config.get(name) for name in names[method]] for method, config in zip(own, configs, strict=True)],
        "run": [data.run_of(c, m, t) if phase == "search" else None for c, m, t, phase in keys],
    }  # fmt: skip


def _running(means: pd.DataFrame) -> pd.Series:
    """Search trials that have fewer replicates than others have."""
    searched = (means["phase"] == "search") & (means["state"] == "complete")
    return searched & (means["replicates"] < means.loc[searched, "replicates"].max())


def _rounded(values: pd.Series) -> list[float | None]:
    return [None if value != value else round(value, 5) for value in values.astype(float)]


def _number(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _by_place(frame: pd.DataFrame, cells: Sequence[str], methods: Sequence[str], told: Any) -> list[list[Any]]:
    """What is told of each row of a cells frame, by the places of its cell and its method."""
    found = {(row["cell"], row["method"]): told(row) for _, row in frame.iterrows()}
    return [[found.get((cell, method)) for method in methods] for cell in cells]


def _curves(data: StudyData, cells: Sequence[str]) -> list[list[list[float]] | None]:
    """By cell the accuracy on the wrong labels along each of PATHS, epoch by epoch, of REM's selected trial; mean over
    its replicates."""
    chosen = data.cells[data.cells["method"] == "rem"].set_index("cell")["trial"].dropna()
    recorded = data.trials[(data.trials["method"] == "rem") & data.trials["curves"].notna()]
    recorded = recorded[recorded["phase"] != "transfer"]  # there, numbers mean something else
    found: list[list[list[float]] | None] = []
    for cell in cells:
        own = recorded[(recorded["cell"] == cell) & (recorded["trial"] == chosen.get(cell, -1))]
        curves = [json.loads(text) for text in own["curves"]]
        means = [np.mean([one[path] for one in curves], axis=0) for path in PATHS] if curves else []
        found.append([[round(float(value), 4) for value in mean] for mean in means] or None)
    return found
