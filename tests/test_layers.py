"""The layers of docs/design.md hold: no import goes up, no files import each other in a circle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint(place: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the package in `place`, by the contracts of its pyproject.toml."""
    code = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(command, cwd=place, capture_output=True, text=True)


def test_every_contract_is_kept() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    {
        "up": ("storage/rows.py", "from rem_study.spec import Study", "Every import goes down"),
        "up, in a function": ("data/given.py", "def f():\n    import rem_study.trial", "Every import goes down"),
        "up, for types": ("spec/cell.py", "if TYPE_CHECKING:\n    import rem_study.study", "Every import goes down"),
        "circle": ("data/transfer.py", "from rem_study.data.dataset import Dataset", "No circle"),
        "Ray below": ("trial/trial.py", "import ray", "knows Ray, Optuna or MLflow"),
        "torch in spec": ("spec/space.py", "def f():\n    import torch", "without PyTorch"),
        "method": ("unlearning/methods/npo.py", "import rem_study.unlearning.methods.rem", "do not import each other"),
    }.values(),
)
def test_a_broken_contract_is_noticed(file: str, line: str, contract: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "rem_study", tmp_path / "rem_study", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    with open(tmp_path / "rem_study" / file, "a") as source:
        source.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert any(contract in row and row.endswith("BROKEN") for row in done.stdout.splitlines()), done.stdout
