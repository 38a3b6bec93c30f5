"""Labels in the forms that other tools write, as whole numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_CLASSES = 100_000
"""Four times as many as ImageNet-21k has."""


class NoLabels(ValueError):
    """What is wrong with an array of labels, in a few words."""


@dataclass(frozen=True)
class Labels:
    """Labels as classes.

    Attributes:
        classes: int64 (N,), from 0.
        names: of the classes, where the labels were words; else empty.
        note: what was converted; empty if nothing was.
    """

    classes: np.ndarray
    names: tuple[str, ...] = ()
    note: str = ""


def as_classes(labels: np.ndarray, like: Labels | None = None) -> Labels:
    """Whole numbers as they are, those with a fraction of zero (`3.0`), one-hot rows, columns of one, and words.

    Args:
        labels: (N,), (N, 1) or one-hot (N, K), of any dtype but object.
        like: the training labels, for those of the held-out set; words are classes by the same names.

    Raises:
        NoLabels: they are none of these.
    """
    converted = _convert(labels, like.names if like else ())
    if like is not None and bool(like.names) != bool(converted.names):
        kinds = ("words", "numbers") if converted.names else ("numbers", "words")
        raise NoLabels(f"are {kinds[0]}, the training labels {kinds[1]}")
    return converted


def _convert(labels: np.ndarray, known: tuple[str, ...]) -> Labels:
    if labels.ndim == 2 and labels.shape[1] == 1:  # as MedMNIST has them
        labels = labels[:, 0]
    kind = labels.dtype.kind
    if labels.ndim == 2 and kind in "iufb":
        if not (((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all()):
            raise NoLabels("must be one whole number from 0 for each image, or one-hot: a single 1 in each row")
        return Labels(labels.argmax(1).astype(np.int64), note=f"one-hot rows of {labels.shape[1]}, as whole numbers")
    if labels.ndim != 1 or kind not in "iufbUS":
        raise NoLabels("must be one whole number from 0 for each image")
    if kind in "US":
        return _words(labels.astype(str) if kind == "U" else np.char.decode(labels, "utf-8"), known)
    if kind == "f":
        if not np.isfinite(labels).all() or (labels % 1).any():
            raise NoLabels("must be one whole number from 0 for each image, without a fraction")
        _require_few(labels)
        labels, note = labels.astype(np.int64), "whole numbers with a point (3.0), as whole numbers"
    else:
        note = ""
    if len(labels) and labels.min() < 0:
        row = int((labels < 0).argmax())
        raise NoLabels(f"must be one whole number from 0 for each image; row {row} has {labels[row]}")
    _require_few(labels)
    return Labels(labels.astype(np.int64), note=note)


def _require_few(labels: np.ndarray) -> None:
    if len(labels) and labels.max() >= MOST_CLASSES:
        row = int(labels.argmax())
        raise NoLabels(
            f"must be classes from 0, of which there may be {MOST_CLASSES:,} (a network has an output for each up "
            f"to the highest); row {row} has {labels[row]}"
        )


def _words(words: np.ndarray, known: tuple[str, ...]) -> Labels:
    names = known or tuple(sorted(set(words.tolist())))
    if names and not known and all(name.strip().isdecimal() for name in names):  # in quotes: 10 comes after 9
        if longest := max((name for name in names if len(name.strip()) > 18), key=len, default=""):
            raise NoLabels(f"must be classes from 0; one is a number of {len(longest.strip())} digits")
        return _convert(np.array([int(word) for word in words.tolist()]), ())
    place = {name: index for index, name in enumerate(names)}
    strange = sorted(set(words.tolist()) - set(place))
    if strange:
        raise NoLabels(f"{strange[0]!r} is a class without training images")
    told = ", ".join(f"{index} {name}" for index, name in enumerate(names[:4])) + (", ..." if len(names) > 4 else "")
    return Labels(
        np.array([place[word] for word in words.tolist()], dtype=np.int64),
        names,
        f"words, as classes in alphabetical order ({told})",
    )
