"""How fast the device at hand trains a study's network: what `check --measure` estimates hours from."""

from __future__ import annotations

import itertools
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from rem_study.data import Batch, CorruptedTrainingSet
from rem_study.errors import InputError
from rem_study.seeds import generator
from rem_study.spec import StudySpec
from rem_study.training import BatchLoader, compiling, train_epoch
from rem_study.training.loop import make_optimizer
from rem_study.trial import Setting

SECONDS = 5.0
_STEPS = 4
"""Between two looks at the clock, for each of which a GPU's queue is emptied."""


def images_per_second(spec: StudySpec, origin: str) -> float:
    """Training steps of the study's original on its own data, for `SECONDS` after the first ones (and compiling).

    Raises:
        InputError: the study's trials ask for a GPU, and there is none.
    """
    if spec.resources.gpus and not torch.cuda.is_available():
        raise InputError(f"{origin}: resources.gpus: --measure needs the device that trials get, and here is no GPU")
    torch.set_num_threads(spec.resources.cpus)
    setting = Setting(spec, spec.corruptions[0], 0, "cuda" if spec.resources.gpus else "cpu")
    data = CorruptedTrainingSet(setting.dataset, None)
    network = setting.fresh_network("calibration").train()
    everything = torch.arange(len(data), device=data.device)
    loader = BatchLoader(data, everything, spec.original.batch_size, generator("calibration", spec.seed))
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    optimizer = make_optimizer(spec.original, network.parameters(), spec.original.lr / 100)

    def loss(batch: Batch) -> Tensor:
        return F.cross_entropy(network(batch.images), batch.labels)

    def steps() -> int:
        return train_epoch(itertools.islice(batches, _STEPS), loss, optimizer)

    with setting.computing(), compiling(spec.compile):
        steps()
        images, began = 0, time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            images += steps()
        return images / (time.perf_counter() - began)
