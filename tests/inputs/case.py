"""A person's input of one shape, and what becomes of it: what the cases of this folder are made of."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

from rem_study.cli import main

MODELS = """
import torch
from torch import nn
from torch.nn.utils import parametrizations

def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 10))

def colour():
    return nn.Sequential(nn.Flatten(), nn.Linear(432, 10))

class Base(nn.Module):
    def __init__(self, wrap=lambda layer: layer):
        super().__init__()
        self.first = wrap(nn.Conv2d(1, 4, 3))
        self.second = wrap(nn.Conv2d(4, 4, 3))
        self.head = nn.Linear(4, 10)
    def layers(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))
    def forward(self, x):
        return self.layers(x)

class Asserts(Base):
    def forward(self, x):
        assert x.shape[1] == 1
        return self.layers(x)

class Depends(Base):
    def forward(self, x):
        if x.mean() > 100:
            x = x / 255
        return self.layers(x)

class AssertsContent(Base):
    def forward(self, x):
        assert x.min() >= -100
        return self.layers(x)

class ByBatch(Base):
    def forward(self, x):
        if len(x) % 2:
            x = x + 0
        return self.layers(x)

class ByShape(Base):
    def forward(self, x):
        if x.size(2) < 16:
            x = torch.nn.functional.interpolate(x, scale_factor=2)
        for _ in range(x.shape[-1] // 20):
            x = torch.nn.functional.avg_pool2d(x, 2)
        return self.layers(x)

class Flag(Base):
    def forward(self, x, features=False):
        return x if features else self.layers(x)

class Loops(Base):
    def forward(self, x):
        return torch.stack([self.layers(one[None])[0] for one in x])

def weight_norm():
    return Base(parametrizations.weight_norm)

def old_weight_norm():
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Base(nn.utils.weight_norm)

def spectral_norm():
    return Base(parametrizations.spectral_norm)

def old_spectral_norm():
    return Base(nn.utils.spectral_norm)

def pruned():
    from torch.nn.utils import prune
    return Base(lambda layer: prune.random_unstructured(layer, "weight", 0.5))

def lazy():
    return nn.Sequential(
        nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.LazyConv2d(4, 3), nn.ReLU(), nn.Flatten(),
        nn.LazyLinear(10))

def lazy_of_another_shape():
    return nn.Sequential(nn.Linear(7, 4), nn.LazyLinear(10))

def one_layer():
    return nn.Sequential(nn.Flatten(), nn.Linear(144, 10))

def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

import collections

Given = collections.namedtuple("Given", "logits others")

class Outputs(Base):
    def forward(self, x):
        return Given(self.layers(x), x.mean((2, 3)))

class Auxiliary(Base):
    def forward(self, x):
        logits = self.layers(x)
        return Given(logits, logits * 2) if self.training else logits

class DeepSupervision(Base):
    def forward(self, x):
        logits = self.layers(x)
        return [logits, logits * 2] if self.training else logits

class WithFeatures(Base):
    def forward(self, x):
        return self.layers(x), x.mean((2, 3))

class Map(Base):
    def forward(self, x):
        return self.layers(x)[:, :, None, None]

class Probabilities(Base):
    def forward(self, x):
        return self.layers(x).softmax(1)

class LogProbabilities(Base):
    def forward(self, x):
        return self.layers(x).log_softmax(1)

class Faulty(Base):
    def forward(self, x):
        return {}["logits"]

class Diverged(Base):
    def forward(self, x):
        return self.layers(x) * float("nan")

def googlenet():
    import torchvision
    network = torchvision.models.googlenet(num_classes=10, init_weights=False)
    network.conv1.conv = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return network

def hugging_face():
    from transformers import ResNetConfig, ResNetForImageClassification
    return ResNetForImageClassification(ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=10))
"""
CORRUPTED = tuple(range(0, 80, 10))
"""The training samples whose labels are wrong."""


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        kind: the table that it belongs in.
        what: the input, as a person would call it.
        make: writes it into a folder and gives the options of `heal` that lead to it, and further ones under `options`.
        says: what the line that refuses it must hold; None: it is taken.
        notes: what its notes must hold.
        ids: which samples are taken as corrupted.
    """

    kind: str
    what: str
    make: Callable[[Path], dict[str, Any]]
    says: str | None = None
    notes: tuple[str, ...] = ()
    ids: tuple[int, ...] | None = None
    needs: str | None = None
    method: str = "finetune"
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.kind}: {self.what}"


def digits(count: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (count, 12, 12) and labels, wrong ones at CORRUPTED."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.zeros((count, 12, 12), np.uint8)
    images[:, 2:10, 2:10] = np.round(data.images[:count] * (255 / 16))
    labels = data.target[:count].astype(np.int64)
    labels[list(CORRUPTED)] = (labels[list(CORRUPTED)] + 1) % 10
    return images, labels


TRAIN = 120


def clean_labels() -> np.ndarray:
    from sklearn.datasets import load_digits

    return load_digits().target[:TRAIN].astype(np.int64)


def parts() -> dict[str, np.ndarray]:
    images, labels = digits()
    return {
        "train_images": images[:TRAIN],
        "train_labels": labels[:TRAIN],
        "test_images": images[TRAIN:],
        "test_labels": labels[TRAIN:],
    }


def encoded(image: np.ndarray, form: str = "PNG", mode: str | None = None) -> bytes:
    content = io.BytesIO()
    picture = Image.fromarray(image)
    (picture.convert(mode) if mode else picture).save(content, form)
    return content.getvalue()


def write_folder(root: Path, names: tuple[str, str] = ("train", "test")) -> Path:
    """The digits as PNG files, a folder a class; file names count through all classes."""
    arrays = parts()
    for name, part in zip(names, ("train", "test"), strict=True):
        for number, (image, label) in enumerate(zip(arrays[f"{part}_images"], arrays[f"{part}_labels"], strict=True)):
            folder = root / name / f"digit{label}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:04}.png").write_bytes(encoded(image))
    return root


def prepare(place: Path) -> None:
    """Writes data.npz, ids.csv, mymodels.py and model.pt: an input with which nothing is wrong."""
    np.savez(place / "data.npz", **parts())  # type: ignore[arg-type]
    (place / "ids.csv").write_text("id\n" + "".join(f"{number}\n" for number in CORRUPTED))
    (place / "mymodels.py").write_text(MODELS)
    torch.manual_seed(0)
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(144, 10)).state_dict(), place / "model.pt")
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(432, 10)).state_dict(), place / "colour.pt")


def heal(case: Case, place: Path) -> tuple[Result, dict[str, Any]]:
    """Runs `heal` on the case's input, in `place`, the working directory."""
    prepare(place)
    given = case.make(place)
    extra = given.pop("options", [])
    chosen = {"model": "mymodels:plain", "data": "data.npz", "ids": "ids.csv", "checkpoint": "model.pt"} | given
    checkpoint = str(chosen.pop("checkpoint"))
    options = [word for name, value in chosen.items() for word in (f"--{name}", str(value))]
    short = ["--set", f"epochs={3 if case.method == 'scrub' else 2}"]
    command = ["heal", checkpoint, *options, "--method", case.method, *short, "-o", "healed.pt", *extra]
    return CliRunner().invoke(main, command), chosen


def row(case: Case, result: Result, place: Path) -> str:
    """The case's line in docs/inputs.md."""
    lines = [re.sub(r"^(error|note|warning): ", "", line) for line in result.stderr.splitlines() if _TOLD.match(line)]
    told = "; ".join(lines).replace(f"{place}/", "").replace(str(place), ".").replace("|", "\\|")
    status = "taken" if result.exit_code == 0 else "refused"
    return f"| {case.what} | {status}{': ' if told else ''}{told} |"


_TOLD = re.compile(r"^(error|note): ")


def report(place: Path) -> dict[str, Any]:
    return dict(json.loads((place / "healed.report.json").read_text()))
