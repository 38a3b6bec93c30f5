"""One Ray Tune run for the whole grid."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from rem_study.folder import Folder, address
from rem_study.search.plan import GridPlan, Job, OriginalJob
from rem_study.search.worker import Worker
from rem_study.spec import StudySpec, TrackingSpec
from rem_study.trial import Trial, identity


class GridSearcher(Searcher):
    """Ray Tune's view of a `GridPlan`: hands out its jobs and passes their records on.

    Args:
        record: called with each finished record before the plan learns of it.
    """

    def __init__(self, plan: GridPlan, record: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._plan, self._record = plan, record
        self._running: dict[str, Job] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next job's config, None while all wait, `Searcher.FINISHED` at the end."""
        if self._plan.done():
            return Searcher.FINISHED
        job = self._plan.next_job()
        if job is None:
            return None
        self._running[trial_id] = job
        kind = "original" if isinstance(job, OriginalJob) else "trial"
        # One text: of a mapping, Tune copies and flattens every entry, and keeps a history of every number in it.
        return {"job": json.dumps({"kind": kind, **asdict(job)})}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The job's record, or the loss of its worker."""
        job = self._running.pop(trial_id, None)
        if job is None:
            return
        if error or result is None or "record" not in result:
            if not self._plan.lost(job):
                self._give_up(job)
        else:
            self._take(result)

    def _take(self, result: dict[str, Any]) -> None:
        record = json.loads(result["record"])
        self._record(record)
        if record["kind"] == "original":
            job = OriginalJob(record["corruption"], record["replicate"])
            if record["state"] == "complete":
                self._plan.original_done(job)
            else:
                self._plan.original_failed(job)
        else:
            self._plan.replicate_done(record)

    def _give_up(self, job: Job) -> None:
        if isinstance(job, OriginalJob):
            self._plan.original_failed(job)
            return
        trial = Trial(self._plan.cells[job.cell], job.method, job.configuration, job.replicate)
        reason = "its worker died twice (killed, out of memory, or its node was lost)"
        row = identity(self._plan.study.spec, trial, job.trial, job.phase, job.proposed_by) | {
            "state": "failed",
            "error": reason,
        }
        now = int(time.time() * 1000)
        self._record({"kind": "replicate", **row, "start_time": now, "end_time": now})
        self._plan.replicate_done(row)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for the same reason: Tune pickles its searcher into its own experiment state."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's log is the state, and resuming reads that."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


def connect(address: str | None) -> None:
    """Join the Ray cluster at `address`, or start a local one on loopback, without dashboard."""
    for name in (
        "ray.tune",
        "ray._private.authentication",
    ):  # what matters in them reaches the study's own log
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if ray.is_initialized():
        return
    if address is not None:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
        return
    with _on_loopback():
        ray.init(
            address="local",
            include_dashboard=False,
            logging_level=logging.WARNING,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray started inside listens on loopback only.

    Ray takes 127.0.0.1 for "find the outward address", and a node that has one listens on all of them. This switch,
    made to spare macOS and Windows their firewalls' questions, leaves the loopback address as it is.
    """
    constants = ray._private.ray_constants
    name, before = constants.ENABLE_RAY_CLUSTERS_ENV_VAR, constants.ENABLE_RAY_CLUSTER
    in_environment = os.environ.get(name)
    constants.ENABLE_RAY_CLUSTER, os.environ[name] = False, "0"  # here, and in what Ray starts
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        del os.environ[name]
        if in_environment is not None:
            os.environ[name] = in_environment


def slots(spec: StudySpec) -> int:
    """How many trials run at once: `resources.concurrent`, else what fits the cluster as it is now.

    A cluster whose workers come with the work holds none at the start: there, the study must say how many.
    """
    if spec.resources.concurrent:
        return spec.resources.concurrent
    resources = ray.cluster_resources()
    fitting = int(resources.get("CPU", 0) // spec.resources.cpus)
    if spec.resources.gpus:
        fitting = min(fitting, int(resources.get("GPU", 0) / spec.resources.gpus + 1e-9))
    return max(1, fitting)


def run_grid(
    plan: GridPlan, originals: Folder, record: Callable[[dict[str, Any]], None], worker: type[Worker] = Worker
) -> None:
    """Run what is left of `plan` on the connected cluster; returns when it is done or interrupted (Ctrl-C).

    Args:
        worker: what runs in the actors.
    """
    spec = plan.study.spec
    # Both are read when the Tuner is built: file loggers would cost more than a short trial, and Tune's own
    # snapshots are not needed, since resuming reads the log.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = str(10**9)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    untracked = spec.model_copy(update={"tracking": TrackingSpec()})  # its password is none of the workers' business
    resources = {"CPU": spec.resources.cpus, "GPU": spec.resources.gpus}
    with tempfile.TemporaryDirectory(prefix="rem-study-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(worker, spec=untracked, originals=address(originals)), resources),
            tune_config=tune.TuneConfig(
                search_alg=GridSearcher(plan, record),
                num_samples=-1,
                max_concurrent_trials=slots(spec),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="grid",
                storage_path=scratch,
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            ),
        )
        tuner.fit()
