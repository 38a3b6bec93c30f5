"""Builds a table on which search strategies are replayed: one method on digits, the same random configurations in every
cell, every replicate.

A smaller task than the results' one, so that REM's 3,456 runs end within two hours on 2 cores: a third of the training
digits. What is finished is kept in a file beside the table, so that an interrupted build goes on.

    python benchmarks/search_table.py [STUDY] [--workers 2] [--output FILE]

STUDY: studies/search-table.yaml (REM, the default), studies/search-table-eu-k.yaml, or another of one method. FILE is
in docs/results by default, under the study's name.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from common import ROOT, machine

from rem_study.search.suggest import CellSearch
from rem_study.spec.resolve import load_study
from rem_study.spec.space import Configuration
from rem_study.spec.study import Study
from rem_study.trial.originals import OriginalStore
from rem_study.trial.trial import Trial, cells_of, run_trial

STUDY = ROOT / "studies" / "search-table.yaml"
KEPT = [
    "state", "score_oracle", "score_deployable", "retain_accuracy", "forget_accuracy",
    "healed", "utility", "utility_x_healed", "regularity", "sample_passes", "seconds",
]  # fmt: skip


def configurations(study: Study) -> list[Configuration]:
    """The default configuration, then random ones; the same for every cell."""
    (space,) = study.spaces.values()
    count = study.spec.budget.trials
    search = CellSearch(space, study.spec.sampler, count, count, ("search table",))
    return [search.ask()[1] for _ in range(count)]


def run_one(study_file: Path, store: Path, cell: int, configuration: Configuration, replicate: int) -> dict[str, Any]:
    """One row of the table of the study in `study_file`."""
    torch.set_num_threads(1)
    spec = load_study(study_file).spec
    (method,) = spec.methods
    trial = Trial(cells_of(spec)[cell], method, configuration, replicate)
    row = run_trial(spec, trial, OriginalStore(store))
    return {name: row.get(name) for name in KEPT}


def build(study_file: Path, study: Study, workers: int, journal: Path, store: Path) -> pd.DataFrame:
    """Run what `journal` lacks; every finished row is in it before the next is begun."""
    done: dict[tuple[int, int, int], dict[str, Any]] = {}
    if journal.exists():
        for line in journal.read_text().splitlines():
            row = json.loads(line)
            done[row["configuration"], row["cell"], row["replicate"]] = row
    cells, tried = cells_of(study.spec), configurations(study)
    places = [
        (number, cell, replicate)
        for number in range(len(tried))
        for replicate in range(study.spec.budget.replicates)
        for cell in range(len(cells))
    ]
    with ProcessPoolExecutor(workers) as pool, journal.open("a") as file:
        left = [place for place in places if place not in done]
        futures = {
            pool.submit(run_one, study_file, store, cell, tried[n], replicate): (n, cell, replicate)
            for n, cell, replicate in left
        }
        for count, future in enumerate(as_completed(futures), start=1):
            place = futures[future]
            row = dict(zip(("configuration", "cell", "replicate"), place, strict=True)) | future.result()
            done[place] = row
            print(json.dumps(row), file=file, flush=True)
            if count % 100 == 0:
                print(f"{len(places) - len(left) + count} of {len(places)}", flush=True)
    frame = pd.DataFrame([done[place] for place in places])
    frame["config"] = [json.dumps(tried[n], sort_keys=True) for n in frame["configuration"]]
    frame["cell"] = [cells[cell].name for cell in frame["cell"]]
    return frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="?", default=STUDY)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--output", type=Path)
    parser.add_argument("--journal", type=Path, help="default: runs/NAME.jsonl")
    arguments = parser.parse_args()
    study = load_study(arguments.study)
    output = arguments.output or ROOT / "docs" / "results" / f"{study.spec.name}.parquet"
    journal = arguments.journal or ROOT / "runs" / f"{study.spec.name}.jsonl"
    journal.parent.mkdir(parents=True, exist_ok=True)
    frame = build(arguments.study, study, arguments.workers, journal, ROOT / "runs" / "originals")
    frame.to_parquet(output, index=False, compression="zstd")
    print(machine())
    print(f"{len(frame)} runs, {frame['seconds'].sum() / 3600:.1f} CPU hours; {output}")


if __name__ == "__main__":
    main()
