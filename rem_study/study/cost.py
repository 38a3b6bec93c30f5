"""What a study takes here, in minutes: its passes over the training set at the pace of a few steps of its network."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rem_study.data import Dataset
from rem_study.errors import InputError
from rem_study.shown import duration
from rem_study.spec import DataSpec, Study
from rem_study.trial import Setting

REM_FACTOR = 3.0
"""Passes that one of REM's epochs costs: its three steps make 2 to 4 (docs/benchmarks.md)."""
EVALUATION = 0.5
"""Passes that scoring a trial costs: training and test images once forward, a third of a pass each, rounded up."""
START = 20.0
"""Seconds for Ray, MLflow, tables and report."""
MEASURED = 0.5
"""Seconds of steps that are timed, and at least one step."""
PIXELS = 2**20
"""Of a batch whose steps are timed: one of large images takes longer than all else that is checked."""
KNOWN = {"digits": (16, 1437), "fashion_mnist": (28, 60_000), "cifar10": (32, 50_000), "svhn": (32, 73_257)}
"""Pixels a side and training images of data sets that need not be there. Their channels change the pace little."""


def passes(method: str, defaults: Mapping[str, Any], original_epochs: int) -> float:
    """Passes over the training set that one run of a method makes, scoring included, at these hyperparameters."""
    epochs = float(defaults.get("epochs", original_epochs if method == "retrain" else 0))
    return epochs * (REM_FACTOR if method == "rem" else 1.0) + EVALUATION


def told_cost(study: Study, epochs: float, data_there: bool, stand_in: Dataset | None = None) -> str:
    """`6 min here, 2 trial(s) at a time: an estimate, from ...`, or the passes alone where no pace can be known.

    Args:
        stand_in: for data that are there and have not been prepared.
    """
    counted = f"{epochs:.0f} passes over the training set at default epochs"
    resources = study.spec.resources
    if resources.gpus and not torch.cuda.is_available():
        return f"{counted}; how long that takes on a GPU cannot be told here, where there is none"
    known = _task(study, data_there, stand_in)
    if known is None:
        return f"{counted}; how long that takes cannot be told without the images"
    network, images, count = known
    pace = _images_a_second(network, images, resources.cpus)
    slots = resources.concurrent or max(1, (os.cpu_count() or 1) // resources.cpus)
    if resources.gpus:
        slots = min(slots, max(1, int(torch.cuda.device_count() / resources.gpus)))
    seconds = START + epochs * count / pace / slots
    return (
        f"{duration(seconds)} here, {slots} trial(s) at a time: an estimate, from {counted} "
        f"and the {pace:,.0f} images/s of a few steps just now"
    )


def _task(study: Study, data_there: bool, stand_in_data: Dataset | None) -> tuple[nn.Module, Tensor, int] | None:
    """The network, a batch as it gets them, and how many training images there are."""
    spec, data = study.spec, study.spec.data
    device = "cuda" if spec.resources.gpus else "cpu"
    if data_there:
        setting = Setting(spec, spec.corruptions[0], 0, loaded=stand_in_data)
        images = setting.dataset.train_images
        most = max(8, PIXELS // (images.shape[2] * images.shape[3]))
        batch = torch.rand((min(len(images), spec.original.batch_size, most), *images.shape[1:]), device=device)
        return setting.fresh_network("check").to(device), batch, len(images)
    if data.name not in KNOWN:
        return None
    size, count = KNOWN[data.name]
    side = data.image_size or size
    stand_in = DataSpec(image_size=side)
    setting = Setting(spec.model_copy(update={"data": stand_in}), spec.corruptions[0], 0, device)
    try:
        network = setting.fresh_network("check")
    except InputError:
        return None
    return network, torch.rand(spec.original.batch_size, 1, side, side, device=device), data.train_samples or count


def _images_a_second(network: nn.Module, images: Tensor, threads: int) -> float:
    """Images forward, backward and stepped a second: of the study's network, on as many threads as a trial has."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        labels = torch.zeros(len(images), dtype=torch.long, device=images.device)
        optimizer = torch.optim.SGD(network.train().parameters(), 1e-6)
        _step(network, images[:8], labels[:8], optimizer)  # what is set up once
        began, done = time.perf_counter(), 0
        while done == 0 or time.perf_counter() - began < MEASURED:
            _step(network, images, labels, optimizer)
            done += len(images)
            if images.is_cuda:
                torch.cuda.synchronize()
        return done / (time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)


def _step(network: nn.Module, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(network(images), labels).backward()
    optimizer.step()
