"""An open descriptor is no log: what is appended goes where a reader will look for it, or nowhere."""

import os
import shutil
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from doubles.holder import held_elsewhere

from rem_study.cli import main
from rem_study.errors import InputError, StorageError
from rem_study.storage.folder import make_writable, write_atomically
from rem_study.storage.log import StudyLog, locked, read_log, segments


def replace(path: Path) -> None:
    shutil.copyfile(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)


HARMS = {
    "truncated": lambda folder, path: os.truncate(path, 5),
    "emptied": lambda folder, path: os.truncate(path, 0),
    "removed": lambda folder, path: path.unlink(),
    "replaced": lambda folder, path: replace(path),
    "appended to": lambda folder, path: path.write_bytes(path.read_bytes() + b"x"),
    "linked": lambda folder, path: (
        path.rename(path.with_suffix(".moved")),
        path.symlink_to(path.with_suffix(".moved")),
    ),
    "log removed": lambda folder, path: shutil.rmtree(folder / "log"),
    "folder removed": lambda folder, path: shutil.rmtree(folder),
    "folder renamed": lambda folder, path: folder.rename(folder.with_name("other")),
    "folder replaced": lambda folder, path: (folder.rename(folder.with_name("other")), folder.mkdir()),
    "lock removed": lambda folder, path: (folder / ".lock").unlink(),
    "lock replaced": lambda folder, path: replace(folder / ".lock"),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_nothing_is_appended_once_the_log_is_not_the_one_that_was_written(tmp_path, harm):
    folder = tmp_path / "study"
    folder.mkdir()
    with locked(folder) as holds:
        log = StudyLog(folder / "log", holds)
        log.append({"n": 1})
        harm(folder, segments(folder / "log")[0])
        with pytest.raises(StorageError) as told:
            log.append({"n": 2})
        with pytest.raises(StorageError):
            log.check()
        log.close()
    assert "\n" not in str(told.value) and str(folder) in str(told.value)


@pytest.mark.parametrize("harm", ["truncated", "removed", "replaced"])
def test_the_files_of_earlier_launches_are_watched_too(tmp_path, harm):
    earlier = StudyLog(tmp_path / "log")
    earlier.append({"n": 1})
    earlier.close()
    log = StudyLog(tmp_path / "log")
    log.append({"n": 2})
    log.check()
    HARMS[harm](tmp_path, segments(tmp_path / "log")[0])
    with pytest.raises(StorageError, match=r"00001\.jsonl"):
        log.check()


def test_a_second_driver_is_refused_though_the_lock_file_was_removed(tmp_path):
    with held_elsewhere(tmp_path):
        (tmp_path / ".lock").unlink()
        with pytest.raises(InputError, match="another launch"), locked(tmp_path):
            pass


def test_a_log_that_cannot_be_read_is_an_error_and_no_empty_study(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "00001.jsonl").mkdir()
    with pytest.raises(OSError, match=r"00001\.jsonl"):
        read_log(tmp_path / "log")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        read_log(tmp_path / "file")


def test_a_planted_link_is_never_opened_and_a_device_never_replaced(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    root = tmp_path / "root"
    root.mkdir()
    for name in (f".writable.{os.getpid()}", f".best.yaml.{os.getpid()}", "best.yaml"):
        (root / name).symlink_to(victim)
    make_writable(root)
    write_atomically(root / "best.yaml", "new")  # the link itself is replaced
    assert victim.read_text() == "precious"
    assert (root / "best.yaml").read_text() == "new" and not (root / "best.yaml").is_symlink()
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match=name):
            write_atomically(root / name, "new")
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
    assert not [path for path in root.iterdir() if path.name.endswith(".partial")]


@pytest.mark.parametrize("name", [".lock", "log", "figures", "mlflow.db", "anything"])
def test_a_link_in_a_studys_folder_is_refused_and_what_it_leads_to_stays(tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / name).symlink_to(victim)
    with pytest.raises((InputError, OSError), match=name), locked(folder):
        pass
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["study.yaml", ".study-id", "trials.parquet", "log/00002.jsonl", "log/00001.idx"])
@pytest.mark.parametrize("command", ["status", "sync"])
def test_a_pipe_or_a_link_to_a_device_in_a_studys_folder_holds_nobody_up(tmp_path, name, command):
    (tmp_path / "log").mkdir()
    for plant in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (tmp_path / "study.yaml").write_text("name: x")
        (tmp_path / name).unlink(missing_ok=True)
        plant(tmp_path / name)
        told = CliRunner().invoke(main, [command, str(tmp_path)])
        assert told.exit_code == 2 and name in told.stderr and "is a " in told.stderr, told.stderr
        (tmp_path / name).unlink()


def test_what_is_written_keeps_the_permissions_of_what_it_replaces_and_the_umask_of_what_is_new(tmp_path):
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "new", "1")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600
        (tmp_path / "new").chmod(0o644)
        write_atomically(tmp_path / "new", "2")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o644
    finally:
        os.umask(before)


def test_a_file_left_by_a_kill_is_cleared_away_and_nothing_else(tmp_path):
    left, own = tmp_path / f".best.yaml.{'0a' * 8}.partial", tmp_path / ".notes.2026"
    left.write_text("")
    own.write_text("mine")
    with locked(tmp_path):
        pass
    assert not left.exists() and own.read_text() == "mine"
