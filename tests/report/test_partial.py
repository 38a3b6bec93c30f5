"""The report of a study that is running: drawn from its log, and marked as partial."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from rem_study.errors import InputError
from rem_study.report import page as report
from rem_study.report.source import read_study
from rem_study.results.write import write_results
from rem_study.spec import Study, load_study
from rem_study.storage import StudyLog, read_history
from rem_study.trial import Trial, cells_of, identity

DOCUMENT = {
    "name": "running",
    "data": {"name": "digits"},
    "corruptions": [{"name": "random_label", "samples": 30}, {"name": "poison", "samples": 30}],
    "discovery_rates": [0.1, 1.0],
    "methods": ["rem", "npo"],
    "budget": {"trials": 2, "replicates": 1},
    "race": {"replicates": 0},
    "confirm": {"replicates": 0},
}


def started(root: Path) -> tuple[Study, Path]:
    (root / "study.yaml").write_text(yaml.safe_dump(DOCUMENT))
    study = load_study(root / "study.yaml", ())
    folder = root / "running"
    (folder / "log").mkdir(parents=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(study.spec.plain(), sort_keys=False))
    return study, folder


def run(study: Study, folder: Path, cells: int) -> None:
    """Both trials of both methods in the first `cells` cells."""
    log = StudyLog(folder / "log")
    for cell in cells_of(study.spec)[:cells]:
        for method in study.spec.methods:
            for number in (0, 1):
                trial = Trial(cell, method, study.spaces[method].defaults | {"batch_size": 32 * (number + 1)}, 0)
                score = 0.5 + 0.1 * number + 0.2 * (method == "rem")
                scores = dict.fromkeys(("healed", "utility_x_healed", "score", "score_oracle"), score)
                log.append(
                    {"kind": "replicate", **identity(study.spec, trial, number, "search", "tpe"), "state": "complete",
                     "utility": 1.0, **scores, "sample_passes": 10, "seconds": 1.0, "error": None, "curves": None,
                     "start_time": 1_760_000_000_000 + number, "end_time": 1_760_000_001_000 + number}
                )  # fmt: skip
    log.close()


def test_a_running_study_has_a_report_of_what_is_there_that_says_so(tmp_path: Path) -> None:
    study, folder = started(tmp_path)
    run(study, folder, 1)
    page = report.write_report(folder).read_text(encoding="utf-8")
    assert "<b>Partial.</b> 4 of 16 search trials are through" in page
    assert "REM has the highest mean score, 0.800" in page
    squares = page.split('class="wins"')[1].split("</table>")[0]
    assert squares.count("0 of 4 trials") == 3 and squares.count("4 of 4 trials") == 1
    assert squares.count('class="waiting"') == 3
    assert "copy configuration" in page and "copy as heal command" not in page  # best.yaml is not there yet
    assert sorted(path.name for path in folder.iterdir()) == ["figures", "log", "report.html", "study.yaml"]


def test_the_page_of_a_study_grows_with_its_log_and_writes_nothing(tmp_path: Path) -> None:
    study, folder = started(tmp_path)
    before = report.study_page(folder)
    assert "No trial has finished yet" in before and before.count('class="waiting"') == 4
    run(study, folder, 1)
    assert "4 of 16 search trials" in report.study_page(folder)
    assert not (folder / "report.html").exists() and not (folder / "figures").exists()


def test_a_finished_study_is_read_from_its_tables_until_its_log_has_more(tmp_path: Path) -> None:
    study, folder = started(tmp_path)
    run(study, folder, 4)
    write_results(folder, study, read_history(folder / "log").rows, {}, {})
    data = read_study(folder)
    assert data.progress is None and data.best["study"] == "running"
    assert "Partial" not in report.study_page(folder)
    (folder / "trials.parquet").unlink()  # as before its first end
    assert read_study(folder).progress is not None


def test_a_study_that_was_stopped_is_partial_though_its_tables_are_there(tmp_path: Path) -> None:
    study, folder = started(tmp_path)
    run(study, folder, 2)
    write_results(folder, study, read_history(folder / "log").rows, {}, {})
    page = report.study_page(folder)
    assert "8 of 16 search trials" in page
    links = re.findall(r'href="#(cell-[^"]+)"', page)
    assert {link for link in links if f'id="{link}"' not in page} == set()


def test_a_running_study_without_a_result_has_no_report_to_write(tmp_path: Path) -> None:
    _, folder = started(tmp_path)
    with pytest.raises(InputError, match="no trial"):
        report.write_report(folder)
    with pytest.raises(InputError, match=r"trials\.parquet"):
        report.study_page(tmp_path)
