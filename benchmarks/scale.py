"""Is the cost of a trial flat? A whole study on a simulated cluster, everything real but the training.

    python benchmarks/scale.py [--trials 10000] [--cells 100] [--nodes 8] [--profile FILE]

The study goes through `rem_study.study.launch`: plan, Optuna, one Ray Tune run on a cluster of `--nodes` nodes (one
trial slot each, all on this machine), log, MLflow in SQLite, tables, report. Only the worker's two training calls are
replaced, by numbers that depend on the configuration, so that TPE has something to follow. Printed: the cost of each
thousand trials, the last thousand over the first, the driver's time a trial, its peak memory, and what the log, the
tables and MLflow cost by themselves when they are written once more from the finished log.

The driver's CPU time is the figure to trust: seconds of wall time contain the simulated nodes and the process that
writes to MLflow, which share the cores.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import math
import os
import platform
import random
import resource
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from rem_study.results.study_folder import LOG_FOLDER, load_resolved
from rem_study.search.worker import Worker
from rem_study.seeds import derive_seed
from rem_study.spec.space import FloatParameter, IntParameter, SearchSpace, Value
from rem_study.spec.study import CorruptionSpec, Study
from rem_study.storage.history import read_history
from rem_study.storage.log import StudyLog, read_log
from rem_study.storage.rows import TrialKey
from rem_study.study.derive import write_derived
from rem_study.study.launch import launch
from rem_study.tracking.client import quicken_sqlite
from rem_study.tracking.sync import sync
from rem_study.trial.trial import Trial

CORRUPTIONS = ("random_label", "interclass_confusion", "semantic_contamination", "blended_trigger", "poison")
REGULARITY = dict(zip(CORRUPTIONS, (0.1, 0.5, 0.7, 0.9, 1.0), strict=True))
BLOCK = 1_000
MIB = 2**20


class NoTraining(Worker):
    """The worker with both of its training calls replaced; what it is sent and what it sends back are as ever."""

    def obtain_original(self, corruption: CorruptionSpec, replicate: int) -> dict[str, Any]:
        """Facts such as a digits original has."""
        return {"regularity": REGULARITY[corruption.name], "memorised": 1.0, "test_accuracy": 0.95, "sample_passes": 0}

    def run_trial(self, trial: Trial) -> dict[str, Any]:
        """Every column of a REM trial; best where the configuration is nearest to a point that each cell has."""
        cell, configuration = trial.cell.name, trial.configuration
        space = self._spec.methods[trial.method].space
        assert isinstance(space, SearchSpace), "a resolved study carries its search spaces"
        places = {
            name: _place(parameter, configuration[name])
            for name, parameter in space.parameters.items()
            if parameter.search and isinstance(parameter, FloatParameter | IntParameter)
        }
        optimum = {name: random.Random(derive_seed("optimum", cell, name)).random() for name in places}
        distance = math.dist(list(places.values()), list(optimum.values())) / math.sqrt(max(1, len(places)))
        rng = random.Random(derive_seed(cell, trial.replicate, repr(configuration)))

        def near(value: float) -> float:
            return min(1.0, max(0.0, value + rng.gauss(0, 0.01)))

        healed, utility, forgotten = near(1 - distance), near(0.95 - distance / 4), near(distance / 2)
        epochs = int(configuration.get("epochs", 1))  # some methods have none
        return {
            "regularity": REGULARITY[trial.cell.corruption.name],
            "regularity_rank": trial.cell.corruption.regularity_rank,
            "state": "complete",
            "error": None,
            "healed": healed,
            "healed_discovered": near(healed),
            "healed_undiscovered": near(healed),
            "found_average_precision": near(healed),
            "found_recall": near(healed),
            "utility": utility,
            "test_accuracy": utility,
            "utility_x_healed": utility * healed,
            "forget_accuracy": forgotten,
            "retain_accuracy": near(0.97),
            "score_oracle": utility * healed,
            "score_deployable": utility * (1 - forgotten),
            "score": utility * healed,
            "score_healed": healed,
            "score_utility": utility,
            "epochs": float(epochs),
            "sample_passes": 1_437 * epochs,
            "curves": {
                paths: [round(near(1 - epoch / epochs), 6) for epoch in range(epochs + 1)]
                for paths in ("old", "both", "shared")
            },
            "seconds": 0.0,
        }


def _place(parameter: FloatParameter | IntParameter, value: Value) -> float:
    """Where a value lies in its range, from 0 to 1."""
    low, high, at = float(parameter.low), float(parameter.high), float(value)
    if parameter.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def study_document(trials: int, cells: int) -> dict[str, Any]:
    """A study of REM with about `trials` trials over `cells` cells (a multiple of five)."""
    rates = cells // len(CORRUPTIONS)
    return {
        "name": "scale",
        "data": {"name": "digits"},
        "model": {"width": 0.25},
        "corruptions": [{"name": name, "samples": 60} for name in CORRUPTIONS],
        "discovery_rates": [round((i + 1) / rates, 4) for i in range(rates)],
        "methods": ["rem"],
        "budget": {"trials": max(1, trials // cells), "replicates": 1, "in_flight": 1},
    }


@dataclass(frozen=True)
class Reading:
    """The state of the driver at one moment; seconds."""

    trials: int
    wall: float
    process_cpu: float
    main_cpu: float
    resident: int


class Watch(threading.Thread):
    """Reads the driver's clocks and how many trials the log holds, five times a second."""

    def __init__(self, log: Path) -> None:
        super().__init__(name="watch", daemon=True)
        self._log, self._main, self._stopped = log, time.pthread_getcpuclockid(threading.get_ident()), threading.Event()
        self._read, self._trials = 0, 0
        self.readings: list[Reading] = []

    def run(self) -> None:
        """Until `stop`."""
        while not self._stopped.wait(0.2):
            self._look()

    def stop(self) -> None:
        """Take a last reading."""
        self._stopped.set()
        self.join()
        self._look()

    def _look(self) -> None:
        for segment in sorted(self._log.glob("*.jsonl")):
            with open(segment, "rb") as file:
                file.seek(self._read)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            self._trials += whole.count(b'"kind":"replicate"')
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.readings.append(
            Reading(
                self._trials,
                time.perf_counter(),
                time.process_time(),
                time.clock_gettime(self._main),
                pages * resource.getpagesize(),
            )
        )

    def at(self, trials: int) -> Reading:
        """The first reading with at least so many trials."""
        return next(reading for reading in self.readings if reading.trials >= trials)


def print_blocks(watch: Watch, trials: int) -> None:
    """One line a thousand trials, then the ratios and the means over all of them; of an interrupted run what it has."""
    trials = min(trials, watch.readings[-1].trials)
    ends = [1, *range(BLOCK, trials, BLOCK), trials]
    marks = [watch.at(end) for end in ends]
    print("\n| trials | wall s | driver CPU s | of it in the main thread | resident MiB |")
    print("|---|---|---|---|---|")
    costs = []
    for before, after in pairwise(marks):
        share = BLOCK / max(1, after.trials - before.trials)
        cost = [getattr(after, name) - getattr(before, name) for name in ("wall", "process_cpu", "main_cpu")]
        costs.append([value * share for value in cost])
        print(
            f"| {after.trials} | " + " | ".join(f"{value:.2f}" for value in cost),
            f"| {after.resident / MIB:.0f} |",
        )
    wall, process, main = (last / first for first, last in zip(costs[0], costs[-1], strict=True))
    print(f"\nlast / first thousand: wall {wall:.2f}, driver CPU {process:.2f}, its main thread {main:.2f}")
    first, last, count = marks[0], marks[-1], marks[-1].trials - marks[0].trials
    wall, process, main = (
        1_000 * (getattr(last, name) - getattr(first, name)) / count for name in ("wall", "process_cpu", "main_cpu")
    )
    print(f"a trial: wall {wall:.1f} ms, driver CPU {process:.1f} ms, its main thread {main:.1f} ms")


def timed(what: str, action: Any, *arguments: Any, **more: Any) -> Any:
    """Call `action`, print what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = action(*arguments, **more)
    print(f"{what}: {time.perf_counter() - wall:.2f} s ({time.process_time() - cpu:.2f} s of CPU)", flush=True)
    return result


def write_again(folder: Path, study: Study) -> None:
    """What the log, the tables with the report, and MLflow each cost by themselves."""
    rows = timed("read the log", read_history, folder / LOG_FOLDER).rows
    records, _ = read_log(folder / LOG_FOLDER)
    copy = folder / "again"
    copy.mkdir()
    log = StudyLog(copy / LOG_FOLDER)
    timed("log, a write and fsync a record", lambda: deque(map(log.append, records), maxlen=0))
    log.close()
    no_ids: dict[TrialKey, str] = {}
    timed("tables, best.yaml, figures and report", write_derived, copy, study, rows, {}, no_ids)
    quicken_sqlite()  # as `rem-study sync` does
    timed("MLflow sync from nothing", sync, f"sqlite:///{copy / 'mlflow.db'}", study.spec.name, rows)


def start_cluster(nodes: int, temporary: Path) -> Any:
    """A head without trial slots and `nodes` nodes of one CPU on this machine, apart from any Ray that runs on it."""
    os.environ["RAY_TMPDIR"] = str(temporary)  # with it the file in which a cluster's address is left for others
    import ray
    from ray.cluster_utils import Cluster

    as_niced_as_the_driver = {"worker_niceness": 0}  # on a busy machine they would starve at Ray's 15
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": as_niced_as_the_driver}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(nodes):
        cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    return cluster


def machine() -> str:
    """Processor, cores, load before the start, versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("ray", "optuna", "mlflow", "pyarrow"))
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load before {load:.1f}; Python {platform.python_version()}, {versions}"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--cells", type=int, default=100, help="a multiple of five")
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--profile", type=Path, help="write the main thread's cProfile statistics there")
    arguments = parser.parse_args()
    document = study_document(arguments.trials, arguments.cells)
    trials = document["budget"]["trials"] * arguments.cells
    print(machine())
    print(f"{trials} trials, {arguments.cells} cells, {arguments.nodes} nodes", flush=True)
    with tempfile.TemporaryDirectory(prefix="scale-") as temporary:
        root = Path(temporary)
        (root / "scale.yaml").write_text(yaml.safe_dump(document))
        cluster = timed("cluster", start_cluster, arguments.nodes, root / "ray")
        watch = Watch(root / "scale" / LOG_FOLDER)
        watch.start()
        profiler = cProfile.Profile() if arguments.profile else None
        try:
            if profiler:
                profiler.enable()
            outcome = timed("launch, first to last", launch, root / "scale.yaml", root, worker=NoTraining)
        finally:
            if profiler:
                profiler.disable()
                profiler.dump_stats(arguments.profile)
            watch.stop()
            import ray

            ray.shutdown()
            cluster.shutdown()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(outcome.summary, ensure_ascii=False))
        print_blocks(watch, trials)
        print(f"peak memory of the driver: {peak / MIB:.0f} MiB")
        write_again(outcome.folder, load_resolved(outcome.folder))


if __name__ == "__main__":
    main()
