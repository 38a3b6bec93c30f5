"""A glance at a large log reads its summary, and trusts it only as far as the log's own bytes bear it out."""

from pathlib import Path

import pytest

from rem_study.storage import summary
from rem_study.storage.history import History, read_history
from rem_study.storage.log import StudyLog, segments, summarise


def row(trial: int, **more: object) -> dict[str, object]:
    place = {"cell": "poison@0.5", "method": "rem", "phase": "search", "replicate": 0, "config": {"lr": trial / 10}}
    found = {"state": "complete", "score": 0.5, "utility_x_healed": 0.25, "end_time": trial, "study": "s"}
    return {"kind": "replicate", **place, **found, "trial": trial, "curves": {"old": [0.5, 0.25]}, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    log = StudyLog(tmp_path)
    log.append({"kind": "original", "corruption": "poison", "replicate": 0, "facts": {"memorised": 1.0}})
    for trial in range(5):
        log.append(row(trial))
    log.append({"kind": "pruned", "cell": "poison@0.5", "method": "rem", "phase": "search", "trial": 3})
    log.close()
    return tmp_path


def told(history: History) -> tuple[object, ...]:
    names = ("cell", "method", "phase", "trial", "replicate", "state", "score", "utility_x_healed", "end_time")
    return [tuple(one[name] for name in names) for one in history.rows], history.pruned, history.damaged


def assert_glance_agrees(folder: Path) -> None:
    assert told(read_history(folder, glance=True)) == told(read_history(folder))


def test_a_glance_says_what_the_log_says_without_reading_its_records(folder, monkeypatch):
    assert_glance_agrees(folder)
    expected = told(read_history(folder))
    monkeypatch.setattr("rem_study.storage.log.whole", lambda path, file, damaged, study, first=1: iter(()))
    assert told(read_history(folder, glance=True)) == expected


def test_what_was_appended_since_the_summary_is_read_from_the_log(folder):
    (segment,) = segments(folder)
    lines = summary.path_of(segment).read_bytes().splitlines(keepends=True)
    summary.path_of(segment).write_bytes(b"".join(lines[:3]) + lines[3][:20])
    assert_glance_agrees(folder)
    summarise(folder)
    assert summary.path_of(segment).read_bytes() == b"".join(lines)


@pytest.mark.parametrize(
    "harm",
    [
        lambda log, index: log.write_bytes(log.read_bytes().replace(b'"score":0.5', b'"score":0.9', 1)),
        lambda log, index: log.write_bytes(log.read_bytes()[:-400]),
        lambda log, index: log.write_bytes(b""),
        lambda log, index: index.write_bytes(b"[1]\n" + index.read_bytes()),
        lambda log, index: index.write_bytes(b"\xff\n"),
        lambda log, index: index.unlink(),
    ],
    ids=["flipped", "cut", "emptied", "foreign entry", "no text", "none"],
)
def test_a_summary_that_does_not_fit_is_not_believed(folder, harm):
    (segment,) = segments(folder)
    harm(segment, summary.path_of(segment))
    assert_glance_agrees(folder)


def test_results_from_before_an_extension_are_known_by_what_they_are_results_of(folder):
    log = StudyLog(folder)
    log.append({"kind": "extended", "extension": 1, "changed": [], "before": {}, "time": 0})
    kept = {name: row(2)[name] for name in ("cell", "method", "phase", "replicate", "config")}
    log.append({"kind": "kept", "extension": 1, **kept, "trial": 7, "proposed_by": "tpe"})
    log.close()
    assert [one["trial"] for one in read_history(folder, glance=True).rows] == [7]
    assert_glance_agrees(folder)


def test_curves_come_back_as_they_were_written_and_everything_else_as_it_was(folder):
    rows = read_history(folder).rows
    assert rows[2]["curves"] == '{"old":[0.5,0.25]}'
    assert {name: value for name, value in rows[2].items() if name != "curves"} == {
        name: value for name, value in row(2).items() if name not in ("curves", "kind")
    }
