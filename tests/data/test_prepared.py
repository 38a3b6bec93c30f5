"""Own images prepared once: the same data from files that processes share, found again, noticed where damaged."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rem_study.data import Dataset, folder, gather, load_dataset, place, prepare, prepared
from rem_study.data.images import AT_ONCE, Some
from rem_study.data.place import folder_of, prepared_under
from rem_study.data.survey import SAMPLE, survey
from rem_study.errors import InputError
from rem_study.spec.data import DataSpec, OwnDataSpec
from rem_study.storage import open_folder

TRAIN, TEST = 45, 10  # several jobs' worth


def png(image: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def write_folder(root: Path, parts: tuple[str, ...] = ("train", "test")) -> str:
    for seed, part in enumerate(parts):
        for number, image in enumerate(images(TRAIN if part == "train" else TEST, seed)):
            (root / part / f"class{number % 3}").mkdir(parents=True, exist_ok=True)
            (root / part / f"class{number % 3}" / f"{number:03}.png").write_bytes(png(image))
    return str(root)


def write_parquet(root: Path) -> str:
    root.mkdir()
    for seed, (part, count) in enumerate((("train", TRAIN), ("test", TEST))):
        encoded = [{"bytes": png(image), "path": f"{number}.png"} for number, image in enumerate(images(count, seed))]
        pq.write_table(pa.table({"image": encoded, "label": np.arange(count) % 3}), root / f"{part}.parquet")
    return str(root)


def write_npz(root: Path, kind: Any = np.uint8) -> str:
    root.mkdir()
    parts = {}
    for seed, (part, count) in enumerate((("train", TRAIN), ("test", TEST))):
        parts |= {f"{part}_images": images(count, seed).astype(kind), f"{part}_labels": np.arange(count) % 3}
    np.savez(root / "own.npz", **parts)
    return str(root / "own.npz")


WRITERS: dict[str, Callable[[Path], str]] = {"folder": write_folder, "parquet": write_parquet, "npz": write_npz}


def load(spec: DataSpec, root: Path | None, thorough: bool = False) -> Dataset:
    with prepared_under(root, thorough):
        return load_dataset(spec)


def own_folder(tmp_path: Path, **fields: Any) -> DataSpec:
    return DataSpec(name="folder", root=write_folder(tmp_path / "own"), **fields)


def only_set(root: Path) -> Path:
    """The folder of the one set under `root`, and nothing else but a lock beside it."""
    found = [path for path in (root / "data").iterdir() if path.name != ".prepare.lock"]
    assert len(found) == 1 and not found[0].name.startswith(".")
    return found[0]


def facts(data: Dataset) -> tuple[object, ...]:
    names = (data.notes, data.class_names, data.train_files, data.train_numbers, data.num_classes, data.augmentation)
    return (data.fingerprint, data.mean.tolist(), data.std.tolist(), data.train_labels.tolist(), *names)


@pytest.mark.parametrize("fields", [{}, {"image_size": 12}, {"train_samples": 30, "test_samples": 4, "augment": True}])
@pytest.mark.parametrize("form", WRITERS)
def test_a_prepared_set_is_the_set_that_is_read_without_it_wherever_it_lies(tmp_path, form, fields):
    spec = DataSpec(name=form, root=WRITERS[form](tmp_path / "own"), **fields)
    read = load(spec, None)
    for root in (tmp_path / "a", tmp_path / "b"):
        for _ in range(2):  # made, then found
            data = load(spec, root)
            assert facts(data) == facts(read)
            assert torch.equal(data.train_images, read.train_images) and torch.equal(data.test_images, read.test_images)
    fresh = Dataset(**{name: getattr(data, name) for name in Dataset.__dataclass_fields__})
    assert facts(fresh) == facts(read)  # and what the manifest says is what the pixels say


def test_images_are_mapped_from_the_file_and_decoded_once(tmp_path, monkeypatch):
    spec = own_folder(tmp_path)
    load(spec, tmp_path)
    monkeypatch.setattr(folder, "decoded", None)
    data = load(spec, tmp_path)
    assert str(only_set(tmp_path) / "train_images.npy") in Path("/proc/self/maps").read_text()
    data.train_images[0] = 0  # reaches no file
    assert load(spec, tmp_path, thorough=True).train_images[0].any()


def test_what_its_source_is_decides_whether_a_set_is_found(tmp_path):
    spec = own_folder(tmp_path)
    root = Path(spec.root or "")
    load(spec, tmp_path)
    one = only_set(tmp_path)
    relative = spec.model_copy(update={"root": os.path.relpath(root)})
    for same in (spec, relative, spec.model_copy(update={"augment": True}), OwnDataSpec(name="folder", root=spec.root)):
        load(same, tmp_path)
        assert only_set(tmp_path) == one
    changes = [
        lambda: os.utime(root / "train" / "class0" / "000.png", (1, 1)),
        lambda: (root / "train" / "class0" / "more.png").write_bytes(png(images(1)[0])),
        lambda: (root / "train" / "notes.txt").touch(),  # a note says that it is left out
        lambda: (root / "val" / "class0").mkdir(parents=True),
    ]
    for number, change in enumerate(changes, 2):
        change()
        load(spec, tmp_path)
        assert len([path for path in (tmp_path / "data").iterdir() if path.is_dir()]) == number


@pytest.mark.parametrize("damage", ["a byte", "a byte, its time kept", "cut", "no labels", "manifest", "no manifest"])
def test_a_damaged_set_is_noticed_and_made_again(tmp_path, capsys, damage):
    spec = own_folder(tmp_path)
    sound = facts(load(spec, tmp_path))
    place = only_set(tmp_path)
    file = place / {"no labels": "train_labels.npy"}.get(
        damage, "manifest.json" if "manifest" in damage else "train_images.npy"
    )
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-300] ^= 1
    file.write_bytes(content[:-10] if damage == "cut" else content)
    if damage.startswith("no "):
        file.unlink()
    if damage == "a byte, its time kept":
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    capsys.readouterr()
    assert facts(load(spec, tmp_path, thorough="kept" in damage)) == sound
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith(f"warning: {place}: is damaged and is made again (")
    assert facts(load(spec, tmp_path, thorough=True)) == sound
    assert capsys.readouterr().err == ""
    assert only_set(tmp_path) == place


@pytest.mark.parametrize("std", [0.0, float("nan")])
def test_a_set_of_a_version_that_divided_by_nothing_is_made_again(tmp_path, capsys, monkeypatch, std):
    spec = own_folder(tmp_path)
    sound = facts(load(spec, None))
    monkeypatch.setattr(prepared, "moments", lambda counts: (torch.zeros(3), torch.tensor([1.0, 1.0, std])))
    with pytest.raises(prepared.Damaged):  # of this version; it is there all the same
        load(spec, tmp_path)
    monkeypatch.undo()
    capsys.readouterr()
    assert facts(load(spec, tmp_path)) == sound
    assert "is damaged and is made again (nothing can be divided by its standard deviation)" in capsys.readouterr().err


def test_a_set_is_there_whole_or_not_at_all(tmp_path):
    spec = own_folder(tmp_path)
    bad = Path(spec.root or "") / "test" / "class2" / "zzz.png"
    bad.write_bytes(b"x")
    with pytest.raises(InputError, match=r"zzz\.png: cannot identify image file"):
        load(spec, tmp_path)
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".prepare.lock"]
    bad.write_bytes(png(images(1)[0]))
    load(spec, tmp_path)
    left = only_set(tmp_path).with_name(f".{only_set(tmp_path).name}.0123")  # as a kill leaves it
    left.mkdir()
    (only_set_of := (tmp_path / "data" / left.name[1:33]) / "manifest.json").unlink()
    load(spec, tmp_path)
    assert not left.exists() and only_set_of.exists()


SCRIPT = """
import sys
from pathlib import Path
from rem_study.data import load_dataset
from rem_study.data.place import prepared_under
from rem_study.spec import DataSpec
print("ready", flush=True)
sys.stdin.readline()
with prepared_under(Path(sys.argv[2])):
    print(load_dataset(DataSpec(name="folder", root=sys.argv[1])).fingerprint)
"""


def test_two_processes_that_ask_at_once_prepare_it_once(tmp_path):
    spec = own_folder(tmp_path)
    command = [sys.executable, "-c", SCRIPT, str(spec.root), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    with open(tmp_path / "held", "w"):
        (tmp_path / "data").mkdir()
        with open(tmp_path / "data" / ".prepare.lock", "w") as lock:  # neither begins before the other
            fcntl.flock(lock, fcntl.LOCK_EX)
            for process in both:
                process.stdin.write("\n")
                process.stdin.flush()
            for process in both:
                assert "waiting: another process prepares images" in process.stderr.readline()
    outcomes = [process.communicate() for process in both]
    assert outcomes[0][0] == outcomes[1][0] == f"{load(spec, None).fingerprint}\n", outcomes
    assert only_set(tmp_path)


def test_on_a_share_without_locks_two_do_not_harm_each_other(tmp_path, monkeypatch):
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(prepare.fcntl, "flock", no_locks)
    spec = own_folder(tmp_path)
    expected = load(spec, None)
    place, found = tmp_path / "data" / "k", []
    begin = threading.Barrier(3)

    def ask() -> None:
        begin.wait()
        found.append(prepare.obtain(spec, place, lambda: folder.list_folder(Path(spec.root or ""), spec)))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [known.fingerprint for _, known in found] == [expected.fingerprint] * 3
    assert all(torch.equal(images.train_images, expected.train_images) for images, _ in found)
    assert only_set(tmp_path) == place


@pytest.mark.parametrize("root", [None, "prepared"])
@pytest.mark.parametrize("colour_at", [0, TRAIN // 2, TRAIN - 1])
def test_grey_images_become_coloured_where_one_has_colours_wherever_it_stands(tmp_path, colour_at, root):
    spec = own_folder(tmp_path)
    files = sorted(Path(spec.root or "").glob("train/*/*.png"))
    pixels = {}
    for number, file in enumerate(files):
        image = images(1, number)[0]
        pixels[file] = image if number == colour_at else np.broadcast_to(image[..., :1], image.shape)
        file.write_bytes(png(image if number == colour_at else image[..., 0]))
    data = load(spec, None if root is None else tmp_path / root)
    expected = np.stack([pixels[file].transpose(2, 0, 1) for file in files])
    assert torch.equal(data.train_images, torch.from_numpy(expected.copy()))


def test_few_images_are_in_memory_at_a_time_and_they_come_in_order():
    asked = 0

    def jobs():
        nonlocal asked
        for number in range(500):
            asked += 1
            yield lambda number=number: Some(np.full((1, 1, 1, 1), number % 256, np.uint8), "")

    threads = torch.get_num_threads()
    for number, some in enumerate(gather.in_order(jobs())):
        assert some.images.item() == number % 256
        assert asked - number <= gather.cores() + 4
    assert asked == 500 and torch.get_num_threads() == threads


def test_a_set_that_is_not_square_or_has_no_test_part_may_be_healed_but_not_studied(tmp_path):
    root = write_folder(tmp_path / "own", ("train",))
    load(OwnDataSpec(name="folder", root=root), tmp_path)
    with pytest.raises(InputError, match="test"):
        load(DataSpec(name="folder", root=root), tmp_path)


def test_sets_lie_under_a_local_root_and_in_a_cache_of_each_machine_for_an_object_store(tmp_path, monkeypatch):
    monkeypatch.delenv(place.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert folder_of(tmp_path / "runs") == tmp_path / "runs" / "data"
    assert folder_of(open_folder("memory://bucket/runs")) == tmp_path / "cache" / "rem-study" / "data"
    monkeypatch.setenv(place.VARIABLE, str(tmp_path / "ssd"))
    assert folder_of(tmp_path / "runs") == tmp_path / "ssd"


def test_a_survey_decodes_a_sample_and_writes_nothing(tmp_path, monkeypatch):
    root = tmp_path / "own"
    for part, count in (("train", 6 * SAMPLE), ("test", 2 * SAMPLE)):
        for number in range(count):
            (root / part / f"class{number % 3}").mkdir(parents=True, exist_ok=True)
            (root / part / f"class{number % 3}" / f"{number:04}.png").write_bytes(png(images(1)[0]))
    spec = DataSpec(name="folder", root=str(root), image_size=12)
    done = 0

    def counted(encoded, spec):
        nonlocal done
        made = decode(encoded, spec)
        done += len(made.images)
        return made

    decode = folder.decoded
    monkeypatch.setattr(folder, "decoded", counted)
    with prepared_under(tmp_path / "runs"):
        found = survey(spec)
        assert found is not None and found.stand_in is not None
        assert found.sampled == done <= 4 * SAMPLE and found.seconds > 0
        assert found.bytes == 8 * SAMPLE * 3 * 12 * 12
        assert not (tmp_path / "runs").exists()
        data = load_dataset(spec)
        for name in ("train_labels", "test_labels"):
            assert torch.equal(getattr(found.stand_in, name), getattr(data, name))
        assert found.stand_in.train_images.shape == data.train_images.shape
        assert found.stand_in.train_files == data.train_files
        again = survey(spec)
        assert again is not None and again.stand_in is None and again.folder == only_set(tmp_path / "runs")
    with prepared_under(None):
        assert survey(spec) is None


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_npz_images_are_read_a_few_at_a_time(tmp_path, kind):
    spec = DataSpec(name="npz", root=write_npz(tmp_path / "own", kind))
    data = load(spec, tmp_path)
    assert torch.equal(data.train_images, torch.from_numpy(images(TRAIN).transpose(0, 3, 1, 2).copy()))
    listing = prepare_listing(spec)
    assert [len(job().images) for job in listing.train.jobs()] == [AT_ONCE, AT_ONCE, TRAIN - 2 * AT_ONCE]


def prepare_listing(spec: DataSpec) -> Any:
    from rem_study.data.sources import SOURCES, Files

    read = SOURCES[spec.name].read
    assert isinstance(read, Files)
    return read.list(spec)


def test_an_images_ending_is_what_torchvision_takes_for_one():
    from torchvision.datasets.folder import IMG_EXTENSIONS

    assert folder.IMAGE_ENDINGS == IMG_EXTENSIONS
