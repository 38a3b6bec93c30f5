"""Each rule fires on a case made for it, and none on a sound one."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from rem_study.results.health import RULES, Selection, examine
from rem_study.spec.space import load_space

SPACE = load_space("npo")


def selection(config: dict[str, Any] | None = None, **fields: Any) -> Selection:
    """A sound row of cells.parquet with some fields changed."""
    configuration = SPACE.defaults | {"lr": 0.002} if config is None else SPACE.defaults | config
    row = {
        "trial": 3,
        "config": json.dumps(configuration),
        "trials": 8,
        "failed": 1,
        "pruned": 2,
        "memorised": 0.99,
        "gain": 0.1,
        "gain_low": 0.05,
        "gain_high": 0.15,
    }
    return Selection(row | fields, SPACE)


def test_a_sound_cell_raises_no_word():
    assert examine(selection()) == ""
    assert examine(selection(gain_low=np.nan, gain_high=np.nan)) == ""  # not confirmed: nothing is known against it


LOW = SPACE.parameters["lr"].low


@pytest.mark.parametrize(
    "rule, sick, words",
    [
        ("every_trial_failed", selection(trials=8, failed=8), "every trial failed"),
        ("no_finished_trial", Selection({**selection().cell, "config": None, "failed": 3}, SPACE), "no finished trial"),
        ("default_not_finished", Selection(selection().cell, SPACE, default_finished=False), "default not finished"),
        ("no_gain", selection(gain=0.0, gain_low=-0.1), "no gain over the default"),
        ("gain_within_its_interval", selection(gain_low=-0.01), "gain not beyond its interval"),
        ("optimum_on_a_bound", selection({"lr": LOW * 1.001}), "optimum on a bound (lr)"),
        ("original_did_not_memorise", selection(memorised=0.43), "original memorised only 43% of the corruption"),
        ("too_few_finished", selection(failed=5), "only 3 of 8 trials did not fail"),
    ],
)
def test_each_rule_fires_on_its_own_case_only(rule, sick, words):
    spoken = {one.__name__: one(sick) for one in RULES}
    assert spoken[rule] == words
    assert [name for name, word in spoken.items() if word] == [rule]


def test_every_rule_has_its_case():
    cases = {mark.args[1][i][0] for mark in test_each_rule_fires_on_its_own_case_only.pytestmark for i in range(8)}
    assert cases == {rule.__name__ for rule in RULES}


def test_the_default_on_a_bound_is_nobodys_optimum():
    assert examine(selection({"lr": LOW}, trial=0)) == ""
    assert "bound" in examine(selection({"lr": LOW}))
