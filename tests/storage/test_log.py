"""The log keeps every whole record and nothing else; files appear whole or not at all."""

from pathlib import Path

import pytest
from doubles.holder import held_elsewhere

from rem_study.errors import InputError
from rem_study.storage.folder import make_writable, write_atomically
from rem_study.storage.log import StudyLog, locked, read_log, segments


def written(folder: Path, *records: dict) -> Path:
    log = StudyLog(folder)
    for record in records:
        log.append(record)
    log.close()
    return segments(folder)[-1]


def test_records_come_back_in_order(tmp_path):
    written(tmp_path, {"n": 1}, {"n": 2, "text": "ä\n"})
    written(tmp_path, {"n": 3})
    assert read_log(tmp_path) == ([{"n": 1}, {"n": 2, "text": "ä\n"}, {"n": 3}], [])


def test_a_log_cut_at_any_byte_keeps_all_records_before_the_cut(tmp_path):
    path = written(tmp_path, {"n": 1}, {"n": 2})
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        assert read_log(tmp_path) == ([{"n": 1}] if cut >= first else [], [])


def test_what_follows_a_torn_record_in_a_later_launch_is_kept(tmp_path):
    path = written(tmp_path, {"n": 1}, {"n": 2})
    path.write_bytes(path.read_bytes()[:-3])
    written(tmp_path, {"n": 3})
    assert read_log(tmp_path)[0] == [{"n": 1}, {"n": 3}]


def test_any_flipped_byte_is_named_with_file_and_line_and_spoils_that_record_alone(tmp_path):
    path = written(tmp_path, {"n": 1}, {"n": 2}, {"n": 3})
    content = path.read_bytes()
    start = content.index(b"\n") + 1
    end = content.index(b"\n", start)
    for position in range(start, end):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        records, damaged = read_log(tmp_path)
        assert records == [{"n": 1}, {"n": 3}]
        assert len(damaged) == 1
        assert f"{path}: line 2" in damaged[0]


def test_atomic_write_leaves_the_old_file_if_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_second_driver_is_refused_with_one_line(tmp_path):
    with held_elsewhere(tmp_path), pytest.raises(InputError, match="another launch"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_a_root_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--root.*cannot be written"):
        make_writable(tmp_path / "file" / "runs")
