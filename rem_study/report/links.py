"""Ways from the page to what lies beside it: MLflow's runs, the study's files, the command that uses what was found."""

from __future__ import annotations

import json
import shlex
from html import escape
from typing import Any
from urllib.parse import urlsplit

import yaml

from rem_study.report.html import copy_button
from rem_study.report.source import StudyData

LOOPBACK = "http://127.0.0.1:5000"
"""Where `rem-study ui` serves unless it is told another port."""
FILES = {
    "best.yaml": "the selected configurations",
    "cells.parquet": "a row a cell and method",
    "trials.parquet": "a row a trial and replicate",
    "study.yaml": "the study as resolved",
    "manifest.json": "versions, hardware, seeds",
    "figures": "every figure as PNG and PDF",
}


def mlflow_base(data: StudyData) -> str:
    """Of MLflow's UI: the server that the study names, without credentials, or loopback."""
    uri = str(data.resolved.spec.tracking.uri or "") if data.resolved else ""
    if not uri.startswith(("http://", "https://")):
        return LOOPBACK
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")


def run_link(data: StudyData, run: Any, words: str) -> str:
    """A link to an MLflow run by its id; nothing where the id is not known."""
    if not isinstance(run, str) or not run:
        return ""
    address = f"{mlflow_base(data)}/#/runs/{run}"
    return f'<a class="go" data-run="{escape(run)}" href="{escape(address)}" target="_blank">{escape(words)}</a>'


def heal_command(data: StudyData, cell: str, method: str) -> str | None:
    """The command that heals a model with what was selected for this method in this cell, by best.yaml: whoever pastes
    it puts their checkpoint and list of samples in. None where best.yaml does not have it (yet)."""
    if data.progress is not None or not _has(data.best, cell, method):
        return None
    spec = data.study if isinstance(data.study, dict) else {}
    words = ["rem-study", "heal", "MODEL.pt", "--model", _compact(spec.get("model"), "resnet9")]
    words += ["--data", _compact(spec.get("data"), "DATA"), "--ids", "KNOWN.csv"]
    return shlex.join([*words, "--best", str(data.folder / "best.yaml"), "--cell", cell, "--method", method])


def _has(best: Any, cell: str, method: str) -> bool:
    cells = best.get("cells") if isinstance(best, dict) else None
    for one in cells or ():
        if f"{one['corruption']}@{one['discovery_rate']:g}" == cell:
            return method in one["methods"]
    return False


def _compact(document: Any, otherwise: str) -> str:
    """A model or data set of a study file as one word of a command."""
    if not isinstance(document, dict) or "name" not in document:
        return otherwise
    given = {key: value for key, value in document.items() if value not in (None, False)}
    if list(given) == ["name"]:
        return str(given["name"])
    return yaml.safe_dump(given, default_flow_style=True, sort_keys=False, width=10_000).strip()


def buttons(data: StudyData, row: Any) -> str:
    """Of a row of the cells table: copy as heal command, copy configuration, the selected trial's MLflow run."""
    if not isinstance(row["config"], str):
        return "–"
    command = heal_command(data, row["cell"], row["method"])
    found = [] if command is None else [copy_button("copy as heal command", command)]
    found.append(copy_button("copy configuration", yaml.safe_dump(json.loads(row["config"]), sort_keys=False)))
    return "".join(found) + run_link(data, data.run_of(row["cell"], row["method"], int(row["trial"])), "MLflow run")


def files(data: StudyData) -> str:
    """Links to the files beside the page, as far as they are there."""
    there = {name: words for name, words in FILES.items() if (data.folder / name).exists() or name == "figures"}
    return "".join(f'<li><a href="{escape(name)}">{escape(name)}</a>: {words}</li>' for name, words in there.items())
