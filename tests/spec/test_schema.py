"""The JSON Schema of the study file: it takes what is taken, refuses what is refused, and knows the hyperparameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from rem_study.cli import main
from rem_study.spec.schema import study_schema

ROOT = Path(__file__).parents[2]
SCHEMA = study_schema()
GRID: dict[str, Any] = {"corruptions": ["poison"], "discovery_rates": [0.5], "methods": ["rem"]}


def mistakes(document: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(document)]


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_studies_satisfy_it(path: Path) -> None:
    assert mistakes(yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"methods": {"rem": None, "npo": {"trials": 3, "fixed": {"lr": 0.1}}}},
        {"model": {"name": "torchvision/resnet18"}},
        {"original": {"kind": "etd", "p_gen": 0.4}},
        {"corruptions": [{"name": "given", "file": "known.csv"}]},
    ],
)
def test_what_a_study_may_say_satisfies_it(changes: dict[str, Any]) -> None:
    assert mistakes(GRID | changes) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"colour": "red"},
        {"methods": ["rme"]},
        {"methods": {"rme": {}}},
        {"methods": {"rem": {"trails": 3}}},
        {"corruptions": ["given"]},
        {"corruptions": [{"name": "poison", "sample": 3}]},
        {"discovery_rates": [0]},
        {"data": {"name": "mnist"}},
        {"budget": {"trials": 0}},
    ],
)
def test_what_a_study_may_not_say_does_not(changes: dict[str, Any]) -> None:
    assert mistakes(GRID | changes)


def test_an_editor_learns_a_hyperparameters_default_and_source() -> None:
    rem = SCHEMA["properties"]["methods"]["anyOf"][1]["properties"]["rem"]["anyOf"][0]
    mode = rem["properties"]["fixed"]["properties"]["erase_mode"]
    assert {"drop", "deactivate", "attenuate", "mean", "anneal"} == set(mode["examples"])
    assert "default" in mode and mode["description"].startswith("one of [")


def test_the_command_prints_it_and_writes_over_nothing(tmp_path: Path) -> None:
    assert json.loads(CliRunner().invoke(main, ["schema"]).output) == SCHEMA
    path = tmp_path / "rem-study.schema.json"
    assert CliRunner().invoke(main, ["schema", "-o", str(path)]).exit_code == 0
    assert json.loads(path.read_text()) == SCHEMA
    again = CliRunner().invoke(main, ["schema", "-o", str(path)])
    assert again.exit_code == 2 and "is there already" in again.output
