"""What a study takes here, in minutes: its passes over the training set at the pace of a few steps of its network."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from rem_study.data import Dataset
from rem_study.errors import InputError, UnlearningError
from rem_study.shown import duration
from rem_study.spec import DataSpec, Study
from rem_study.study.measure import images_per_second
from rem_study.trial import Setting

REM_FACTOR = 3.0
"""Passes that one of REM's epochs costs: its three steps make 2 to 4 (docs/benchmarks.md)."""
EVALUATION = 0.5
"""Passes that scoring a trial costs: training and test images once forward, a third of a pass each, rounded up."""
START = 20.0
"""Seconds for Ray, MLflow, tables and report."""
GLIMPSED, MEASURED = 0.5, 5.0
"""Seconds of steps that are timed, and at least one step."""
NOISE = 256
"""Images of a stand-in for data that are not prepared."""
PIXELS = 2**20
"""Of a batch whose steps are timed: one of large images takes longer than all else that is checked."""
KNOWN = {"digits": (16, 1437), "fashion_mnist": (28, 60_000), "cifar10": (32, 50_000), "svhn": (32, 73_257)}
"""Pixels a side and training images of data sets that need not be there. Their channels change the pace little."""


def passes(method: str, defaults: Mapping[str, Any], original_epochs: int) -> float:
    """Passes over the training set that one run of a method makes, scoring included, at these hyperparameters."""
    epochs = float(defaults.get("epochs", original_epochs if method == "retrain" else 0))
    return epochs * (REM_FACTOR if method == "rem" else 1.0) + EVALUATION


def told_cost(
    study: Study, epochs: float, data_there: bool, origin: str, stand_in: Dataset | None = None, measure: bool = False
) -> str:
    """`6 min here, 2 trial(s) at a time: an estimate, from ...`, or the passes alone where no pace can be known.

    Args:
        epochs: passes over the training set in all. origin: the study file's name.
        stand_in: for data that are there and have not been prepared, on the CPU.
        measure: train for MEASURED seconds, compiled as the study asks, instead of GLIMPSED ones.

    Raises:
        InputError: `measure`, and there is no device or no data to measure on.
    """
    counted = f"{epochs:.0f} passes over the training set at default epochs"
    spec, resources = study.spec, study.spec.resources
    if resources.gpus and not torch.cuda.is_available():
        if measure:
            raise InputError(
                f"{origin}: resources.gpus: --measure needs the device that trials get, and here is no GPU"
            )
        return f"{counted}; how long that takes on a GPU cannot be told here, where there is none"
    known = _task(study, data_there, stand_in)
    if known is None:
        if measure:
            raise InputError(f"{origin}: data: --measure needs the images, there and prepared")
        return f"{counted}; how long that takes cannot be told before the images are there and prepared"
    setting, count = known
    try:
        if measure:
            pace = images_per_second(setting, MEASURED, spec.original.batch_size, spec.compile)
        else:
            most = max(8, PIXELS // math.prod(setting.dataset.train_images.shape[2:]))
            pace = images_per_second(setting, GLIMPSED, min(spec.original.batch_size, most))
    except UnlearningError as error:
        return f"{counted}; how long that takes cannot be told: a few steps of the original's training broke ({error})"
    slots = resources.concurrent or max(1, (os.cpu_count() or 1) // resources.cpus)
    if resources.gpus:
        slots = min(slots, max(1, int(torch.cuda.device_count() / resources.gpus)))
    seconds = START + epochs * count / pace / slots
    return (
        f"{duration(seconds)} here, {slots} trial(s) at a time: an estimate, from {counted} "
        f"and the {pace:,.0f} images/s of {MEASURED if measure else GLIMPSED:g} s of training just now"
    )


def _task(study: Study, data_there: bool, stand_in_data: Dataset | None) -> tuple[Setting, int] | None:
    """What the pace is measured on, and how many training images the study has: its own data, or where they are not
    there and their size is known, digits at that size.

    None where neither is, or where a GPU is asked for and the images are not prepared.
    """
    spec, data = study.spec, study.spec.data
    device = "cuda" if spec.resources.gpus else "cpu"
    if stand_in_data is not None and device == "cuda":
        return None
    if stand_in_data is not None:
        return Setting(spec, spec.corruptions[0], 0, loaded=_seen(stand_in_data)), len(stand_in_data.train_labels)
    setting = Setting(spec, spec.corruptions[0], 0, device)
    if data_there:
        return setting, len(setting.dataset.train_labels)
    if data.name not in KNOWN:
        return None
    size, count = KNOWN[data.name]
    stand_in = spec.model_copy(update={"data": DataSpec(image_size=data.image_size or size)})
    setting = Setting(stand_in, spec.corruptions[0], 0, device)
    try:
        setting.fresh_network("calibration")
    except InputError:
        return None
    return setting, data.train_samples or count


def _seen(black: Dataset) -> Dataset:
    """A stand-in with a few images of noise in place of many black ones, which cannot be normalised."""
    shape = (min(NOISE, len(black.train_images)), *black.train_images.shape[1:])
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return replace(black, train_images=images, train_labels=black.train_labels[: len(images)])
