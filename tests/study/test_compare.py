"""`rem-study compare`: what a reader of two or three studies' folders is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from doubles.toy_study import study_rows, write_study

from rem_study.cli import main
from rem_study.spec.resolve import resolve

GRID: dict[str, Any] = {
    "name": "toy",
    "corruptions": [{"name": "poison", "samples": 20}, {"name": "random_label", "samples": 20}],
    "discovery_rates": [0.1, 0.5],
    "methods": ["rem", "npo"],
    "budget": {"trials": 2},
    "race": {"replicates": 0},
    "confirm": {"replicates": 3},
}


def studied(folder: Path, gain: float = 0.0, cells: tuple[str, ...] = (), **changes: Any) -> str:
    """The toy study with three fresh replicates of what was selected, REM `gain` better on them."""
    folder.mkdir()
    spec = resolve(GRID | changes, "toy.yaml", Path()).spec
    rows = [row for row in study_rows() if not cells or row["cell"] in cells]
    chosen = [row for row in rows if row["trial"] == 1 and row["state"] == "complete"]
    for row in chosen:
        for replicate, noise in zip(spec.confirmed, (-0.02, 0.0, 0.02), strict=False):
            value = row["healed"] + noise + (gain * (1 + noise) if row["method"] == "rem" else 0)
            scores = {"healed": value, "utility_x_healed": value}
            rows.append(row | scores | {"phase": "confirm", "proposed_by": "selected", "replicate": replicate})
    write_study(folder, rows)
    (folder / "study.yaml").write_text(yaml.safe_dump(spec.plain(), sort_keys=False))
    return str(folder)


def compared(*folders: str) -> list[str]:
    done = CliRunner().invoke(main, ["compare", *folders])
    assert done.exit_code == 0, done.output
    return [" ".join(line.split()) for line in done.output.splitlines()]


def test_a_gain_on_the_same_replicates_is_told_with_its_interval(tmp_path: Path) -> None:
    lines = compared(studied(tmp_path / "a"), studied(tmp_path / "b", gain=0.09, pruner={"name": "none"}))
    assert lines[0] == f"A {tmp_path / 'a'}: 4 cells, 2 methods, scores on 3 fresh replicates"
    assert "their study files say the same" in lines
    assert "poison@0.5 rem 0.800 0.890 +0.090 [+0.086, +0.094] 3 paired +" in lines
    assert "poison@0.5 npo 0.400 0.400 the same, 3 paired =" in lines
    assert "rem 4 0.700 0.790 +0.090 [+0.086, +0.094] 3 paired +" in lines
    assert "npo 3 0.433 0.433 the same, 3 paired =" in lines
    assert "random_label@0.1 npo by 0.200 npo by 0.110" in lines


def test_what_differs_in_the_files_stands_first_and_what_only_one_has_is_counted(tmp_path: Path) -> None:
    first = studied(tmp_path / "a")
    changes: dict[str, Any] = {
        "seed": 3,
        "budget": {"trials": 5},
        "discovery_rates": [0.5],
        "objective": "score_oracle",
    }
    second = studied(tmp_path / "b", cells=("poison@0.5", "random_label@0.5"), **changes)
    lines = compared(first, second, first)
    for line in ("seed 0 3 0", "budget.trials 2 5 2", "discovery_rates.0.1 0.1 - 0.1"):
        assert lines.index(line) < lines.index("Means over the cells they share")
    row = next(line for line in lines if line.startswith("poison@0.5 rem"))
    assert row == "poison@0.5 rem 0.800 0.800 0.800 +0.000 [-0.045, +0.045] = the same, 3 paired ="
    assert "and 4 scores (cell, method) that B alone has" not in lines
    assert any(line.startswith("poison@0.1 rem 0.900 - 0.900 - the same, 3 paired =") for line in lines)
    assert "and 4 scores (cell, method) that A alone has" in compared(first, second)


@pytest.mark.parametrize("count", [0, 1])
def test_it_takes_two(count: int, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["compare", *[str(tmp_path)] * count])
    assert done.exit_code == 2
    assert "2 to 26 studies" in done.output if count else "Missing argument" in done.output


def test_a_folder_that_is_no_study_is_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["compare", studied(tmp_path / "a"), str(tmp_path / "nothing")])
    assert done.exit_code == 2 and done.output.startswith(f"error: {tmp_path / 'nothing'}: ")
