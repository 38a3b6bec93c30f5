"""Exports: the same winners in each format, and one line for each way of asking wrongly."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from rem_study.errors import InputError
from rem_study.report.export import export
from rem_study.results import columns

BEST = """\
# kept as it stands
format: 1
study: toy
cells:
- corruption: poison
  discovery_rate: 0.1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = '{"erase_mode": "drop", "width": 0.5}'
    cell = {
        "method": "rem",
        "corruption": "poison",
        "cell": "poison@0.1",
        "trial": 3,
        "config": config,
        "healed": 0.75,
    }
    cells = pd.DataFrame([cell, {"method": "npo"}], columns=columns.CELLS_SCHEMA.names).astype({"trial": "Int64"})
    folder = tmp_path / "study"
    folder.mkdir()
    pq.write_table(columns.cells_table(cells), folder / "cells.parquet")
    (folder / "best.yaml").write_text(BEST, encoding="utf-8")
    return folder


def test_yaml_is_the_text_of_best_yaml(folder: Path) -> None:
    assert export(folder, "yaml") == BEST


def test_json_is_the_same_document(folder: Path) -> None:
    text = export(folder, "json")
    assert isinstance(text, str)
    assert json.loads(text) == yaml.safe_load(BEST)


def test_csv_has_the_cells_with_each_configuration_in_one_column(folder: Path) -> None:
    text = export(folder, "csv")
    assert isinstance(text, str)
    first, second = csv.DictReader(io.StringIO(text))
    assert list(first) == columns.CELLS_SCHEMA.names
    assert json.loads(first["config"]) == {"erase_mode": "drop", "width": 0.5}
    assert (first["trial"], first["healed"]) == ("3", "0.75")
    assert (second["method"], second["trial"], second["healed"]) == ("npo", "", "")


def test_parquet_is_the_cells_table(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    assert export(folder, "parquet", output) == output
    assert pq.read_table(output).equals(pq.read_table(folder / "cells.parquet"))


def test_an_output_takes_what_would_have_been_printed(folder: Path, tmp_path: Path) -> None:
    for format in ("yaml", "json", "csv"):
        output = tmp_path / f"out.{format}"
        assert export(folder, format, output) == output
        assert output.read_bytes().decode() == export(folder, format)


def refusal(folder: Path, format: str, output: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        export(folder, format, output)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_parquet_is_not_printed(folder: Path) -> None:
    assert "-o" in refusal(folder, "parquet")


def test_an_unknown_format_is_answered_with_the_known_ones(folder: Path) -> None:
    assert "yaml, json, csv, parquet, latex, optuna" in refusal(folder, "xlsx")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere", "yaml")


@pytest.mark.parametrize(("format", "name"), [("yaml", "best.yaml"), ("json", "best.yaml"), ("csv", "cells.parquet")])
def test_a_missing_file_is_named(folder: Path, format: str, name: str) -> None:
    (folder / name).unlink()
    assert str(folder / name) in refusal(folder, format)


@pytest.mark.parametrize(
    ("format", "name"), [("json", "best.yaml"), ("csv", "cells.parquet"), ("parquet", "cells.parquet")]
)
def test_a_damaged_file_is_named_and_nothing_is_written(folder: Path, tmp_path: Path, format: str, name: str) -> None:
    (folder / name).write_text("a: [1, \n}")
    output = tmp_path / "out"
    assert str(folder / name) in refusal(folder, format, output)
    assert not output.exists()


def test_yaml_that_builds_objects_is_refused(folder: Path) -> None:
    (folder / "best.yaml").write_text("!!python/object/apply:os.getcwd []")
    assert "best.yaml" in refusal(folder, "json")


def test_an_output_that_cannot_be_written_is_named(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "no" / "such" / "out.csv"
    assert str(output) in refusal(folder, "csv", output)
