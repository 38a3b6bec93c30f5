"""What a study exports, replayed on the tables of `search_table.py`: how good it truly is, how often it is worse than
the default, and whether the reported scores and intervals hold.

The truth of a configuration in a cell is the table's mean over replicates, continued between its points as in
`search_replay.py`. Fresh replicates, as many as a study asks for, differ from it as the table's replicates do: by what
a replicate does to all good configurations of the cell alike, so that pairing has something to take out (normal, with
the spread over the table's three), and by what replicates of a configuration about as good differed by beyond that
(drawn from them). What runs is the product's own plan, samplers, race and tables on these answers, not on training.

    python benchmarks/export_replay.py [--study studies/search-table-eu-k.yaml] [--seeds 50] [--strategies ...]

Printed for each strategy: sample passes of a study; share of cells whose export is truly worse than the default by
more than 0.01; mean true utility x healed of what is exported, and its paired difference from the strategy `--against`;
reported minus true; the share of 95 % intervals, of scores and of gains, that hold the truth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import ROOT, machine
from search_replay import Surrogate

from rem_study.results.columns import TRIALS_SCHEMA, trials_table
from rem_study.results.selection import cells_frame
from rem_study.search.jobs import OriginalJob, TrialJob
from rem_study.search.plan import GridPlan
from rem_study.seeds import derive_seed
from rem_study.spec.resolve import load_study
from rem_study.spec.space import Configuration
from rem_study.spec.study import Study
from rem_study.trial.trial import Trial, identity

STUDY = ROOT / "studies" / "search-table.yaml"
WORSE = 0.01
TRIALS = set(TRIALS_SCHEMA.names)
AS_GOOD = 11
"""Configurations of the table that are nearest in quality, from which differences between replicates are taken."""

NO_RACE = {"race.replicates": 0, "confirm.replicates": 0}
STRATEGIES: dict[str, dict[str, Any]] = {
    **{f"best of {n}": NO_RACE | {"budget.trials": n} for n in (4, 8, 16, 24, 32, 48)},
    **{f"race after {n}": {"budget.trials": n} for n in (4, 8, 16, 24, 32)},
    "race after 4, as the quickstart": {"budget.trials": 4, "race.replicates": 3, "race.top": 2},
    "best of 8 on 2": NO_RACE | {"budget.trials": 8, "budget.replicates": 2},
    "best of 12 on 2": NO_RACE | {"budget.trials": 12, "budget.replicates": 2},
    "race after 6 on 2": {"budget.trials": 6, "budget.replicates": 2},
}


class World:
    """A table, with as many replicates as one likes."""

    def __init__(self, study: Study) -> None:
        ((_, space),) = study.spaces.items()
        self.surrogate = Surrogate(pd.read_parquet(ROOT / "docs" / "results" / f"{study.spec.name}.parquet"), space)
        self.default = space.defaults
        self._places = {name: place for place, name in enumerate(self.surrogate.cells)}
        means, deviations = self.surrogate.measured  # (2, points, cells), (2, points, cells, replicates)
        count = deviations.shape[-1]
        deviations = deviations * (count / (count - 1)) ** 0.5  # from the mean of `count`, not from the truth
        good = means[1] >= np.median(means[1], axis=0)
        common = np.stack(
            [deviations[:, good[:, cell], cell].mean(axis=1) for cell in range(means.shape[2])], axis=1
        )  # (2, cells, replicates)
        self._own = deviations - common[:, None]
        self._common = (common**2).mean(axis=2) ** 0.5  # (2, cells); score and report move together
        self._quality = means[1]

    def truth(self, configuration: Configuration, cell: str) -> float:
        """The mean utility x healed on the report split."""
        return float(self.surrogate.mean(configuration)[1, self._places[cell]])

    def passes(self, configuration: Configuration, cell: str) -> float:
        """Sample passes of one run."""
        return float(self.surrogate.mean(configuration)[2, self._places[cell]])

    def run(self, configuration: Configuration, cell: str, replicate: int, seed: int) -> tuple[float, float]:
        """Score (selection split) and utility x healed (report split) of one replicate."""
        place = self._places[cell]
        shared = np.random.default_rng(derive_seed(seed, cell, replicate))
        own = np.random.default_rng(derive_seed(seed, cell, replicate, json.dumps(configuration, sort_keys=True)))
        mean = self.surrogate.mean(configuration)[:2, place]
        nearest = np.argsort(np.abs(self._quality[:, place] - mean[1]), kind="stable")[:AS_GOOD]
        differs = self._own[:, own.choice(nearest), place, own.integers(self._own.shape[-1])]
        score, report = mean + differs + self._common[:, place] * shared.standard_normal()
        return float(score), float(report)


@cache
def world(study: Path) -> World:
    """Of a study file's table."""
    return World(load_study(study))


@dataclass(frozen=True)
class Exported:
    """What became of one cell."""

    true: float
    default: float
    reported: float
    chosen: str
    covered: bool | None
    gain_covered: bool | None


def replay(file: Path, fields: dict[str, Any], seed: int) -> tuple[float, list[Exported]]:
    """Sample passes of one study, and what it exports for each cell."""
    changes = {
        "budget.in_flight": 1,
        "sampler.name": "tpe",
        "seed": seed,
        "race.replicates": 4,
        "confirm.replicates": 3,
    }
    study = load_study(file, tuple(f"{key}={value}" for key, value in (changes | fields).items()))
    spec, answers = study.spec, world(file)
    plan = GridPlan(study, [OriginalJob(c.name, r) for c in spec.corruptions for r in range(spec.confirmed.stop)], [])
    rows: list[dict[str, Any]] = []
    spent = 0.0
    while (job := plan.next_job()) is not None:
        assert isinstance(job, TrialJob)
        score, report = answers.run(job.configuration, job.cell, job.replicate, seed)
        passes = answers.passes(job.configuration, job.cell)
        spent += passes
        trial = Trial(plan.cells[job.cell], job.method, job.configuration, job.replicate)
        row = identity(spec, trial, job.trial, job.phase, job.proposed_by)
        row |= {"state": "complete", "seconds": 1.0, "sample_passes": int(passes), "score": score}
        row |= {
            "score_healed": score,
            "score_utility": 1.0,
            "utility_x_healed": report,
            "healed": report,
            "utility": 1.0,
        }
        rows.append(row)
        plan.replicate_done(row)
    kept = [{name: row[name] for name in row if name in TRIALS} for row in rows]
    cells = cells_frame(trials_table(kept).to_pandas())
    return spent, [_exported(row, answers) for _, row in cells.iterrows()]


def _exported(row: pd.Series, answers: World) -> Exported:
    configuration = json.loads(row["config"])
    true = answers.truth(configuration, row["cell"])
    default = answers.truth(answers.default, row["cell"])

    def holds(name: str, value: float) -> bool | None:
        return None if pd.isna(row[f"{name}_low"]) else bool(row[f"{name}_low"] <= value <= row[f"{name}_high"])

    gain = holds("gain", true - default) if row["chosen"] != "default" else None
    return Exported(true, default, row["utility_x_healed"], row["chosen"], holds("utility_x_healed", true), gain)


def share(values: list[bool | None]) -> str:
    """Of those that are known, as a share and their number."""
    known = [value for value in values if value is not None]
    return f"{statistics.fmean(known):.3f} of {len(known)}" if known else ""


def mean_and_error(values: list[float]) -> str:
    """Mean over studies and its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.fmean(values):.4f} ± {error:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=STUDY)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--against", choices=list(STRATEGIES), default="best of 16")
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    found: dict[str, list[tuple[float, list[Exported]]]] = {}
    with ProcessPoolExecutor(arguments.workers) as pool:
        for name in dict.fromkeys([arguments.against, *arguments.strategies]):
            start = time.perf_counter()
            found[name] = list(pool.map(partial(replay, arguments.study, STRATEGIES[name]), range(arguments.seeds)))
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    first = found[arguments.against][0][1]
    print(machine())
    default = statistics.fmean(cell.default for cell in first)
    print(f"{arguments.study.name}, {arguments.seeds} seeds, {len(first)} cells; the default is worth {default:.4f}\n")
    print(
        "| strategy | M sample passes | exports worse than the default | another than the default | true quality | "
        f"against {arguments.against} | reported - true | intervals that hold | of gains |\n|{'---|' * 9}"
    )
    base = [statistics.fmean(cell.true for cell in cells) for _, cells in found[arguments.against]]
    for name, studies in found.items():
        cells = [cell for _, own in studies for cell in own]
        quality = [statistics.fmean(cell.true for cell in own) for _, own in studies]
        columns = [
            name,
            f"{statistics.fmean(spent for spent, _ in studies) / 1e6:.2f}",
            f"{statistics.fmean(cell.true < cell.default - WORSE for cell in cells):.1%}",
            f"{statistics.fmean(cell.chosen != 'default' for cell in cells):.0%}",
            mean_and_error(quality),
            mean_and_error([own - other for own, other in zip(quality, base, strict=True)]),
            mean_and_error([statistics.fmean(cell.reported - cell.true for cell in own) for _, own in studies]),
            share([cell.covered for cell in cells]),
            share([cell.gain_covered for cell in cells]),
        ]
        print(f"| {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
