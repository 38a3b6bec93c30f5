"""How near originals and methods come to the bare captured step of their network: one call on a GPU.

For each network: a bare training step (forward, cross-entropy, backward, SGD on resident random images), eager,
captured as one CUDA graph, and compiled and captured; then an original and the methods as a study runs them: the
images/s of further epochs, data path and all, and the seconds of a run beside its epochs (evaluation, flush, copies).
Images are those of passes with a backward pass, and a third of those without, which cost about a third. Shares are of
the fastest bare step. Compiling is not in the times; it is told beside them. Tells the paper's sweep projected from its
own network. Images are random: times do not depend on pixels.

    python benchmarks/gpu_step.py [--device cuda] [--compile none default graphs] [--networks full half quickstart ...]
    python benchmarks/gpu_step.py --device cpu --networks quickstart --methods npo --samples 512   # to see that it runs
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import machine, seconds_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_pre_hook

from rem_study.models.resnet9 import ResNet9
from rem_study.spec.resolve import resolve
from rem_study.spec.space import load_space
from rem_study.spec.study import StudySpec
from rem_study.training.compilation import compile_seconds
from rem_study.training.precision import computing_in
from rem_study.trial.originals import OriginalStore, Setting, train_original
from rem_study.trial.trial import Cell, cells_of, pose
from rem_study.unlearning.run import unlearn

STEPS = 40
EPOCHS, LONGER = 2, 3
"""Each run is timed over so many epochs, and over `LONGER` times as many: what is between them are steps alone."""
FIXED = {"flush_limit": 3, "stop_accuracy": 0.0}
"""Hyperparameters, where a method has them: a flush of the same length whatever an original has memorised."""


@dataclass(frozen=True)
class Network:
    """A network of one of the shipped studies, and how it is trained there."""

    width: float
    pixels: int
    channels: int
    batch: int
    precision: str
    original: str


NETWORKS = {
    "full": Network(1.0, 32, 3, 512, "bfloat16", "half_capacity"),  # the paper's
    "half": Network(0.5, 32, 3, 512, "bfloat16", "half_capacity"),
    "quickstart": Network(0.125, 12, 1, 128, "float32", "standard"),
    "fashion": Network(0.25, 16, 1, 128, "float32", "standard"),
}
SWEEP = {"originals": 9, "runs": 90}  # of the paper: 3 corruptions x 3 seeds; 3 x 10 cells x 3 seeds of each method
PAPER_EPOCHS = {"original": 41, "rem": 10, "scrub": 10, "retrain": 41}


def random_images(path: Path, samples: int, pixels: int, channels: int) -> None:
    """Write a data file (.npz) of noise: `samples` training images of `pixels` a side, and 512 test images."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for part, count in (("train", samples), ("test", 512)):
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, pixels, pixels, channels)).astype(np.uint8)
        arrays[f"{part}_labels"] = rng.integers(0, 10, count)
    np.savez(path, **arrays)


def study_of(network: Network, samples: int, folder: Path, compile_mode: str, device: str) -> StudySpec:
    """A study of `network` on random images."""
    path = folder / f"{network.width}-{network.pixels}.npz"
    random_images(path, samples, network.pixels, network.channels)
    return resolve(
        {
            "name": "gpu-step",
            "protocol": "paper",
            "data": {"name": "npz", "root": str(path), "augment": network.pixels == 32},
            "model": {"name": "resnet9", "width": network.width},
            "original": {"kind": network.original, "epochs": EPOCHS, "batch_size": network.batch},
            "precision": network.precision,
            "corruptions": [{"name": "random_label", "samples": samples // 50}],
            "discovery_rates": [0.5],
            "methods": ["finetune"],
            "compile": compile_mode,
            "resources": {"gpus": int(device != "cpu")},
        },
        "gpu_step",
        folder,
    ).spec


@dataclass(frozen=True)
class Bare:
    """Images per second of a training step alone; None where nothing can be captured."""

    eager: float
    captured: float | None
    compiled_and_captured: float | None

    @property
    def best(self) -> float:
        """What the rest is compared with."""
        return max(rate for rate in (self.eager, self.captured, self.compiled_and_captured) if rate is not None)

    def __str__(self) -> str:
        if self.captured is None:
            return f"eager {self.eager:.0f}, nothing captured"
        return f"eager {self.eager:.0f}, captured {self.captured:.0f}, compiled too {self.compiled_and_captured:.0f}"


def bare(spec: StudySpec, setting: Setting, device: str) -> Bare:
    """The network's step on images that lie ready: forward, cross-entropy, backward, SGD."""
    dataset, batch = setting.dataset, spec.original.batch_size
    network = setting.fresh_network("benchmark").to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, 0.9, weight_decay=5e-4, fused=device != "cpu")
    images = torch.randn(batch, *dataset.train_images.shape[1:], device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, dataset.num_classes, (batch,), device=device)

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        with computing_in(spec.precision, torch.device(device)):
            return F.cross_entropy(network(images), labels)

    def step(loss_of: Callable[[Tensor, Tensor], Tensor]) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(images, labels).backward()
        optimizer.step()

    eager = rate(partial(step, loss_of), batch)
    if device == "cpu":
        return Bare(eager, None, None)
    statically = torch.compile(loss_of, fullgraph=True, dynamic=False)
    return Bare(eager, rate(capture(partial(step, loss_of)), batch), rate(capture(partial(step, statically)), batch))


def capture(step: Callable[[], None]) -> Callable[[], None]:
    """`step` as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def rate(step: Callable[[], None], images: int) -> float:
    """Images per second of `step`, which takes `images` of them: the best of three."""

    def some() -> None:
        for _ in range(steps):
            step()

    steps = 3
    some()
    steps = STEPS if torch.cuda.is_available() else 3
    return steps * images / min(seconds_of(some)[0] for _ in range(3))


def images_of(run: Callable[[], object]) -> float:
    """The images that `run` takes through whole networks, a third of those without a backward pass."""
    images = 0.0

    def count(module: nn.Module, inputs: tuple[object, ...]) -> None:
        nonlocal images
        if isinstance(module, ResNet9) and isinstance(inputs[0], torch.Tensor):
            moved = torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters())
            images += len(inputs[0]) if moved else len(inputs[0]) / 3

    hook = register_module_forward_pre_hook(count)
    try:
        run()
    finally:
        hook.remove()
    return images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--methods", nargs="+", default=["rem", "npo", "scrub", "retrain"])
    parser.add_argument("--compile", nargs="+", default=["none", "graphs"], choices=["none", "default", "graphs"])
    parser.add_argument("--samples", type=int, default=10_240)
    parser.add_argument("--deadline", type=float, default=220.0, help="seconds after which nothing new is begun")
    arguments = parser.parse_args()
    device, began = arguments.device, time.monotonic()
    modes = [mode for mode in arguments.compile if device != "cpu" or mode != "graphs"]
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.networks:
            network, known = NETWORKS[name], None
            for mode in modes:
                if time.monotonic() - began > arguments.deadline:
                    print(f"{name}, compile {mode}: left out, the time is spent")
                    continue
                spec = study_of(network, arguments.samples, Path(folder), mode, device)
                setting = Setting(spec, cells_of(spec)[0].corruption, 0, device)
                if known is None:
                    known = bare(spec, setting, device)
                    print(f"{name}: images/s of the bare step: {known}", flush=True)
                hours = show(spec, known.best, arguments.methods, device, OriginalStore(Path(folder) / "originals"))
                if name == "full":
                    print(f"  the paper's sweep of these methods and its originals: {hours:.2f} h", flush=True)


def show(spec: StudySpec, best: float, methods: list[str], device: str, store: OriginalStore) -> float:
    """The lines of one network under one `compile`; returns the hours of the paper's sweep of `methods`."""
    cell = cells_of(spec)[0]
    setting = Setting(spec, cell.corruption, 0, device)
    store.obtain(setting)  # for the methods
    print(f"  compile {spec.compile}:", flush=True)
    compiled_before, projected = compile_seconds(), 0.0
    for task in ("original", *methods):
        short, long = (partial(run_task, spec, cell, store, device, task, times) for times in (1, LONGER))
        plain = spec.model_copy(update={"compile": "none"})
        images = [images_of(partial(run_task, plain, cell, store, device, task, times)) for times in (1, LONGER)]
        short()  # compiles, where it is to
        seconds = [seconds_of(run)[0] for run in (short, long)]
        if images[1] > 1.5 * images[0]:  # by what it does, which noise in the times cannot change
            further = (seconds[1] - seconds[0]) / (LONGER - 1)  # of EPOCHS epochs
            speed = (images[1] - images[0]) / (seconds[1] - seconds[0])
            told = f"{speed:9.0f} images/s, {speed / best:.2f} of the bare step, and"
        else:
            further, told = 0.0, "ends by itself,"
        print(f"    {task:10} {told} {seconds[0] - further:.2f} s a run", flush=True)
        runs = SWEEP["originals" if task == "original" else "runs"]
        of_paper = seconds[0] - further + further * PAPER_EPOCHS.get(task, EPOCHS) / EPOCHS
        projected += runs * of_paper * 50_000 / len(setting.dataset.train_labels)
    if spec.compile != "none":
        print(f"    compiling took {compile_seconds() - compiled_before:.0f} s")
    return projected / 3600


def run_task(spec: StudySpec, cell: Cell, store: OriginalStore, device: str, task: str, times: int) -> None:
    """An original's training, or a method's run at default settings but for `FIXED`, over `times` as many epochs."""
    recipe = spec.original.model_copy(update={"epochs": EPOCHS * times})
    if task == "original":
        train_original(Setting(spec.model_copy(update={"original": recipe}), cell.corruption, 0, device))
        return
    chosen: dict[str, Any] = dict(load_space(task).defaults)
    batch = spec.original.batch_size
    fixed = FIXED | {"batch_size": batch, "remove_company": batch // 4, "epochs": EPOCHS * times, "passes": 10 * times}
    fixed = {name: value for name, value in fixed.items() if name in chosen}
    unlearn(task, replace(pose(spec, cell, 0, store, device).task, recipe=recipe), chosen | fixed)


if __name__ == "__main__":
    main()
