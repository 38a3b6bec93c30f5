"""A study's tables and documents, read from its folder and checked."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pyarrow as pa

from rem_study.errors import InputError
from rem_study.results.standing import completed
from rem_study.spec.yaml_file import load_yaml, read_text
from rem_study.storage import Folder
from rem_study.storage.folder import CHECKSUMS, is_damaged


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


def read_tables(folder: Folder) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials and cells, with every column of this version: see `standing.completed`. Raises InputError."""
    trials, cells = (read_table(folder, name) for name in ("trials.parquet", "cells.parquet"))
    cells, trials = completed(cells, trials)
    return trials, cells


def read_yaml(folder: Folder, name: str) -> Any:
    """One of a study's YAML files, plain values only. Raises InputError where it is missing or malformed."""
    path = study_file(folder, name)
    return load_yaml(read_text(path), str(path))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
