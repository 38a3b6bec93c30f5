"""What the tests of the lower half share: a tiny digits task, its originals, tasks for methods."""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from doubles.tiny import TINY

from rem_study.data.corruption import CorruptedTrainingSet
from rem_study.data.dataset import Dataset
from rem_study.spec.resolve import resolve
from rem_study.spec.study import StudySpec
from rem_study.trial.originals import OriginalStore, Setting
from rem_study.trial.trial import split_ids
from rem_study.unlearning.task import UnlearningTask

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # as a shell's background job, tests would start deaf ones,
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and so under `nohup`


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., StudySpec]:
    """A tiny study (240 digits, 12 corrupted, layers of 4 to 16 channels), top-level sections changed."""

    def make(**changes: Any) -> StudySpec:
        return resolve(copy.deepcopy(TINY) | changes, "tiny.yaml", Path()).spec

    return make


@pytest.fixture(scope="session")
def spec(make_spec: Callable[..., StudySpec]) -> StudySpec:
    return make_spec()


@pytest.fixture(scope="session")
def settings(spec: StudySpec) -> dict[str, Setting]:
    """Replicate 0 of each corruption, by name."""
    return {corruption.name: Setting(spec, corruption, 0) for corruption in spec.corruptions}


@pytest.fixture(scope="session")
def dataset(settings: dict[str, Setting]) -> Dataset:
    return settings["random_label"].dataset


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> OriginalStore:
    """Originals shared by the session's tests."""
    return OriginalStore(tmp_path_factory.mktemp("originals"))


@pytest.fixture(scope="session")
def make_task(settings: dict[str, Setting], store: OriginalStore) -> Callable[..., UnlearningTask]:
    """What `run_trial` would hand to a method, but for a shorter recipe and the `changes` given."""

    def make(corruption_name: str = "random_label", rate: float = 0.5, **changes: Any) -> UnlearningTask:
        setting = settings[corruption_name]
        corruption = setting.draw()
        data = CorruptedTrainingSet(setting.dataset, corruption)
        forget_ids, retain_ids = split_ids(corruption, rate, len(data))
        network = setting.fresh_network("original")
        network.load_state_dict(store.obtain(setting).state)
        parts = {
            "network": network.train(),
            "data": data,
            "forget_ids": forget_ids,
            "retain_ids": retain_ids,
            "recipe": setting.spec.original.model_copy(update={"epochs": 4}),
            "seed": 7,
            "fresh_network": lambda: setting.fresh_network("retrain"),
            "corrupted_ids": corruption.ids,
        }
        return UnlearningTask(**(parts | changes))

    return make


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """A Ray of this process, which launches in it and in others use. On a busy machine it may take several starts."""
    import ray

    for attempt in (2, 1, 0):
        try:
            ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
            break
        except Exception:
            ray.shutdown()
            if not attempt:
                raise
    yield
    ray.shutdown()
