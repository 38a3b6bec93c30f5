"""How often `heal` finds out by itself what it is not told: networks that plain PyTorch trained on corrupted digits.

For each corruption, discovery rate and seed: a ResNet-9 of an eighth of the width, trained on 1,200 digits of 12 x 12
of which 48 are corrupted (tests/doubles/corrupted.py: none of rem_study's code but the architecture); files as a user
has them; then

- `blind`: heal without --corruption and --discovery-rate, which diagnoses first;
- `told`: heal told both, so that nothing is diagnosed;
- `once`: told both, in one round instead of two;

each with --best. Healed: share of all corrupted samples, known or not, that the healed network gives their clean label;
utility: accuracy on 300 held-out digits; found: average precision, and recall at precision 0.9, of the list of
suspects.

    python benchmarks/user_cases.py --out FILE [--corruptions poison ...] [--rates .1 .3 .5] [--seeds 5]
      [--best docs/results/digits-best.yaml]

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

from rem_study.errors import InputError
from rem_study.heal.request import HealRequest, heal_checkpoint
from rem_study.models.resnet9 import ResNet9
from rem_study.unlearning.suspicion import average_precision, recall_at_precision

sys.path.insert(0, str(ROOT / "tests"))

from doubles.corrupted import CORRUPTED, MODEL, Corrupted, as_trained, corrupted_digits

CORRUPTIONS = ("random_label", "interclass_confusion", "poison")
FACTOR = 1.5
"""A discovery rate within this factor of the true one counts as found."""

Line = dict[str, Any]


def measured(network: Corrupted, known: np.ndarray, healed: Path, suspects: Path) -> Line:
    """What became of a case, from the files that `heal` wrote."""
    model = ResNet9(1, 10, 0.125)
    model.load_state_dict(torch.load(healed))
    model.eval()
    with torch.no_grad():
        seen = model(as_trained(network.files["train_images"][network.wrong])).argmax(1).numpy()
        held_out = model(as_trained(network.files["test_images"])).argmax(1).numpy()
    share = float((seen == network.clean[network.wrong]).mean())
    utility = float((held_out == network.files["test_labels"]).mean())
    with suspects.open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if int(row["id"]) not in set(known.tolist())]
    early = torch.arange(len(rows), 0, -1)
    corrupted = torch.isin(torch.tensor([int(row["id"]) for row in rows]), torch.from_numpy(network.wrong))
    return {
        "healed": share,
        "utility": utility,
        "average_precision": average_precision(early, corrupted),
        "recall": recall_at_precision(early, corrupted, 0.9),
    }


def case(corruption: str, rate: float, seed: int, best: Path) -> Line:
    """One line of the file."""
    network = corrupted_digits(corruption, seed)
    known = network.wrong[: round(rate * CORRUPTED)]
    line: Line = {"corruption": corruption, "rate": rate, "seed": seed, "known": len(known)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network.write(folder, known)
        given = (folder / "model.pt", MODEL, str(folder / "data.npz"), folder / "known.csv")

        def outcome(**options: Any) -> tuple[Line, Line]:
            written = heal_checkpoint(HealRequest(*given, mean=(0.5,), std=(0.5,), best=best, force=True, **options))
            report = json.loads(written.report.read_text())
            return measured(network, known, written.output, written.suspects), report

        told: dict[str, Any] = {"corruption": corruption, "discovery_rate": rate}
        line["blind"], report = outcome()
        line["diagnosis"] = report["diagnosis"]
        line["told"], _ = outcome(**told)
        line["once"], _ = outcome(**told, rounds=1)
    return line


def within(line: Line) -> bool:
    """Whether the diagnosed discovery rate is within FACTOR of the true one."""
    told = line["diagnosis"]["discovery_rate"]
    return told is not None and abs(math.log(told / (line["known"] / CORRUPTED))) <= math.log(FACTOR)


def product(outcome: Line) -> float:
    """Utility x healed."""
    return float(outcome["utility"] * outcome["healed"])


def show(lines: Sequence[Line]) -> None:
    """The summary: each corruption and discovery rate, and all of them."""
    heads = ["corruption", "discovery", "cases", "rate within 1.5", "kind right", "blind", "told", "once"]
    print(f"| {' | '.join([*heads, 'found, blind', 'found, once'])} |\n|{'---|' * 10}")
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
    differences = [product(line["blind"]) - product(line["told"]) for line in lines]
    spread = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    print(f"\nutility x healed, blind less told: {statistics.fmean(differences):+.3f} +- {spread:.3f}")
    for line in lines:
        if not within(line) or line["diagnosis"]["kind"] != line["corruption"]:
            diagnosis = line["diagnosis"]
            print(
                f"{line['corruption']}@{line['rate']:g}, seed {line['seed']}: rate {diagnosis['discovery_rate']} for "
                f"{line['known'] / CORRUPTED:.2f}, kind {diagnosis['kind']}; {'; '.join(diagnosis['unclear'])}"
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
    outcomes = " | ".join([*map(mean, ("blind", "told", "once")), found("blind"), found("once")])
    print(f"| {corruption} | {rate} | {len(lines)} | {rates} | {kinds} | {outcomes} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--corruptions", nargs="+", choices=CORRUPTIONS, default=CORRUPTIONS)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.3, 0.5])
    parser.add_argument("--best", type=Path, default=ROOT / "docs" / "results" / "digits-best.yaml")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    lines = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    done = {(line["corruption"], line["rate"], line["seed"]) for line in lines}
    for seed in range(arguments.seeds):
        for corruption in arguments.corruptions:
            for rate in arguments.rates:
                if (corruption, rate, seed) in done:
                    continue
                line = case(corruption, rate, seed, arguments.best)
                lines.append(line)
                with arguments.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                found = line["diagnosis"]
                print(f"{corruption}@{rate:g}, seed {seed}: {found['discovery_rate']}, {found['kind']}", flush=True)
    show(lines)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(str(error))
