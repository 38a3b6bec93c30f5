"""How often `heal` finds out by itself what it is not told: networks that plain PyTorch trained on corrupted images.

For each corruption, discovery rate and seed: a ResNet-9 of an eighth of the width, trained on 1,200 digits of 12 x 12
of which 48 are corrupted (tests/doubles/corrupted.py: none of rem_study's code but the architecture); files as a user
has them; then

- `default`: heal told nothing but the known samples, as it does unasked;
- `blind`: the same with --best, a study's configurations, of which the diagnosis says the cell;
- `told`: with --best, told corruption and discovery rate, so that nothing is diagnosed;
- `once`: told both, in one round instead of two.

With `--images cifar10` or `fashion_mnist`, whose files are in `--root`, networks at another scale
(benchmarks/plain_networks.py) instead, and `default` alone: no best.yaml is theirs. Healed: share of all
corrupted samples, known or not, that the healed network gives their clean label; utility: accuracy on held-out images;
found: average precision, and recall at precision 0.9, of the list of suspects; counted: how many others the diagnosis
estimates to be corrupted, and how many are.

    python benchmarks/user_cases.py --out FILE [--corruptions poison ...] [--rates .1 .3 .5] [--seeds 5]
      [--best docs/results/digits-best.yaml] [--images digits] [--root DATA]

A JSON line a case is appended as it ends; the same call goes on where FILE ends, and prints the summary of all of it.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import ROOT, machine
from plain_networks import PHOTOGRAPHS, corrupted_photographs

from rem_study.errors import InputError
from rem_study.heal.request import HealRequest, heal_checkpoint
from rem_study.unlearning.suspicion import average_precision, recall_at_precision

sys.path.insert(0, str(ROOT / "tests"))

from doubles.corrupted import Corrupted, as_trained, corrupted_digits

CORRUPTIONS = ("random_label", "interclass_confusion", "poison")
OUTCOMES = ("original", "default", "blind", "told", "once")
FACTOR = 1.5
"""A discovery rate within this factor of the true one counts as found."""

Line = dict[str, Any]


def quality(network: Corrupted, state: dict[str, torch.Tensor]) -> Line:
    """Healed and utility of these weights."""
    model = network.network(state)
    with torch.no_grad():
        seen = model(as_trained(network.files["train_images"][network.wrong])).argmax(1).numpy()
        held_out = model(as_trained(network.files["test_images"])).argmax(1).numpy()
    share = float((seen == network.clean[network.wrong]).mean())
    return {"healed": share, "utility": float((held_out == network.files["test_labels"]).mean())}


def measured(network: Corrupted, known: np.ndarray, healed: Path, suspects: Path) -> Line:
    """What became of a case, from the files that `heal` wrote."""
    with suspects.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if int(row["id"]) not in set(known.tolist())]
    early = torch.arange(len(rows), 0, -1)
    corrupted = torch.isin(torch.tensor([int(row["id"]) for row in rows]), torch.from_numpy(network.wrong))
    return {
        **quality(network, torch.load(healed)),
        "average_precision": average_precision(early, corrupted),
        "recall": recall_at_precision(early, corrupted, 0.9),
    }


def case(network: Corrupted, corruption: str, rate: float, seed: int, best: Path | None) -> Line:
    """One line of the file; without a `best`, `default` alone."""
    known = network.wrong[: round(rate * len(network.wrong))]
    line: Line = {
        "corruption": corruption,
        "rate": rate,
        "seed": seed,
        "known": len(known),
        "corrupted": len(network.wrong),
        "original": quality(network, network.state),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network.write(folder, known)
        given = (folder / "model.pt", network.model, network.data(folder), folder / "known.csv")

        def outcome(**options: Any) -> tuple[Line, Line]:
            written = heal_checkpoint(HealRequest(*given, mean=(0.5,), std=(0.5,), force=True, **options))
            report = json.loads(written.report.read_text())
            return measured(network, known, written.output, written.suspects), report

        line["default"], report = outcome()
        line["diagnosis"] = report["diagnosis"]
        if best is not None:
            told: dict[str, Any] = {"best": best, "corruption": corruption, "discovery_rate": rate}
            line["blind"], _ = outcome(best=best)
            line["told"], _ = outcome(**told)
            line["once"], _ = outcome(**told, rounds=1)
    return line


def within(line: Line) -> bool:
    """Whether the diagnosed discovery rate is within FACTOR of the true one."""
    told = line["diagnosis"]["discovery_rate"]
    return told is not None and abs(math.log(told / (line["known"] / line["corrupted"]))) <= math.log(FACTOR)


def product(outcome: Line) -> float:
    """Utility x healed."""
    return float(outcome["utility"] * outcome["healed"])


def show(lines: Sequence[Line]) -> None:
    """The summary: each corruption and discovery rate, and all of them."""
    heads = ["corruption", "discovery", "cases", "rate within 1.5", "kind right", "counted", *OUTCOMES]
    print(f"| {' | '.join([*heads, 'found, default', 'found, once'])} |\n|{'---|' * (len(heads) + 2)}")
    groups = sorted(
        {(line["corruption"], line["rate"]) for line in lines}, key=lambda key: (CORRUPTIONS.index(key[0]), key[1])
    )
    for corruption, rate in groups:
        row(
            [line for line in lines if (line["corruption"], line["rate"]) == (corruption, rate)],
            corruption,
            f"{rate:g}",
        )
    row(lines, "all", "")
    for kind in ("blind", "told"):
        differences = [product(line["default"]) - product(line[kind]) for line in lines if kind in line]
        spread = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
        if differences:
            print(f"\nutility x healed, default less {kind}: {statistics.fmean(differences):+.3f} +- {spread:.3f}")
    for line in lines:
        if not within(line) or line["diagnosis"]["kind"] != line["corruption"]:
            diagnosis = line["diagnosis"]
            print(
                f"{line['corruption']}@{line['rate']:g}, seed {line['seed']}: rate {diagnosis['discovery_rate']} for "
                f"{line['known'] / line['corrupted']:.2f}, kind {diagnosis['kind']}; {'; '.join(diagnosis['unclear'])}"
            )


def row(lines: Sequence[Line], corruption: str, rate: str) -> None:
    """One row of the table."""

    def mean(kind: str) -> str:
        both = [product(line[kind]) for line in lines if kind in line]
        return f"{statistics.fmean(both):.3f}" if both else "-"

    def found(kind: str) -> str:
        values = [(line[kind]["average_precision"], line[kind]["recall"]) for line in lines if kind in line]
        return " / ".join(f"{statistics.fmean(one):.2f}" for one in zip(*values, strict=True)) if values else "-"

    rates, kinds = (
        sum(map(test, lines)) for test in (within, lambda line: line["diagnosis"]["kind"] == line["corruption"])
    )
    counted = statistics.fmean(line["diagnosis"]["suspects"]["estimate"] for line in lines)
    others = statistics.fmean(line["corrupted"] - line["known"] for line in lines)
    outcomes = " | ".join([*map(mean, OUTCOMES), found("default"), found("once")])
    print(f"| {corruption} | {rate} | {len(lines)} | {rates} | {kinds} | {counted:.0f} for {others:.0f} | {outcomes} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--corruptions", nargs="+", choices=CORRUPTIONS, default=CORRUPTIONS)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.3, 0.5])
    parser.add_argument("--best", type=Path, help="of digits; default: docs/results/digits-best.yaml")
    parser.add_argument("--images", choices=["digits", *PHOTOGRAPHS], default="digits")
    parser.add_argument("--root", type=Path, default=Path("data"))
    arguments = parser.parse_args()
    best = arguments.best
    if arguments.images == "digits":
        best = best or ROOT / "docs" / "results" / "digits-best.yaml"
    elif best is not None:
        parser.error("--best: is for digits alone")

    def made(corruption: str, seed: int) -> Corrupted:
        if arguments.images == "digits":
            return corrupted_digits(corruption, seed)
        return corrupted_photographs(arguments.images, arguments.root, corruption, seed)

    print(machine(), flush=True)
    lines = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    done = {(line["corruption"], line["rate"], line["seed"]) for line in lines}
    for seed in range(arguments.seeds):
        for corruption in arguments.corruptions:
            for rate in arguments.rates:
                if (corruption, rate, seed) in done:
                    continue
                line = case(made(corruption, seed), corruption, rate, seed, best)
                lines.append(line)
                with arguments.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                found = line["diagnosis"]
                more = f"{found['suspects']['estimate']} for {line['corrupted'] - line['known']}"
                what = f"{found['discovery_rate']}, {found['kind']}, {more}"
                print(f"{corruption}@{rate:g}, seed {seed}: {what}", flush=True)
    show(lines)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
