"""What preparing a set would take, from a few of its images; and a stand-in for it, to check a study with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rem_study.data import place
from rem_study.data.dataset import Dataset, dataset_of
from rem_study.data.gather import cores
from rem_study.data.images import Images, StoredPart, Taken, check_shapes
from rem_study.data.prepare import described, labels_of
from rem_study.data.prepared import is_prepared, source_key
from rem_study.data.sources import SOURCES, Files
from rem_study.spec import DataSpec

SAMPLE = 128
"""Images of a part that are decoded; of smaller sets all are."""


@dataclass(frozen=True)
class Survey:
    """A set of a user's own images.

    Attributes:
        folder: where it is prepared, or would be.
        stand_in: None: it is prepared. Else its labels and names, and black images.
        sampled: images that were decoded for this.
        seconds: that preparing takes by all cores.
        bytes: that it takes on the disk.
    """

    folder: Path
    stand_in: Dataset | None = None
    sampled: int = 0
    seconds: float = 0.0
    bytes: int = 0


def survey(spec: DataSpec) -> Survey | None:
    """None where there is nothing to prepare: the data are none of a user's own, or nothing says where sets lie.

    Raises:
        InputError: files are missing or malformed, as far as that shows without decoding all.
    """
    read, where = SOURCES[spec.name].read, place.current()
    if not isinstance(read, Files) or where is None:
        return None
    folder = where.folder / source_key(spec, read.paths(spec))
    if is_prepared(folder):
        return Survey(folder)
    listing = read.list(spec)
    parts = {"train": listing.train} | ({} if listing.test is None else {"test": listing.test})
    began, taken, sampled = time.perf_counter(), Taken(), 0
    shapes: dict[str, tuple[int, ...]] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, part in parts.items():
            shapes[name], count = _sample(part, taken)
            sampled += count
    finally:
        torch.set_num_threads(threads)
    seconds = (time.perf_counter() - began) / sampled * sum(part.count for part in parts.values()) / cores()
    check_shapes(shapes["train"], shapes.get("test"), spec)
    arrays: dict[str, Tensor] = {}
    for name in ("train", "test"):
        labels = labels_of(spec, name, parts[name]) if name in parts else np.empty(0, np.int64)
        arrays[f"{name}_labels"] = torch.from_numpy(labels)
        black = torch.zeros((1, 1, 1, 1), dtype=torch.uint8)
        arrays[f"{name}_images"] = black.expand(len(labels), *shapes["train"])
    fields: dict[str, Any] = {**arrays, **described(spec, listing, taken, shapes["train"])}
    images = Images(**fields)
    total = sum(array.nbytes for array in (images.train_images, images.test_images))
    return Survey(folder, dataset_of(spec, images), sampled, seconds, total)


def _sample(part: StoredPart, taken: Taken) -> tuple[tuple[int, ...], int]:
    """The shape (C, H, W) of some images of `part`, and how many they were."""
    count, channels = 0, 0
    for job in part.sample(SAMPLE):
        some = job()
        count, channels = count + len(some.images), max(channels, some.images.shape[1])
        taken.add(some.taken)
    return (channels, *some.images.shape[2:]), count
