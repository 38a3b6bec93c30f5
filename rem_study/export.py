"""A study's winners in the format a person or a program asks for; reads the study's folder, trains
nothing."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from rem_study.errors import InputError
from rem_study.folder import CHECKSUMS, Folder, is_damaged
from rem_study.yaml_file import field_name, load_yaml, read_text

FORMATS = ("yaml", "json", "csv", "parquet", "latex", "optuna")


def study_file(folder: Folder, name: str) -> Folder:
    """The path of one of a study's files. Raises InputError naming the folder or file that is missing or damaged."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if not (folder / name).is_file():
        raise InputError(f"{folder / name}: no such file; is this a study's folder with a finished trial?")
    if is_damaged(folder / name):
        raise InputError(
            f"{folder / name}: damaged (its checksum is not that in {CHECKSUMS}); "
            f"`rem-study sync {folder}` writes it again from the log"
        )
    return folder / name


def read_table(folder: Folder, name: str) -> pd.DataFrame:
    """One of a study's Parquet tables as a frame. Raises InputError where it is missing or damaged."""
    path = study_file(folder, name)
    try:
        return pd.read_parquet(io.BytesIO(path.read_bytes()))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet table ({_first_line(error)})") from error


def read_yaml(folder: Folder, name: str) -> Any:
    """One of a study's YAML files, plain values only. Raises InputError where it is missing or malformed."""
    path = study_file(folder, name)
    return load_yaml(read_text(path), str(path))


def export(folder: Folder, format: str, output: Path | None = None) -> str | Path:
    """The winners of the study in `folder`: the text, or the path written where `output` names one.

    yaml: best.yaml as it stands; json: the same document; csv and parquet: the cells table, each
    configuration as JSON in one column; latex: the tables of a paper; optuna: every search trial, as a storage that
    optuna-dashboard opens. Raises InputError (one line) for an unknown format, a missing or damaged file, parquet or
    optuna without `output`, or an `output` that cannot be written.
    """
    if format not in FORMATS:
        raise InputError(f"format {format!r}: choose one of {', '.join(FORMATS)}")
    if format in ("parquet", "optuna") and output is None:
        raise InputError(f"{format} is not for the terminal: name a file with -o")
    if format == "optuna":
        return _export_optuna(folder, Path(output or ""))
    if format == "parquet":
        read_table(folder, "cells.parquet")
        return _write(Path(output or ""), study_file(folder, "cells.parquet").read_bytes())
    if format == "latex":
        from rem_study.latex import tables

        text = tables(read_table(folder, "cells.parquet"))
        return text if output is None else _write(output, text.encode())
    if format == "csv":
        text = read_table(folder, "cells.parquet").to_csv(index=False)
    elif format == "json":
        document = read_yaml(folder, "best.yaml")
        for field in _not_finite(document, ()):
            raise InputError(f"{folder / 'best.yaml'}: {field}: is no number that JSON has")
        text = json.dumps(document, indent=2) + "\n"
    else:
        text = read_text(study_file(folder, "best.yaml"))
    return text if output is None else _write(output, text.encode())


def _export_optuna(folder: Folder, output: Path) -> Path:
    from rem_study.optuna_studies import write_storage
    from rem_study.rows import trial_key
    from rem_study.store import read_log
    from rem_study.study import LOG_FOLDER, load_resolved, replicate_rows

    study = load_resolved(folder)
    records = read_log(folder / LOG_FOLDER)[0]
    pruned = {trial_key(record) for record in records if record["kind"] == "pruned"}
    rows = [row | {"state": "pruned"} if trial_key(row) in pruned else row for row in replicate_rows(records)]
    write_storage(study, rows, output)
    return output


def _write(output: Path, content: bytes) -> Path:
    try:
        Path(output).write_bytes(content)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror})") from error
    return Path(output)


def _not_finite(value: Any, at: tuple[str, ...]) -> Iterator[str]:
    """Where in a document numbers such as `.nan` stand."""
    if isinstance(value, float) and not math.isfinite(value):
        yield ".".join(map(field_name, at)) or "all of it"
    elif isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _not_finite(part, (*at, str(key)))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
