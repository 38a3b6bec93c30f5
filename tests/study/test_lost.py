"""A table is never written that has less than the one that is there, unless it is asked for."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import pytest
import yaml
from doubles.toy_study import study_rows

from rem_study.errors import InputError, StorageError
from rem_study.results.columns import TRIALS_SCHEMA
from rem_study.results.lost import require_nothing_lost
from rem_study.results.write import trials_of
from rem_study.spec.resolve import load_study
from rem_study.storage import StudyLog, read_history
from rem_study.storage.log import segments
from rem_study.storage.sound import COLUMNS
from rem_study.study.replay import Resuming, replay
from rem_study.study.sync import sync

STUDY = {
    "name": "toy",
    "corruptions": [{"name": "poison", "samples": 20}],
    "discovery_rates": [0.5],
    "methods": ["rem"],
    "budget": {"trials": 3, "replicates": 1},
    "race": {"replicates": 0},
    "confirm": {"replicates": 0},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(STUDY))
    study = load_study(tmp_path / "toy.yaml")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study.spec.plain(), sort_keys=False))
    log = StudyLog(tmp_path / "log")
    for number in range(3):
        config = study.spaces["rem"].defaults | {"epochs": 10 + number} if number else study.spaces["rem"].defaults
        row: dict[str, Any] = dict.fromkeys(TRIALS_SCHEMA.names)
        row |= {"study": "toy", "cell": "poison@0.5", "method": "rem", "phase": "search", "trial": number}
        row |= {"replicate": 0, "config": config, "state": "complete", "score": 0.5, "sample_passes": 1}
        row |= {"dataset": "d", "model": "m", "corruption": "c", "discovery_rate": 0.5}
        row |= {"score_healed": 0.5, "score_utility": 0.5, "proposed_by": "tpe", "start_time": 1, "end_time": 2}
        log.append({"kind": "replicate", **row})
    log.close()
    history = read_history(tmp_path / "log")
    filled = [row | {"dataset": "d", "model": "m", "corruption": "c", "discovery_rate": 0.5} for row in history.rows]
    pyarrow.parquet.write_table(trials_of(filled, {}, {}), tmp_path / "trials.parquet")
    return tmp_path


def emptied(folder: Path) -> None:
    for path in segments(folder / "log"):
        path.write_bytes(b"")


def cut(folder: Path) -> None:
    (path,) = segments(folder / "log")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))


def removed(folder: Path) -> None:
    for path in segments(folder / "log"):
        path.unlink()


def damaged(folder: Path) -> None:
    (path,) = segments(folder / "log")
    path.write_bytes(path.read_bytes().replace(b'"trial":1', b'"trial":7'))


def exchanged(folder: Path) -> None:
    """As many replicates as before, of other configurations."""
    removed(folder)
    log = StudyLog(folder / "log")
    for number in range(3):
        place = {"cell": "poison@0.5", "method": "rem", "phase": "search", "trial": number, "replicate": 0}
        log.append({"kind": "replicate", **place, "config": {"epochs": 50 + number}, "study": "toy"})
    log.close()


@pytest.mark.parametrize("harm", [emptied, cut, removed, damaged, exchanged])
def test_sync_leaves_the_tables_alone_where_the_log_lacks_what_they_have(folder, harm):
    before = (folder / "trials.parquet").read_bytes()
    harm(folder)
    with pytest.raises(StorageError, match=r"lacks \d replicates.*sync --force") as told:
        sync(folder)
    assert "\n" not in str(told.value)
    assert (folder / "trials.parquet").read_bytes() == before


def test_a_whole_log_and_one_with_more_lack_nothing(folder):
    history = read_history(folder / "log")
    require_nothing_lost(folder, history.rows, history.earlier, "")
    table = pd.read_parquet(folder / "trials.parquet")
    table.iloc[:1].to_parquet(folder / "trials.parquet")
    require_nothing_lost(folder, history.rows, history.earlier, "")
    (folder / "trials.parquet").write_bytes(b"damaged")  # made again from the log
    require_nothing_lost(folder, [], {}, "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"study": "other\x1b[2J"}, "another study"),
        ({"config": {"epochs": 5, "bogus\n": 1}}, "no such hyperparameter"),
        ({"config": {"bogus\n": 1}, "trial": 999, "replicate": 7}, "no such hyperparameter"),
        ({"config": {}}, "is missing"),
        ({"config": "x"}, "config"),
        ({"cell": "<script>@0.5"}, "another study, cell"),
        ({"method": "zzz"}, "another study, method"),
        ({"phase": "zzz"}, "another study, phase"),
        ({"state": "zzz"}, "another study, state"),
        ({"surprise\n": 1}, "does not know"),
        ({"dataset": None}, "dataset"),
        ({"start_time": None}, "start_time"),
    ],
)
def test_a_row_that_cannot_be_this_studys_is_named_in_one_line(folder, change, said):
    study = load_study(folder / "toy.yaml")
    history = read_history(folder / "log")
    history.rows[0] |= change
    with pytest.raises(InputError, match=said) as told:
        replay(study, [], history, folder)
    assert str(told.value).isprintable() and str(folder / "log") in str(told.value)


@pytest.mark.parametrize(
    "change",
    [
        {"trial": 10**30},
        {"replicate": -1},
        {"end_time": 10**40},
        {"healed": 10**400},
        {"regularity": [1]},
        {"discovery_rate": "a"},
        {"curves": "x"},
        {"sample_passes": 0.5},
        {"model": 1},
    ],
)
def test_a_value_that_fits_no_table_is_told_of_and_its_record_ignored(folder, change):
    log = StudyLog(folder / "log")
    row = read_history(folder / "log").rows[0]
    log.append({"kind": "replicate", **row, "replicate": 1, "curves": None, **change})
    log.close()
    for glance in (False, True):
        history = read_history(folder / "log", glance)
        assert len(history.rows) == 3 or glance
    (told,) = read_history(folder / "log").damaged
    assert f"without a sound {next(iter(change))}" in told


def test_every_column_of_the_table_is_checked():
    assert set(TRIALS_SCHEMA.names) | {"start_time", "end_time"} == COLUMNS.keys()


def test_a_long_resumption_says_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr("rem_study.study.replay.PAUSE", 0.0)
    said = Resuming(10)
    said.at(4)
    said.close()
    assert capsys.readouterr().err == "reading the log: 4 trials gone through (10 replicates)\n"


def test_a_silent_server_costs_the_tables_nothing_and_says_what_is_left(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # the kernel accepts; nobody answers
        content = yaml.safe_load((folder / "study.yaml").read_text())
        content["tracking"] = {"uri": f"http://127.0.0.1:{server.getsockname()[1]}"}
        (folder / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        (folder / "trials.parquet").unlink()
        removed(folder)
        log = StudyLog(folder / "log")
        (row,) = [row for row in study_rows() if (row["cell"], row["method"], row["trial"]) == ("poison@0.5", "rem", 0)]
        row |= {"config": load_study(folder / "toy.yaml").spaces["rem"].defaults, "start_time": 1, "end_time": 2}
        log.append({"kind": "replicate", **row})
        log.close()
        command = [sys.executable, "-m", "rem_study.cli", "sync", str(folder), "--timeout", "2"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert told.returncode == 1
    assert "left: 1 of 1 replicates" in told.stderr and len(told.stderr.splitlines()) == 1, told.stderr
    assert (folder / "trials.parquet").exists()
