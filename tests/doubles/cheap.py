"""Studies that cost next to nothing, for tests of what happens around the training: everything real but the numbers."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import ray
import ray.cloudpickle
import torch
import yaml

from rem_study.search.worker import Worker
from rem_study.seeds import derive_seed
from rem_study.spec.study import CorruptionSpec
from rem_study.storage.log import read_log
from rem_study.trial.originals import Original, Setting
from rem_study.trial.trial import Trial

STUDY: dict[str, Any] = {
    "name": "cheap",
    "data": {"name": "digits", "image_size": 12, "train_samples": 300, "test_samples": 200},
    "model": {"width": 0.0625},
    "corruptions": [{"name": "poison", "samples": 20}, {"name": "random_label", "samples": 20}],
    "discovery_rates": [0.5, 1.0],
    "methods": ["rem", "npo"],
    "budget": {"trials": 4, "replicates": 2, "in_flight": 2},
    "race": {"replicates": 0},
    "confirm": {"replicates": 0},
    "resources": {"concurrent": 2},
}
ROWS = 4 * 2 * 4 * 2
RECORDS = 1 + 2 * 2 + ROWS
"""What the log of the whole study holds: the basis, the originals, the replicates."""
TIMES = ["seconds", "mlflow_run_id"]


ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers do not see the folder of the tests


class Cheap(Worker):
    """Everything that the real worker does but train: what it finds depends on the configuration and the seeds."""

    pace = 0.05  # seconds for each original and replicate

    def obtain_original(self, corruption: CorruptionSpec, replicate: int) -> dict[str, Any]:
        """Weights of 64 KiB, really stored."""
        key = Setting(self._spec, corruption, replicate).key()
        stored = self._originals.load(key)
        if stored is None:
            time.sleep(self.pace)
            seed = derive_seed("cheap", corruption.name, replicate)
            weights = torch.rand(2**14, generator=torch.Generator().manual_seed(seed))
            stored = Original({"weights": weights}, {"regularity": weights[0].item(), "memorised": 1.0})
            self._originals.save(key, stored)
        return stored.facts

    def run_trial(self, trial: Trial) -> dict[str, Any]:
        """A row that follows from the original, the configuration and the replicate."""
        facts = self.obtain_original(trial.cell.corruption, trial.replicate)
        time.sleep(self.pace)
        rng = random.Random(derive_seed(trial.cell.name, trial.method, repr(sorted(trial.configuration.items()))))
        healed = rng.random()
        utility = random.Random(derive_seed(healed, trial.replicate)).random()
        return {
            "regularity": facts["regularity"],
            "regularity_rank": trial.cell.corruption.regularity_rank,
            "state": "complete",
            "error": None,
            "healed": healed,
            "utility": utility,
            "test_accuracy": utility,
            "utility_x_healed": utility * healed,
            "score_oracle": utility * healed,
            "score_deployable": utility,
            "score": utility * healed,
            "score_healed": healed,
            "score_utility": utility,
            "sample_passes": 1,
            "curves": None,
            "seconds": self.pace,
        }


def faulty(fault: Callable[[Trial], None], base: type[Worker] = Cheap) -> type[Worker]:
    """A worker that calls `fault` before each replicate; whatever `fault` does happens in the middle of a trial."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[fault.__module__])

    class Faulty(base):  # type: ignore[misc, valid-type]
        def run_trial(self, trial: Trial) -> dict[str, Any]:
            fault(trial)
            return super().run_trial(trial)

    return Faulty


def study_file(folder: Path, **changes: Any) -> Path:
    """The cheap study as a file, top-level fields changed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{changes.get('name', STUDY['name'])}.yaml"
    path.write_text(yaml.safe_dump(STUDY | changes))
    return path


def trials(folder: Path) -> pd.DataFrame:
    """A study's trials, less what differs between two runs of the same study."""
    return pd.read_parquet(folder / "trials.parquet").drop(columns=TIMES)


def assert_equal_tables(one: Path, other: Path) -> None:
    """All but times and run ids is equal: trials, cells, and best.yaml."""
    pd.testing.assert_frame_equal(trials(one), trials(other))
    cells = [pd.read_parquet(folder / "cells.parquet").drop(columns=["seconds"]) for folder in (one, other)]
    pd.testing.assert_frame_equal(*cells)
    best = [_without_run_ids(yaml.safe_load((folder / "best.yaml").read_text())) for folder in (one, other)]
    assert best[0] == best[1]


def _without_run_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_run_ids(one) for key, one in value.items() if key != "mlflow_run_id"}
    return [_without_run_ids(one) for one in value] if isinstance(value, list) else value


def assert_each_replicate_once(folder: Path) -> None:
    """No replicate was lost, and none is in the log or the tables twice."""
    key = ["cell", "method", "trial", "phase", "replicate"]
    records = [record for record in read_log(folder / "log")[0] if record["kind"] == "replicate"]
    assert len({tuple(record[name] for name in key) for record in records}) == len(records)
    assert not trials(folder).duplicated(key).any()
    assert len(trials(folder)) == len(records)


def drive(study: Path, root: Path, *options: str, **more: Any) -> subprocess.Popen[str]:
    """`rem-study launch` of a cheap study in a process group of its own; `more` is for Popen."""
    command = [sys.executable, str(Path(__file__).resolve()), str(study), "--root", str(root), *options]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    return subprocess.Popen(command, **(streams | more))


def on_this_ray() -> list[str]:
    """Options for `drive`: use the Ray of this process. One start of Ray costs more than the whole study."""
    return ["--address", ray.get_runtime_context().gcs_address]


def records(folder: Path) -> int:
    """How many records the log of the study in `folder` holds now."""
    return len(read_log(folder / "log")[0])


def wait_until(happened: Callable[[], Any], seconds: float = 240, pause: float = 0.02) -> None:
    """Return as soon as `happened` gives something true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(pause)


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL to all of the process's group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Kill the process's group at the end, whatever the test has come to."""
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_group(process)


if __name__ == "__main__":
    import cheap

    from rem_study import cli
    from rem_study.study import launch as study

    real = study.launch
    study.launch = lambda *given, **named: real(
        *given, **named, worker=cheap.Cheap
    )  # the command line, with the cheap worker
    cli.main(["launch", *sys.argv[1:]])
