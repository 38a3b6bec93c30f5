"""REM's cost and quality against a plain reading of the released algorithm, paired over cells and replicates.

The reference (facts: the author's public code, described in the paper's appendix) doubles the network and spends, on
every batch, a pass through theta 1 and a masked pass, both at full width and with gradients, and a forward pass of
the reference network. Everything else is set as in rem-study's default configuration, so that cost is what differs.

    python benchmarks/rem_cost.py [--replicates 3]
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections import defaultdict
from functools import partial
from typing import Any

import torch
from common import ROOT, machine, originals, seconds_of
from torch import Tensor, nn
from torch.nn import functional as F

from rem_study.data.corruption import Batch
from rem_study.models.masks import SHARED_ID
from rem_study.models.redirect import ExpandedNetwork
from rem_study.models.site import select_sites
from rem_study.spec.resolve import load_study
from rem_study.spec.space import load_space
from rem_study.training.evaluation import given_label_accuracy
from rem_study.training.loop import train_epoch
from rem_study.trial.trial import cells_of, evaluate, pose
from rem_study.unlearning.flush import flush
from rem_study.unlearning.objectives import npo_loss, redirect_loss, sample_cross_entropy
from rem_study.unlearning.run import unlearn
from rem_study.unlearning.task import UnlearningTask

FLOOR = 0.2


class Theta1(nn.Module):
    """The doubled network with its second half of the channels multiplied by zero: full cost."""

    def __init__(self, expanded: ExpandedNetwork):
        super().__init__()
        self.expanded = expanded

    def forward(self, x: Tensor) -> Tensor:
        return self.expanded(x, x.new_zeros(len(x), self.expanded.total_channels))


def released(task: UnlearningTask, settings: dict[str, Any]) -> nn.Module:
    """The reference: REM at its released cost, with `settings` of rem-study's search space."""
    data, beta = task.data, settings["beta"]
    sites = select_sites(task.network.sites(), "all")  # type: ignore[operator]
    expanded = ExpandedNetwork(task.network, sites, 1.0, "random", task.seed)
    theta1 = Theta1(expanded)
    masks = expanded.draw_masks(task.all_ids, settings["mask_density"], task.seed)
    masks[task.forget_ids] = expanded.draw_masks(torch.tensor([SHARED_ID]), settings["mask_density"], task.seed)
    known = torch.zeros(len(data), dtype=torch.bool)
    known[task.forget_ids] = True
    frozen = copy.deepcopy(expanded).eval().requires_grad_(False)
    optimizer = task.optimizer(expanded, settings["lr"])
    share = len(data) / len(task.forget_ids)

    def forgetting(batch: Batch) -> Tensor:
        return -F.cross_entropy(theta1(batch.images), batch.labels)

    def redirect_and_remove(batch: Batch) -> Tensor:
        with torch.no_grad():
            reference = sample_cross_entropy(frozen(batch.images, masks[batch.ids]), batch.labels)
        alone = sample_cross_entropy(theta1(batch.images), batch.labels)
        both = sample_cross_entropy(expanded(batch.images, masks[batch.ids]), batch.labels)
        removal = npo_loss(alone, reference, beta) * known[batch.ids]
        return redirect_loss(both, reference, beta).mean() + share * removal.mean()

    def score() -> float:
        keep = given_label_accuracy(theta1, data, task.retain_ids)
        return keep * (1 - max(given_label_accuracy(theta1, data, task.forget_ids), FLOOR))

    forget_batches = task.batches(task.forget_ids, settings["batch_size"], "forget")
    all_batches = task.batches(task.all_ids, settings["batch_size"], "all")
    best, state = score(), copy.deepcopy(expanded.state_dict())
    for _ in range(settings["epochs"]):
        flush(task, theta1, forget_batches, forgetting, optimizer, settings["stop_accuracy"], settings["flush_limit"])
        theta1.train()
        train_epoch(all_batches, redirect_and_remove, optimizer, max_grad_norm=settings["max_grad_norm"])
        if (now := score()) > best:
            best, state = now, copy.deepcopy(expanded.state_dict())
    expanded.load_state_dict(state)
    return theta1


def heal(task: UnlearningTask, settings: dict[str, Any] | None) -> nn.Module:
    """The healed network; None for the reference."""
    if settings is None:
        return released(task, load_space("rem").defaults)
    return unlearn("rem", task, settings).network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    spec = load_study(ROOT / "studies" / "digits-all-methods.yaml").spec
    store, defaults = originals(), load_space("rem").defaults
    variants = {"as released": None, "width 1.0": defaults | {"redirect_width": 1.0}, "default": defaults}
    seconds: dict[str, list[float]] = defaultdict(list)
    scores: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells_of(spec):
        for replicate in range(arguments.replicates):
            for name, settings in variants.items():
                posed = pose(spec, cell, replicate, store)
                taken, healed = seconds_of(partial(heal, posed.task, settings))
                seconds[name].append(taken)
                scores[name].append(evaluate(healed, spec, cell, posed.setting, posed.corruption))
        print(f"{cell.name}: " + ", ".join(f"{name} {seconds[name][-1]:.1f} s" for name in variants), flush=True)
    print(machine())
    for name in variants:
        ratio = sum(seconds[name]) / sum(seconds["as released"])
        line = f"{name:12} {statistics.mean(seconds[name]):6.2f} s a run, {ratio:.2f} of the released cost"
        for column in ("utility_x_healed", "healed", "utility"):
            gains = [
                mine[column] - theirs[column] for mine, theirs in zip(scores[name], scores["as released"], strict=True)
            ]
            error = statistics.stdev(gains) / len(gains) ** 0.5
            line += f"; {column} {statistics.mean(row[column] for row in scores[name]):.3f}"
            line += f" (paired {statistics.mean(gains):+.3f} ± {error:.3f})"
        print(line)


if __name__ == "__main__":
    main()
