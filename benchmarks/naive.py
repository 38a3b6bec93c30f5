"""Trials an hour against the naive way, on the same trials.

Naive: one Ray Tuner a cell, one after another; every trial loads the data and trains its original itself; Tune's
default loggers. The trials are those of a short quickstart study that is launched first.

    python benchmarks/naive.py [--trials 2]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from common import ROOT, machine


def run_one(space: dict[str, Any]) -> None:
    """A naive trial: everything from the start."""
    config = space["naive"]
    import torch
    from ray import tune

    from rem_study.data import dataset as data
    from rem_study.spec.resolve import load_study
    from rem_study.trial.originals import OriginalStore
    from rem_study.trial.trial import Trial, cells_of, run_trial

    torch.set_num_threads(1)
    data._load.cache_clear()
    spec = load_study(Path(config["study"])).spec
    cell = next(cell for cell in cells_of(spec) if cell.name == config["cell"])
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(cell, config["method"], config["configuration"], 0)
        row = run_trial(spec, trial, OriginalStore(Path(folder)))
    tune.report({"utility_x_healed": row["utility_x_healed"]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2, help="a cell and method")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        changes = [f"budget.trials={arguments.trials}", "methods=[rem, npo]"]
        command = [sys.executable, "-m", "rem_study.cli", "launch", str(ROOT / "studies" / "quickstart.yaml")]
        command += ["--root", root, *(part for change in changes for part in ("--set", change))]
        start = time.perf_counter()
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        ours = time.perf_counter() - start
        folder = Path(root) / "quickstart"
        rows = pq.read_table(folder / "trials.parquet").to_pylist()

        import ray
        from ray import tune

        ray.init(include_dashboard=False, logging_level="ERROR", log_to_driver=False, _node_ip_address="127.0.0.1")
        os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
        start = time.perf_counter()
        scores = {}
        for cell in dict.fromkeys(row["cell"] for row in rows):
            mine = [row for row in rows if row["cell"] == cell]
            configs = [
                {
                    "study": str(folder / "study.yaml"),
                    "cell": cell,
                    "method": row["method"],
                    "configuration": json.loads(row["config"]),
                    "trial": row["trial"],
                }
                for row in mine
            ]
            results = tune.Tuner(
                tune.with_resources(run_one, {"cpu": 1}),
                param_space={"naive": tune.grid_search(configs)},
                run_config=tune.RunConfig(storage_path=root, verbose=0),
            ).fit()
            for result in results:
                config = (result.config or {})["naive"]
                scores[cell, config["method"], config["trial"]] = (result.metrics or {})["utility_x_healed"]
        naive = time.perf_counter() - start
    ours_scores = {(row["cell"], row["method"], row["trial"]): row["utility_x_healed"] for row in rows}
    assert scores == ours_scores, "the naive way gave other results"
    print(machine())
    print(f"{len(rows)} trials: {ours:.0f} s against {naive:.0f} s; {naive / ours:.1f} times the trials an hour")


if __name__ == "__main__":
    main()
