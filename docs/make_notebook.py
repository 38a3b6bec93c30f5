"""Write docs/notebook.ipynb, executed: python docs/make_notebook.py

It launches the smoke study into a temporary folder and looks at it as a reader would. Needs the extra `docs`.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

PAGE = Path(__file__).with_name("notebook.ipynb")

CELLS = (
    "# A study in a notebook\n\nAll outputs are from a real run of the smoke study (digits, 600 training images, "
    "30 of them poisoned, one replicate), made by "
    "`python docs/make_notebook.py`. On one replicate nothing here is a finding.",
    "First a study, in a terminal or from here. It takes under 40 seconds on two idle cores.",
    ">>> !rem-study launch smoke 2>/dev/null",
    "What it left behind, at a glance: who leads each cell (bold: beyond noise), and the methods' means.",
    ">>> %matplotlib inline\nimport rem_study\n\nstudy = rem_study.open_study('runs/smoke')\nstudy",
    "The tables are pandas frames; [reference.md](reference.md) explains their columns.",
    ">>> study.cells[['cell', 'method', 'healed', 'utility', 'utility_x_healed', 'default_utility_x_healed']].round(3)",
    "The figures of the report, as Matplotlib has them. `study.figure_names` lists them.",
    ">>> study.figure('utility_x_healed')",
    "One trial by hand, in this process: REM with other hyperparameters in one cell, on the study's own original.",
    ">>> row = rem_study.run_trial('runs/smoke', 'poison@0.5', 'rem', {'redirect_width': 0.5}, "
    "originals='runs/originals')\n{name: round(row[name], 3) for name in ('healed', 'utility', 'utility_x_healed')}",
    "A name that is nearly right is answered with the right one.",
    ">>> try:\n    study.figure('pareto_front')\nexcept ValueError as error:\n    print(error)",
)
"""Text, and code after `>>> `."""


def notebook() -> nbformat.NotebookNode:
    """The notebook, not executed."""
    new = nbformat.v4
    cells = [
        new.new_code_cell(text.removeprefix(">>> ")) if text.startswith(">>> ") else new.new_markdown_cell(text)
        for text in CELLS
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"  # not a new one each time
    return new.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


def executed(place: Path) -> nbformat.NotebookNode:
    """The notebook, run in the folder `place`, without what differs from run to run."""
    os.environ["TQDM_DISABLE"], os.environ["PYTHONWARNINGS"] = "1", "ignore"  # of a bar that no notebook here draws
    book = NotebookClient(notebook(), timeout=600, resources={"metadata": {"path": str(place)}}).execute()
    for cell in book.cells:
        cell.metadata = {}
    book.metadata = {"kernelspec": book.metadata["kernelspec"], "language_info": {"name": "python"}}
    return book


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(Path(folder)), PAGE)
