"""Differences between studies: paired where replicates are the same, Welch's where they are not (SciPy's)."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
from doubles.tiny import TINY
from scipy import stats

from rem_study.results.comparison import beyond_noise, difference, over_cells, share_seeds
from rem_study.results.winners import Scored, compare
from rem_study.spec.resolve import resolve
from rem_study.spec.study import Study


def scored(replicates: dict[int, float], samples: int | None = 100) -> Scored:
    mean = sum(replicates.values()) / len(replicates)
    return Scored(replicates, mean, 1.0, samples, samples)


HARD_AND_EASY = scored({4: 0.5, 5: 0.7, 6: 0.9})
A_LITTLE_BETTER = scored({4: 0.61, 5: 0.80, 6: 1.0})


def test_the_same_replicates_are_paired() -> None:
    lead = difference(A_LITTLE_BETTER, HARD_AND_EASY, paired=True)
    assert (lead.value, lead.replicates) == (pytest.approx(0.31 / 3), 3)
    assert lead == compare(A_LITTLE_BETTER, HARD_AND_EASY, "")
    assert beyond_noise(A_LITTLE_BETTER, HARD_AND_EASY, paired=True) == 1
    assert beyond_noise(HARD_AND_EASY, A_LITTLE_BETTER, paired=True) == -1


@pytest.mark.parametrize("numbers", [(4, 5, 6, 7), (0, 1, 2, 3)], ids=["same numbers, other seeds", "other numbers"])
def test_other_replicates_have_welchs_interval(numbers: tuple[int, ...]) -> None:
    base = scored(dict(zip(numbers, (0.5, 0.55, 0.7, 0.52), strict=True)))
    lead = difference(A_LITTLE_BETTER, base, paired=False)
    own, other = (list(one.utility_x_healed.values()) for one in (A_LITTLE_BETTER, base))
    expected = stats.ttest_ind(own, other, equal_var=False).confidence_interval(0.95)
    assert (lead.low, lead.high) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert lead.replicates == 0
    assert beyond_noise(A_LITTLE_BETTER, base, paired=False) == 0


def test_one_replicate_of_other_seeds_says_nothing() -> None:
    lead = difference(scored({0: 0.9}), scored({0: 0.1}), paired=False)
    assert (lead.value, math.isnan(lead.low)) == (pytest.approx(0.8), True)
    assert beyond_noise(scored({0: 0.9}), scored({0: 0.1}), paired=False) == 0
    assert beyond_noise(scored({0: 0.9}), scored({0: 0.1}), paired=True) == 1


def test_equals_are_seldom_told_apart() -> None:
    """At most 5 % of pairs of studies that differ in their seeds only, up to the error of 2,000 draws."""
    rng = np.random.default_rng(0)
    told = 0
    for _ in range(2000):
        one, other = rng.normal(0.5, (0.02, 0.06), (4, 2)).T
        told += beyond_noise(scored(dict(enumerate(one))), scored(dict(enumerate(other))), paired=False) != 0
    assert told / 2000 < 0.065


def test_the_mean_over_cells_is_taken_by_replicate() -> None:
    scores = {"a": {"rem": scored({1: 0.2, 2: 0.4})}, "b": {"rem": scored({2: 0.8, 3: 0.0})}}
    assert over_cells(scores, "rem", ["a", "b"]).utility_x_healed == {2: pytest.approx(0.6)}
    assert over_cells(scores, "rem", ["a"]).utility_x_healed == {1: 0.2, 2: 0.4}


def study(**changes: object) -> Study:
    return resolve(copy.deepcopy(TINY) | changes, "tiny.yaml", Path())


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"budget": {"trials": 2}, "methods": ["npo"]}, True),
        ({"data": {**TINY["data"], "root": "/elsewhere"}}, True),
        ({"original": {"epochs": 3}}, True),  # other networks, the same corrupted samples and splits
        ({"seed": 1}, False),
        ({"data": {"image_size": 12}}, False),
        ({"protocol": "paper"}, False),
        ({"corruptions": [{"name": "poison", "samples": 13}]}, False),
    ],
)
def test_studies_of_the_same_data_corruption_and_seed_share_replicates(changes: dict[str, object], same: bool) -> None:
    assert share_seeds(study(), study(**changes), "poison") is same
