"""How close originals and methods come to the bare step: their own network passes, replayed on resident random data.

A run is traced: which network saw how many images, with or without gradients, and when the optimiser stepped. The
same passes and steps are then made by a plain loop (cross-entropy, backward, step) on random tensors that are there
already. The ratio, bare over real, is what the data path, the losses, the evaluation and the bookkeeping leave.

    python benchmarks/step.py [--threads 1] [--methods rem,npo,...]
    python benchmarks/step.py --device cuda --study studies/paper-cifar10-resnet9.yaml [--set key.path=value ...]
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import ROOT, machine, originals, seconds_of
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from rem_study.data.corruption import CorruptedTrainingSet
from rem_study.models.erased import ErasedNetwork
from rem_study.models.redirect import ExpandedNetwork
from rem_study.models.resnet9 import ResNet9
from rem_study.spec.resolve import load_study
from rem_study.training.loop import BatchLoader, train_classifier
from rem_study.trial.originals import Setting
from rem_study.trial.trial import cells_of, pose
from rem_study.unlearning.run import unlearn

NETWORKS = (ResNet9, ExpandedNetwork, ErasedNetwork)


@dataclass
class Pass:
    """One forward pass of a whole network, and whether a backward pass follows it."""

    network: int
    images: int
    masks: int | None
    gradient: bool
    training: bool


@dataclass
class Trace:
    """What a run did: passes, and None for a step of the optimiser."""

    events: list[Pass | None] = field(default_factory=list)
    networks: list[nn.Module] = field(default_factory=list)
    keep: list[nn.Module] = field(default_factory=list)


@contextmanager
def traced() -> Iterator[Trace]:
    """Record the passes of whole networks, not those of the networks inside them."""
    trace, depth = Trace(), 0

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal depth
        if not isinstance(module, NETWORKS):
            return
        depth += 1
        if depth > 1:
            return
        known = [i for i, seen in enumerate(trace.keep) if seen is module]
        if not known:
            trace.keep.append(module)
            trace.networks.append(copy.deepcopy(module))
            known = [len(trace.keep) - 1]
        masks = inputs[1].shape[1] if len(inputs) > 1 and inputs[1] is not None else None
        gradient = torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters())
        trace.events.append(Pass(known[0], len(inputs[0]), masks, gradient, module.training))

    def after(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal depth
        depth -= isinstance(module, NETWORKS)

    hooks = [
        register_module_forward_pre_hook(before),
        register_module_forward_hook(after),
        register_optimizer_step_post_hook(lambda *_: trace.events.append(None)),
    ]
    try:
        yield trace
    finally:
        for hook in hooks:
            hook.remove()


def replay(trace: Trace, images: torch.Tensor, labels: torch.Tensor) -> None:
    """The passes and steps of `trace`, on the first of `images` and `labels`, and nothing else."""
    moved = {e.network for e in trace.events if e is not None and e.gradient}
    parameters = [p for i in sorted(moved) for p in trace.networks[i].parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, 1e-6, 0.9, weight_decay=5e-4)
    widths = {e.masks for e in trace.events if e is not None and e.masks is not None}
    masks = {width: torch.ones(len(images), width, device=images.device) for width in widths}
    losses: list[torch.Tensor] = []
    for event in trace.events:
        if event is None:
            optimizer.zero_grad(set_to_none=True)
            torch.stack(losses).sum().backward()
            optimizer.step()
            losses = []
            continue
        network = trace.networks[event.network]
        if network.training != event.training:
            network.train(event.training)
        n = event.images
        inputs = (images[:n],) if event.masks is None else (images[:n], masks[event.masks][:n])
        with torch.set_grad_enabled(event.gradient):
            logits = network(*inputs)
        if event.gradient:
            losses.append(F.cross_entropy(logits, labels[:n]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=ROOT / "studies" / "digits-all-methods.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="key.path=value")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--methods", default="finetune,npo,neggrad_plus,scrub,eu_k,rem")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    study, device, store = load_study(arguments.study, tuple(arguments.set)), arguments.device, originals()
    spec = study.spec
    cell = cells_of(spec)[1]
    setting = Setting(spec, cell.corruption, 0, device)
    shape = setting.dataset.train_images.shape
    print(machine())

    def prepare(name: str) -> Callable[[], object]:
        """What is timed: the training or the method, with its data and networks at hand."""
        if name != "original":
            task = replace(pose(spec, cell, 0, store, device).task, cell_cache={})  # nothing known from the run before
            return partial(unlearn, name, task, study.spaces[name].defaults)
        data = CorruptedTrainingSet(setting.dataset, setting.draw())
        batches = BatchLoader(data, torch.arange(len(data), device=device), spec.original.batch_size, torch.Generator())
        return partial(train_classifier, setting.fresh_network("benchmark"), batches, spec.original)

    for name in ["original", *arguments.methods.split(",")]:
        run = prepare(name)  # outside of the trace: it may have to train the original first
        with traced() as trace, setting.computing():
            run()
        if None not in trace.events:
            print(f"{name:14} made no step")
            continue
        sizes = [e.images for e in trace.events if e is not None]
        passed, largest = sum(sizes), max(sizes)
        images = torch.randn(largest, *shape[1:], device=device)
        labels = torch.randint(0, setting.dataset.num_classes, (largest,), device=device)
        times = []
        for _ in range(arguments.rounds):
            run = prepare(name)
            with setting.computing():
                times.append((seconds_of(run)[0], seconds_of(partial(replay, trace, images, labels))[0]))
        mine, bare = (statistics.median(each) for each in zip(*times, strict=True))
        ratio = statistics.median(b / m for m, b in times)
        print(f"{name:14} {passed / mine:8.0f} images/s, bare loop {passed / bare:8.0f}: {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
