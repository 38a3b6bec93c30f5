"""A study's winners in the format a person or a program asks for; reads the study's folder, trains
nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rem_study.errors import InputError
from rem_study.results import LOG_FOLDER
from rem_study.results.read import read_table, read_tables, read_yaml, study_file
from rem_study.shown import in_a_cell
from rem_study.spec.yaml_file import field_name, read_text
from rem_study.storage import Folder, write_atomically
from rem_study.storage.output import check_output

FORMATS = ("yaml", "json", "csv", "parquet", "latex", "optuna")


def export(folder: Folder, format: str, output: Path | None = None, force: bool = False) -> str | Path:
    """The winners of the study in `folder`: the text, or the path written where `output` names one.

    yaml: best.yaml as it stands; json: the same document; csv and parquet: the cells table, each
    configuration as JSON in one column; latex: the tables of a paper; optuna: every search trial, as a storage that
    optuna-dashboard opens. Raises InputError (one line) for an unknown format, a missing or damaged file, parquet or
    optuna without `output`, or an `output` that cannot be written, that is one of the study's own files, or, without
    `force`, that is there.
    """
    if format not in FORMATS:
        raise InputError(f"format {format!r}: choose one of {', '.join(FORMATS)}")
    if format in ("parquet", "optuna") and output is None:
        raise InputError(f"{format} is not for the terminal: name a file with -o")
    if output is not None:
        check_output(Path(output), force, "-o", _own_files(folder))
    if format == "optuna":
        return _export_optuna(folder, Path(output or ""))
    if format == "parquet":
        read_table(folder, "cells.parquet")
        return _write(Path(output or ""), study_file(folder, "cells.parquet").read_bytes())
    if format == "latex":
        from rem_study.report.latex import tables

        trials, cells = read_tables(folder)
        text = tables(cells, trials)
        return text if output is None else _write(output, text.encode())
    if format == "csv":
        cells = read_table(folder, "cells.parquet")
        text = cells.map(lambda value: in_a_cell(value) if isinstance(value, str) else value).to_csv(index=False)
    elif format == "json":
        document = read_yaml(folder, "best.yaml")
        for field in _not_finite(document, ()):
            raise InputError(f"{folder / 'best.yaml'}: {field}: is no number that JSON has")
        text = json.dumps(document, indent=2) + "\n"
    else:
        text = read_text(study_file(folder, "best.yaml"))
    return text if output is None else _write(output, text.encode())


def _export_optuna(folder: Folder, output: Path) -> Path:
    from rem_study.results import load_resolved
    from rem_study.search.optuna_studies import write_storage
    from rem_study.storage import read_history, trial_key

    study, history = load_resolved(folder), read_history(folder / LOG_FOLDER)
    rows = [row | {"state": "pruned"} if trial_key(row) in history.pruned else row for row in history.rows]
    selected: dict[tuple[str, str], Mapping[str, Any]] = {}
    if (folder / "cells.parquet").is_file():  # a study that is running has none yet
        cells = read_table(folder, "cells.parquet").to_dict("records")
        selected = {
            (cell["cell"], cell["method"]): {str(name): value for name, value in cell.items()}
            for cell in cells
            if isinstance(cell["config"], str)
        }
    write_storage(study, rows, output, selected)
    return output


def _own_files(folder: Folder) -> list[Path]:
    if not isinstance(folder, Path) or not folder.is_dir():
        return []
    return [path for place in (folder, folder / LOG_FOLDER) if place.is_dir() for path in place.iterdir()]


def _write(output: Path, content: bytes) -> Path:
    try:
        write_atomically(Path(output), content)
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
