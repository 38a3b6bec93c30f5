"""The page and the figures of a healing, from a network that was healed a little."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from rem_study.cli import main
from rem_study.data import load_dataset
from rem_study.heal.effects import class_accuracies
from rem_study.spec.data import OwnDataSpec

MODEL = """
from torch import nn

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 24), nn.ReLU(), nn.Linear(24, 3))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three classes of even grey, 12 x 12, one of them with a name that HTML must not take for its own;
    four of the dark ones lie among the bright. The model is not trained."""
    names = ("<dark>", "grey", "bright")
    for part, count in (("train", 20), ("test", 6)):
        for label, name in enumerate(names):
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for number in range(count):
                wrong = part == "train" and label == 2 and number < 4
                pixels = torch.full((12, 12), 40 + 80 * (0 if wrong else label) + number, dtype=torch.uint8)
                pixels[number % 12, label] = 255
                Image.fromarray(pixels.numpy()).save(tmp_path / "data" / part / name / f"{number:02}.png")
    (tmp_path / "known.csv").write_text("file\n" + "".join(f"bright/{number:02}.png\n" for number in range(4)))
    (tmp_path / "pagemodels.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "pagemodels", raising=False)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 24), nn.ReLU(), nn.Linear(24, 3))
    torch.save(network.state_dict(), "model.pt")
    return tmp_path


def test_the_page_needs_nothing_but_itself_and_says_what_the_report_says(place):
    given = ["model.pt", "--model", "pagemodels:make", "--data", "data", "--ids", "known.csv"]
    result = CliRunner().invoke(main, ["heal", *given, "--set", "epochs=2", "--erasures", "1"])
    assert result.exit_code == 0, result.output
    html = Path("model.healed.report.html").read_text(encoding="utf-8")
    report = json.loads(Path("model.healed.report.json").read_text())
    assert not re.findall(r'(?:src|href)="(?!#)(?!data:)', html) and "<script" not in html and "@import" not in html
    assert "<dark>" not in html and "&lt;dark&gt;" in html
    for quality in ("retain_accuracy", "test_accuracy", "forget_accuracy"):
        assert f"{report[quality]['before']:.3f}" in html and f"{report[quality]['after']:.3f}" in html
    known = html.split("<h2>Known samples</h2>")[1].split("<h2>")[0]
    assert known.count("<img ") == 4 and "bright/00.png" in known
    listed = csv.DictReader(Path("model.healed.suspects.csv").read_text().splitlines())
    suspects = [row for row in listed if row["suspect"] == "yes"]
    assert html.split("<h2>Suspects</h2>")[1].split("<h2>")[0].count("<img ") == min(64, len(suspects))
    assert report["suspects"]["estimate"] == len(suspects)
    loss = report["retain_loss"]
    assert loss["samples"] == loss["suspects"] + loss["likely_damage"]
    for when in ("before", "after"):
        confusion = torch.tensor(report["confusion"][when])
        assert confusion.sum() == 18 and confusion.sum(1).tolist() == [6, 6, 6]
        assert report["test_accuracy"][when] == pytest.approx(confusion.diagonal().sum().item() / 18)
        assert report["class_accuracy"][when] == pytest.approx(class_accuracies(confusion))


def test_of_several_healed_networks_the_one_that_agrees_most_is_kept_and_report_and_page_say_so(place):
    given = ["model.pt", "--model", "pagemodels:make", "--data", "data", "--ids", "known.csv"]
    large = ["--set", "lr=0.05", "--set", "epochs=6", "--erasures", "3", "--rounds", "1"]
    result = CliRunner().invoke(main, ["heal", *given, *large])
    assert result.exit_code == 0, result.output
    report = json.loads(Path("model.healed.report.json").read_text())
    candidates = report["candidates"]
    assert [(one["round"], one["erasure"]) for one in candidates] == [(1, 1), (1, 2), (1, 3)]
    assert len({one["agreement"] for one in candidates}) > 1
    [kept] = (one for one in candidates if one["kept"])
    assert kept["agreement"] == max(one["agreement"] for one in candidates)
    said = f"kept of 3 healed networks: round 1, erasure {kept['erasure']}, which agrees most"
    assert said in result.stdout and said.capitalize() in Path("model.healed.report.html").read_text()
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 24), nn.ReLU(), nn.Linear(24, 3))
    network.load_state_dict(torch.load("model.healed.pt", weights_only=True))
    dataset = load_dataset(OwnDataSpec(name="folder", root="data"))
    test = torch.arange(len(dataset.test_labels))
    right = network(dataset.tested_images(test)).argmax(1) == dataset.test_labels
    assert right.double().mean().item() == pytest.approx(report["test_accuracy"]["after"])


def test_a_class_without_samples_has_no_accuracy():
    assert class_accuracies(torch.tensor([[3, 1], [0, 0]])) == [0.75, None]
