"""One configuration in one cell: a pure function of its inputs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rem_study.data import CorruptedTrainingSet, Corruption
from rem_study.data.dataset import report_half
from rem_study.errors import UnlearningError
from rem_study.seeds import derive_seed, generator
from rem_study.spec import Configuration, StudySpec, cell_name
from rem_study.spec.study import CorruptionSpec
from rem_study.training import accuracy, computing_in, predict, test_predictions
from rem_study.trial.cell_cache import CellCaches
from rem_study.trial.originals import Original, OriginalStore, Setting
from rem_study.unlearning import Predict, UnlearningTask, unlearn
from rem_study.unlearning.suspicion import average_precision, doubt, recall_at_precision, training_logits

_CELL_CACHES = CellCaches(limit=2**30)
FOUND_PRECISION = 0.9
"""Of the list of suspects whose recall is `found_recall`."""
ROUNDING = 1e-9  # of shares, lest a loss of exactly the allowed one count as more


@dataclass(frozen=True)
class Cell:
    """One (corruption, discovery rate) of the grid."""

    corruption: CorruptionSpec
    discovery_rate: float

    @property
    def name(self) -> str:
        """What tables and pictures call it: `poison@0.1`."""
        return cell_name(self.corruption.name, self.discovery_rate)


def cells_of(spec: StudySpec) -> list[Cell]:
    """The grid, corruption by corruption."""
    return [Cell(corruption, rate) for corruption in spec.corruptions for rate in spec.discovery_rates]


@dataclass(frozen=True)
class Trial:
    """What is to run: one configuration in one cell, on one replicate."""

    cell: Cell
    method: str
    configuration: Configuration
    replicate: int


def identity(spec: StudySpec, trial: Trial, number: int, phase: str, proposed_by: str) -> dict[str, Any]:
    """The columns that say which replicate of which trial of which study a row is."""
    return {
        "study": spec.name,
        "dataset": spec.data.name,
        "model": spec.model.name,
        "corruption": trial.cell.corruption.name,
        "discovery_rate": trial.cell.discovery_rate,
        "cell": trial.cell.name,
        "method": trial.method,
        "trial": number,
        "phase": phase,
        "proposed_by": proposed_by,
        "replicate": trial.replicate,
        "config": trial.configuration,
    }


@dataclass(frozen=True)
class PosedTask:
    """The task that a cell poses to any method on one replicate, and what its results are judged with."""

    task: UnlearningTask
    setting: Setting
    corruption: Corruption
    original: Original


def pose(spec: StudySpec, cell: Cell, replicate: int, originals: OriginalStore, device: str = "cpu") -> PosedTask:
    """Set up the unlearning task of `cell`, its original trained if need be."""
    setting = Setting(spec, cell.corruption, replicate, device, originals)
    original = originals.obtain(setting)
    corruption = setting.draw()
    data = CorruptedTrainingSet(setting.dataset, corruption)
    forget_ids, retain_ids = split_ids(corruption, cell.discovery_rate, len(data))
    network = setting.fresh_network("original")
    network.load_state_dict(original.state)
    network.train()
    task = UnlearningTask(
        network=network,
        data=data,
        forget_ids=forget_ids.to(data.device),
        retain_ids=retain_ids.to(data.device),
        recipe=spec.original,
        seed=derive_seed("unlearning", spec.seed, replicate),
        fresh_network=lambda: setting.fresh_network("retrain"),
        corrupted_ids=corruption.ids.to(data.device),
        cell_cache=_CELL_CACHES.of((setting.key(), cell.discovery_rate, device)),
        precision=spec.precision,
        compile=spec.compile,
    )
    return PosedTask(task, setting, corruption, original)


def run_trial(spec: StudySpec, trial: Trial, originals: OriginalStore, device: str = "cpu") -> dict[str, Any]:
    """Unlearn and evaluate one replicate of a trial.

    Returns:
        the measured columns of trials.parquet, with `state` `complete`, or `failed` and the reason in `error`.
        `healed*`, `utility*`, `test_accuracy`, `attack_*` and `found_*` are on the report split, and `*_samples`
        counts what is behind them there; `score_oracle` is on the selection split; `score_deployable` uses given
        labels only; `score` is the one of them that the study searches by, and `score_healed` and `score_utility` are
        its factors. By the paper's protocol both splits are all samples. Where `score_utility` lies more than the
        study's `max_utility_loss` below the original's, `score` is 0. What needs clean labels is None where nobody
        knows them, `attack_*` where the corruption has no trigger, `found_*` where nothing is undiscovered.
    """
    posed = pose(spec, trial.cell, trial.replicate, originals, device)
    wrong_ids, wrong_labels = posed.corruption.ids.to(device), posed.corruption.labels.to(device)
    curves: dict[str, list[float]] = {}

    def observe(predictions: Mapping[str, Predict]) -> None:
        for name, predict_ids in predictions.items():
            curves.setdefault(name, []).append(round(accuracy(predict_ids(wrong_ids), wrong_labels), 6))

    posed.task.observe = observe
    row: dict[str, Any] = {
        "regularity": posed.original.facts["regularity"],
        "regularity_rank": trial.cell.corruption.regularity_rank,
        "memorised": posed.original.facts["memorised"],
        "carry_over": posed.original.facts.get("carry_over"),
        "state": "complete",
        "error": None,
        "curves": None,
    }
    least_utility = -math.inf
    if spec.max_utility_loss is not None:
        least_utility = _tested(posed.task.network, spec, posed.setting, posed.corruption).selection_utility
        least_utility -= spec.max_utility_loss + ROUNDING
    start = time.perf_counter()
    try:
        unlearned = unlearn(trial.method, posed.task, trial.configuration)
    except UnlearningError as error:
        return row | {"state": "failed", "error": str(error), "seconds": time.perf_counter() - start}
    row |= evaluate(unlearned.network, spec, trial.cell, posed.setting, posed.corruption)
    if (row["score_utility"] or 0.0) < least_utility:
        row["score"] = 0.0
    row |= {
        "epochs": float(unlearned.epochs),
        "sample_passes": unlearned.sample_passes,
        "curves": curves or None,
    }
    return row | {"seconds": time.perf_counter() - start}


def split_ids(corruption: Corruption, discovery_rate: float, total: int) -> tuple[Tensor, Tensor]:
    """Forget ids and retain ids, int64, of a training set of `total` samples."""
    forget = corruption.ids[: corruption.discovered(discovery_rate)]
    retained = torch.ones(total, dtype=torch.bool)
    retained[forget] = False
    return forget, retained.nonzero().squeeze(1)


def evaluate(
    network: torch.nn.Module, spec: StudySpec, cell: Cell, setting: Setting, corruption: Corruption
) -> dict[str, float | int | None]:
    """Every measured quality of a healed network, each on its split (see `run_trial`); None where undefined.

    `attack_success` is the share of clean test images, true class not the target, that get the target once the trigger
    is on them: the attack success rate of Gu et al. 2017 (arXiv 1708.06733). `found_*` say how well the doubts of the
    network (`suspicion.doubt`) find undiscovered corrupted samples among the retained ones of the report split.
    """
    dataset = setting.dataset
    data = CorruptedTrainingSet(dataset, corruption)
    everything = torch.arange(len(data), device=data.device)
    with computing_in(spec.precision, data.device):
        logits = training_logits(network, data, everything)
    train = logits.argmax(1)
    given = data.labels.cpu()
    forget, retain = split_ids(corruption, cell.discovery_rate, len(data))
    tested = _tested(network, spec, setting, corruption)

    position = torch.arange(len(corruption.ids))
    reported, discovered = position % 2 == 1, position < len(forget)
    selected = ~reported
    if spec.protocol == "paper":
        selected = reported = torch.ones_like(reported)
    if corruption.clean_labels is None:
        healed = torch.full((len(position),), math.nan)
    else:
        healed = train[corruption.ids] == corruption.clean_labels
    attacked = _attacked(network, spec, setting, corruption)
    judged = retain[_reported_training(spec, corruption, len(data))[retain]]
    doubts, undiscovered = doubt(logits, given)[judged], torch.isin(judged, corruption.ids)

    scores = {
        "healed": _share(healed, reported),
        "healed_discovered": _share(healed, reported & discovered),
        "healed_undiscovered": _share(healed, reported & ~discovered),
        "utility": tested.report_utility,
        "test_accuracy": tested.report_accuracy,
        "attack_success": math.nan if attacked is None else attacked.double().mean().item(),
        "found_average_precision": average_precision(doubts, undiscovered),
        "found_recall": recall_at_precision(doubts, undiscovered, FOUND_PRECISION),
        "forget_accuracy": accuracy(train[forget], given[forget]),
        "retain_accuracy": accuracy(train[retain], given[retain]),
    }
    scores["utility_x_healed"] = scores["utility"] * scores["healed"]
    chance = 1 / dataset.num_classes
    factors = {
        "score_oracle": (_share(healed, selected), tested.selection_utility),
        "score_deployable": (1 - max(scores["forget_accuracy"], chance), scores["retain_accuracy"]),
    }
    scores |= {name: healing * keeping for name, (healing, keeping) in factors.items()}
    scores["score_healed"], scores["score_utility"] = factors[spec.objective]
    scores["score"] = scores[spec.objective]
    known = corruption.clean_labels is not None
    samples = {
        "healed_samples": int(reported.sum()) if known else None,
        "healed_discovered_samples": int((reported & discovered).sum()) if known else None,
        "utility_samples": tested.report_samples,
        "attack_samples": None if attacked is None else len(attacked),
    }
    return {name: None if math.isnan(value) else value for name, value in scores.items()} | samples


@dataclass(frozen=True)
class _Tested:
    """Accuracies on clean test images, each on its split; utility: less the classes that the corruption spares."""

    selection_utility: float
    report_utility: float
    report_samples: int
    """Test images behind `report_utility`."""
    report_accuracy: float


def _tested(network: torch.nn.Module, spec: StudySpec, setting: Setting, corruption: Corruption) -> _Tested:
    labels = setting.dataset.test_labels.cpu()
    with computing_in(spec.precision, setting.dataset.test_labels.device):
        right = test_predictions(network, setting.dataset).cpu() == labels
    reporting = _reporting(spec, len(labels))
    selecting = torch.ones_like(reporting) if spec.protocol == "paper" else ~reporting
    useful = ~torch.isin(labels, torch.tensor(corruption.process.spared_classes, dtype=torch.int64))
    return _Tested(
        selection_utility=_share(right, selecting & useful),
        report_utility=_share(right, reporting & useful),
        report_samples=int((reporting & useful).sum()),
        report_accuracy=_share(right, reporting),
    )


def _attacked(network: torch.nn.Module, spec: StudySpec, setting: Setting, corruption: Corruption) -> Tensor | None:
    """Of each test image of the report split that the corruption could have struck, once the trigger is on it: whether
    it gets the corrupted label, bool (M,), on the CPU. None without a trigger."""
    process, dataset = corruption.process, setting.dataset
    trigger = process.trigger
    if trigger is None:
        return None
    device = dataset.test_labels.device
    ids = process.fresh[_reporting(spec, len(dataset.test_labels))[process.fresh]]

    def triggered(part: Tensor) -> Tensor:
        everywhere = torch.ones(len(part), dtype=torch.bool, device=device)
        return trigger.stamp(dataset.tested_images(part), everywhere, dataset)

    with computing_in(spec.precision, device):
        given = predict(network, lambda part: network(triggered(part)), ids.to(device)).cpu()
    rng = generator("attack", spec.seed, setting.replicate)  # triggers have one target: nothing is drawn
    return given == process.relabel(dataset.test_labels.cpu()[ids], rng)


def _reporting(spec: StudySpec, count: int) -> Tensor:
    """The test images of the report split, bool (count,); by the paper's protocol all of them."""
    if spec.protocol == "paper":
        return torch.ones(count, dtype=torch.bool)
    return report_half(count, spec.seed, "test")


def _reported_training(spec: StudySpec, corruption: Corruption, count: int) -> Tensor:
    """The training samples of the report split, bool (count,): corrupted ones as `healed` is reported on, and of the
    others the half that `report_half` says; by the paper's protocol all of them."""
    if spec.protocol == "paper":
        return torch.ones(count, dtype=torch.bool)
    reported = report_half(count, spec.seed, "train")
    reported[corruption.ids] = torch.arange(len(corruption.ids)) % 2 == 1
    return reported


def _share(hits: Tensor, where: Tensor) -> float:
    return hits[where].double().mean().item()
