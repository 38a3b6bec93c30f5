"""The progress of a launch: a bar on a terminal that fits it, plain lines elsewhere; and the verdict at its end."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import struct
import termios
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from doubles.toy_study import study_rows, write_study

from rem_study.spec.resolve import resolve
from rem_study.study.progress import ProgressLine, describe
from rem_study.study.verdict import who_won


def plan(finished: int) -> Any:
    counts = {
        "originals_ready": 3,
        "originals_total": 3,
        "trials_total": 40,
        "failed": 1,
        "pruned": 0,
        "fresh_total": 0,
        "fresh_finished": 0,
        "eliminated": 0,
    }
    return SimpleNamespace(**counts, finished=finished, cells_finished=2, cells=range(9))


@pytest.mark.parametrize("columns", [120, 60])
def test_on_a_terminal_it_is_a_bar_that_grows_within_its_line(columns: int) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        progress = ProgressLine(plan(0), terminal)
        told = ""
        for step in (progress.update, lambda: setattr(progress, "_plan", plan(20)), progress.update, progress.close):
            progress._drawn = -1.0
            step()
            while select.select([ours], [], [], 0.2)[0]:
                told += os.read(ours, 65536).decode()
    os.close(ours)
    drawn = [line for line in told.split("\r") if line.strip()]
    assert drawn[0].startswith("  0%|") and drawn[-1].startswith(" 50%|")
    assert drawn[-1].count("█") > drawn[0].count("█")
    assert "trials 20/40"[: columns // 10] in drawn[-1] and all(len(line) <= columns for line in drawn)
    assert told.rstrip(" ").endswith("\r")  # nothing of it stays


def test_elsewhere_it_is_a_plain_line() -> None:
    stream = io.StringIO()
    progress = ProgressLine(plan(20), stream)
    progress.update()
    progress.update()  # not before a minute
    progress.close()
    assert stream.getvalue() == "originals 3/3 · trials 20/40 (1 failed) · cells 2/9\n"


def test_what_runs_on_fresh_replicates_is_counted_apart() -> None:
    later = SimpleNamespace(**{**vars(plan(34)), "pruned": 2, "fresh_total": 10, "fresh_finished": 4, "eliminated": 3})
    trials = "trials 30/30 (1 failed, 2 pruned) · on fresh replicates 4/10 (3 eliminated)"
    assert describe(later) == f"originals 3/3 · {trials} · cells 2/9"


GRID: dict[str, Any] = {
    "name": "toy",
    "corruptions": [{"name": "poison", "samples": 20}, {"name": "random_label", "samples": 20}],
    "discovery_rates": [0.1, 0.5],
    "methods": ["rem", "npo"],
}


def studied(folder: Path, rows: list[dict[str, Any]]) -> list[str]:
    write_study(folder, rows)
    plain = resolve(GRID, "toy.yaml", Path()).spec.plain()
    (folder / "study.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    return who_won(folder)


def test_the_verdict_names_the_leader_its_lead_and_the_cells(tmp_path: Path) -> None:
    told = studied(tmp_path, study_rows())
    assert told == [
        "result:  rem has the highest mean utility x healed, 0.700 over 3 cells: "
        "0.267 (no interval: one replicate) above npo",
        "cells:   rem wins 2, npo wins 1; 1 without a winner beyond noise",
    ]


def test_on_several_replicates_the_lead_has_an_interval(tmp_path: Path) -> None:
    rows = study_rows()
    more = [row | {"replicate": 1, "utility_x_healed": row["healed"] and row["healed"] - 0.1} for row in rows]
    told = studied(tmp_path, rows + more)
    assert "0.267 (95 % interval over 2 replicates +0.267 to +0.267) above npo" in told[0]


def test_one_method_and_none_are_told_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "none").mkdir()
    alone = studied(tmp_path / "one", [row for row in study_rows() if row["method"] == "rem"])
    assert alone == ["result:  rem, the only method: mean utility x healed 0.700 over 4 cells"]
    unknown = [row | {"healed": None, "utility_x_healed": None} for row in study_rows()]
    assert studied(tmp_path / "none", unknown) == ["result:  no method has a score in any cell; report.html says why"]
