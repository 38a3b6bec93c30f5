"""A file of the log says whose it is; another study's is named and refused, one from before there were ids is read."""

import shutil
from pathlib import Path

import pytest

from rem_study.errors import InputError
from rem_study.storage import StudyLog, open_folder, read_history
from rem_study.storage.log import read_log, segments, summarise
from rem_study.storage.study_id import FILE, keep_study_id

ROW = {"kind": "replicate", "cell": "poison@0.5", "method": "rem", "phase": "search", "trial": 0, "state": "complete"}


def launch(folder, *replicates: int, ids: bool = True) -> None:
    """What a launch does to the log; without `ids`, as it did before there were any."""
    history = read_history(folder / "log")
    log = StudyLog(folder / "log", study_id=keep_study_id(folder, history.study_id) if ids else None)
    for number in replicates:
        log.append({**ROW, "config": {}, "replicate": number, "start_time": 1, "end_time": 2})
    log.close()
    summarise(folder / "log")


def replicates(folder, glance: bool = False) -> list[int]:
    history = read_history(folder / "log", glance)
    assert history.damaged == []
    return [row["replicate"] for row in history.rows]


@pytest.fixture(params=["disk", "store"])
def place(request, tmp_path: Path):
    """Two studies' folders."""
    if request.param == "disk":
        roots = [tmp_path / name for name in ("a", "b")]
    else:
        roots = [open_folder(f"memory://{tmp_path.name}/{name}") for name in ("a", "b")]
    for root in roots:
        root.mkdir(parents=True, exist_ok=True)
    return roots


@pytest.mark.parametrize("glance", [False, True])
def test_launches_of_one_study_share_an_id_that_is_no_record(place, glance):
    folder, _ = place
    launch(folder, 0, 1)
    launch(folder, 2)
    assert replicates(folder, glance) == [0, 1, 2]
    assert [record["kind"] for record in read_log(folder / "log")[0]] == ["replicate"] * 3


@pytest.mark.parametrize("glance", [False, True])
def test_a_log_from_before_ids_is_read_and_gone_on_with(place, glance):
    folder, _ = place
    launch(folder, 0, ids=False)
    assert replicates(folder, glance) == [0]
    launch(folder, 1)
    launch(folder, 2)
    assert replicates(folder, glance) == [0, 1, 2]


@pytest.mark.parametrize("glance", [False, True])
@pytest.mark.parametrize("name", ["00001.jsonl", "00002.jsonl", "00003.jsonl"])
@pytest.mark.parametrize("with_summary", [False, True])
def test_another_studys_file_is_named_in_whichever_place(tmp_path, name, glance, with_summary):
    ours, other = tmp_path / "ours", tmp_path / "other"
    for folder in (ours, other):
        folder.mkdir()
        launch(folder, 0)
        launch(folder, 1)
    shutil.copyfile(other / "log" / "00001.jsonl", ours / "log" / name)
    if with_summary:
        shutil.copyfile(other / "log" / "00001.idx", ours / "log" / Path(name).with_suffix(".idx"))
    with pytest.raises(InputError, match=f"ours/log/{name}: is another study's log"):
        replicates(ours, glance)


def test_in_a_store_likewise(place):
    ours, other = place
    for folder in place:
        launch(folder, 0)
    content = (other / "log" / "00001.jsonl").read_bytes()
    (ours / "log" / "00002.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=r"00002\.jsonl: is another study's log"):
        replicates(ours)


def test_a_file_without_an_id_after_one_with_it_is_refused(place):
    ours, other = place
    launch(ours, 0)
    launch(other, 1, ids=False)
    (ours / "log" / "00002.jsonl").write_bytes((other / "log" / "00001.jsonl").read_bytes())
    with pytest.raises(InputError, match=r"00002\.jsonl: has no study's id"):
        replicates(ours)


def test_a_lost_or_damaged_id_of_the_folder_is_taken_from_the_log(tmp_path):
    launch(tmp_path, 0)
    known = (tmp_path / FILE).read_text()
    for harm in (None, "", "x\n"):
        if harm is None:
            (tmp_path / FILE).unlink()
        else:
            (tmp_path / FILE).write_text(harm)
        launch(tmp_path, 1)
        assert (tmp_path / FILE).read_text() == known


def test_a_damaged_beginning_costs_nothing_but_a_word(tmp_path):
    launch(tmp_path, 0, 1)
    (path,) = segments(tmp_path / "log")
    path.write_bytes(path.read_bytes().replace(b'"study_id":"', b'"study_id":"f', 1))
    history = read_history(tmp_path / "log")
    assert len(history.damaged) == 1 and len(history.rows) == 2
