"""`rem-study init`: what it writes is checked as it is, used by editors, and never written over anything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from rem_study.cli import main
from rem_study.spec.resolve import load_study
from rem_study.spec.shipped import shipped_folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def images(path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = {f"{part}_images": rng.integers(0, 255, (400, 20, 20, 3), dtype=np.uint8) for part in ("train", "test")}
    np.savez(path, **parts, train_labels=np.arange(400) % 4, test_labels=np.arange(400) % 4)


@pytest.mark.parametrize("kind", ["quickstart", "own-data", "paper"])
def test_what_it_writes_passes_check_as_it_is(kind: str, place: Path) -> None:
    written = CliRunner().invoke(main, ["init", kind])
    assert written.exit_code == 0, written.output
    assert f"written: {kind}.yaml" in written.output and f"rem-study check {kind}.yaml" in written.output
    text = (place / f"{kind}.yaml").read_text()
    first = text.splitlines()[0]
    schema = place / first.removeprefix("# yaml-language-server: $schema=")
    assert not list(Draft202012Validator(json.loads(schema.read_text())).iter_errors(yaml.safe_load(text)))
    checked = CliRunner().invoke(main, ["check", f"{kind}.yaml"])
    assert checked.exit_code == 0, checked.output
    assert checked.output.startswith(f"{kind}: ")
    assert ("was not checked" in checked.output) == (kind != "quickstart")


@pytest.mark.parametrize(("kind", "study"), [("quickstart", "quickstart"), ("paper", "paper-cifar10-ours")])
def test_it_says_what_the_shipped_study_says(kind: str, study: str, place: Path) -> None:
    CliRunner().invoke(main, ["init", kind, "-o", f"{study}.yaml"])
    assert load_study(place / f"{study}.yaml") == load_study(shipped_folder("studies") / f"{study}.yaml")


def test_every_section_is_explained(place: Path) -> None:
    CliRunner().invoke(main, ["init", "own-data"])
    lines = (place / "own-data.yaml").read_text().splitlines()
    sections = [number for number, line in enumerate(lines) if line[:1].isalpha()]
    assert len(sections) > 10
    assert all(lines[number - 1].startswith("# ") for number in sections)


def test_own_images_are_named_and_their_kind_is_seen(place: Path) -> None:
    images(place / "mine.npz")
    written = CliRunner().invoke(main, ["init", "own-data", "--data", "mine.npz", "-o", "mine.yaml"])
    assert written.exit_code == 0, written.output
    study = load_study(place / "mine.yaml").spec
    assert (study.name, study.data.name, study.data.root) == ("mine", "npz", str(place / "mine.npz"))
    checked = CliRunner().invoke(main, ["check", "mine.yaml"])
    assert checked.exit_code == 0 and "was not checked" not in checked.output, checked.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["own-data", "--data", "nowhere"], "--data: nowhere: no such file or folder"),
        (["own-data", "--data", "notes.txt"], "--data: notes.txt: is neither"),
        (["paper", "--data", "notes.txt"], "--data: is for own-data"),
        (["-o", "notes.txt"], "notes.txt: is there already"),
        (["-o", "no/where.yaml"], "no/where.yaml: cannot be written"),
    ],
)
def test_what_it_cannot_do_is_one_line(words: list[str], told: str, place: Path) -> None:
    (place / "notes.txt").write_text("mine")
    done = CliRunner().invoke(main, ["init", *words])
    assert done.exit_code == 2 and done.output.startswith(f"error: {told}") and done.output.count("\n") == 1
    assert [path.name for path in place.iterdir()] == ["notes.txt"] and (place / "notes.txt").read_text() == "mine"


def test_a_schema_that_is_there_is_left(place: Path) -> None:
    (place / "rem-study.schema.json").write_text("{}")
    assert CliRunner().invoke(main, ["init"]).exit_code == 0
    assert (place / "rem-study.schema.json").read_text() == "{}"
