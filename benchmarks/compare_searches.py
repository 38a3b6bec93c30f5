"""One study searched in several ways, really run: how far each way is after every trial, and what it has spent.

Quality after n trials: the reported utility × healed of each cell's best trial so far (by its selection score, whole
trials only), averaged over cells and methods. Each way is a name and fields of the study file; the first one's end is
what the others are measured against. A study that stands in ROOT already is not run again.

    python benchmarks/compare_searches.py STUDY ROOT "random: sampler.name=random" "tpe: pruner.name=median" [--set ...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import ray
from common import machine

from rem_study.results.columns import KEY
from rem_study.results.read import read_table
from rem_study.results.selection import trial_means
from rem_study.study.launch import launch


def progress(trials: pd.DataFrame) -> pd.DataFrame:
    """By number of trials a cell and method: `quality` and `sample_passes` (of all trials so far, whole or not)."""
    means = trial_means(trials)
    spent = trials[trials["phase"] == "search"].groupby("trial")["sample_passes"].sum().cumsum()
    whole = means[means["finished"]].sort_values([*KEY, "trial"])
    rows = []
    for trial, passes in spent.items():
        so_far = whole[whole["trial"] <= trial]
        best = so_far.loc[so_far.groupby(KEY)["score"].idxmax()]
        rows.append({"trials": int(trial) + 1, "quality": best["utility_x_healed"].mean(), "sample_passes": passes})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("ways", nargs="+", help='"NAME: key.path=value key.path=value ..."')
    parser.add_argument("--set", action="append", default=[], help="for all ways: key.path=value")
    arguments = parser.parse_args()
    print(machine())
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    found = {}
    for way in arguments.ways:
        name, _, fields = (part.strip() for part in way.partition(":"))
        overrides = (*arguments.set, *fields.split())
        folder = launch(arguments.study, arguments.root, f"{arguments.study.stem}-{name}", overrides=overrides).folder
        found[name] = progress(read_table(folder, "trials.parquet"))
    base = next(iter(found.values())).iloc[-1]
    print("\n| search | " + " | ".join(f"{n} trials" for n in next(iter(found.values()))["trials"]), end=" | ")
    print("sample passes | reaches the first one's end after |")
    print("|---" * (len(next(iter(found.values()))) + 3) + "|")
    for name, table in found.items():
        reached = table[table["quality"] >= base["quality"]]
        after = "never"
        if len(reached):
            first = reached.iloc[0]
            share = first["sample_passes"] / base["sample_passes"]
            after = f"{first['trials']:.0f} trials, {share:.2f} of its sample passes"
        qualities = " | ".join(f"{value:.3f}" for value in table["quality"])
        print(f"| {name} | {qualities} | {table['sample_passes'].iloc[-1] / 1e3:.0f} k | {after} |")


if __name__ == "__main__":
    main()
