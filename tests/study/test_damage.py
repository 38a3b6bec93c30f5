"""A flipped byte in what a study keeps: noticed, named, and made again from the log or by training."""

import random
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from doubles.cheap import RECORDS, Cheap, assert_each_replicate_once, assert_equal_tables, drive, records, study_file

from rem_study.cli import main
from rem_study.storage.folder import CHECKSUMS
from rem_study.storage.log import read_log, segments
from rem_study.study.launch import launch
from rem_study.trial.originals import Original, OriginalStore

FLIPS = 40


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def test_any_flipped_bit_of_a_stored_original_is_noticed(tmp_path):
    import torch

    store = OriginalStore(tmp_path)
    store.save("key", Original({"weights": torch.arange(64.0)}, {"regularity": 0.25}))
    rng = random.Random(1)
    for path in (tmp_path / "key.pt", tmp_path / "key.json"):
        for _ in range(FLIPS):
            position, bit = rng.randrange(path.stat().st_size), rng.randrange(8)
            flip(path, position, bit)
            assert not store.has("key") and store.load("key") is None, (path.name, position, bit)
            flip(path, position, bit)
            assert store.load("key") is not None


@pytest.fixture(scope="module")
def undisturbed(local_ray, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    return launch(study_file(root), root, worker=Cheap).folder


@pytest.fixture
def copied(undisturbed, tmp_path) -> Path:
    """A finished study, with its originals, to be damaged."""
    shutil.copytree(undisturbed.parent, tmp_path / "root")
    return tmp_path / "root" / "cheap"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trials.parquet", "cells.parquet", "best.yaml"])
def test_a_damaged_table_is_named_and_written_again_from_the_log(undisturbed, copied, name):
    run, path = CliRunner().invoke, copied / name
    whole = path.read_bytes()
    rng = random.Random(name)
    commands = [["report"]] if name == "trials.parquet" else [["export", "--format", "csv"], ["report"]]
    if name == "best.yaml":
        commands = [["export"], ["export", "--format", "json"]]
    for position in sorted(rng.sample(range(len(whole)), 10)):
        flip(path, position)
        for command, *options in commands:
            done = run(main, [command, str(copied), *options])
            assert done.exit_code == 2, (position, done.output)
            assert done.output.splitlines() == [
                f"error: {path}: damaged (its checksum is not that in {CHECKSUMS}); "
                f"`rem-study sync {copied}` writes it again from the log"
            ]
        path.write_bytes(whole)
    flip(path, len(whole) // 2)
    assert run(main, ["sync", str(copied)]).exit_code == 0
    assert path.read_bytes() == whole
    assert_equal_tables(undisturbed, copied)


@pytest.mark.slow
def test_a_damaged_table_is_also_written_again_by_launching_again(undisturbed, copied):
    flip(copied / "trials.parquet", 500)
    assert launch(copied / "study.yaml", copied.parent, worker=Cheap).done
    assert_equal_tables(undisturbed, copied)


@pytest.mark.slow
@pytest.mark.parametrize("line", [1, 3, 9, 40, RECORDS])
def test_a_damaged_record_is_named_and_runs_again(undisturbed, copied, line, capfd):
    (segment,) = segments(copied / "log")
    content = segment.read_bytes()
    starts = [0, *(place + 1 for place, byte in enumerate(content) if byte == ord("\n"))]
    flip(segment, starts[line - 1] + 30)
    damaged = segment.read_bytes()
    assert launch(copied / "study.yaml", copied.parent, worker=Cheap).done
    assert f"warning: {segment}: line {line} is damaged and is ignored" in capfd.readouterr().err
    assert segment.read_bytes() == damaged, "what is in the log stays as it is"
    kinds = [record["kind"] for record in read_log(copied / "log")[0]]
    originals = kinds.count("original")
    assert (kinds.count("basis"), kinds.count("replicate")) == (1, 64)
    assert originals in (3, 4)  # one whose record is lost is stored all the same, and is not trained again
    assert_each_replicate_once(copied)
    assert_equal_tables(undisturbed, copied)


@pytest.mark.slow
def test_a_damaged_original_is_named_and_trained_again(undisturbed, copied, caplog):
    originals = sorted((copied.parent / "originals").glob("*.pt"))
    before = [path.read_bytes() for path in originals]
    flip(originals[0], 40_000)
    for path in (copied / "log").iterdir():
        path.unlink()
    outcome = launch(copied / "study.yaml", copied.parent, worker=Cheap)
    assert outcome.done
    assert f"original {originals[0].stem} in {copied.parent / 'originals'} cannot be used" in caplog.text
    assert [path.read_bytes() for path in originals] == before
    assert sum(record["kind"] == "original" for record in read_log(copied / "log")[0]) == 1
    assert_equal_tables(undisturbed, copied)


@pytest.mark.slow
def test_what_the_folder_of_another_study_or_of_other_code_holds_is_named_not_mixed(copied, tmp_path):
    before = records(copied)
    other = study_file(tmp_path, budget={"trials": 3, "replicates": 2, "in_flight": 2}, seed=1)
    process = drive(other, copied.parent)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 2
    assert errors.splitlines() == [
        f"error: {other}: {copied} holds another study; it differs in budget.trials (4 there, 3 here), "
        "seed (0 there, 1 here); a study that has run may get more trials, replicates, sample_passes, race and "
        "confirm, and further methods, corruptions and discovery_rates; for this choose another --name, or remove "
        "the folder"
    ]
    (segment,) = segments(copied / "log")
    lines = segment.read_bytes().split(b"\n")
    import json
    import zlib

    head, lines = lines[0], lines[1:]  # the study's id, then the basis
    basis = json.loads(lines[0][9:])
    basis["content"]["code (rem_study)"] = "of another version"
    content = json.dumps(basis, sort_keys=True, separators=(",", ":")).encode()
    segment.write_bytes(b"\n".join([head, b"%08x %s" % (zlib.crc32(content), content), *lines[1:]]))
    process = drive(study_file(tmp_path), copied.parent)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 2
    assert errors.splitlines() == [
        f"error: {copied}: its trials stand on other code (rem_study) than is there now; choose another --name"
    ]
    assert records(copied) == before
