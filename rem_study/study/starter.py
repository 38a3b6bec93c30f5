"""`rem-study init`: a study file to begin with, each section explained where it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path

from rem_study.errors import InputError
from rem_study.spec.data import kind_of
from rem_study.spec.schema import EDITOR_LINE, SCHEMA_FILE, study_schema
from rem_study.spec.shipped import shipped_folder
from rem_study.spec.yaml_file import one_line

KINDS = {
    "quickstart": "REM against two rivals on scikit-learn's digits, 3 x 3 cells: some four minutes on 2 cores.",
    "own-data": "Your own images: which method heals them, and by how much, in 2 x 3 cells. Small on purpose.",
    "paper": "The paper's plane (arXiv 2505.17730): CIFAR-10, 3 x 10 cells, 15 methods. Needs a GPU, for days.",
}
_SHIPPED = {"quickstart": "quickstart", "paper": "paper-cifar10-ours"}

_OWN_DATA = """\
name: own-data
data: {{name: {kind}, root: {root}, image_size: 32}}
model: {{name: resnet9, width: 0.25}}
original: {{epochs: 30, batch_size: 128, lr: 0.025}}
corruptions:
  - {{name: random_label}}
  - {{name: poison, target: 0, patch_size: 3}}
  # - {{name: given, file: known.csv}}  # wrong labels that the data came with, by id (docs/inputs.md)
discovery_rates: [0.1, 0.5, 1.0]
methods: [rem, npo, ssd, finetune]
objective: score_oracle
budget: {{trials: 4, replicates: 1, in_flight: 1}}
race: {{replicates: 3, top: 2}}
confirm: {{replicates: 3}}
seed: 0
"""

_COMMENTS = {
    "name": "Of the study and of its folder, runs/NAME.",
    "protocol": "honest: chosen on one half of the samples, reported on the other. paper: both on all of them.",
    "data": "Which images: digits (comes along), fashion_mnist, cifar10, svhn (root: torchvision's files),\n"
    "or your own: folder (train/CLASS/*.png), npz, parquet. root is relative to where you launch.",
    "model": "Which network: resnet9, vit, torchvision/NAME or timm/NAME, newly initialised.",
    "original": "How the network is trained on the corrupted data, before it is healed. It has to learn the wrong\n"
    "labels by heart: cells.parquet says in `memorised` how far it did.",
    "corruptions": "What makes the wrong labels: the rows of the grid. How many: samples (default: 2 % of all).",
    "discovery_rates": "Which share of the wrong labels is known when the network is healed: the grid's columns.",
    "methods": "What is compared (`rem-study methods` lists all). Of each one: trials, fixed, defaults, ranges\n"
    "(`rem-study show METHOD` has its hyperparameters).",
    "objective": "What configurations are chosen by. score_deployable needs no clean labels.",
    "budget": "What each (cell, method) may try: configurations (the first is the default), sets of seeds.",
    "race": "The best ones run against the default on fresh sets of seeds, before one is exported. 0: no race.",
    "confirm": "What is exported and the default on further ones, which chose nothing: two or more give intervals.",
    "resources": "What one trial gets. concurrent: how many run at once.",
    "seed": "All randomness follows from it: the same file gives the same trials, on one worker or a hundred.",
}
_MORE = """\
# There is more (docs/reference.md): precision, max_utility_loss, sampler, pruner, neighbours, warm_start, resources,
# and tracking: {uri: http://...} for an MLflow server of your own.
"""


def write_starter(kind: str, output: Path | None, data: Path | None) -> list[str]:
    """Write a study file of a kind (see KINDS) and, unless one is there, the schema beside it.

    Args:
        output: default: KIND.yaml in the working directory.
        data: own-data's images: a folder, or an .npz or Parquet file; default: data/, which need not be there yet.

    Returns:
        what was written and what comes next, a line each.

    Raises:
        InputError: a file of that name is there, or `data` is not what it must be.
    """
    if data is not None and kind != "own-data":
        raise InputError(f"--data: is for own-data; {kind} has its images")
    path = output or Path(f"{kind}.yaml")
    text = study_text(kind, path.stem, data)
    _write_new(path, text)
    lines = [f"written: {path}"]
    schema = path.parent / SCHEMA_FILE
    if not schema.exists():
        _write_new(schema, json.dumps(study_schema(), indent=1))
        lines.append(f"written: {schema} (what editors complete and check by)")
    return [*lines, f"next:    rem-study check {path}", f"         rem-study launch {path}"]


def study_text(kind: str, name: str, data: Path | None = None) -> str:
    """The study file; `name` is its file's."""
    if kind == "own-data":
        found = _kind_of(data) if data is not None else "folder"
        body = _OWN_DATA.format(kind=found, root=json.dumps(str(data or "data")))
    else:
        shipped = (shipped_folder("studies") / f"{_SHIPPED[kind]}.yaml").read_text(encoding="utf-8")
        body = re.sub(r"\A(#.*\n)+", "", shipped)
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name) and name != "originals":
        body = re.sub(r"(?m)^name: .*$", f"name: {json.dumps(name)}", body)
    return "\n".join([EDITOR_LINE.format(SCHEMA_FILE), f"# {KINDS[kind]}", *_explained(body), "", _MORE])


def _explained(body: str) -> list[str]:
    lines = []
    for line in body.splitlines():
        key = re.match(r"(\w+):", line)
        if key:
            lines += ["", *(f"# {told}" for told in _COMMENTS[key.group(1)].splitlines())]
        lines.append(line)
    return lines


def _kind_of(data: Path) -> str:
    if not data.exists():
        raise InputError(f"--data: {one_line(data)}: no such file or folder")
    try:
        return kind_of(data)
    except InputError as error:
        raise InputError(f"--data: {error}") from None


def _write_new(path: Path, text: str) -> None:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(
            f"{one_line(path)}: is there already; nothing is written over. -o names another file"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{one_line(path)}: cannot be written ({getattr(error, 'strerror', None) or error})") from None
