"""How fast the device at hand trains a study's network: what `check` estimates its cost from."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from rem_study.data import Batch, CorruptedTrainingSet
from rem_study.seeds import generator
from rem_study.spec.original import Compile
from rem_study.training import BatchLoader, compiling, train_epoch
from rem_study.training.loop import make_optimizer
from rem_study.trial import Setting

_FEW = 8
"""Images of the first step, which sets up what is set up once; compiled, it is a whole batch."""


def images_per_second(setting: Setting, seconds: float, batch_size: int, compile: Compile = "none") -> float:
    """Steps of training the original on its own data, on as many threads as a trial has, for `seconds` after the first
    one (and compiling), and at least one step."""
    spec = setting.spec
    data = CorruptedTrainingSet(setting.dataset, None)
    network = setting.fresh_network("calibration").train()
    everything = torch.arange(len(data), device=data.device)
    optimizer = make_optimizer(spec.original, network.parameters(), spec.original.lr / 100)
    together = 4 if data.device.type == "cuda" else 1  # steps between two looks at the clock, which empty the queue

    def loss(batch: Batch) -> Tensor:
        return F.cross_entropy(network(batch.images), batch.labels)

    def batches(ids: Tensor) -> Iterable[Batch]:
        loader = BatchLoader(data, ids, batch_size, generator("calibration", spec.seed))
        return itertools.chain.from_iterable(itertools.repeat(loader))

    threads = torch.get_num_threads()
    torch.set_num_threads(spec.resources.cpus)
    try:
        with setting.computing(), compiling(compile):
            first = everything[:_FEW] if compile == "none" else everything
            train_epoch(itertools.islice(batches(first), together), loss, optimizer)
            images, began, steps = 0, time.perf_counter(), batches(everything)
            while not images or time.perf_counter() - began < seconds:
                images += train_epoch(itertools.islice(steps, together), loss, optimizer)
            return images / (time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
