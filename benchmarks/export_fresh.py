"""Whether what a study exported holds: each exported configuration and its default on further fresh replicates.

    python benchmarks/export_fresh.py runs/quickstart [--replicates 20] [--workers 2]

The replicates follow those of the study, so that neither search, race nor confirmation has seen them. Where the default
is exported, there is nothing to run. Printed: by cell and method both means of utility x healed (report split), the
paired difference with its 95 % interval, and what best.yaml says of it; then the worst difference. Runs that are done
are kept in DIR/fresh.jsonl: the same call goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from common import machine

from rem_study.results import load_resolved
from rem_study.results.student import half_width
from rem_study.spec.best import read_best
from rem_study.spec.space import Configuration
from rem_study.storage import open_folder
from rem_study.storage.canonical import canonical_json
from rem_study.trial.originals import OriginalStore, Setting
from rem_study.trial.trial import Trial, cells_of, run_trial

Job = tuple[str, str, Configuration, int]
"""Cell, method, configuration, replicate."""


def run_one(folder: str, job: Job) -> dict[str, Any]:
    """One run, as a line of the file."""
    torch.set_num_threads(1)
    cell, method, configuration, replicate = job
    spec = load_resolved(open_folder(folder)).spec
    (where,) = [one for one in cells_of(spec) if one.name == cell]
    row = run_trial(
        spec, Trial(where, method, configuration, replicate), OriginalStore(Path(folder).parent / "originals")
    )
    return {"job": list(job), "state": row["state"], "utility_x_healed": row["utility_x_healed"]}


def train_one(folder: str, corruption: int, replicate: int) -> None:
    """An original, if it is not there yet."""
    torch.set_num_threads(1)
    spec = load_resolved(open_folder(folder)).spec
    store = OriginalStore(Path(folder).parent / "originals")
    store.obtain(Setting(spec, spec.corruptions[corruption], replicate, "cpu", store))


def key(job: Job) -> str:
    """What tells a run from others."""
    return canonical_json(list(job))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a study's folder, local")
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    study = load_resolved(open_folder(arguments.folder))
    best = read_best(open_folder(arguments.folder) / "best.yaml")
    first = study.spec.confirmed.stop
    fresh = range(first, first + arguments.replicates)
    exports = {
        (cell.name, method): dict(winner.config) for cell in best.cells for method, winner in cell.methods.items()
    }
    tuned = {place: own for place, own in exports.items() if own != study.spaces[place[1]].defaults}
    jobs: list[Job] = [
        (*place, configuration, replicate)
        for replicate in fresh
        for place, own in tuned.items()
        for configuration in (own, study.spaces[place[1]].defaults)
    ]
    path = Path(arguments.folder) / "fresh.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {canonical_json(line["job"]): line["utility_x_healed"] for line in lines}
    with ProcessPoolExecutor(arguments.workers) as pool, path.open("a") as file:
        corruptions = range(len(study.spec.corruptions))
        list(pool.map(train_one, *zip(*[(arguments.folder, c, r) for r in fresh for c in corruptions], strict=True)))
        futures = [pool.submit(run_one, arguments.folder, job) for job in jobs if key(job) not in done]
        for future in as_completed(futures):
            line = future.result()
            print(json.dumps(line), file=file, flush=True)
            done[canonical_json(line["job"])] = line["utility_x_healed"]
    print(machine())
    kept = len(exports) - len(tuned)
    print(f"{len(exports)} exports, {kept} of them the default; {len(fresh)} replicates from {first} on\n")
    print("| cell | method | exported | default | difference | 95 % interval |\n|---|---|---|---|---|---|")
    worst = 0.0
    for place, own in tuned.items():
        default = study.spaces[place[1]].defaults
        pairs = [[done[key((*place, one, r))] or 0.0 for one in (own, default)] for r in fresh]
        leads = [mine - its for mine, its in pairs]
        mean, half = statistics.fmean(leads), half_width(leads)
        worst = min(worst, mean)
        means = [statistics.fmean(column) for column in zip(*pairs, strict=True)]
        told = " | ".join(f"{value:.3f}" for value in means)
        print(f"| {place[0]} | {place[1]} | {told} | {mean:+.3f} | {mean - half:+.3f} to {mean + half:+.3f} |")
    print(f"\nworst difference: {worst:+.3f}")


if __name__ == "__main__":
    main()
