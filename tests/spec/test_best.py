"""Which cell of a best.yaml serves a case, and how far it is."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

import rem_study
from rem_study.errors import InputError
from rem_study.spec.best import of_cell
from rem_study.spec.space import load_space


def winner(lr: float) -> dict:
    return {"config": {"lr": lr}, "utility_x_healed": {"mean": 0.5 + lr / 10, "low": None, "high": None}}


LATER = {name: p.before for name, p in load_space("rem").parameters.items() if p.before is not None}
"""What an export of before says without saying it."""

BEST = {
    "format": 1,
    "study": "toy",
    "universal": {"rem": winner(0.4)},
    "cells": [
        {"corruption": "random_label", "discovery_rate": 0.1, "regularity": 0.0, "methods": {"rem": winner(0.01)}},
        {
            "corruption": "poison",
            "discovery_rate": 0.1,
            "regularity": 0.9,
            "methods": {"rem": winner(0.02), "npo": winner(0.05)},
        },
        {"corruption": "poison", "discovery_rate": 0.5, "regularity": 0.9, "methods": {"rem": winner(0.03)}},
        {"corruption": "given", "discovery_rate": 0.3, "regularity": None, "methods": {"rem": winner(0.04)}},
    ],
}


def test_a_cell_of_the_grid_is_itself_at_distance_0():
    found = rem_study.recommend(BEST, corruption="poison", discovery_rate=0.5)
    assert (found.cell, found.configuration, found.distance) == ("poison@0.5", LATER | {"lr": 0.03}, 0)
    assert found.utility_x_healed == 0.503
    assert str(found) == "rem of poison@0.5"


@pytest.mark.parametrize(
    ("rate", "cell"), [(0.05, "poison@0.1"), (0.2, "poison@0.1"), (0.3, "poison@0.5"), (1, "poison@0.5")]
)
def test_the_nearest_discovery_rate_is_nearest_by_its_factor(rate, cell):
    found = rem_study.recommend(BEST, corruption="poison", discovery_rate=rate)
    assert found.cell == cell
    assert found.distance == pytest.approx(abs(math.log10(float(cell.split("@")[1]) / rate)))
    assert found.regularity_gap == 0


def test_a_regularity_is_compared_where_one_was_measured():
    found = rem_study.recommend(BEST, corruption=0.6, discovery_rate=0.05)
    assert found.cell == "poison@0.1"
    assert found.distance == pytest.approx(math.hypot(0.3, math.log10(2)))
    assert found.regularity_gap == pytest.approx(0.3)
    assert "2 times the discovery rate, regularity +0.30" in str(found)
    assert rem_study.recommend(BEST, corruption=0.0, discovery_rate=0.3).cell == "random_label@0.1"


def test_of_two_cells_as_near_the_one_that_knows_less_is_taken():
    cells = [{"corruption": "poison", "discovery_rate": rate, "methods": {"rem": winner(rate)}} for rate in (1.0, 0.25)]
    found = rem_study.recommend({"format": 1, "cells": cells}, corruption="poison", discovery_rate=0.5)
    assert found.cell == "poison@0.25"


def test_a_method_is_looked_for_where_it_has_a_configuration():
    found = rem_study.recommend(BEST, corruption="poison", discovery_rate=0.5, method="npo")
    assert (found.method, found.cell, found.rate_factor) == ("npo", "poison@0.1", 0.2)


def test_one_cell_by_name_and_the_universal_configuration():
    assert of_cell(BEST, "given@0.3").configuration == LATER | {"lr": 0.04}
    assert of_cell(BEST, "universal").configuration == LATER | {"lr": 0.4}


WRONG = {
    "corruption": (
        dict(corruption="posion", discovery_rate=0.5),
        "'posion' (did you mean poison?); there are random_label, poison, given",
    ),
    "regularity": (dict(corruption=1.5, discovery_rate=0.5), "corruption: "),
    "rate": (dict(corruption="poison", discovery_rate=0), "discovery_rate: "),
    "rate nan": (dict(corruption="poison", discovery_rate=math.nan), "discovery_rate: "),
    "method": (dict(corruption="poison", discovery_rate=0.5, method="scrub"), "'scrub'; there are npo, rem"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_there_is_said_in_one_line(case, tmp_path):
    asked, expected = WRONG[case]
    path = tmp_path / "best.yaml"
    path.write_text(yaml.safe_dump(BEST))
    with pytest.raises(InputError) as caught:
        rem_study.recommend(path, **asked)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    if "there are" in expected:
        assert str(caught.value).startswith(f"{path}: cells: ")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"format": 2}, "format: "),
        ({"cells": [{"corruption": "poison", "discovery_rate": 0, "methods": {}}]}, "cells.0.discovery_rate: "),
        ({"cells": [{"corruption": "poison", "discovery_rate": 1, "methods": {"rem": {}}}]}, "cells.0.methods.rem"),
    ],
)
def test_a_malformed_best_yaml_is_named_with_its_field(change, expected, tmp_path: Path):
    path = tmp_path / "best.yaml"
    path.write_text(yaml.safe_dump(BEST | change))
    with pytest.raises(InputError, match=f"best.yaml: {expected}"):
        rem_study.recommend(path, corruption="poison", discovery_rate=0.5)


def test_cells_that_are_not_there():
    with pytest.raises(InputError, match=r"poison@0\.3.*there are random_label@0\.1"):
        of_cell(BEST, "poison@0.3")
    with pytest.raises(InputError, match=r"poison@0\.5 has no configuration of 'npo'"):
        of_cell(BEST, "poison@0.5", "npo")
    with pytest.raises(InputError, match="universal: "):
        of_cell(BEST, "universal", "npo")
