"""Search strategies replayed on the table of `search_table.py`: what a search spends to get as far as random search.

Each cell's table is continued between its points by extremely randomised trees, one output a replicate, for the
selection score, the reported utility × healed and the sample passes. A strategy is a study file's fields; what runs is
the product's own plan, samplers and pruners, on these answers instead of training. Quality at any moment: the reported
score of each cell's best configuration so far (by its selection score, whole trials only), averaged over the cells.

Printed for each strategy: the final quality, and the sample passes at which its mean curve first reaches what random
search has at the end of its whole budget (64 trials a cell, 3 replicates), as a share of what random search spends.

    python benchmarks/search_replay.py [--seeds 20] [--strategies tpe gp ...]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import ROOT, machine
from sklearn.ensemble import ExtraTreesRegressor

from rem_study.search.plan import GridPlan, OriginalJob, TrialJob
from rem_study.space import CategoricalParameter, Configuration, SearchSpace
from rem_study.spec import Study, canonical_json, load_study

STUDY = ROOT / "studies" / "search-table.yaml"
TABLE = ROOT / "docs" / "results" / "search-table.parquet"
TARGETS = ["score_oracle", "utility_x_healed", "sample_passes"]
BUDGET = 64

MEDIAN = {"pruner": {"name": "median"}}
NEIGHBOURS = {"neighbours": {"from_trial": 4}}
STRATEGIES: dict[str, dict[str, Any]] = {
    "random": {"sampler": {"name": "random"}},
    "random + pruning": {"sampler": {"name": "random"}} | MEDIAN,
    "qmc": {"sampler": {"name": "qmc"}},
    "tpe": {},
    "tpe + pruning": MEDIAN,
    "tpe + transfer": NEIGHBOURS,
    "tpe + pruning + transfer": MEDIAN | NEIGHBOURS,
    "gp": {"sampler": {"name": "gp"}},
    "gp + pruning + transfer": {"sampler": {"name": "gp"}} | MEDIAN | NEIGHBOURS,
}


class Surrogate:
    """The table of one cell, continued between its points."""

    def __init__(self, rows: pd.DataFrame, space: SearchSpace, replicates: int) -> None:
        self._space = space
        wide = rows.pivot(index="config", columns="replicate", values=TARGETS)
        answers = wide.fillna({name: 0.0 for name in wide.columns}).to_numpy()  # a failed run is worth nothing
        points = np.stack([self._encode(json.loads(config)) for config in wide.index])
        self._trees = ExtraTreesRegressor(100, min_samples_leaf=2, random_state=0).fit(points, answers)
        self._shape = (len(TARGETS), replicates)
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """(targets, replicates)."""
        key = canonical_json(configuration)
        if key not in self._known:
            self._known[key] = self._trees.predict(self._encode(configuration)[None])[0].reshape(self._shape)
        return self._known[key]

    def _encode(self, configuration: Configuration) -> np.ndarray:
        """Numbers on their own scale, choices as one column each; what is inactive stands at its default."""
        columns: list[float] = []
        for name, parameter in self._space.parameters.items():
            if not parameter.search:
                continue
            value = configuration[name] if self._space.is_active(name, configuration) else parameter.default
            if isinstance(parameter, CategoricalParameter):
                columns += [float(value == choice) for choice in parameter.choices]
            else:
                columns.append(np.log(float(value)) if parameter.log else float(value))
        return np.array(columns)


@cache
def surrogates() -> dict[str, Surrogate]:
    """By cell."""
    table, study = pd.read_parquet(TABLE), load_study(STUDY)
    replicates = study.spec.budget.replicates
    return {str(cell): Surrogate(rows, study.spaces["rem"], replicates) for cell, rows in table.groupby("cell")}


def make_study(fields: dict[str, Any], seed: int) -> Study:
    """The table's study with another way of searching."""
    changes = {"budget.trials": BUDGET, "budget.in_flight": 1, "seed": seed, "sampler.name": "tpe"}
    changes |= {f"{part}.{name}": value for part, inner in fields.items() for name, value in inner.items()}
    return load_study(STUDY, tuple(f"{key}={value}" for key, value in changes.items()))


def replay(fields: dict[str, Any], seed: int) -> list[tuple[float, float]]:
    """(sample passes so far, quality) after each replicate, once every cell has a whole trial."""
    study = make_study(fields, seed)
    replicates = range(study.spec.budget.replicates)
    plan = GridPlan(study, [OriginalJob(c.name, r) for c in study.spec.corruptions for r in replicates], [])
    answers, spent, curve = surrogates(), 0.0, []
    best: dict[str, tuple[float, float]] = {}
    whole: list[tuple[str, int, Configuration]] = []
    plan.settled = lambda key, state: whole.append((key[0], key[3], {})) if state == "complete" else None
    while (job := plan.next_job()) is not None:
        assert isinstance(job, TrialJob)
        score, _, passes = answers[job.cell](job.configuration)[:, job.replicate]
        spent += passes
        row = {name: getattr(job, name) for name in ("cell", "method", "phase", "trial", "replicate", "proposed_by")}
        row |= {"config": job.configuration, "state": "complete", "sample_passes": int(passes), "seconds": 1.0}
        plan.replicate_done(row | {"score": score, "score_healed": score, "score_utility": 1.0})
        if whole:
            whole.clear()
            scores, reports, _ = answers[job.cell](job.configuration)
            candidate = float(scores.mean()), float(reports.mean())
            best[job.cell] = max(best.get(job.cell, candidate), candidate)
        if len(best) == len(plan.cells):
            curve.append((spent, statistics.fmean(report for _, report in best.values())))
    return curve


def mean_curve(curves: list[list[tuple[float, float]]], grid: np.ndarray) -> np.ndarray:
    """The mean quality at each spending of `grid`; a search that has ended keeps what it has."""
    steps = []
    for curve in curves:
        spent, quality = np.array(curve).T
        place = np.searchsorted(spent, grid, side="right") - 1
        steps.append(np.where(place >= 0, quality[np.maximum(place, 0)], np.nan))
    return np.nanmean(np.stack(steps), axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--output", type=Path, help="write the mean curves there, as CSV")
    arguments = parser.parse_args()
    curves = {}
    with ProcessPoolExecutor() as pool:
        for name in dict.fromkeys(["random", *arguments.strategies]):
            start = time.perf_counter()
            curves[name] = list(pool.map(partial(replay, STRATEGIES[name]), range(arguments.seeds)))
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    target = statistics.fmean(curve[-1][1] for curve in curves["random"])
    budget = statistics.fmean(curve[-1][0] for curve in curves["random"])
    grid = np.linspace(0, budget, 2001)[1:]
    print(machine())
    print(f"{arguments.seeds} seeds; random search ends at {target:.4f} after {budget / 1e6:.2f} M sample passes\n")
    print("| strategy | final quality | its spending | at a quarter of the budget | reaches random's end at |")
    print("|---|---|---|---|---|")
    table = {}
    for name, own in curves.items():
        mean = table[name] = mean_curve(own, grid)
        finals = [curve[-1][1] for curve in own]
        error = statistics.stdev(finals) / len(finals) ** 0.5 if len(finals) > 1 else float("nan")
        reached = np.flatnonzero(mean >= target)
        share = f"{grid[reached[0]] / budget:.2f}" if len(reached) else "never"
        spending = statistics.fmean(curve[-1][0] for curve in own) / budget
        quarter = mean[len(grid) // 4 - 1]
        print(f"| {name} | {statistics.fmean(finals):.4f} ± {error:.4f} | {spending:.2f} | {quarter:.4f} | {share} |")
    if arguments.output:
        pd.DataFrame(table, index=pd.Index(grid, name="sample_passes")).to_csv(arguments.output)


if __name__ == "__main__":
    main()
