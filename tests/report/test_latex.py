"""The tables of a paper: the right numbers in the right places, and text that LaTeX takes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from doubles.toy_study import SCORES, cells, study_rows

from rem_study.report import latex
from rem_study.results import columns, selection


def trials() -> pd.DataFrame:
    return columns.trials_table(study_rows()).to_pandas()


def body(table: str) -> dict[str, list[str]]:
    """The rows below the head, by their first column."""
    lines = table.split("\\midrule\n")[1].split("\\bottomrule")[0].strip().splitlines()
    rows = [line.removesuffix(" \\\\").split(" & ") for line in lines]
    return {row[0]: row[1:] for row in rows}


def test_the_grid_has_each_method_in_each_cell_and_the_winner_in_bold() -> None:
    table = latex.grid_table(cells())
    order = [("random_label", 0.1), ("random_label", 0.5), ("poison", 0.1), ("poison", 0.5)]
    rows = body(table)
    assert rows["REM"] == ["0.40", "0.70", *(f"\\textbf{{{SCORES[place][0]:.2f}}}" for place in order[2:])]
    assert rows["npo"] == ["\\textbf{0.60}", "--", "0.30", "0.40"]
    assert " & \\multicolumn{2}{c}{random\\_label} & \\multicolumn{2}{c}{poison} \\\\" in table


def test_an_interval_stands_below_its_number() -> None:
    known = cells().assign(utility_x_healed_low=0.25, utility_x_healed_high=0.35)
    assert body(latex.grid_table(known))["npo"][2] == "\\shortstack{0.30\\\\{\\tiny [0.25, 0.35]}}"


def test_methods_have_mean_range_and_cells_won() -> None:
    rows = body(latex.methods_table(cells(), trials()))
    assert rows["REM"][:2] == ["0.700 (0.400--0.900)", "--"]  # one replicate: no interval
    assert [row[4] for row in rows.values()] == ["2", "1"]
    assert "pm" not in latex.tables(cells(), trials())
    assert "100 corrupted samples, 200 test images, 1 replicate" in latex.methods_table(cells(), trials())


def test_names_are_escaped() -> None:
    odd: pd.DataFrame = cells().assign(method=cells()["method"].replace("npo", "my_50%~\\method"))
    assert "my\\_50\\%\\textasciitilde{}\\textbackslash{}method" in latex.methods_table(odd, trials())


def test_a_study_in_which_all_failed_has_tables_of_dashes() -> None:
    failed = columns.trials_table([row for row in study_rows() if row["state"] == "failed"]).to_pandas()
    text = latex.tables(selection.cells_frame(failed), failed)
    assert "No cell has a result." in text and body(latex.grid_table(selection.cells_frame(failed)))["npo"] == ["--"]


def test_a_level_cell_has_no_bold_figure_and_few_samples_none_at_all() -> None:
    level = cells().assign(standing="level")
    assert "textbf" not in latex.grid_table(level) and "\\textit{0.90}" in latex.grid_table(level)
    few = latex.grid_table(cells().assign(healed_samples=9))
    assert body(few)["REM"] == ["\\emph{few}"] * 4 and "fewer than 10 samples" in few


@pytest.mark.slow
def test_latex_sets_the_tables(tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (Debian: texlive-latex-recommended)")
    start = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
    (tmp_path / "paper.tex").write_text(start + latex.tables(cells(), trials()) + "\\end{document}\n")
    ran = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"], cwd=tmp_path, capture_output=True
    )
    assert ran.returncode == 0, ran.stdout.decode()[-2000:]
