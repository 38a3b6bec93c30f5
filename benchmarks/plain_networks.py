"""Networks that plain PyTorch trained on corrupted photographs, as tests/doubles/corrupted.py has of digits: none of
rem_study's code but the architecture and what reads the images."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import ROOT

from rem_study.data import load_dataset
from rem_study.models.resnet9 import ResNet9
from rem_study.spec.resolve import load_study

sys.path.insert(0, str(ROOT / "tests"))

from doubles.corrupted import Corrupted, as_trained, corrupt

_BATCH = 128
_SHIFT = 2


@dataclass(frozen=True)
class Photographs:
    """What to train on, as a study file has it, and how: SGD in bfloat16, the rate rising to `lr` and falling to 0.

    Attributes:
        epochs, lr: of training. corrupted: how many images. test: how many are held out.
    """

    study: str
    width: float
    epochs: int
    lr: float
    corrupted: int
    test: int
    augment: bool


PHOTOGRAPHS = {
    "cifar10": Photographs("proxy-cifar10", 0.25, 60, 0.1, corrupted=200, test=2000, augment=True),
    "fashion_mnist": Photographs("proxy-fashion", 0.25, 12, 0.05, corrupted=300, test=4000, augment=False),
}
"""10,000 images of 16 x 16 each."""


@functools.lru_cache(maxsize=1)
def corrupted_photographs(name: str, root: Path, corruption: str, seed: int) -> Corrupted:
    """Of PHOTOGRAPHS, the files being in `root` as torchvision lays them out. Raises InputError."""
    of = PHOTOGRAPHS[name]
    sizes = ("data.train_samples=10000", f"data.test_samples={of.test}")
    changes = (f"data.root={root}", "data.download=false", *sizes)
    dataset = load_dataset(load_study(ROOT / "studies" / f"{of.study}.yaml", changes).spec.data)
    train, test = (_last_channel(one.numpy()) for one in (dataset.train_images, dataset.test_images))
    clean = dataset.train_labels.numpy()
    seen, given, wrong = corrupt(train, clean, corruption, of.corrupted, np.random.default_rng(seed))
    files = {
        "train_images": seen,
        "train_labels": given,
        "test_images": test,
        "test_labels": dataset.test_labels.numpy(),
    }
    return Corrupted(_trained(of, seen, given, seed), files, wrong, clean, of.width)


def trained_alike(name: str, network: Corrupted, ids: np.ndarray, seed: int) -> ResNet9:
    """A network trained as `network` was, of PHOTOGRAPHS, on these of its samples (n,) alone; in evaluation mode."""
    files = network.files
    return network.network(_trained(PHOTOGRAPHS[name], files["train_images"][ids], files["train_labels"][ids], seed))


def _last_channel(images: np.ndarray) -> np.ndarray:
    """uint8 (N, C, H, W) as an .npz file has them: (N, H, W) or (N, H, W, C)."""
    return images[:, 0].copy() if images.shape[1] == 1 else images.transpose(0, 2, 3, 1).copy()


def _trained(of: Photographs, images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    inputs, targets = as_trained(images), torch.from_numpy(labels)
    network = ResNet9(inputs.shape[1], 10, of.width).train()
    optimizer = torch.optim.SGD(network.parameters(), of.lr, momentum=0.9, weight_decay=5e-4)
    whole = len(inputs) // _BATCH * _BATCH
    steps = of.epochs * (whole // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, of.lr, total_steps=steps + 1, pct_start=0.15)
    rng = torch.Generator().manual_seed(seed)
    for _ in range(of.epochs):
        for ids in torch.randperm(len(inputs), generator=rng)[:whole].split(_BATCH):
            batch = _moved(inputs[ids], rng) if of.augment else inputs[ids]
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(network(batch).float(), targets[ids])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.state_dict()


def _moved(batch: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Half of the images flipped, and all shifted alike, by up to _SHIFT pixels."""
    height, width = batch.shape[2:]
    flipped = torch.rand(len(batch), generator=rng) < 0.5
    batch = torch.where(flipped[:, None, None, None], batch.flip(3), batch)
    padded = F.pad(batch, (_SHIFT,) * 4, mode="reflect")
    left, top = torch.randint(0, 2 * _SHIFT + 1, (2,), generator=rng).tolist()
    return padded[:, :, top : top + height, left : left + width]
