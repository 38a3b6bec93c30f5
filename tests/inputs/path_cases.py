"""Paths that are no UTF-8 text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from inputs.case import CORRUPTED, Case, write_folder

KIND = "Paths"
STRANGE = "a\udcffb"
"""As Python has the bytes `a`, 255, `b`."""


def renamed(option: str, name: str) -> Callable[[Path], dict[str, Any]]:
    def make(place: Path) -> dict[str, Any]:
        strange = STRANGE + Path(name).suffix
        (place / name).rename(place / strange)
        return {option: strange}

    return make


def in_folder(place: Path) -> dict[str, Any]:
    root = write_folder(place / "mine")
    first = next((root / "train" / "digit3").iterdir())
    first.rename(first.with_name(f"{STRANGE}.png"))
    (place / "ids.csv").write_text("id\n" + "".join(f"{number}\n" for number in CORRUPTED))
    return {"data": "mine"}


CASES = [
    Case(KIND, "a checkpoint whose name is not UTF-8", renamed("checkpoint", "model.pt")),
    Case(KIND, "an image whose name is not UTF-8", in_folder),
    Case(KIND, "data whose name is not UTF-8", renamed("data", "data.npz"), "is not UTF-8; rename it, or make a link"),
    Case(KIND, "ids whose name is not UTF-8", renamed("ids", "ids.csv"), "is not UTF-8; rename it, or make a link"),
]
