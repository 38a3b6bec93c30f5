"""A small network that plain torch trained on corrupted digits, as a user has it: files, and what nobody tells them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from rem_study.models.resnet9 import ResNet9

MODEL = "{name: resnet9, width: 0.125}"
MOMENTS = ("--mean", "0.5", "--std", "0.5")
TRAIN, TEST, CORRUPTED, CLASSES = 1200, 300, 48, (3, 5)


@dataclass(frozen=True)
class Corrupted:
    """`wrong`: ids of the corrupted samples; `clean`: the true labels of all training samples; `width`: of the
    ResNet-9."""

    state: dict[str, torch.Tensor]
    files: dict[str, np.ndarray]
    wrong: np.ndarray
    clean: np.ndarray
    width: float = 0.125

    @property
    def model(self) -> str:
        """As `--model` takes it."""
        return f"{{name: resnet9, width: {self.width}}}"

    def data(self, folder: Path) -> str:
        """As `--data` takes it, the files being in `folder`."""
        return str(folder / "data.npz")

    def network(self, state: dict[str, torch.Tensor]) -> ResNet9:
        """With these weights, in evaluation mode."""
        images = self.files["train_images"]
        built = ResNet9(1 if images.ndim == 3 else images.shape[3], 10, self.width)
        built.load_state_dict(state)
        return built.eval()

    def write(self, folder: Path, known: np.ndarray) -> tuple[str, ...]:
        """model.pt, data.npz and known.csv; the arguments of `heal` and `diagnose` that name them."""
        torch.save(self.state, folder / "model.pt")
        np.savez(folder / "data.npz", allow_pickle=False, **self.files)
        (folder / "known.csv").write_text("id\n" + "\n".join(map(str, known)))
        places = {"--data": "data.npz", "--ids": "known.csv"}
        named = [part for option, file in places.items() for part in (option, str(folder / file))]
        return (str(folder / "model.pt"), "--model", self.model, *named, *MOMENTS)


@functools.lru_cache(maxsize=4)
def corrupted_digits(corruption: str, seed: int = 0, count: int = CORRUPTED) -> Corrupted:
    """Digits at 12 x 12, TRAIN for training, `count` of them by `corruption` (`none`: nothing is wrong), and what
    learnt them."""
    files, wrong, clean = digits_files(corruption, seed, count=count)
    return Corrupted(_trained(files["train_images"], files["train_labels"], seed), files, wrong, clean)


def digits_files(
    corruption: str, seed: int, *, size: int = 12, train: int = TRAIN, test: int = TEST, count: int = CORRUPTED
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Digits as an .npz file has them, uint8 (N, size, size), the ids of what is corrupted, and the clean labels of
    all training samples. A size of 12 frames the 8 x 8 pixels, a multiple of 8 enlarges them."""
    from sklearn.datasets import load_digits

    data = load_digits()
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data.target))[: train + test]
    pixels = np.round(data.images[order] * (255 / 16)).astype(np.uint8)
    scale, frame = size // 8, size % 8 // 2
    images = np.pad(np.kron(pixels, np.ones((scale, scale), np.uint8)), ((0, 0), (frame, frame), (frame, frame)))
    labels = data.target[order].astype(np.int64)
    clean = labels[:train].copy()
    seen, given, wrong = corrupt(images[:train], clean, corruption, count, rng)
    files = {"train_images": seen, "train_labels": given, "test_images": images[train:], "test_labels": labels[train:]}
    return files, wrong, clean


def corrupt(
    images: np.ndarray, clean: np.ndarray, corruption: str, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, uint8 (N, H, W) or (N, H, W, C), and labels, int64 (N,), of which `count` are corrupted; and the ids of
    these. A trigger is a white square in the corner, of 3 pixels a side, or 3/16 of a larger image's."""
    seen, given = images.copy(), clean.copy()
    wrong = np.empty(0, np.int64)
    if corruption == "poison":
        side = max(3, images.shape[1] * 3 // 16)
        wrong = rng.permutation(np.flatnonzero(clean != 0))[:count]
        given[wrong], seen[wrong, -side:, -side:] = 0, 255
    elif corruption == "interclass_confusion":
        wrong = rng.permutation(np.flatnonzero(np.isin(clean, CLASSES)))[:count]
        given[wrong] = sum(CLASSES) - clean[wrong]
    elif corruption == "random_label":
        wrong = rng.permutation(len(clean))[:count]
        given[wrong] = (clean[wrong] + rng.integers(1, 10, count)) % 10
    elif corruption != "none":
        raise ValueError(corruption)
    return seen, given, wrong


def as_trained(images: np.ndarray) -> torch.Tensor:
    """float32 (N, C, H, W), normalised as MOMENTS say, from uint8 (N, H, W) or (N, H, W, C)."""
    pixels = torch.from_numpy(images).float()
    pixels = pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return (pixels / 255 - 0.5) / 0.5


def train_plainly(
    network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, epochs: int, lr: float, seed: int = 0
) -> None:
    """Plain torch: nothing of this project's training code, no augmentation, so that wrong labels are memorised."""
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=0.9)
    batch = 64
    whole = len(inputs) // batch * batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=epochs * (whole // batch) + 1, pct_start=0.1
    )
    rng = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(epochs):
        for ids in torch.randperm(len(inputs), generator=rng)[:whole].split(batch):
            optimizer.zero_grad()
            F.cross_entropy(network(inputs[ids]), labels[ids]).backward()
            optimizer.step()
            schedule.step()


def _trained(images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    network = ResNet9(1, 10, 0.125)
    train_plainly(network, as_trained(images), torch.from_numpy(labels), epochs=30, lr=0.1, seed=seed)
    return network.state_dict()
