"""Networks that plain torch trained elsewhere, on corrupted digits, healed as their owners would."""

from __future__ import annotations

import copy
import functools
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from click.testing import CliRunner, Result
from doubles.corrupted import MOMENTS, as_trained, digits_files, train_plainly
from torch import nn

from rem_study import heal as healing
from rem_study.cli import main
from rem_study.data import Dataset
from rem_study.heal import normalised_by
from rem_study.models.resnet9 import ResNet9


@torch.no_grad()
def share_right(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    network.eval()
    predicted = torch.cat([network(part).argmax(1) for part in images.split(256)])
    return (predicted == labels).double().mean().item()


def plain_resnet18() -> nn.Module:
    network = torchvision.models.resnet18(num_classes=10)
    network.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return network


def plain_cnn() -> nn.Module:
    """As tutorials have it: dropout, and no batch norm."""
    convolutions = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)]
    linear = [nn.Linear(32 * 49, 128), nn.ReLU(), nn.Dropout(0.25), nn.Linear(128, 10)]
    return nn.Sequential(*convolutions, nn.Dropout(0.1), nn.Flatten(), *linear)


HUGGING_FACE = """
def resnet():
    from transformers import ResNetConfig, ResNetForImageClassification
    return ResNetForImageClassification(ResNetConfig(
        num_channels=1, embedding_size=16, hidden_sizes=[16, 32, 64], depths=[1, 1, 1], layer_type="basic",
        num_labels=10))
"""


class Logits(nn.Module):
    """One of Hugging Face's classifiers as plain torch trains it."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x).logits


def hugging_face() -> nn.Module:
    made: dict[str, Callable[[], nn.Module]] = {}
    exec(HUGGING_FACE, made)
    return Logits(made["resnet"]())


EXPORTED = Path(__file__).parents[2] / "docs" / "results"
ORIGINALS = {  # how each is built, its --model, epochs and learning rate at which it memorises, and a study's export
    "resnet9": (lambda: ResNet9(1, 10, 0.25), "{name: resnet9, width: 0.25}", 25, 0.1, "digits-best.yaml"),
    "resnet18": (plain_resnet18, "torchvision/resnet18", 40, 0.03, "digits-resnet18-best.yaml"),
    "hugging face": (hugging_face, "hfmodels:resnet", 40, 0.05, ""),
    "cnn": (plain_cnn, "", 30, 0.03, ""),
}


def heal(checkpoint: str, model: str, *options: str) -> Result:
    """`rem-study heal` of data.npz and ids.csv here, by one erasure."""
    given = ["--model", model, "--data", "data.npz", "--ids", "ids.csv", "--erasures", "1", *MOMENTS]
    return CliRunner().invoke(main, ["heal", checkpoint, *given, *options])


@dataclass(frozen=True)
class Elsewhere:
    """A network that plain torch trained on digits at 16 x 16, 60 of 1,437 corrupted, and the clean labels."""

    network: nn.Module
    files: dict[str, np.ndarray]
    ids: np.ndarray
    corrupted: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]

    def healed(self, network: nn.Module) -> float:
        return share_right(network, *self.corrupted)

    def tested(self, network: nn.Module) -> float:
        return share_right(network, *self.test)


@functools.lru_cache(maxsize=2)
def trained_elsewhere(name: str, corruption: str, seed: int) -> Elsewhere:
    files, ids, clean = digits_files(corruption, seed, size=16, train=1437, test=360, count=60)
    seen, given = files["train_images"], files["train_labels"]
    build, _, epochs, lr, _ = ORIGINALS[name]
    torch.manual_seed(seed)
    network = build()
    train_plainly(network, as_trained(seen), torch.from_numpy(given), epochs, lr)
    assert share_right(network, as_trained(seen[ids]), torch.from_numpy(given[ids])) >= 0.9  # memorised
    return Elsewhere(
        network=network,
        files=files,
        ids=ids,
        corrupted=(as_trained(seen[ids]), torch.from_numpy(clean[ids])),
        test=(as_trained(files["test_images"]), torch.from_numpy(files["test_labels"])),
    )


@pytest.mark.slow
@pytest.mark.parametrize("corruption", ["poison", "random_label"])
@pytest.mark.parametrize(
    ("name", "seed", "configuration"),
    [
        ("resnet9", 0, "exported"),
        ("resnet9", 0, "default"),
        ("resnet18", 0, "exported"),
        ("resnet18", 0, "default"),
        ("resnet18", 11, "exported"),
        ("resnet18", 12, "exported"),
        ("resnet18", 12, "default"),
    ],
)
def test_a_network_trained_elsewhere_is_healed(name, seed, configuration, corruption, tmp_path, monkeypatch):
    """Half of the corrupted samples are known. By what a study on other seeds exported, and by REM's default.

    A ResNet-18's trigger is healed so differently from one seed of `heal` to the next (docs/rem.md) that one says
    nothing: there the mean of three counts."""
    monkeypatch.chdir(tmp_path)
    given = trained_elsewhere(name, corruption, seed)
    _, model, _, _, best = ORIGINALS[name]
    network = copy.deepcopy(given.network)
    torch.save(network.state_dict(), "model.pt")
    np.savez("data.npz", **given.files)
    Path("ids.csv").write_text("id\n" + "\n".join(map(str, given.ids[:30])))
    case = ("--best", str(EXPORTED / best), "--corruption", corruption, "--discovery-rate", "0.5", "--tries", "3")
    chosen = case if configuration == "exported" else ()
    before, after = (given.healed(network), given.tested(network)), []
    for heal_seed in range(3 if (name, corruption) == ("resnet18", "poison") else 1):
        result = heal("model.pt", model, "--seed", str(heal_seed), "--force", *chosen)
        assert result.exit_code == 0, result.output
        network.load_state_dict(torch.load("model.healed.pt", weights_only=True))
        after.append((given.healed(network), given.tested(network)))
        print(f"{configuration} {name} {seed} {corruption}: healed {before[0]:.3f} -> {after[-1][0]:.3f},"
              f" test {before[1]:.3f} -> {after[-1][1]:.3f}")  # fmt: skip
        print(result.stdout)
    healed, tested = (statistics.fmean(values) for values in zip(*after, strict=True))
    assert healed >= before[0] + 0.4
    assert tested >= before[1] - 0.02


@pytest.mark.slow
@pytest.mark.parametrize("corruption", ["poison", "random_label"])
def test_a_network_of_hugging_face_is_healed_by_the_default(corruption, tmp_path, monkeypatch):
    """From what `save_pretrained` writes; half of the corrupted samples are known."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("hfmodels.py").write_text(HUGGING_FACE)
    given = trained_elsewhere("hugging face", corruption, 0)
    network = copy.deepcopy(given.network)
    network.network.save_pretrained("saved")
    np.savez("data.npz", **given.files)
    Path("ids.csv").write_text("id\n" + "\n".join(map(str, given.ids[:30])))
    result = heal("saved/model.safetensors", "hfmodels:resnet")
    assert result.exit_code == 0, result.output
    from safetensors.torch import load_file

    network.network.load_state_dict(load_file("saved/model.healed.safetensors"))
    print(f"{corruption}: healed {given.healed(given.network):.3f} -> {given.healed(network):.3f},"
          f" test {given.tested(given.network):.3f} -> {given.tested(network):.3f}")  # fmt: skip
    assert given.healed(network) >= given.healed(given.network) + 0.4
    assert given.tested(network) >= given.tested(given.network) - 0.02


def test_a_network_without_batch_norm_is_healed_by_the_default():
    """Half of the poisoned samples are known. Unbounded ascent wrecks this network: held-out accuracy 0.58."""
    given = trained_elsewhere("cnn", "poison", 0)
    images, labels, *tests = (torch.from_numpy(part) for part in given.files.values())
    dataset = Dataset("digits", images[:, None], labels, tests[0][:, None], tests[1], 10, None)
    network = healing.heal(given.network, normalised_by(dataset, [0.5], [0.5]), given.ids[:30].tolist()).network
    assert given.healed(network) >= 0.8
    assert given.tested(network) >= given.tested(given.network) - 0.02
