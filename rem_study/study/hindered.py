"""What holds a running study up, in a file of its folder, which is not there while nothing does."""

from __future__ import annotations

import contextlib
import json
import time

from rem_study.shown import duration
from rem_study.storage import Folder, write_atomically

FILE = "hindered.json"


def write_hindrances(folder: Folder, lines: list[str]) -> None:
    """Note what holds the study up now; nothing where `lines` is empty. What cannot be written is left out."""
    with contextlib.suppress(OSError):
        if lines:
            write_atomically(folder / FILE, json.dumps({"time": time.time(), "lines": lines}))
        else:
            (folder / FILE).unlink(missing_ok=True)


def hindrances(folder: Folder, now: float) -> list[str]:
    """What the running launch, or the last one if it was killed, noted; a line each."""
    try:
        noted = json.loads((folder / FILE).read_text())
        since = duration(max(0.0, now - float(noted["time"])))
        return [f"held up: {line} (noted {since} ago)" for line in map(str, noted["lines"])]
    except (OSError, ValueError, KeyError, TypeError):
        return []
