"""How well the corruption that nobody knows is found: healed networks against the original, and against cleanlab.

For each corruption, discovery rate and replicate of a study: the retained training samples are put in order by several
scores, and the undiscovered corrupted ones looked for in it. Prints, for each score, mean average precision and recall
at a precision over replicates, in each cell and over all of them; and before it, for each case, how far unlearning one
half of the known samples carries over to the other.

    python benchmarks/suspects.py [--study studies/digits-all-methods.yaml] [--set KEY.PATH=VALUE ...]
      [--replicates 3] [--rates .1 .3 .5] [--corruptions poison ...] [--methods npo scrub ...] [--precision .9]
      [--no-cleanlab] [--methods-only]

- REM: margin of the given label in the network healed by REM's defaults; of two networks that differ in their seed,
  the mean; less the original's margin; as `heal` lists them, the suspects first, after one round and, as it does
  unasked, after a second one that takes the surest suspects for known.
- other methods: margin in the network healed by their defaults.
- original: its loss and its margin on the given label.
- trained without the corrupted: margin in a network that no corrupted sample was shown: what the images allow.
- cleanlab (`pip install rem-study[test]`): confident learning (Northcutt et al. 2021, arXiv 1911.00068), its label
  quality by self-confidence and by normalised margin, from 5-fold cross-validated probabilities of networks trained
  like the original.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from common import ROOT, machine, originals
from torch import Tensor, nn

from rem_study.errors import UnlearningError
from rem_study.heal.again import joined, surest
from rem_study.heal.suspects import Suspects, Witness, find_suspects
from rem_study.heal.views import Views, suiting
from rem_study.seeds import generator
from rem_study.spec import StudySpec, load_space
from rem_study.spec.resolve import load_study
from rem_study.training import BatchLoader, train_classifier
from rem_study.trial.trial import Cell, PosedTask, pose
from rem_study.unlearning import unlearn
from rem_study.unlearning.carry_over import carry_over
from rem_study.unlearning.suspicion import average_precision, doubt, recall_at_precision, training_logits

ERASURES = 2
FOLDS = 5


def healed(posed: PosedTask, method: str, number: int) -> nn.Module:
    """The network healed by the method's defaults; erasures differ in their seed, the first has the study's."""
    network = copy.deepcopy(posed.task.network).train()
    task = replace(posed.task, network=network, seed=posed.task.seed + number, cell_cache={})
    return unlearn(method, task, load_space(method).defaults).network


def rem_scores(posed: PosedTask) -> dict[str, Tensor]:
    """Scores (N,) by name, from networks that REM healed, over the views that suit the original, as `heal` asks."""
    task, labels, known = posed.task, posed.task.data.labels, posed.task.forget_ids
    views = suiting(task.network, task.data, task.retain_ids)
    before = doubt(training_logits(task.network, task.data, task.all_ids, views), labels)
    witnesses = testimony(posed, views)
    margins = [doubt(one.logits, labels) for one in witnesses]
    mean = torch.stack(margins).mean(0)
    once = twice = find_suspects(witnesses, labels, known, before)
    if once.believable and len(more := surest(once)):
        witnesses += testimony(knowing(posed, more), views)
        twice = find_suspects(witnesses, labels, known, before)
    return {
        "REM, 1 erasure": margins[0],
        "REM, 1 erasure, less the original's margin": margins[0] - before,
        f"REM, {ERASURES} erasures": mean,
        f"REM, {ERASURES} erasures, less the original's margin": mean - before,
        f"REM, {ERASURES} erasures, as listed in 1 round": as_listed(once),
        f"REM, {ERASURES} erasures, as listed in 2 rounds": as_listed(twice),
    }


def testimony(posed: PosedTask, views: Views) -> list[Witness]:
    """What ERASURES networks say that REM healed."""
    data, known = posed.task.data, posed.task.forget_ids
    networks = [healed(posed, "rem", number) for number in range(ERASURES)]
    return [Witness(training_logits(network, data, posed.task.all_ids, views), known) for network in networks]


def knowing(posed: PosedTask, more: Tensor) -> PosedTask:
    """The same task with `more` (n,) known too, whatever they are."""
    known = joined(posed.task.forget_ids, more)
    retained = posed.task.all_ids[~torch.isin(posed.task.all_ids, known)]
    return replace(posed, task=replace(posed.task, forget_ids=known, retain_ids=retained))


def as_listed(found: Suspects) -> Tensor:
    """How early a sample comes in `heal`'s list, (N,)."""
    early = torch.empty_like(found.ids)
    early[found.ids] = torch.arange(len(early), 0, -1)
    return early


def trained(spec: StudySpec, posed: PosedTask, ids: Tensor, name: str, number: int = 0) -> nn.Module:
    """A network trained like the original, on these samples (n,) alone; with another `number` from another start."""
    network = posed.setting.fresh_network(f"{name}{number}")
    rng = generator(name, posed.setting.replicate, number)
    train_classifier(network, BatchLoader(posed.task.data, ids, spec.original.batch_size, rng), spec.original)
    return network


def uncorrupted_scores(spec: StudySpec, posed: PosedTask) -> dict[str, Tensor]:
    """The doubt (N,) of a network that was trained on none of the corrupted samples."""
    data, ids = posed.task.data, posed.task.all_ids
    network = trained(spec, posed, ids[~torch.isin(ids, posed.corruption.ids)], "uncorrupted")
    return {"trained without the corrupted, margin": doubt(training_logits(network, data, ids), data.labels)}


def cleanlab_scores(spec: StudySpec, posed: PosedTask) -> dict[str, Tensor]:
    """cleanlab's label quality, turned round, (N,), from cross-validated probabilities."""
    from cleanlab.rank import get_label_quality_scores

    data = posed.task.data
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(posed.setting.replicate))
    probabilities = torch.zeros(len(data), data.dataset.num_classes)
    for number, fold in enumerate(order.tensor_split(FOLDS)):
        rest = torch.ones(len(data), dtype=torch.bool)
        rest[fold] = False
        network = trained(spec, posed, rest.nonzero().squeeze(1), "cv", number)
        probabilities[fold] = training_logits(network, data, fold).softmax(1)
    kinds = {"self-confidence": "self_confidence", "normalised margin": "normalized_margin"}
    return {
        f"cleanlab, {told}": -torch.from_numpy(
            get_label_quality_scores(data.labels.numpy(), probabilities.double().numpy(), method=method)
        )
        for told, method in kinds.items()
    }


def original_scores(posed: PosedTask) -> dict[str, Tensor]:
    """The original's own loss and doubt of the given labels, (N,)."""
    logits, labels = training_logits(posed.task.network, posed.task.data, posed.task.all_ids), posed.task.data.labels
    loss = nn.functional.cross_entropy(logits, labels, reduction="none")
    return {"original, loss": loss, "original, margin": doubt(logits, labels)}


def show(found: Mapping[str, Mapping[str, list[tuple[float, float]]]]) -> None:
    """A Markdown table: a row a score, best mean average precision first."""
    cells = list(dict.fromkeys(cell for by_cell in found.values() for cell in by_cell))

    def means(name: str, cell: str) -> tuple[float, float]:
        values = torch.tensor(found[name][cell], dtype=torch.float64)
        return values[:, 0].mean().item(), values[:, 1].mean().item()

    def overall(name: str) -> tuple[float, float]:
        both = torch.tensor([means(name, cell) for cell in cells if cell in found[name]])
        return both[:, 0].mean().item(), both[:, 1].mean().item()

    print("| score | mean | " + " | ".join(cells) + " |\n|" + "---|" * (len(cells) + 2))
    for name in sorted(found, key=lambda name: -overall(name)[0]):
        told = ["{:.3f} / {:.3f}".format(*overall(name))]
        told += ["{:.2f} / {:.2f}".format(*means(name, cell)) if cell in found[name] else "-" for cell in cells]
        print(f"| {name} | {' | '.join(told)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=ROOT / "studies" / "digits-all-methods.yaml")
    parser.add_argument("--set", nargs="*", default=[], dest="changes", metavar="KEY.PATH=VALUE")
    parser.add_argument("--replicates", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.3, 0.5])
    parser.add_argument("--corruptions", nargs="*", help="by name; default: all of the study")
    parser.add_argument("--methods", nargs="*", default=[])
    parser.add_argument("--precision", type=float, default=0.9, help="that recall is told at")
    parser.add_argument("--no-cleanlab", action="store_true")
    parser.add_argument("--methods-only", action="store_true", help="neither REM nor what needs no healing")
    arguments = parser.parse_args()
    spec, store = load_study(arguments.study, tuple(arguments.changes)).spec, originals()
    print(machine(), flush=True)
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    wanted = [one for one in spec.corruptions if not arguments.corruptions or one.name in arguments.corruptions]
    for corruption in wanted:
        for replicate in range(arguments.replicates):
            shared: dict[str, Tensor] = {}
            for rate in arguments.rates:
                cell = Cell(corruption, rate)
                posed = pose(spec, cell, replicate, store)
                if not shared and not arguments.methods_only:
                    shared = original_scores(posed) | uncorrupted_scores(spec, posed)
                    shared |= {} if arguments.no_cleanlab else cleanlab_scores(spec, posed)
                scores = shared | ({} if arguments.methods_only else rem_scores(posed))
                for method in arguments.methods:
                    try:
                        logits = training_logits(healed(posed, method, 0), posed.task.data, posed.task.all_ids)
                    except UnlearningError as error:
                        print(f"{cell.name}, replicate {replicate}: {method} broke: {error}")
                        continue
                    scores[method] = doubt(logits, posed.task.data.labels)
                wrong = torch.isin(posed.task.retain_ids, posed.corruption.ids)
                for name, score in scores.items():
                    retained = score[posed.task.retain_ids]
                    recall = recall_at_precision(retained, wrong, arguments.precision)
                    found[name][cell.name].append((average_precision(retained, wrong), recall))
                if arguments.methods_only:
                    continue
                carried = carry_over(posed.task)
                told = ", ".join(f"{value:.2f}" for value in carried)
                mean = f"{statistics.fmean(carried):.2f}" if carried else "unknown"
                print(f"{cell.name}, replicate {replicate}: carry-over {mean} (by split: {told})", flush=True)
    show(found)


if __name__ == "__main__":
    main()
