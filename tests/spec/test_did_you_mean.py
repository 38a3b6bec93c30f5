"""A name that is nearly right is answered with the right one, wherever a user types one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from doubles.tiny import TINY

import rem_study
from rem_study.cli import main
from rem_study.errors import InputError, did_you_mean
from rem_study.spec.best import of_cell
from rem_study.spec.known_fields import known_fields
from rem_study.spec.resolve import resolve
from rem_study.spec.study import StudySpec

KNOWN = ["rem", "npo", "random_label"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("rme", "rem"),
        ("REM", "rem"),
        ("random-labels", "random_label"),
        ("zebra", ""),
        ("", ""),
        (3, ""),
        ("n" * 10**5, ""),
    ],
)
def test_what_is_near_is_named_and_what_is_not_is_not(given: object, meant: str) -> None:
    assert did_you_mean(given, KNOWN) == (f" (did you mean {meant}?)" if meant else "")


def told(**changes: Any) -> str:
    with pytest.raises(InputError) as failure:
        resolve(copy.deepcopy(TINY) | changes, "s.yaml", Path())
    return str(failure.value)


@pytest.mark.parametrize(
    ("changes", "field", "meant"),
    [
        ({"budgt": {}}, "budgt", "budget"),
        ({"budget": {"trails": 3}}, "budget.trails", "trials"),
        ({"model": {"widht": 1}}, "model.widht", "width"),
        ({"model": {"name": "vit", "patchsize": 4}}, "model.patchsize", "patch_size"),
        ({"model": {"name": "resnet"}}, "model", "resnet9"),
        ({"original": {"kind": "etd", "p_genn": 0.4}}, "original.p_genn", "p_gen"),
        ({"corruptions": [{"name": "poison", "patchsize": 3}]}, "corruptions.0.poison.patchsize", "patch_size"),
        ({"corruptions": [{"name": "poisson"}]}, "corruptions.0", "poison"),
        ({"corruptions": ["random_labels"]}, "corruptions.0", "random_label"),
        ({"data": {"name": "cifar_10"}}, "data.name", "cifar10"),
        ({"sampler": {"name": "tpee"}}, "sampler.name", "tpe"),
        ({"objective": "score_oracel"}, "objective", "score_oracle"),
        ({"methods": ["rme"]}, "methods.rme", "rem"),
        ({"methods": {"rem": {"fix": {}}}}, "methods.rem.fix", "fixed"),
        ({"methods": {"rem": {"fixed": {"erase_mod": "drop"}}}}, "methods.rem.fixed.erase_mod", "erase_mode"),
        ({"methods": {"rem": {"fixed": {"erase_mode": "dorp"}}}}, "methods.rem.fixed.erase_mode", "drop"),
        ({"methods": {"rem": {"ranges": {"lr": {"hihg": 1}}}}}, "methods.rem.ranges.lr: hihg", "high"),
    ],
)
def test_in_a_study_file(changes: dict[str, Any], field: str, meant: str) -> None:
    line = told(**changes)
    assert line.startswith(f"s.yaml: {field}: ") and f"did you mean {meant}?" in line and "\n" not in line


def test_all_mistakes_at_once_names_of_methods_too() -> None:
    lines = told(budgt={}, original={"epoch": 3}, methods={"nop": None, "ssd": {}, "rme": {"space": "mine.yaml"}})
    fields = [line.split(": ")[1] for line in lines.splitlines()]
    assert sorted(fields) == ["budgt", "methods.nop", "methods.rme", "original.epoch"]
    assert told(budgt={}, methods=["ssd", "ssd"]).count("methods") == 1


def test_another_kinds_field_is_not_suggested() -> None:
    assert "did you mean" not in told(corruptions=[{"name": "random_label", "patchsize": 3}])
    assert known_fields(StudySpec, ("corruptions", 0, "random_label")) == ["samples", "name"]
    assert known_fields(StudySpec, ("no", "where")) == []


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["show", "salunn"], "salun"),
        (["check", "smok"], "smoke"),
        (["check", "smoke", "--set", "budgte.trials=3"], "budget"),
        (["check", "smoke", "--set", "methods.npoo.trials=3"], "npo"),
        (["check", "smoke", "--set", "model={name: torchvision/resnet_18}"], "resnet18"),
    ],
)
def test_on_the_command_line(words: list[str], meant: str) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and f"did you mean {meant}?" in done.output, done.output


BEST = {
    "format": 1,
    "study": "s",
    "objective": "score_oracle",
    "universal": {},
    "cells": [
        {
            "corruption": "poison",
            "discovery_rate": 0.5,
            "regularity": 0.9,
            "methods": {"npo": {"config": {}, "utility_x_healed": {"mean": 0.5, "low": None, "high": None}}},
        }
    ],
}


@pytest.mark.parametrize(
    ("cell", "method", "meant"), [("poisson@0.5", "npo", "poison@0.5"), ("poison@0.5", "nppo", "npo")]
)
def test_in_best_yaml(cell: str, method: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "best.yaml").write_text(yaml.safe_dump(BEST))
    with pytest.raises(InputError, match=f"did you mean {meant}"):
        of_cell(tmp_path / "best.yaml", cell, method)


def test_in_python(tmp_path: Path) -> None:
    study = resolve(copy.deepcopy(TINY), "tiny.yaml", tmp_path)
    with pytest.raises(InputError, match=r"did you mean poison@0\.5\?"):
        rem_study.run_trial(study, "poisin@0.5", "finetune")
    with pytest.raises(InputError, match=r"did you mean finetune\?"):
        rem_study.run_trial(study, "poison@0.5", "fine_tune")
