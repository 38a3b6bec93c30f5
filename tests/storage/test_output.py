"""Every file that a command is told to write is looked at before work begins."""

import os
import stat
from pathlib import Path

import pytest

from rem_study.errors import InputError
from rem_study.storage.output import check_output

PLACES = {
    "device": ("/dev/null", "no regular file"),
    "terminal": ("/dev/tty", "regular file|link"),
    "pipe": ("pipe", "no regular file"),
    "link": ("link", "is a link"),
    "dangling link": ("dangling", "is a link"),
    "link to a device": ("null", "is a link"),
    "standard output": ("/dev/stdout", "is a link|no regular file"),
    "folder": ("folder", "is a folder"),
    "below a file": ("file/x", "no folder"),
    "no folder": ("no/such/x", "no folder"),
    "null character": ("a\0b", "cannot be written"),
    "too long a name": ("x" * 300, "cannot be written"),
    "what is read": ("read", "would overwrite"),
    "what is read, by another name": ("hard", "would overwrite"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("link").symlink_to("file")
    Path("dangling").symlink_to("nothing")
    Path("null").symlink_to("/dev/null")
    Path("folder").mkdir()
    for name in ("file", "read"):
        Path(name).write_text(name)
    os.link("read", "hard")
    return tmp_path


@pytest.mark.parametrize(("place", "said"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("force", [False, True])
def test_whatever_is_no_regular_file_is_refused_and_left_as_it_is(here, place, said, force):
    before = {path.name: os.lstat(path).st_mode for path in here.iterdir()}
    with pytest.raises(InputError, match=f"--output: .*({said})") as told:
        check_output(Path(place), force, keep=[Path("read")])
    assert "\n" not in str(told.value)
    assert {path.name: os.lstat(path).st_mode for path in here.iterdir()} == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_file_that_is_there_takes_force_and_a_new_one_nothing(here):
    check_output(Path("new"), False)
    with pytest.raises(InputError, match="--force"):
        check_output(Path("file"), False)
    check_output(Path("file"), True)
    assert Path("file").read_text() == "file" and not Path("new").exists()
