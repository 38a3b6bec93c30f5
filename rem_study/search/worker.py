"""What runs in a Ray actor: one job after another, with data and originals kept in memory between them."""

from __future__ import annotations

import faulthandler
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ray import tune

from rem_study.data import place
from rem_study.spec import StudySpec
from rem_study.spec.study import CorruptionSpec
from rem_study.storage import open_folder
from rem_study.training.compilation import compile_seconds, keep_compiled_in
from rem_study.trial import Cell, OriginalStore, Setting, Trial, cells_of, identity, run_trial


class Worker(tune.Trainable):
    """A Tune trainable whose every step is one original or one replicate, reported as JSON under `record`."""

    def setup(self, config: dict[str, Any], spec: StudySpec, originals: str) -> None:
        """Called once an actor. `config["job"]` is what to run, as JSON."""
        torch.set_num_threads(spec.resources.cpus)
        self._spec = spec
        self._cells: dict[str, Cell] = {cell.name: cell for cell in cells_of(spec)}
        stored = open_folder(originals)
        self._originals = OriginalStore(stored)
        place.settle(stored.parent)
        if spec.compile != "none" and isinstance(stored, Path):
            keep_compiled_in(stored.parent / ".compiled", spec.resources.cpus)
        self._device = "cuda" if spec.resources.gpus else "cpu"
        if 0 < spec.resources.gpus < 1:  # a trial that wants more fails alone, not its neighbours on the same GPU
            torch.cuda.set_per_process_memory_fraction(spec.resources.gpus)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next job for the same actor."""
        self._job = json.loads(new_config["job"])
        return True

    def step(self) -> dict[str, Any]:
        """The job. Whatever goes wrong in it comes back as its state and reason, not as a dead actor.

        A disk or a share that fails is nobody's result: its state is `halted`, and the study stops there.
        """
        started, computed, began = time.time(), time.thread_time(), time.perf_counter()
        compiled_before = compile_seconds()
        with _time_limit(self._spec.resources.time_limit):
            record = self._train_original() if self._job["kind"] == "original" else self._run_replicate()
        if self._spec.compile != "none":
            record["compile_seconds"] = compile_seconds() - compiled_before
        record |= {"start_time": int(started * 1000), "end_time": int(time.time() * 1000)}
        told = {"record": json.dumps(record), "done": True}
        if self._device == "cpu":  # else this thread waits for the accelerator, whoever else is there
            told["processor"] = (time.thread_time() - computed) / max(time.perf_counter() - began, 1e-9)
        return told

    def get_auto_filled_metrics(self, *_: object, **__: object) -> dict[str, Any]:
        """None: of every number in a result Tune keeps a history, for every trial, to the end of the study."""
        return {}

    def obtain_original(self, corruption: CorruptionSpec, replicate: int) -> dict[str, Any]:
        """The facts of one original, which is stored from here on. Only here and in `run_trial` is anything trained."""
        return self._originals.obtain(Setting(self._spec, corruption, replicate, self._device)).facts

    def run_trial(self, trial: Trial) -> dict[str, Any]:
        """The measured columns of one replicate."""
        return run_trial(self._spec, trial, self._originals, self._device)

    def _train_original(self) -> dict[str, Any]:
        replicate = self._job["replicate"]
        corruption = next(c for c in self._spec.corruptions if c.name == self._job["corruption"])
        start = time.perf_counter()
        record = {"kind": "original", "corruption": corruption.name, "replicate": replicate}
        try:
            outcome: dict[str, Any] = {"state": "complete", "facts": self.obtain_original(corruption, replicate)}
        except OSError as error:
            outcome = {"state": "halted", "error": _reason(error)}
        except Exception as error:
            outcome = {"state": "failed", "error": _reason(error)}
        return record | outcome | {"seconds": time.perf_counter() - start}

    def _run_replicate(self) -> dict[str, Any]:
        job = self._job
        trial = Trial(self._cells[job["cell"]], job["method"], job["configuration"], job["replicate"])
        place = identity(self._spec, trial, job["trial"], job["phase"], job["proposed_by"])
        record = {"kind": "replicate", **place}
        try:
            return record | _sound(self.run_trial(trial))
        except OSError as error:
            return record | {"state": "halted", "error": _reason(error)}
        except Exception as error:
            return record | {"state": "failed", "error": _reason(error), "seconds": 0.0}


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    """End this process if what runs inside takes longer, wherever it hangs; the driver sees why in the time it took.

    A thread of its own does it, which needs no Python lock; it leaves every thread's traceback in the worker's log.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _sound(row: dict[str, Any]) -> dict[str, Any]:
    """`row` without NaN and infinities, which neither the log nor the search can hold; failed without a score."""
    row = {name: _finite(value) for name, value in row.items()}
    if row["state"] == "complete" and row["score"] is None:
        row |= {"state": "failed", "error": "its score is not a number"}
    return row


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
