"""What people call training samples and classes: numbers and files, folders, where the data have any."""

from __future__ import annotations

from dataclasses import dataclass

from rem_study.data import Dataset


@dataclass(frozen=True)
class Names:
    """Of the training samples (N,) and of the classes, in their order; None where there are none.

    Attributes:
        files: below the training folder (`cat/017.png`).
        numbers: the samples' ids as people count them, where that is not their order (files were left out).
    """

    files: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    numbers: tuple[int, ...] | None = None

    def of_class(self, label: int) -> str:
        """The class's folder, or its number."""
        return str(label) if self.classes is None or label >= len(self.classes) else self.classes[label]

    def number(self, place: int) -> int:
        """The id of the sample that stands at `place`."""
        return place if self.numbers is None else self.numbers[place]

    def places(self, count: int) -> dict[int, int]:
        """By id, where each of `count` samples stands."""
        return {self.number(place): place for place in range(count)}


def read_names(dataset: Dataset) -> Names:
    """What the data brought along."""
    return Names(dataset.train_files or None, dataset.class_names or None, dataset.train_numbers or None)
