"""What fresh replicates may claim: intervals that hold the truth, regrets, and the configuration for all cells."""

from __future__ import annotations

import json

import numpy as np
import pytest
from doubles.replicates import only, row, trials

from rem_study.results import best_document, selection
from rem_study.results.confirmation import interval, mean_over_cells, regrets

CELLS = 400


def measured(rng: np.random.Generator, truth: float, replicates: int) -> np.ndarray:
    """Healed shares as a study sees them: each replicate its own network and 60 corrupted samples that report."""
    networks = np.clip(rng.normal(truth, 0.03, replicates), 0, 1)
    return rng.binomial(60, networks) / 60


@pytest.mark.parametrize("replicates", [3, 5, 10])
def test_intervals_hold_the_truth_in_90_to_99_percent_of_simulated_cells(replicates):
    rng = np.random.default_rng(replicates)
    truths = rng.uniform(0.3, 0.95, CELLS)
    held = 0
    for truth in truths:
        low, high = interval(measured(rng, truth, replicates), 0, 1)
        held += low <= truth <= high
    assert 0.90 <= held / CELLS <= 0.99


@pytest.mark.parametrize("replicates", [3, 5])
def test_paired_gains_hold_the_true_gain_in_90_to_99_percent_of_simulated_cells(replicates):
    rng = np.random.default_rng(100 + replicates)
    held = 0
    for _ in range(CELLS):
        default, gain = rng.uniform(0.4, 0.8), rng.normal(0.05, 0.05)
        shared = rng.normal(0, 0.05, replicates)  # a hard set of seeds is hard for both
        gains = measured(rng, default + gain, replicates) + shared - measured(rng, default, replicates) - shared
        low, high = interval(gains, -1, 1)
        held += low <= gain <= high
    assert 0.90 <= held / CELLS <= 0.99


def test_a_bootstrap_over_three_replicates_would_not_hold_it():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(CELLS):
        values = measured(rng, 0.7, 3)
        means = rng.choice(values, (500, 3)).mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        held += low <= 0.7 <= high
    assert held / CELLS < 0.85


def test_an_interval_stays_within_what_is_possible_and_one_value_gives_none():
    assert interval([0.99, 1.0, 0.97], 0, 1)[1] == 1.0
    assert np.isnan(interval([0.5], 0, 1)).all()
    assert interval([0.5, 0.5], 0, 1) == (0.5, 0.5)


def confirmed(trial: int, *reports: float, scores: float = 0.5, proposed_by: str = "selected", **more) -> list[dict]:
    return [
        row(trial, 2 + n, scores, report, phase="confirm", proposed_by=proposed_by, **more)
        for n, report in enumerate(reports)
    ]


def test_confirmed_scores_replace_those_of_the_search_and_say_what_was_lost():
    frame = trials(
        *(row(0, r, 0.5, 0.5) for r in (0, 1)),
        *(row(1, r, 0.9, 0.9) for r in (0, 1)),
        *confirmed(1, 0.6, 0.8, scores=0.7),
        *confirmed(0, 0.5, 0.6, proposed_by="default"),
    )
    cell = only(selection.cells_frame(frame))
    assert (cell["trial"], cell["replicates"], cell["trials"]) == (1, 2, 2)
    assert cell["utility_x_healed"] == pytest.approx(0.7) and cell["default_utility_x_healed"] == pytest.approx(0.55)
    assert cell["gain"] == pytest.approx(0.15)
    assert cell["search_score"] == pytest.approx(0.9) and cell["shrinkage"] == pytest.approx(0.2)
    assert cell["utility_x_healed_low"] < 0.7 < cell["utility_x_healed_high"] <= 1
    assert cell["gain_low"] < 0.15 < cell["gain_high"]  # gains of 0.1 and 0.2: two replicates say little
    assert cell["health"] == "gain not beyond its interval"
    best = best_document.best("toy", "score_oracle", frame, selection.cells_frame(frame))
    told = best["cells"][0]["methods"]["rem"]
    assert told["replicates"] == 2 and told["utility_x_healed"]["low"] == cell["utility_x_healed_low"]


def raced(trial: int, *scores: float, proposed_by: str = "challenger") -> list[dict]:
    return [row(trial, 2 + n, score, score, phase="race", proposed_by=proposed_by) for n, score in enumerate(scores)]


def test_what_won_the_race_is_reported_by_replicates_that_neither_search_nor_race_has_seen():
    frame = trials(
        *(row(n, 0, 0.5 + n / 10, 0.5) for n in range(3)),
        *raced(2, 0.1, 0.1),  # the search's best
        *raced(1, 0.99, 0.99),
        *raced(0, 0.5, 0.5, proposed_by="default"),
        *confirmed(1, 0.6, 0.7),
        *confirmed(0, 0.4, 0.4, proposed_by="default"),
    )
    cell = only(selection.cells_frame(frame))
    assert (cell["trial"], cell["chosen"], cell["race_replicates"], cell["replicates"]) == (1, "race", 2, 2)
    assert cell["utility_x_healed"] == pytest.approx(0.65) and cell["gain"] == pytest.approx(0.25)
    told = best_document.best("toy", "score_oracle", frame, selection.cells_frame(frame))["cells"][0]["methods"]["rem"]
    assert told["chosen"] == "race" and told["default_utility_x_healed"] == pytest.approx(0.4)
    assert told["gain"] == {"mean": cell["gain"], "low": cell["gain_low"], "high": cell["gain_high"]}


def test_while_a_race_is_under_way_the_searchs_best_is_shown_as_what_it_is():
    searched = (row(n, 0, 0.5 + n / 10, 0.5) for n in range(3))
    cell = only(selection.cells_frame(trials(*searched, *raced(2, 0.1), *raced(0, 0.5, proposed_by="default"))))
    assert (cell["trial"], cell["chosen"], cell["race_replicates"]) == (2, "search", 1)


def test_a_default_that_no_challenger_beat_is_exported_and_no_fault():
    frame = trials(
        *(row(n, 0, 0.5 + n / 10, 0.5) for n in range(3)),
        *(raced(2, 0.6, 0.1) + raced(1, 0.2) + raced(0, 0.5, 0.5, proposed_by="default")),
        *confirmed(0, 0.4, 0.5),
    )
    cell = only(selection.cells_frame(frame))
    assert (cell["trial"], cell["chosen"], cell["race_replicates"]) == (0, "default", 2)
    assert (cell["gain"], cell["gain_low"], cell["gain_high"], cell["health"]) == (0, 0, 0, "")
    assert cell["utility_x_healed"] == cell["default_utility_x_healed"] == pytest.approx(0.45)


def test_a_selection_that_failed_on_fresh_replicates_keeps_the_searchs_scores_and_no_interval():
    rows = confirmed(1, 0.6, 0.8)
    rows[1] |= {"state": "failed", "error": "NaN", "utility_x_healed": None}
    searched = (row(0, 0, 0.5), row(1, 0, 0.9, 0.9), row(2, 0, 0.95, 0.95))  # the last one lost the race
    cell = only(selection.cells_frame(trials(*searched, *rows)))
    assert cell["utility_x_healed"] == pytest.approx(0.9) and np.isnan(cell["utility_x_healed_low"])


def everywhere() -> list[dict]:
    """Two cells with a winner each, both run in both, and the default; two fresh replicates."""
    rows = []
    for corruption, winner in (("poison", 1), ("random_label", 2)):
        rows += [row(n, 0, 0.9 if n == winner else 0.5, corruption=corruption) for n in range(3)]
        place = {"corruption": corruption}
        rows += confirmed(winner, 0.8, 0.9, **place) + confirmed(0, 0.6, 0.6, proposed_by="default", **place)
        other = 3 - winner
        shared = {"phase": "transfer", "proposed_by": "poison@0.1", "config": {"width": other}}
        value = 0.7 if corruption == "poison" else 0.3
        rows += [row(5, 2 + n, 0.5, value, **place, **shared) for n in range(2)]
    return rows


def test_regret_is_what_a_configuration_loses_against_each_cells_own():
    table = regrets(trials(*everywhere()), "rem")
    assert table.loc['{"width": 1}'].to_dict() == pytest.approx({"poison@0.1": 0.0, "random_label@0.1": 0.55})
    assert table.loc['{"width": 2}'].to_dict() == pytest.approx({"poison@0.1": 0.15, "random_label@0.1": 0.0})
    assert table.loc['{"width": 0}'].to_dict() == pytest.approx({"poison@0.1": 0.25, "random_label@0.1": 0.25})


def test_the_universal_configuration_has_the_least_worst_regret_on_fresh_replicates_with_an_interval():
    frame = trials(*everywhere())
    told = best_document.universal(frame)["rem"]
    assert told["config"] == {"width": 2} and told["worst_regret"] == pytest.approx(0.15)
    assert told["best_mean"]["config"] == {"width": 2}
    mean, low, high = mean_over_cells(frame, "rem", json.dumps(told["config"]))
    assert mean == pytest.approx((0.7 + 0.85) / 2) and low < mean < high
    assert told["utility_x_healed"] == {"mean": mean, "low": low, "high": high}


def test_a_winner_that_failed_in_another_cell_is_no_candidate_and_the_others_still_are():
    frame = trials(*everywhere())
    sunk = (frame["phase"] == "transfer") & (frame["config"] == '{"width": 2}') & (frame["replicate"] == 3)
    assert sunk.sum() == 1
    frame.loc[sunk, ["state", "score", "utility_x_healed"]] = ["failed", None, None]
    table = regrets(frame, "rem")
    assert sorted(table.index) == ['{"width": 0}', '{"width": 1}']
    told = best_document.universal(frame)["rem"]
    assert told["config"] == {"width": 0} and told["worst_regret"] == pytest.approx(0.25)
    assert told["utility_x_healed"]["low"] is not None


def test_without_the_winners_run_everywhere_the_search_itself_is_asked():
    rows = [one for one in everywhere() if one["phase"] != "transfer"]
    assert regrets(trials(*rows), "rem").empty
    told = best_document.universal(trials(*rows))["rem"]
    assert told["utility_x_healed"]["low"] is None
