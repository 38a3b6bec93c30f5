"""Other lists of suspects than `heal`'s, for the networks of benchmarks/plain_networks.py; `heal`'s own is what
`benchmarks/user_cases.py --images` has as `average_precision` of `default`.

Scores, each also as the mean over the views of rem_study/heal/views.py (whether these suit is not asked):

- `as it is`: how far the network that was trained on everything doubts a label;
- cleanlab's self-confidence and normalised margin, from 5-fold cross-validation by networks trained alike;
- `without the corrupted`: the doubt of a network trained alike on all but the corrupted samples, which takes knowledge
  that nobody has.

Average precision / recall at precision 0.5 among the samples that are not known, by share known.

    python benchmarks/other_lists.py --images cifar10 --root DATA [--corruptions poison ...] [--rates .1 .3] [--seed 0]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import machine
from plain_networks import PHOTOGRAPHS, corrupted_photographs, trained_alike
from torch import Tensor, nn
from user_cases import CORRUPTIONS, Corrupted, as_trained

from rem_study.heal.views import AS_THEY_ARE, OFFERED, Views
from rem_study.unlearning.suspicion import average_precision, doubt, recall_at_precision

FOLDS = 5
PRECISION = 0.5
VIEWS = {"": AS_THEY_ARE, ", over the views": OFFERED[-1]}


@torch.no_grad()
def logits(network: nn.Module, images: Tensor, views: Views) -> Tensor:
    """Float32 (N, K), the mean over `views`."""
    return torch.cat([torch.stack([network(view(some)) for view in views]).mean(0) for some in images.split(500)])


def scores(name: str, network: Corrupted, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Each list's score (N,), the higher the likelier to be wrong."""
    from cleanlab.rank import get_label_quality_scores

    images, given = as_trained(network.files["train_images"]), torch.from_numpy(network.files["train_labels"])
    everything = np.arange(len(given))
    whole = network.network(network.state)
    uncorrupted = trained_alike(name, network, np.setdiff1d(everything, network.wrong), seed)
    order = np.random.default_rng([seed, FOLDS]).permutation(everything)  # not that by which samples were corrupted
    held_out = {told: torch.zeros(len(given), 10) for told in VIEWS}
    for number, fold in enumerate(np.array_split(order, FOLDS)):
        other = trained_alike(name, network, np.setdiff1d(everything, fold), 1000 + FOLDS * seed + number)
        for told, views in VIEWS.items():
            held_out[told][fold] = logits(other, images[fold], views)
    for told, views in VIEWS.items():
        yield f"as it is{told}", doubt(logits(whole, images, views), given)
        probabilities = held_out[told].double().softmax(1).numpy()
        for called, method in (("self-confidence", "self_confidence"), ("normalised margin", "normalized_margin")):
            quality = get_label_quality_scores(given.numpy(), probabilities, method=method)
            yield f"cleanlab, {called}{told}", -torch.from_numpy(quality)
        yield f"without the corrupted{told}", doubt(logits(uncorrupted, images, views), given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", choices=PHOTOGRAPHS, required=True)
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--corruptions", nargs="+", choices=CORRUPTIONS, default=CORRUPTIONS)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.3])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(machine(), flush=True)
    print(f"| corruption | list | {' | '.join(f'{rate:g} known' for rate in arguments.rates)} |")
    print("|---|---|" + "---|" * len(arguments.rates))
    for corruption in arguments.corruptions:
        network = corrupted_photographs(arguments.images, arguments.root, corruption, arguments.seed)
        places = torch.arange(len(network.clean))
        wrong = torch.isin(places, torch.from_numpy(network.wrong))
        for told, score in scores(arguments.images, network, arguments.seed):
            found = []
            for rate in arguments.rates:
                known = torch.from_numpy(network.wrong[: round(rate * len(network.wrong))])
                rest = ~torch.isin(places, known)
                precise = recall_at_precision(score[rest], wrong[rest], PRECISION)
                found.append(f"{average_precision(score[rest], wrong[rest]):.3f} / {precise:.2f}")
            print(f"| {corruption} | {told} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
