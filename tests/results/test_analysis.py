"""From replicates to tables: which trial is selected, what is reported of it, and what counts as a win."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from doubles.replicates import only, row, trials

from rem_study.results import best_document, columns, plane, selection


def test_the_trial_with_the_highest_mean_selection_score_is_selected_and_reported_on_the_other_split() -> None:
    cell = only(
        selection.cells_frame(
            trials(
                *(row(0, 0, 0.4, 0.3), row(0, 1, 0.4, 0.5)),
                *(
                    row(1, 0, 0.9, 0.2),
                    row(1, 1, 0.5, 0.4),
                ),  # mean score 0.7: selected, though its report is lower
                *(row(2, 0, 0.6, 0.9), row(2, 1, 0.6, 0.9)),
            )
        )
    )
    assert cell["trial"] == 1
    assert cell["config"] == '{"width": 1}'
    assert cell["search_score"] == pytest.approx(0.7)
    assert cell["utility_x_healed"] == pytest.approx(0.3)
    assert cell["default_utility_x_healed"] == pytest.approx(0.4)
    assert cell["gain"] == pytest.approx(-0.1)
    assert cell["health"] == "no gain over the default"
    assert (cell["replicates"], cell["trials"], cell["sample_passes"], cell["seconds"]) == (2, 3, 60, 9.0)
    assert np.isnan(cell["utility_x_healed_low"])


def test_equal_scores_go_to_the_lowest_trial() -> None:
    assert only(selection.cells_frame(trials(row(3, score=0.6), row(2, score=0.6), row(0, score=0.1))))["trial"] == 2


@pytest.mark.parametrize(
    "spoilt",
    [
        [row(1, 0, 0.99), row(1, 1, None, None, state="failed", error="boom")],
        [row(1, 0, 0.99), row(1, 1, 0.99, state="pruned")],
        [row(1, 0, 0.99)],  # still running: one replicate of two
        [row(1, 0, 0.99), row(1, 1, float("nan"))],
        [row(1, 0, 0.99), row(1, 1, float("inf"))],
    ],
    ids=["failed", "pruned", "unfinished", "nan", "infinite"],
)
def test_a_trial_that_did_not_finish_whole_is_never_selected(spoilt: list[dict[str, Any]]) -> None:
    cell = only(selection.cells_frame(trials(row(0, 0, 0.2), row(0, 1, 0.2), *spoilt)))
    assert cell["trial"] == 0
    assert cell["trials"] == 2


def test_confirmation_on_fresh_replicates_costs_but_does_not_choose() -> None:
    frame = trials(row(0, score=0.5), row(1, score=0.6), row(0, 7, 0.99, phase="confirm"))
    cell = only(selection.cells_frame(frame))
    assert (cell["trial"], cell["trials"], cell["sample_passes"]) == (1, 2, 30)


def test_a_cell_whose_every_trial_failed_has_a_row_that_says_so() -> None:
    cell = only(selection.cells_frame(trials(*(row(n, 0, None, None, state="failed") for n in range(2)))))
    assert cell["health"] == "every trial failed"
    assert (cell["trials"], cell["failed"], cell["replicates"]) == (2, 2, 0)
    assert all(pd.isna(cell[name]) for name in ("trial", "config", "search_score", "utility_x_healed", "gain"))


@pytest.mark.parametrize(
    ("rows", "health"),
    [
        ([row(0, state="pruned"), row(1, state="failed")], "no finished trial"),
        ([row(0, state="pruned"), row(1)], "default not finished"),
        ([row(0, score=0.1, report=0.1), row(1, score=0.2, report=0.2)], ""),
        ([row(0)], ""),  # nothing was searched, so nothing could be gained
        ([row(0, score=0.6), row(1, score=0.5)], ""),  # the default itself
        ([row(0, score=0.6), row(1, score=0.7)], "no gain over the default"),
    ],
)
def test_health_names_what_is_wrong_with_a_cell(rows: list[dict[str, Any]], health: str) -> None:
    assert only(selection.cells_frame(trials(*rows)))["health"] == health


def test_tables_have_the_contracts_columns_and_the_same_order_however_trials_finished() -> None:
    rows = [row(n, r, method=m, rate=d) for n in (0, 1) for r in (0, 1) for m in ("rem", "npo") for d in (0.5, 0.1)]
    table = columns.trials_table(rows)
    assert table.schema == columns.TRIALS_SCHEMA
    assert table.equals(columns.trials_table(rows[::-1]))
    cells = selection.cells_frame(table.to_pandas())
    assert columns.cells_table(cells).schema.equals(columns.CELLS_SCHEMA)
    assert list(cells.columns) == columns.CELLS_SCHEMA.names


def test_nan_and_missing_values_are_null_and_configurations_have_sorted_keys() -> None:
    table = columns.trials_table([row(0, report=float("nan"), config={"b": 1, "a": [2]})])
    assert table["healed"].null_count == 1
    assert table["mlflow_run_id"].null_count == 1
    assert table["config"][0].as_py() == '{"a": [2], "b": 1}'


def test_a_key_that_is_no_column_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="haeled"):
        columns.trials_table([row(0, haeled=1.0)])


def test_a_study_without_trials_gives_an_empty_table_of_cells() -> None:
    cells = selection.cells_frame(trials())
    assert cells.empty
    assert list(cells.columns) == columns.CELLS_SCHEMA.names


def test_measured_regularity_is_the_mean_over_replicates_and_orders_the_corruptions() -> None:
    frame = trials(
        *(
            row(0, 0, regularity=0.2),
            row(1, 0, regularity=0.2),
            row(0, 1, regularity=0.4),
        ),  # poison: 0.3, not 0.267
        *(row(0, n, corruption="interclass_confusion", regularity=0.8) for n in (0, 1)),
        *(row(0, n, corruption="random_label", regularity=0.1) for n in (0, 1)),
    )
    cells = selection.cells_frame(frame)
    assert list(cells["corruption"]) == ["random_label", "poison", "interclass_confusion"]
    assert list(cells["regularity"]) == pytest.approx([0.1, 0.3, 0.8])


def test_where_regularity_was_not_measured_its_rank_orders_the_corruptions() -> None:
    frame = trials(*(row(0, corruption=name, regularity=None) for name in ("poison", "random_label")))
    assert selection.corruption_order(frame) == ["random_label", "poison"]


def four_cells() -> pd.DataFrame:
    """REM 0.8, 0.6, 0.4, 0.2 against NPO 0.5, 0.8, 0.4 and a cell in which NPO failed; each of 100 samples."""
    rows, counts = [], {"healed_samples": 100, "utility_samples": 200}
    for rate, rem, npo in [(0.1, 0.8, 0.5), (0.2, 0.6, 0.8), (0.3, 0.4, 0.4), (0.4, 0.2, None)]:
        rows.append(row(0, report=rem, rate=rate, **counts))
        state = "complete" if npo else "failed"
        rows.append(row(0, score=npo, report=npo, rate=rate, method="npo", state=state, **(counts if npo else {})))
    return selection.cells_frame(trials(*rows))


def test_a_tie_is_nobodys_win_and_neither_is_a_cell_in_which_the_rival_failed() -> None:
    cells = four_cells()
    won = cells.loc[plane.wins(cells), ["discovery_rate", "method"]]
    assert list(won.itertuples(index=False, name=None)) == [(0.1, "rem"), (0.2, "npo")]
    standing = cells.set_index(["discovery_rate", "method"])["standing"]
    assert (standing[0.3] == "level").all() and standing[0.4, "rem"] == "alone" and pd.isna(standing[0.4, "npo"])


def test_methods_have_mean_and_spread_over_their_cells_and_count_what_they_won() -> None:
    methods = plane.methods_frame(four_cells()).set_index("method")
    assert list(methods.index) == ["npo", "rem"]  # 1.7 / 3 before 0.5
    assert methods.loc["rem", "utility_x_healed_mean"] == pytest.approx(0.5)
    assert methods.loc["rem", "utility_x_healed_sem"] == pytest.approx(math.sqrt(0.2 / 3) / 2)
    assert methods.loc["npo", "cells"] == 3
    assert (methods.loc["rem", "utility_x_healed_min"], methods.loc["rem", "utility_x_healed_max"]) == (0.2, 0.8)
    assert list(methods["cells_won"]) == [1, 1]
    assert list(methods["cells_level"]) == [1, 1]
    assert list(methods["failed"]) == [1, 0]
    assert list(methods["seconds"]) == [6.0, 6.0]


def universal_trials() -> pd.DataFrame:
    """Two cells. Selected: A 0.9 in the first, B 0.8 in the second. Worst regrets: A 0.6, B 0.5, C 0.2."""
    table = {0.1: {"A": 0.9, "B": 0.4, "C": 0.7}, 0.2: {"A": 0.2, "B": 0.8, "C": 0.7}}
    rows = [
        row(n, rate=rate, score=value, report=value, config={"name": name}, mlflow_run_id=f"run-{rate}-{name}")
        for rate, values in table.items()
        for n, (name, value) in enumerate(values.items())
    ]
    return trials(*rows, row(3, rate=0.1, score=0.1, report=0.95, config={"name": "only here"}))


def test_the_universal_configuration_has_the_least_worst_regret_among_those_run_everywhere() -> None:
    expected = {
        "config": {"name": "C"},
        "utility_x_healed": {"mean": pytest.approx(0.7), "low": None, "high": None},
        "worst_regret": pytest.approx(0.2),
    }
    assert best_document.universal(universal_trials()) == {"rem": expected | {"best_mean": expected}}


def test_no_configuration_is_universal_unless_it_finished_in_every_cell() -> None:
    assert best_document.universal(trials(row(0, rate=0.1), row(0, rate=0.2, state="failed"))) == {}


def test_best_names_each_cells_configuration_and_its_run() -> None:
    frame = universal_trials()
    document = best_document.best("toy", "score_oracle", frame, selection.cells_frame(frame))
    assert list(document) == ["format", "study", "objective", "universal", "cells"]
    assert (document["format"], document["study"], document["objective"]) == (1, "toy", "score_oracle")
    assert document["cells"][1] == {
        "corruption": "poison",
        "discovery_rate": 0.2,
        "regularity": 0.9,
        "methods": {
            "rem": {
                "config": {"name": "B"},
                "utility_x_healed": {"mean": 0.8, "low": None, "high": None},
                "chosen": "search",
                "default_utility_x_healed": 0.2,
                "gain": {"mean": pytest.approx(0.6), "low": None, "high": None},
                "replicates": 1,
                "samples": {"healed": None, "utility": None},
                "trial": 1,
                "mlflow_run_id": "run-0.2-B",
            }
        },
    }
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_best_leaves_out_a_method_that_finished_nothing() -> None:
    frame = trials(row(0), row(0, method="npo", state="failed"))
    (cell,) = best_document.best("toy", "score_oracle", frame, selection.cells_frame(frame))["cells"]
    assert list(cell["methods"]) == ["rem"]


def test_the_axis_table_lays_selected_values_over_the_plane_with_low_regularity_at_the_bottom() -> None:
    frame = trials(
        row(0, corruption="random_label", rate=0.5, config={"erase_mode": "drop"}),
        row(0, corruption="poison", rate=0.5, config={"erase_mode": "mean"}),
        row(0, corruption="poison", rate=0.1, config={"width": 2}),
    )
    table = plane.axis_table(selection.cells_frame(frame), "rem", "erase_mode")
    assert list(table.index) == ["poison", "random_label"]
    assert list(table.columns) == [0.1, 0.5]
    assert list(table[0.5]) == ["mean", "drop"]
    assert table[0.1].isna().all()


def test_without_clean_labels_the_deployable_score_selects_and_the_default_counts_as_finished() -> None:
    unknown = {"healed": None, "utility_x_healed": None}
    cells = selection.cells_frame(trials(row(0, score=0.5, **unknown), row(1, score=0.6, **unknown)))
    assert list(cells["trial"]) == [1] and list(cells["search_score"]) == [0.6]
    assert cells[["healed", "utility_x_healed", "gain"]].isna().all(axis=None)
    assert list(cells["health"]) == [""]


def test_choosing_without_clean_labels_costs_what_the_other_choice_would_have_given() -> None:
    frame = trials(
        row(0, score_oracle=0.5, score_deployable=0.9, report=0.4),
        row(1, score_oracle=0.8, score_deployable=0.6, report=0.7),
        row(2, score_oracle=0.99, score_deployable=0.99, report=0.99, state="failed", error="NaN"),
    )
    told = only(plane.objectives_frame(frame))
    assert (told["by_oracle"], told["by_deployable"]) == (0.7, 0.4) and told["cost"] == pytest.approx(0.3)
    unknown = trials(row(0, score_deployable=0.5, utility_x_healed=None, healed=None))
    assert plane.objectives_frame(unknown).empty
