"""`rem-study status`: what a glance at a study's folder says, while it runs and after."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from rem_study.spec.resolve import load_study
from rem_study.storage.log import StudyLog
from rem_study.study import status
from rem_study.study.hindered import write_hindrances

STUDY = {
    "name": "toy",
    "corruptions": [{"name": "random_label", "samples": 20}, {"name": "poison", "samples": 20}],
    "discovery_rates": [0.1, 1.0],
    "methods": ["rem", "npo"],
    "budget": {"trials": 2, "replicates": 2},
    "race": {"replicates": 0},
    "confirm": {"replicates": 3},
}


def record(cell: str, method: str, trial: int, replicate: int, end: float, **more: Any) -> dict[str, Any]:
    row = {"kind": "replicate", "cell": cell, "method": method, "trial": trial, "replicate": replicate}
    times = {"start_time": int(end * 1000) - 500, "end_time": int(end * 1000)}
    return row | {"phase": "search", "state": "complete", "score": 0.5, "utility_x_healed": 0.5} | times | more


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """random_label@0.1 is done, one trial of it failed; poison@0.1 has begun; the rest waits. A result each 2 s, but
    for a stop of an hour."""
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(STUDY))
    plain = load_study(tmp_path / "toy.yaml").spec.plain()
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    log = StudyLog(tmp_path / "log")
    log.append({"kind": "original", "corruption": "random_label", "replicate": 0, "state": "complete"})
    end = time.time() - 4000
    for method in ("rem", "npo"):
        for trial in (0, 1):
            fails = (method, trial) == ("npo", 1)
            for replicate in (0,) if fails else (0, 1):
                end += 1
                told = {"state": "failed", "score": None, "utility_x_healed": None} if fails else {}
                told = told or {"score": 0.9 - trial / 10, "utility_x_healed": 0.3 if method == "rem" else 0.25}
                log.append(record("random_label@0.1", method, trial, replicate, end, **told))
    end += 3600
    for replicate in (0, 1):
        end += 1
        log.append(record("poison@0.1", "rem", 0, replicate, end, utility_x_healed=0.8))
    log.append(record("poison@0.1", "rem", 1, 0, end + 1))
    log.append({"kind": "pruned", "cell": "poison@0.1", "method": "rem", "phase": "search", "trial": 1})
    log.append(record("poison@0.1", "npo", 0, 0, end + 2))  # its second replicate is under way
    log.append(record("random_label@0.1", "rem", 0, 2, end + 3, phase="confirm"))
    log.close()
    return tmp_path


def test_the_grid_shows_done_under_way_waiting_and_failed(folder: Path) -> None:
    text = status.describe(folder)
    assert "toy: 6 of 16 trials finished, 1 failed, 1 pruned, 1 of 10 originals" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["random_label", "4/4", "1!", "✓", "0/4", "·"] in lines
    assert ["poison", "2/4", "▸", "0/4", "·"] in lines


def test_the_pace_leaves_out_a_stop(folder: Path) -> None:
    assert "0.67 trials/s · about 15 s left" in status.describe(folder)  # gaps of 2, 2, 1, 1 s; 10 left


def test_the_worst_cell_is_that_of_the_lowest_best_method(folder: Path) -> None:
    text = status.describe(folder)
    assert "worst cell so far: random_label@0.1; best utility x healed there 0.30, by rem" in text
    assert "failed: 1 of npo in random_label@0.1" in text


def test_confirmation_is_counted_by_itself(folder: Path) -> None:
    assert "confirm: 1 replicates so far" in status.describe(folder)


def test_what_holds_the_study_up_is_said_while_it_does(folder: Path) -> None:
    write_hindrances(folder, ["no node has so much"])
    assert "held up: no node has so much (noted 0 s ago)" in status.describe(folder)
    write_hindrances(folder, [])
    assert "held up" not in status.describe(folder)
    (folder / "hindered.json").write_text("{")
    assert "held up" not in status.describe(folder)


def test_a_study_without_a_result_says_so(folder: Path) -> None:
    for segment in (folder / "log").iterdir():
        segment.unlink()
    assert "no trial has finished yet" in status.describe(folder)


def test_it_takes_no_heavy_import_and_no_second(folder: Path) -> None:
    heavy = {"torch", "ray", "mlflow", "pandas", "numpy", "optuna", "pyarrow"}
    code = (
        "import sys, time; start = time.process_time(); from rem_study.cli import main\n"
        f"try: main(['status', {str(folder)!r}])\n"
        f"except SystemExit: print(sorted({heavy} & set(sys.modules)), time.process_time() - start)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    found, seconds = out.splitlines()[-1].rsplit(" ", 1)
    assert found == "[]"
    assert float(seconds) < 1.0
