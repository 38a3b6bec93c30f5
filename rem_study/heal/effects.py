"""What healing did, class by class and sample by sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rem_study.data import CorruptedTrainingSet
from rem_study.heal.healing import Healing
from rem_study.heal.inputs import Case
from rem_study.heal.suspects import Suspects
from rem_study.training import predict_training, test_predictions


@dataclass(frozen=True)
class Effects:
    """A network before and after healing.

    Attributes:
        measured_on: `held-out` images, or the `retained` training samples against their given labels where there are
            none.
        before, after: confusion matrices int64 (K, K), on the CPU, a row a label, a column a prediction.
        lost: retained samples whose given label the original gives and the healed network does not.
        lost_suspects: those of them that are suspects; the others are likely damage.
    """

    measured_on: str
    before: Tensor
    after: Tensor
    lost: int
    lost_suspects: int

    def facts(self) -> dict[str, object]:
        """For a JSON report."""
        return {
            "measured_on": self.measured_on,
            "class_accuracy": {"before": class_accuracies(self.before), "after": class_accuracies(self.after)},
            "confusion": {"before": self.before.tolist(), "after": self.after.tolist()},
            "retain_loss": {
                "samples": self.lost,
                "suspects": self.lost_suspects,
                "likely_damage": self.lost - self.lost_suspects,
            },
        }


def class_accuracies(confusion: Tensor) -> list[float | None]:
    """Of each class (row), None where it has no sample."""
    hits, counts = confusion.diagonal().tolist(), confusion.sum(1).tolist()
    return [hit / count if count else None for hit, count in zip(hits, counts, strict=True)]


def measure_effects(case: Case, healing: Healing, suspects: Suspects) -> Effects:
    """Compare the case's network with the healed one."""
    dataset, networks = case.dataset, [case.classifier(n) for n in (case.architecture.network, healing.network)]
    data = CorruptedTrainingSet(dataset, None)
    everything = torch.arange(len(data), device=data.device)
    before, after = (predict_training(network, data, everything).cpu() for network in networks)
    labels = dataset.train_labels.cpu()
    retained = torch.ones(len(labels), dtype=torch.bool)
    retained[case.ids.cpu()] = False
    suspected = torch.zeros(len(labels), dtype=torch.bool)
    suspected[suspects.ids[suspects.suspect]] = True
    lost = retained & (before == labels) & (after != labels)
    tested = len(dataset.test_labels) > 0
    if tested:
        old, new = (test_predictions(network, dataset).cpu() for network in networks)
        truth = dataset.test_labels.cpu()
    else:
        old, new, truth = before[retained], after[retained], labels[retained]
    classes = max(dataset.num_classes, *(int(part.max()) + 1 for part in (old, new)))
    return Effects(
        "held-out" if tested else "retained",
        _confusion(truth, old, classes),
        _confusion(truth, new, classes),
        int(lost.sum()),
        int((lost & suspected).sum()),
    )


def _confusion(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
    return torch.bincount(labels * classes + predictions, minlength=classes * classes).view(classes, classes)
