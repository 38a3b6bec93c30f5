"""What a log, a table or a server says reaches a terminal and a spreadsheet as text, and as nothing else."""

import zlib
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from rem_study.cli import main
from rem_study.report.export import export
from rem_study.shown import in_a_cell, shown
from rem_study.spec.resolve import load_study
from rem_study.storage import StudyLog, read_history
from rem_study.storage.canonical import canonical_json

CONTROL = ["\x1b[2J", "\x1b]0;x\x07", "\x00", "\r", "\x08", "\u202e", "\u2028", "\x9b", "\udc80", "\x7f"]


@pytest.mark.parametrize("text", CONTROL)
def test_no_control_character_is_left(text):
    assert shown(f"a{text}b\n").removesuffix("\n").isprintable()
    assert shown("poison@0.5 ✓ ä\n") == "poison@0.5 ✓ ä\n"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\t=1", "\r=1", "\n-1"])
def test_a_cell_computes_nothing(text):
    assert in_a_cell(text)[0] in "'\\"
    assert in_a_cell("poison@0.5") == "poison@0.5"


def test_formulas_in_a_table_are_text_in_csv(tmp_path: Path):
    pd.DataFrame({"cell": ["=cmd|' /C calc'!A0"], "gain": [-0.5]}).to_parquet(tmp_path / "cells.parquet")
    _, line = str(export(tmp_path, "csv")).splitlines()
    assert line == "'=cmd|' /C calc'!A0,-0.5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    document = {"name": "toy", "corruptions": [{"name": "poison", "samples": 20}], "discovery_rates": [0.5]}
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(document | {"methods": ["rem"], "budget": {"trials": 3}}))
    plain = load_study(tmp_path / "toy.yaml").spec.plain()
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    return tmp_path


PLACE = {"kind": "replicate", "cell": "poison@0.5", "method": "rem", "phase": "search", "trial": 0, "replicate": 0}
FOREIGN = [
    PLACE | {"method": "\x1b[2Jrem", "state": "failed"},
    PLACE | {"cell": "x\x1b]0;title\x07", "state": "complete", "score": 0.5, "utility_x_healed": 0.5, "end_time": 1},
    PLACE | {"phase": "\x1b[31mconfirm", "state": "complete"},
    PLACE | {"trial": "0"},
    PLACE | {"trial": None},
    PLACE | {"score": "high"},
    PLACE | {"end_time": "now"},
    PLACE | {"config": [1]},
    PLACE | {"state": ["failed"]},
    {"kind": "\x1b[2J"},
    {"kind": ["replicate"]},
    {"kind": "original"},
    {"kind": "pruned", "cell": "x"},
    {"kind": "extended", "extension": "1"},
    {"kind": "basis", "content": 3},
    {"no": "kind"},
    [1, 2],
    None,
]


@pytest.mark.parametrize("record", FOREIGN, ids=map(repr, range(len(FOREIGN))))
def test_status_of_a_log_with_foreign_records_is_printable_and_ends_well(folder, record):
    log = StudyLog(folder / "log")
    log.append(PLACE | {"state": "complete", "score": 0.5, "utility_x_healed": 0.5, "end_time": 1})
    log.close()
    content = canonical_json(record).encode()
    with open(folder / "log" / "00001.jsonl", "ab") as file:
        file.write(b"%08x %s\n" % (zlib.crc32(content), content))
    result = CliRunner().invoke(main, ["status", str(folder)])
    assert result.exit_code == 0, result.output
    assert all(line.isprintable() for line in result.output.split("\n"))
    whole, glance = read_history(folder / "log"), read_history(folder / "log", glance=True)
    assert len(whole.rows) == len(glance.rows) and whole.damaged == glance.damaged


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b"1" * 5_000, b'{"kind": NaN}'])
def test_a_line_that_is_no_json_is_told_of_and_ignored(folder, content):
    (folder / "log").mkdir()
    (folder / "log" / "00001.jsonl").write_bytes(b"%08x %s\n" % (zlib.crc32(content), content))
    result = CliRunner().invoke(main, ["status", str(folder)])
    assert result.exit_code == 0 and "no launch has written" in result.output
