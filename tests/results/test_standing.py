"""What stands behind a cell's scores in the tables: the replicates, the samples, discovered and undiscovered apart."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from doubles.replicates import only, row, trials

from rem_study.results import columns, plane, selection
from rem_study.results.standing import completed, lead_of, reported_rows


def told(replicate: int, report: float, **more: Any) -> dict[str, Any]:
    """Of one replicate: 30 samples reported, 3 of them discovered, 180 test images."""
    counts = {"healed_samples": 30, "healed_discovered_samples": 3, "utility_samples": 180, "attack_samples": 162}
    return row(0, replicate, report=report, **(counts | more))


def test_discovered_and_undiscovered_are_means_over_the_replicates_that_the_score_comes_from() -> None:
    cell = only(
        selection.cells_frame(
            trials(
                told(0, 0.5, healed_discovered=0.0, healed_undiscovered=0.0, attack_success=1.0),
                told(1, 0.6, healed_discovered=1.0, healed_undiscovered=0.4, attack_success=0.2, phase="confirm",
                     proposed_by="selected"),
                told(2, 0.8, healed_discovered=0.5, healed_undiscovered=0.8, attack_success=0.1, phase="confirm",
                     proposed_by="selected"),
            )
        )
    )  # fmt: skip
    assert cell["utility_x_healed"] == pytest.approx(0.7)
    assert cell["healed_discovered"] == pytest.approx(0.75) and cell["healed_undiscovered"] == pytest.approx(0.6)
    assert cell["attack_success"] == pytest.approx(0.15)
    assert (cell["healed_samples"], cell["healed_discovered_samples"]) == (60, 6)
    assert (cell["utility_samples"], cell["attack_samples"]) == (360, 324)


def test_what_is_undefined_is_null() -> None:
    """At discovery 1 nothing is undiscovered; without a trigger there is no attack."""
    frame = trials(told(0, 0.5, healed_discovered=0.5, attack_samples=None))
    cell = only(selection.cells_frame(frame))
    assert pd.isna(cell["healed_undiscovered"]) and pd.isna(cell["attack_success"]) and pd.isna(cell["attack_samples"])
    table = columns.cells_table(selection.cells_frame(frame))
    assert table["attack_samples"].null_count == table["healed_undiscovered"].null_count == 1


def test_samples_that_one_replicate_did_not_record_are_not_counted_as_none() -> None:
    cell = only(selection.cells_frame(trials(told(0, 0.5), row(0, 1, report=0.5))))
    assert pd.isna(cell["healed_samples"])


def test_a_cell_says_who_leads_it_by_how_much_and_on_what() -> None:
    rows = [told(n, score + n / 10, method=method) for n in (0, 1, 2) for method, score in (("rem", 0.7), ("npo", 0.4))]
    cells = selection.cells_frame(trials(*rows)).set_index("method")
    assert cells["standing"].to_dict() == {"rem": "won", "npo": "behind"}
    lead = lead_of(cells.loc["rem"])
    assert lead is not None
    assert (lead.rival, lead.replicates, lead.samples) == ("npo", 3, 90)
    assert lead.value == pytest.approx(0.3) and lead.worth == pytest.approx(27)
    assert lead.low == pytest.approx(0.3) and cells.loc["npo", "lead_high"] == pytest.approx(-0.3)


def test_methods_that_were_confirmed_are_compared_on_the_fresh_replicates_they_share() -> None:
    rows = [told(0, 0.2, method="rem"), told(0, 0.9, method="npo")]
    fresh = {"phase": "confirm", "proposed_by": "selected"}
    rows += [told(n, 0.8, method="rem", **fresh) for n in (1, 2)] + [
        told(n, 0.4, method="npo", **fresh) for n in (1, 2)
    ]
    frame = trials(*rows)
    cells = selection.cells_frame(frame)
    assert set(reported_rows(frame, cells)["phase"]) == {"confirm"}
    assert cells.set_index("method")["standing"].to_dict() == {"rem": "won", "npo": "behind"}


def test_tables_of_an_earlier_version_say_what_can_be_said() -> None:
    rows = [
        row(0, 0, report=score, healed_discovered=0.3, method=method) for method, score in (("rem", 0.9), ("npo", 0.1))
    ]
    frame = trials(*rows)
    new = [*columns.SAMPLES, "attack_success"]
    verdict = ["standing", "rival", "lead", "lead_low", "lead_high", "lead_replicates", "lead_samples"]
    old_cells = selection.cells_frame(frame).drop(columns=[*new, *verdict, "healed_discovered", "healed_undiscovered"])
    cells, trials_now = completed(old_cells, frame.drop(columns=new))
    assert set(columns.CELLS_SCHEMA.names) <= set(cells) and set(columns.TRIALS_SCHEMA.names) <= set(trials_now)
    assert list(cells["healed_discovered"]) == [0.3, 0.3] and cells["healed_samples"].isna().all()
    assert set(cells["standing"]) == {"level"}  # one replicate, and nobody knows of how many samples
    again, _ = completed(cells.assign(health="as it was"), trials_now)
    assert set(again["health"]) == {"as it was"}


def test_means_over_the_cells_have_an_interval_over_replicates() -> None:
    scores = {0.1: (0.6, 0.8), 0.5: (0.7, 0.7)}
    frame = trials(*(told(n, score, rate=rate) for rate, pair in scores.items() for n, score in enumerate(pair)))
    cells = selection.cells_frame(frame)
    methods = only(plane.methods_frame(cells, frame))
    half = 12.7062 * 0.05  # means of .65 and .75
    assert methods["replicates"] == 2
    assert methods["utility_x_healed_low"] == pytest.approx(0.7 - half, abs=1e-4)
    assert (methods["utility_x_healed_min"], methods["utility_x_healed_max"]) == (
        pytest.approx(0.7),
        pytest.approx(0.7),
    )
    assert "utility_x_healed_low" not in plane.methods_frame(cells)


def test_few_samples_are_noticed_and_unknown_numbers_are_not_held_against_a_score() -> None:
    cells = selection.cells_frame(trials(told(0, 0.5), row(0, 0, report=0.5, rate=0.5)))
    assert list(plane.samples(cells, "healed_undiscovered").fillna(-1)) == [27, -1]
    assert list(plane.samples(cells, "utility_x_healed").fillna(-1)) == [30, -1]
    assert list(plane.enough(cells, "healed_discovered")) == [False, True]
    assert plane.enough(cells, "healed").all()
