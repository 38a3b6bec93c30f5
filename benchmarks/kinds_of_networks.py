"""REM's default on networks of several kinds, without batch norm most of them, with and without a bound on its ascent.

Each is trained by plain PyTorch on 1,200 digits of 32 x 32 pixels in three channels, 48 of them corrupted
(tests/doubles/corrupted.py), until it knows its wrong labels, and healed by `rem_study.heal.heal`, told the first 5 or
14 of them; one round, no diagnosis. Printed for each: utility x healed (share of all 48 that get their clean label
times accuracy on 300 held-out images) and held-out accuracy, means over the seeds.

    python benchmarks/kinds_of_networks.py [--kinds mlp ...] [--corruptions poison ...] [--rates .1 .3] [--seeds 3]
      [--shares 0.5 inf]

`shares`: of the weights' norm that an ascending gradient may have (`rem.ASCENT_SHARE`); inf: no bound.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable

import numpy as np
import torch
import torchvision
from common import ROOT, machine
from torch import nn

from rem_study.data import Dataset
from rem_study.heal import heal, normalised_by
from rem_study.unlearning.methods import rem

sys.path.insert(0, str(ROOT / "tests"))

from doubles.corrupted import CORRUPTED, as_trained, digits_files, train_plainly


def mlp() -> nn.Module:
    layers = [nn.Linear(3 * 32 * 32, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)]
    return nn.Sequential(nn.Flatten(), *layers)


def lenet() -> nn.Module:
    """LeNet-5: tanh, mean pooling."""
    convolutions = [nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)]
    linear = [nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)]
    return nn.Sequential(*convolutions, nn.Flatten(), *linear)


def cnn() -> nn.Module:
    """As tutorials have it: pairs of convolutions, ReLU, max pooling, dropout."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        pair = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv2d(outputs, outputs, 3), nn.ReLU()]
        return [*pair, nn.MaxPool2d(2), nn.Dropout(0.25)]

    linear = [nn.Linear(64 * 36, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 10)]
    return nn.Sequential(*block(3, 32), *block(32, 64), nn.Flatten(), *linear)


def mobilenet() -> nn.Module:
    """With batch norm: no bound applies."""
    return torchvision.models.mobilenet_v3_small(num_classes=10)


KINDS: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "mlp": (mlp, 60, 0.02),
    "lenet": (lenet, 80, 0.02),
    "cnn": (cnn, 60, 0.02),
    "mobilenet_v3_small": (mobilenet, 60, 0.05),
}
"""How each is built, and the epochs and the rate at which it is trained."""


def digits(corruption: str) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """The corrupted data, the ids of what is corrupted and the clean labels of all training samples."""
    files, wrong, clean = digits_files(corruption, seed=0, size=32)
    seen, given, tests, labels = (torch.from_numpy(part) for part in files.values())
    dataset = Dataset("digits", coloured(seen), given, coloured(tests), labels, num_classes=10, augmentation=None)
    return normalised_by(dataset, [0.5], [0.5]), wrong, clean


def coloured(images: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W), from (N, H, W)."""
    return images[:, None].expand(-1, 3, -1, -1).contiguous()


@torch.no_grad()
def share_right(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Of uint8 images (N, C, H, W)."""
    return (network.eval()(normal(images)).argmax(1) == labels).double().mean().item()


def normal(images: torch.Tensor) -> torch.Tensor:
    return as_trained(images.permute(0, 2, 3, 1).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--corruptions", nargs="+", default=["random_label", "poison"])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", type=float, nargs="+", default=[rem.ASCENT_SHARE, float("inf")])
    arguments = parser.parse_args()
    print(machine(), flush=True)
    for kind in arguments.kinds:
        build, epochs, lr = KINDS[kind]
        for corruption in arguments.corruptions:
            dataset, wrong, clean = digits(corruption)
            corrupted = dataset.train_images[wrong], torch.from_numpy(clean[wrong])
            tests = dataset.test_images, dataset.test_labels
            torch.manual_seed(0)
            network = build()
            train_plainly(network, normal(dataset.train_images), dataset.train_labels, epochs, lr)
            learnt = share_right(network, corrupted[0], dataset.train_labels[wrong])
            before = share_right(network, *tests)
            print(f"{kind}, {corruption}: {learnt:.2f} of the wrong labels learnt, held-out {before:.3f}", flush=True)
            for rate in arguments.rates:
                known = wrong[: round(rate * CORRUPTED)].tolist()
                for rem.ASCENT_SHARE in arguments.shares:
                    outcomes = []
                    for seed in range(arguments.seeds):
                        healed = heal(network, dataset, known, seed=seed).network
                        outcomes.append((share_right(healed, *corrupted), share_right(healed, *tests)))
                    products = statistics.fmean(healed * tested for healed, tested in outcomes)
                    tested = statistics.fmean(tested for _, tested in outcomes)
                    print(f"  {rate:g}, share {rem.ASCENT_SHARE:g}: {products:.3f}, held-out {tested:.3f}", flush=True)


if __name__ == "__main__":
    main()
