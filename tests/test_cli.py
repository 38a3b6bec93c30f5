"""Wrong input: exit status 2, one line that names file and field, nothing started."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from rem_study.cli import main

GOOD = {
    "data": {"name": "digits", "image_size": 12, "train_samples": 300, "test_samples": 200},
    "model": {"width": 0.0625},
    "corruptions": [{"name": "poison", "samples": 20}],
    "discovery_rates": [0.5],
    "methods": {"npo": {}},
}


def changed(**changes) -> str:
    return yaml.safe_dump(GOOD | changes)


UPSIDE_DOWN = {
    "method": "npo",
    "summary": "s",
    "reference": "r",
    "parameters": {"lr": {"type": "float", "low": 1.0, "high": 0.1, "default": 0.5, "source": "s"}},
}

WRONG = {
    "unknown key": (changed(colour="red"), "colour: unknown key"),
    "unknown key below": (changed(data={"name": "digits", "sise": 3}), "data.sise: unknown key"),
    "unknown method": (changed(methods=["rme"]), "methods.rme: unknown method 'rme'"),
    "discovery rate 0": (changed(discovery_rates=[0]), "discovery_rates.0"),
    "discovery rate 1.5": (changed(discovery_rates=[0.5, 1.5]), "discovery_rates.1"),
    "width 0": (changed(model={"width": 0}), "model.width"),
    "redirect width 0": (
        changed(methods={"rem": {"fixed": {"redirect_width": 0}}}),
        "methods.rem.fixed.redirect_width",
    ),
    "no data root": (changed(data={"name": "cifar10"}), "data.root"),
    "range upside down": (changed(methods={"npo": {"space": UPSIDE_DOWN}}), "methods.npo.space"),
    "too many corrupted": (
        changed(corruptions=[{"name": "poison", "samples": 5000}]),
        "corruptions.poison.samples",
    ),
    "no such class": (changed(corruptions=[{"name": "poison", "target": 12}]), "corruptions.poison.target"),
    "weight out of range": (
        changed(methods={"rem": {"fixed": {"remove_weight": 9}}}),
        "methods.rem.fixed.remove_weight",
    ),
    "default that is out of the search": (
        changed(methods={"rem": {"defaults": {"max_grad_norm": 0.0}}}),
        "methods.rem.defaults.max_grad_norm: 0.0 may be fixed, but a search does not reach it",
    ),
    "layers out of the search": (
        changed(methods={"rem": {"defaults": {"layer_position": "conv1"}}}),
        "methods.rem.defaults.layer_position",
    ),
    "no such layer": (changed(methods={"rem": {"fixed": {"layer_position": "7-9"}}}), "layer_position"),
    "syntax error": ("data: {name: digits\nmodel: ]", "line 2, column"),
    "a list": ("- 1\n- 2\n", "must be a mapping"),
    "an object": ("data: !!python/object/apply:os.system ['true']\n", "line 1"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("command", ["check", "launch"])
def test_wrong_study_files(case, command, tmp_path):
    text, expected = WRONG[case]
    path = tmp_path / "study.yaml"
    path.write_text(text)
    options = ["--root", str(tmp_path / "runs")] if command == "launch" else []
    result = CliRunner().invoke(main, [command, str(path), *options])
    lines = result.stderr.splitlines()
    assert result.exit_code == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {path}: ")
    assert expected in lines[0]
    assert not (tmp_path / "runs" / "study").exists()


def test_a_users_search_space_file_is_named_with_its_field(tmp_path):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(UPSIDE_DOWN))
    (tmp_path / "study.yaml").write_text(changed(methods={"npo": {"space": "space.yaml"}}))
    result = CliRunner().invoke(main, ["check", str(tmp_path / "study.yaml")])
    assert result.exit_code == 2
    assert "space.yaml: parameters.lr" in result.stderr
    assert "low 1.0 is not below high 0.1" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_every_mistake_has_its_own_line(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(changed(colour="red", discovery_rates=[2], seed=-1))
    result = CliRunner().invoke(main, ["check", str(path)])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 3


@pytest.mark.parametrize(
    "command",
    [["launch", "nothing.yaml"], ["check", "nothing.yaml"], ["status", "nowhere"], ["report", "nowhere"],
     ["export", "nowhere"], ["ui", "nowhere"], ["sync", "nowhere"], ["show", "rme"]],
)  # fmt: skip
def test_what_is_not_there_is_named(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert command[1] in result.stderr


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "study.yaml").write_text(changed())
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["launch", str(tmp_path / "study.yaml"), "--root", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "--root" in result.stderr


OFF = {"replicates": 0}


def test_check_counts_what_the_study_promises(tmp_path):
    (tmp_path / "study.yaml").write_text(changed(methods=["npo", "retrain"], budget={"trials": 5, "replicates": 2}))
    result = CliRunner().invoke(main, ["check", str(tmp_path / "study.yaml")])
    assert result.exit_code == 0
    # npo's search, a race of 3, 2, 1 and 1 challengers beside the default, and both confirmed; retraining has one trial
    rows = 5 * 2 + (3 + 2 + 1 + 1 + 4) + 2 * 3 + 1 * (2 + 3)
    assert (
        f"trials     6, each on 2 replicate(s), selected ones on 3 fresh ones too: at most {rows} rows" in result.output
    )
    assert "originals  at most 9" in result.output
    (tmp_path / "study.yaml").write_text(
        changed(methods=["npo", "retrain"], budget={"trials": 5, "replicates": 2}, race=OFF, confirm=OFF)
    )
    result = CliRunner().invoke(main, ["check", str(tmp_path / "study.yaml")])
    assert "trials     6, each on 2 replicate(s): about 12 rows" in result.output
    assert "originals  2 (" in result.output


@pytest.mark.parametrize(
    ("data", "cost"),
    [
        ({"name": "cifar10", "root": "/nowhere", "train_samples": 500}, " here, "),
        ({"name": "cifar10", "root": "/nowhere", "train_samples": 500, "download": True}, "which a launch fetches"),
        ({"name": "folder", "root": "/nowhere"}, "cannot be told before the images are there"),
    ],
)
def test_check_needs_no_data_and_says_so_but_a_launch_does(data, cost, tmp_path):
    (tmp_path / "study.yaml").write_text(changed(data=data))
    result = CliRunner().invoke(main, ["check", str(tmp_path / "study.yaml")])
    assert result.exit_code == 0
    assert f"note       data.root: /nowhere has no {data['name']} images" in result.output and cost in result.output
    if "download" not in data:
        options = ["--root", str(tmp_path / "runs")]
        result = CliRunner().invoke(main, ["launch", str(tmp_path / "study.yaml"), *options])
        assert result.exit_code == 2 and "data.root" in result.stderr
        assert not (tmp_path / "runs" / "study").exists()


def test_check_states_the_cost_in_time_and_that_it_is_an_estimate(tmp_path):
    (tmp_path / "study.yaml").write_text(changed(budget={"trials": 1}, race=OFF, confirm=OFF))
    (tmp_path / "long.yaml").write_text(changed(budget={"trials": 2000}, race=OFF, confirm=OFF))
    short, long = (
        re.search(r"cost +about (\d[\d.]*) (s|min|h) here, \d+ trial\(s\) at a time: an estimate", told)
        for told in (CliRunner().invoke(main, ["check", str(tmp_path / f"{n}.yaml")]).output for n in ("study", "long"))
    )
    assert short and long
    seconds = [float(one[1]) * {"s": 1, "min": 60, "h": 3600}[one[2]] for one in (short, long)]
    assert 20 <= seconds[0] < seconds[1]


def test_methods_and_show_list_what_there_is():
    listed = CliRunner().invoke(main, ["methods"]).output
    assert all(name in listed for name in ("rem", "npo", "ascent", "finetune", "retrain"))
    shown = CliRunner().invoke(main, ["show", "rem"]).output
    assert "redirect_width: float, default" in shown
    assert "arXiv 2505.17730" in shown


def test_the_shipped_studies_are_valid():
    for path in sorted((Path(__file__).parents[1] / "studies").glob("*.yaml")):
        from rem_study.spec.resolve import load_study

        assert load_study(path).spec.name == path.stem


def test_help_starts_without_heavy_imports():
    heavy = {"torch", "ray", "mlflow", "pandas"}
    code = f"import sys; from rem_study.cli import main; print(sorted({heavy} & set(sys.modules)))"
    start = time.monotonic()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
    assert time.monotonic() - start < 5


def test_a_study_that_comes_along_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke").mkdir()  # a folder of that name, of an earlier launch say, is none
    done = CliRunner().invoke(main, ["check", "smoke"])
    assert done.exit_code == 0 and done.output.startswith("smoke: digits, resnet9")
    done = CliRunner().invoke(main, ["check", "smok"])
    assert done.exit_code == 2
    assert done.output.startswith("error: smok: no such file, and no study of this name comes with rem-study: ")
    assert ", quickstart, " in done.output
    (tmp_path / "smoke").rmdir()
    (tmp_path / "smoke").write_text("colour: red\n")  # a file of that name comes first
    done = CliRunner().invoke(main, ["check", "smoke"])
    assert done.exit_code == 2 and "smoke: colour: unknown key" in done.output
