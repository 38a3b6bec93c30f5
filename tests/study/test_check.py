"""What `check` says of a user's own images, prepared or not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image

from rem_study.cli import main
from rem_study.data import folder, load_dataset
from rem_study.data.place import prepared_under
from rem_study.spec import load_study

SMOKE = Path(__file__).parents[2] / "studies" / "smoke.yaml"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two classes of 300 training and 30 test images of 20 pixels, to be resized to 16."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 600), ("test", 60)):
        for number in range(count):
            place = tmp_path / "own" / part / f"class{number % 2}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(place / f"{number:03}.png")
    document = yaml.safe_load(SMOKE.read_text())
    document["data"] = {"name": "folder", "root": str(tmp_path / "own"), "image_size": 16}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    return tmp_path / "study.yaml"


def check(study: Path, *words: str) -> str:
    result = CliRunner().invoke(main, ["check", str(study), "--root", str(study.parent / "runs"), *words])
    assert result.exit_code == 0, result.output
    return next(line for line in result.output.splitlines() if line.startswith("data "))


def test_check_says_what_preparing_will_take_and_where_prepared_images_are(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = study.parent / "runs"
    decoded: list[int] = []
    decode = folder.decoded

    def counted(encoded: Any, spec: Any) -> Any:
        some = decode(encoded, spec)
        decoded.append(len(some.images))
        return some

    monkeypatch.setattr(folder, "decoded", counted)
    assert re.fullmatch(
        r"data       600 \+ 60 images of 3 x 16 x 16, not prepared yet; the launch will: about \d+ s on \d+ cores, "
        rf"1 MB in {root}/data \(from (\d+) of them\)",
        check(study),
    )
    assert not root.exists() and sum(decoded) < 300
    with prepared_under(root):
        load_dataset(load_study(study).spec.data)
    decoded.clear()
    assert re.fullmatch(rf"data       prepared: {root}/data/[0-9a-f]{{32}}", check(study))
    assert not decoded
    assert "not prepared yet" in check(study, "--set", "data.image_size=20")


def test_what_the_labels_do_not_allow_is_refused_without_preparing(study: Path) -> None:
    words = [
        "check",
        str(study),
        "--root",
        str(study.parent / "runs"),
        "--set",
        "corruptions=[{name: poison, samples: 599}]",
    ]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and "corruptions.poison.samples: 599 asked for" in result.stderr
    broken = study.parent / "own" / "train" / "class0" / "000.png"
    broken.write_bytes(b"x")
    result = CliRunner().invoke(main, words[:4])
    assert result.exit_code == 2 and f"{study}: data.root: {broken}: cannot identify" in result.stderr
    assert not (study.parent / "runs").exists()


def test_learning_rates_of_sgd_under_adam_are_named_unless_the_study_gives_others(study: Path) -> None:
    def notes(*words: str) -> list[str]:
        result = CliRunner().invoke(main, ["check", str(study), *words])
        assert result.exit_code == 0, result.output
        return [line for line in result.output.splitlines() if "learning rates" in line]

    rem = ("--set", "methods={rem: {}, ssd: {}, npo: {ranges: {lr: {default: 1.0e-4}}}}")
    assert not notes(*rem)
    (note,) = notes(*rem, "--set", "original.optimizer=adam")
    assert note.startswith("note       rem: ") and "adam" in note
    others = ("--set", "methods={rem: {defaults: {lr: 0.001}}, ssd: {}}")
    assert not notes(*others, "--set", "original.optimizer=adam")
