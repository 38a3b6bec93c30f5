"""A study in Python: frames, figures, Optuna's view, one trial and one cell without Ray."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from doubles.tiny import TINY
from doubles.toy_study import study_rows, write_study

import rem_study
from rem_study.errors import InputError
from rem_study.notebook.open_study import OpenStudy
from rem_study.spec.resolve import resolve
from rem_study.spec.study import Study

GRID = {
    "name": "toy",
    "corruptions": [{"name": "poison", "samples": 20}, {"name": "random_label", "samples": 20}],
    "discovery_rates": [0.1, 0.5],
    "methods": ["rem", "npo"],
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OpenStudy:
    """The report's toy study, with real configurations."""
    folder = tmp_path_factory.mktemp("toy")
    study = resolve(GRID, "toy.yaml", Path())
    rows = study_rows()
    for row in rows:
        widths = {"rem": {"redirect_width": 0.2 + 0.1 * row["trial"]}, "npo": {"beta": 0.1 + row["trial"]}}
        row["config"] = study.spaces[row["method"]].defaults | widths[row["method"]]
        row["curves"] = (
            '{"old": [1.0, 0.1], "both": [1.0, 0.2], "shared": [1.0, 0.3]}' if row["method"] == "rem" else None
        )
    write_study(folder, rows)
    (folder / "study.yaml").write_text(yaml.safe_dump(study.spec.plain(), sort_keys=False))
    (folder / "best.yaml").write_text("format: 1\n")
    return rem_study.open_study(folder)


def test_the_tables_are_frames(opened: OpenStudy) -> None:
    assert len(opened.trials) == 16 and len(opened.cells) == 8
    assert opened.methods["method"].tolist() == ["rem", "npo"]
    assert opened.best == {"format": 1}
    assert opened.study.spec.name == "toy"


OPTIONS = {
    "history": {"cell": "poison@0.5"},
    "parallel": {"cell": "poison@0.5", "method": "rem"},
    "choices": {"hyperparameters": ["redirect_width"]},
}


def test_every_figure_can_be_drawn_by_its_name_or_says_that_there_is_nothing(opened: OpenStudy, tmp_path: Path) -> None:
    drawn = []
    for name in opened.figure_names:
        options = {"hyperparameters": ["redirect_width"]} if name == "trends" else OPTIONS.get(name, {})
        try:
            figure = opened.figure(name, **options)
        except InputError as error:
            assert "nothing to draw" in str(error)
            continue
        figure.savefig(tmp_path / f"{name}.png", dpi=40)
        drawn.append(name)
    assert set(opened.figure_names) - set(drawn) == {"importances", "spread", "trends"}  # two trials, one replicate


def test_unknown_names_are_answered_with_the_known_ones(opened: OpenStudy) -> None:
    with pytest.raises(InputError, match="utility_x_healed"):
        opened.figure("heat")
    with pytest.raises(InputError, match="rem, npo"):
        opened.importances("rme")
    with pytest.raises(InputError, match=r"poison@0\.1"):
        opened.optuna("poison@0.3")
    with pytest.raises(InputError, match="is not a study's folder"):
        rem_study.open_study("nowhere")


def test_one_cells_search_is_an_optuna_study(opened: OpenStudy) -> None:
    study = opened.optuna("poison@0.5")
    assert [trial.value for trial in study.trials] == pytest.approx([0.7, 0.8])
    assert study.best_params["redirect_width"] == pytest.approx(0.3)


@pytest.fixture(scope="module")
def tiny() -> Study:
    changes = {
        "discovery_rates": [0.5, 1.0],
        "original": {"epochs": 2, "batch_size": 64},
        "methods": {"finetune": {}, "rem": {"fixed": {"epochs": 2}}},
        "budget": {"trials": 2, "replicates": 2},
        "race": {"replicates": 0},
        "confirm": {"replicates": 0},
    }
    return resolve(TINY | changes, "tiny.yaml", Path())


def test_a_cell_runs_without_ray_and_a_trial_repeats_it(tiny: Study, tmp_path: Path) -> None:
    table = rem_study.run_cell(tiny, "poison@0.5", originals=tmp_path)
    assert table.groupby(["method", "trial"]).size().to_dict() == {
        (method, trial): 2 for method in ("finetune", "rem") for trial in (0, 1)
    }
    assert set(table["cell"]) == {"poison@0.5"} and (table["state"] == "complete").all()
    default = table[(table["method"] == "rem") & (table["trial"] == 0) & (table["replicate"] == 1)].iloc[0]
    again = rem_study.run_trial(tiny, "poison@0.5", "rem", replicate=1, originals=tmp_path)
    assert again["config"] == tiny.spaces["rem"].defaults
    for name in ("healed", "utility", "score", "utility_x_healed"):
        assert again[name] == pytest.approx(default[name], abs=1e-6)
    pd.testing.assert_series_equal(table["score"], table["score_oracle"], check_names=False)


def test_a_wrong_cell_method_or_hyperparameter_is_named(tiny: Study, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"poison@0\.7: the study has no such cell .*; it has random_label@0\.5"):
        rem_study.run_cell(tiny, "poison@0.7", originals=tmp_path)
    with pytest.raises(InputError, match="npo"):
        rem_study.run_trial(tiny, "poison@0.5", "npo", originals=tmp_path)
    with pytest.raises(InputError, match="widht"):
        rem_study.run_trial(tiny, "poison@0.5", "rem", {"widht": 1}, originals=tmp_path)


def test_the_package_costs_nothing_to_import_and_needs_no_ray_for_a_trial() -> None:
    heavy = "{'torch', 'ray', 'pandas', 'mlflow', 'optuna', 'matplotlib'}"
    code = f"import sys, rem_study; print(sorted({heavy} & set(sys.modules)))\n"
    code += (
        "import rem_study.notebook.local, rem_study.search.plan, rem_study.results.write; print('ray' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["[]", "False"]


def test_a_study_shows_itself_in_a_notebook(opened: OpenStudy, tmp_path: Path) -> None:
    page = opened._repr_html_()
    assert "<b>toy</b>: resnet9 on digits" in page and str(opened.folder) in page
    cells = re.findall(r"<td>(.*?)</td>", page)
    assert "<b>0.90 rem</b>" in cells and "0.70 rem" in cells  # there alone: it beat nobody
    assert page.index("poison") < page.index("random_label") and "0.700" in page
    (tmp_path / "study.yaml").write_text((opened.folder / "study.yaml").read_text())
    assert "no such file" in OpenStudy(tmp_path)._repr_html_()
