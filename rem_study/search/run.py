"""One Ray Tune run for the whole grid."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from rem_study.errors import ClusterError, StorageError
from rem_study.search.hindrance import Hindrances, Tell
from rem_study.search.jobs import Job, OriginalJob
from rem_study.search.plan import GridPlan
from rem_study.search.room import telling_of_waits
from rem_study.search.worker import Worker
from rem_study.spec import StudySpec
from rem_study.spec.study import TrackingSpec
from rem_study.storage import Folder
from rem_study.storage.folder import address
from rem_study.trial import Trial, identity


@dataclass(frozen=True)
class Loss:
    """The end of a worker in the middle of a job.

    Attributes:
        reason: in a few words.
        never_ran: it could not even be set up, whatever the job.
        by_itself: neither its node's end nor Ray's doing.
        seconds: since it began what it was at, a replicate or an original.
    """

    reason: str
    never_ran: bool
    by_itself: bool
    seconds: float


class Losses(FIFOScheduler):
    """Notes why workers were lost: of Tune's hooks, only a scheduler's has that before the searcher is told.

    It chooses no trial: Tune starts pending ones by itself, in order. Tune's own scheduler chooses the first pending
    one at each event, looking through all trials of the study, and has it taken over by whichever worker is free,
    while its own is starting; that one is ended. So where trials are shorter than a start, no second worker would ever
    come up.
    """

    def __init__(self) -> None:
        super().__init__()
        self._by_trial: dict[str, Loss] = {}

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None."""

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Called before the searcher's `on_trial_complete`."""
        file, times = trial.pickled_error_file, trial.run_metadata
        error = ray.cloudpickle.loads(Path(file).read_bytes()) if file else None  # written by this process just now
        began = max(times.start_time or time.time(), times.last_result_time)
        self._by_trial[trial.trial_id] = describe_loss(error, time.time() - began)

    def take(self, trial_id: str) -> Loss:
        """Why this trial's worker was lost."""
        return self._by_trial.pop(trial_id, None) or describe_loss(None, 0.0)


def describe_loss(error: BaseException | None, seconds: float) -> Loss:
    """What Ray's exception for a lost worker means; Ray has texts for it, not types."""
    text = str(error)
    if not isinstance(error, RayActorError) or error.actor_init_failed:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "unknown")
        return Loss(f"could not start: {' '.join(last.split())}"[:300], True, False, seconds)
    if "low on memory" in text or "OUT_OF_MEMORY" in text:
        return Loss("was ended by Ray, since its node ran low on memory", False, False, seconds)
    if "node has died" in text or "node was terminated" in text or "unavailable" in text:
        return Loss("was lost with its node", False, False, seconds)
    return Loss("was killed (by the kernel for memory, most often) or crashed", False, True, seconds)


class GridSearcher(Searcher):
    """Ray Tune's view of a `GridPlan`: hands out its jobs and passes their records on.

    Args:
        record: called with each finished record before the plan learns of it.
        losses: says why a worker was lost.
        finished: told of each finished job which share of a processor it got, where that is known.

    Attributes:
        failure: what keeps the study from going on, if anything. `suggest` raises it: what is raised where a job has
            ended, Tune buries, and it then asks for the next one for ever.
    """

    def __init__(
        self,
        plan: GridPlan,
        record: Callable[[dict[str, Any]], None],
        losses: Losses,
        finished: Callable[[float | None], None] = lambda share: None,
    ) -> None:
        super().__init__()
        self._plan, self._record, self._losses, self._finished = plan, record, losses, finished
        self._running: dict[str, Job] = {}
        self.failure: Exception | None = None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next job's config, None while all wait, `Searcher.FINISHED` at the end. Raises `failure`."""
        if self.failure is not None:
            raise self.failure
        if self._plan.done():
            return Searcher.FINISHED
        try:
            job = self._plan.next_job()
        except Exception as failure:  # what a trial has come to could not be noted in the log
            self.failure = failure
            raise
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
        try:
            if error or result is None or "record" not in result:
                self._lost(job, self._losses.take(trial_id))
            else:
                self._pass_on(json.loads(result["record"]))
                self._finished(result.get("processor"))
        except Exception as failure:
            self.failure = self.failure or failure

    def _pass_on(self, record: dict[str, Any]) -> None:
        if record["state"] == "halted":
            raise StorageError(f"a worker could not go on: {record['error']}")
        self._record(record)
        if record["kind"] == "original":
            job = OriginalJob(record["corruption"], record["replicate"])
            if record["state"] == "complete":
                self._plan.original_done(job)
            else:
                self._plan.original_failed(job)
        else:
            self._plan.replicate_done(record)

    def _lost(self, job: Job, loss: Loss) -> None:
        limit = self._plan.study.spec.resources.time_limit
        if loss.by_itself and loss.seconds >= limit:
            self._give_up(job, f"took longer than resources.time_limit, {limit} s")
        elif not self._plan.lost(job):
            if loss.never_ran:
                raise ClusterError(f"a worker {loss.reason}")
            self._give_up(job, f"its worker died twice; the second one {loss.reason}")

    def _give_up(self, job: Job, reason: str) -> None:
        if isinstance(job, OriginalJob):
            record = {"kind": "original", **asdict(job)}
        else:
            trial = Trial(self._plan.cells[job.cell], job.method, job.configuration, job.replicate)
            names = identity(self._plan.study.spec, trial, job.trial, job.phase, job.proposed_by)
            record = {"kind": "replicate", **names}
        now = int(time.time() * 1000)
        self._pass_on({**record, "state": "failed", "error": reason, "start_time": now, "end_time": now})

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, for the same reason: Tune pickles its searcher into its own experiment state."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's log is the state, and resuming reads that."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see `save`."""


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
    plan: GridPlan,
    originals: Folder,
    record: Callable[[dict[str, Any]], None],
    worker: type[Worker] = Worker,
    tell_hindrances: Tell = lambda lines: None,
    scratch_in: Path | None = None,
) -> None:
    """Run what is left of `plan` on the connected cluster; returns when it is done or interrupted (Ctrl-C).

    Args:
        worker: what runs in the actors.
        tell_hindrances: see `Tell`.
        scratch_in: where Tune gets its folder; default: where temporary folders lie.

    Raises:
        StorageError: a worker cannot write what it has to.
        ClusterError: workers cannot start.
        Exception: whatever `record` raises.
    """
    spec = plan.study.spec
    # Both are read when the Tuner is built: file loggers would cost more than a short trial, and Tune's own
    # snapshots are not needed, since resuming reads the log.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = str(10**9)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    untracked = spec.model_copy(update={"tracking": TrackingSpec()})  # its password is none of the workers' business
    losses = Losses()
    hindrances = Hindrances(tell_hindrances)
    searcher = GridSearcher(plan, record, losses, hindrances.finished)
    resources = {"CPU": spec.resources.cpus, "GPU": spec.resources.gpus}
    with tempfile.TemporaryDirectory(prefix="rem-study-tune-", dir=scratch_in) as scratch:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(worker, spec=untracked, originals=address(originals)), resources),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=losses,
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
        try:
            with telling_of_waits(spec.resources, waits=hindrances.waits), _signals_given_back():
                tuner.fit()
        finally:
            if searcher.failure is not None:
                raise searcher.failure from None


@contextmanager
def _signals_given_back() -> Iterator[None]:
    """Tune takes SIGINT and SIGUSR1 and keeps them when it ends: a notebook's next Ctrl-C would do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
