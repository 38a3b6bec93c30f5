"""Suspects that become known: those that a person confirmed in the list, or its top if they ask for it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from rem_study.errors import InputError
from rem_study.heal.suspects import Suspects

YES = ("yes", "y", "true", "x", "1")


def read_confirmed(path: Path, top: int | None, places: Mapping[int, int]) -> Tensor:
    """Places, int64 (m,), of the samples that a list of suspects says are corrupted: its rows with yes in the column
    `confirmed`, and of those marked `suspect` the first `top`.

    Args:
        places: of the training samples, by their ids.

    Raises:
        InputError: the file is missing, no such list, or confirms nothing.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _mistake(path, " ".join(str(getattr(error, "strerror", None) or error).split())) from None
    for column in ("id", "suspect", "confirmed"):
        if not rows or column not in rows[0]:
            raise _mistake(path, f"has no column {column}; it is no list of suspects")
    chosen: list[int] = []
    suspects = 0
    for number, row in enumerate(rows, 1):
        text = (row["id"] or "").strip()
        if not (text.isascii() and text.isdigit() and int(text) in places):
            raise _mistake(path, f"row {number}: id {text!r} is no training sample; there are {len(places)}")
        suspects += row["suspect"] == "yes"
        of_top = row["suspect"] == "yes" and suspects <= (top or 0)
        if of_top or (row["confirmed"] or "").strip().lower() in YES:
            chosen.append(places[int(text)])
    if not chosen:
        raise _mistake(path, "confirms nothing: write yes in the column confirmed, or say --top N")
    return torch.tensor(sorted(set(chosen)))


def joined(known: Tensor, more: Tensor) -> Tensor:
    """`known` (n,) and after it those of `more` (m,) that it lacks."""
    more = more.to(known.device)
    return torch.cat([known, more[~torch.isin(more, known)]])


def surest(suspects: Suspects, least: float = 0.0) -> Tensor:
    """Ids of the suspects that a further round takes for known: from the top as many as the estimate's lower end, and
    at least the share `least` of them."""
    ids = suspects.ids[suspects.suspect]
    return ids[: max(math.floor(suspects.low), math.ceil(least * len(ids)))]


def _mistake(path: Path, why: str) -> InputError:
    return InputError(f"--again: {path}: {why}")
