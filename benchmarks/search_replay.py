"""Search strategies replayed on the table of `search_table.py`: what a search spends to get as far as random search.

The table is continued between its points by extremely randomised trees, for the selection score, the reported utility ×
healed and the sample passes. A strategy is a study file's fields; what runs is the product's own plan,
samplers and pruners, on these answers instead of training. Quality at any moment: the reported score of
each cell's best configuration so far (by its selection score, whole trials only), averaged over the cells.

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

from rem_study.search.jobs import OriginalJob, TrialJob
from rem_study.search.plan import GridPlan
from rem_study.spec.resolve import load_study
from rem_study.spec.space import CategoricalParameter, Configuration, SearchSpace
from rem_study.spec.study import Study
from rem_study.storage.canonical import canonical_json

STUDY = ROOT / "studies" / "search-table.yaml"
TABLE = ROOT / "docs" / "results" / "search-table.parquet"
TARGETS = ["score_oracle", "utility_x_healed", "sample_passes"]
BUDGET = 64

MEDIAN = {"pruner": {"name": "median"}}
QUARTER = {"pruner": {"name": "percentile"}}
NEIGHBOURS = {"neighbours": {"from_trial": 4}}
STRATEGIES: dict[str, dict[str, Any]] = {
    "random": {"sampler": {"name": "random"}},
    "random + pruning": {"sampler": {"name": "random"}} | MEDIAN,
    "qmc": {"sampler": {"name": "qmc"}},
    "tpe": {},
    "tpe + pruning": MEDIAN,
    "tpe + pruning (best quarter)": QUARTER,
    "tpe + transfer": NEIGHBOURS,
    "tpe + pruning + transfer": MEDIAN | NEIGHBOURS,
    "gp": {"sampler": {"name": "gp"}},
    "gp + pruning (best quarter)": {"sampler": {"name": "gp"}} | QUARTER,
    "gp + pruning + transfer": {"sampler": {"name": "gp"}} | MEDIAN | NEIGHBOURS,
}


class Surrogate:
    """The table, continued between its points. Means over replicates come from trees that know all cells' answers to a
    configuration; how each replicate differs from them is taken from the nearest point of the table, so that a trial's
    replicates disagree as much as real ones do.

    Attributes:
        measured: of score and utility x healed, the means at the table's points (2, points, cells) and how each
            replicate differs from them (2, points, cells, replicates).
    """

    def __init__(self, rows: pd.DataFrame, space: SearchSpace) -> None:
        self._space = space
        wide = rows.fillna(dict.fromkeys(TARGETS, 0.0)).pivot(  # a failed run is worth nothing
            index="config", columns=["cell", "replicate"], values=TARGETS
        )
        self.cells = sorted(rows["cell"].unique())
        self._points = np.stack([self._encode(json.loads(config)) for config in wide.index])
        self._spread = np.maximum(self._points.std(axis=0), 1e-9)
        ordered = wide.reindex(
            columns=pd.MultiIndex.from_product([TARGETS, self.cells, sorted(rows["replicate"].unique())])
        )
        measured = ordered.to_numpy().reshape(len(wide), len(TARGETS), len(self.cells), -1)
        means = measured.mean(axis=3)
        self._deviations = measured - means[..., None]
        self.measured = means.transpose(1, 0, 2)[:2], self._deviations.transpose(1, 0, 2, 3)[:2]
        forest = partial(ExtraTreesRegressor, 100, min_samples_leaf=2, random_state=0)
        self._forests = [  # sample passes apart: they would decide every split of a forest for all
            forest().fit(self._points, part.reshape(len(wide), -1)) for part in (means[:, :-1], means[:, -1:])
        ]
        self._known: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def mean(self, configuration: Configuration) -> np.ndarray:
        """(targets, cells): what replicates come to on average."""
        return self._answer(configuration)[0]

    def __call__(self, configuration: Configuration) -> np.ndarray:
        """(targets, cells, replicates)."""
        return self._answer(configuration)[1]

    def _answer(self, configuration: Configuration) -> tuple[np.ndarray, np.ndarray]:
        key = canonical_json(configuration)
        if key not in self._known:
            point = self._encode(configuration)
            answers = [_mean_of_trees(one, point).reshape(-1, len(self.cells)) for one in self._forests]
            nearest = (((self._points - point) / self._spread) ** 2).sum(axis=1).argmin()
            means = np.concatenate(answers)
            self._known[key] = means, means[..., None] + self._deviations[nearest]
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


def _mean_of_trees(forest: ExtraTreesRegressor, point: np.ndarray) -> np.ndarray:
    """The forest at one point, tree by tree: its own `predict` starts threads, to be fast at many points at once."""
    one = point[None].astype(np.float32)
    return np.mean([tree.predict(one, check_input=False)[0] for tree in forest.estimators_], axis=0)


@cache
def surrogate() -> Surrogate:
    """Of the whole table."""
    return Surrogate(pd.read_parquet(TABLE), load_study(STUDY).spaces["rem"])


def fidelity(folds: int = 8) -> tuple[float, float]:
    """How well the continuation foretells points it has not seen: rank correlation with the measured utility × healed
    (mean over replicates), and its root mean square error; means over cells."""
    table, space = pd.read_parquet(TABLE), load_study(STUDY).spaces["rem"]
    measured = table.fillna({"utility_x_healed": 0.0}).pivot_table(
        index="config", columns="cell", values="utility_x_healed", aggfunc="mean"
    )
    foretold = pd.DataFrame(index=measured.index, columns=measured.columns, dtype=float)
    for fold in range(folds):
        hidden = table["configuration"] % folds == fold
        fitted = Surrogate(table[~hidden], space)
        for config in table.loc[hidden, "config"].unique():
            foretold.loc[config, fitted.cells] = fitted(json.loads(config))[1].mean(axis=1)
    correlation = measured.corrwith(foretold, method="spearman").mean()
    return float(correlation), float((((measured - foretold) ** 2).mean() ** 0.5).mean())


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
    answers, spent, curve = surrogate(), 0.0, []
    best: dict[str, tuple[float, float]] = {}
    whole: list[tuple[str, int, Configuration]] = []
    plan.settled = lambda key, state: whole.append((key[0], key[3], {})) if state == "complete" else None
    while (job := plan.next_job()) is not None:
        assert isinstance(job, TrialJob)
        place = answers.cells.index(job.cell)
        score, _, passes = answers(job.configuration)[:, place, job.replicate]
        spent += passes
        row = {name: getattr(job, name) for name in ("cell", "method", "phase", "trial", "replicate", "proposed_by")}
        row |= {"config": job.configuration, "state": "complete", "sample_passes": int(passes), "seconds": 1.0}
        plan.replicate_done(row | {"score": score, "score_healed": score, "score_utility": 1.0})
        if whole:
            whole.clear()
            scores, reports, _ = answers(job.configuration)[:, place]
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
    correlation, error = fidelity()
    print(f"the table's continuation at unseen points: rank correlation {correlation:.2f}, error {error:.3f}")
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
