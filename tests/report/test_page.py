"""The report: what a reader is told, that it stands alone, and that data cannot break the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from doubles.toy_study import SCORES, cells, study_rows, write_study

from rem_study.errors import InputError
from rem_study.report import heat_maps as figures
from rem_study.report import page as report
from rem_study.report import plots, verdicts
from rem_study.report import tables as report_tables
from rem_study.results import columns, importances, selection


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_study(tmp_path_factory.mktemp("study"), study_rows())
    (folder / "manifest.json").write_text(json.dumps({"versions": {"torch": "2.9"}, "seeds": [0, 1]}))
    (folder / "study.yaml").write_text("name: toy\nobjective: score_deployable\n")
    report.write_report(folder)
    return folder


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def summary_of(rows: list[dict[str, Any]]) -> str:
    trials = columns.trials_table(rows).to_pandas()
    return verdicts.summary(selection.cells_frame(trials), trials)


def test_the_summary_says_who_wins_where_with_figures() -> None:
    text = summary_of(study_rows())
    assert "2 methods" in text
    assert "4 cells: 2 corruptions × 2 discovery rates" in text
    assert "REM has the highest mean utility × healed, 0.700 over 4 cells (from 0.400 to 0.900); next is npo" in text
    assert "npo with 0.433 over 3 cells (from 0.300 to 0.600). It wins 2 of 4 cells." in text
    assert "npo wins 1: random_label@0.1." in text
    assert "In random_label@0.5 only REM has a result." in text
    assert "Behind each figure of a cell: 100 corrupted samples, 200 test images, 1 replicate." in text
    assert "±" not in text


def test_the_summary_of_one_method_compares_it_with_nothing() -> None:
    alone = summary_of([row for row in study_rows() if row["method"] == "rem"])
    assert "No other method was studied" in alone
    assert "next is" not in alone and "wins" not in alone


def test_the_summary_of_a_study_in_which_all_failed_does_not_name_a_winner() -> None:
    text = summary_of([row for row in study_rows() if row["state"] == "failed"])
    assert "No trial has finished" in text
    assert "highest" not in text


def test_the_page_says_when_choosing_and_scoring_shared_their_samples(tmp_path: Path, html: str) -> None:
    said = "by the paper’s protocol: on the very samples that they are scored on"
    assert said not in html and "on one set of samples and scored on another" in html
    folder = write_study(tmp_path, study_rows())
    (folder / "study.yaml").write_text("name: toy\nprotocol: paper\n")
    page = report.write_report(folder).read_text(encoding="utf-8")
    assert said in page and "scored on another" not in page


def test_a_study_without_clean_labels_has_a_report_that_names_no_winner(tmp_path: Path) -> None:
    unknown = (
        "healed",
        "healed_discovered",
        "healed_undiscovered",
        "utility_x_healed",
        "regularity",
        "regularity_rank",
    )
    rows = [row | dict.fromkeys(unknown)
            for row in study_rows() if row["state"] == "complete"]  # fmt: skip
    page = report.write_report(write_study(tmp_path, rows)).read_text(encoding="utf-8")
    assert "the highest mean" not in page and "No clean labels" in page


def test_the_page_needs_nothing_but_itself(html: str) -> None:
    assert not re.findall(r'(?:src|href)="(?!#)(?!data:)', html)
    assert "<script" not in html
    assert "@import" not in html


def test_every_cell_shows_its_value_on_hover_and_in_the_table(html: str) -> None:
    for (corruption, rate), pair in SCORES.items():
        for method, score in zip(("REM", "npo"), pair, strict=True):
            text = "–" if score is None else f"{score:.2f}"
            assert f"<title>{corruption} at discovery {rate:g} · {method} · utility × healed: {text}</title>" in html
            assert score is None or f'<td class="number">{score:.3f} (n 100)</td>' in html


def test_weak_cells_failures_and_manifest_are_named(html: str) -> None:
    weakest = html.split("Weakest cells, by their best method")[1].split("</section>")[0]
    assert re.findall(r">([a-z_]+@[\d.]+)</a>", weakest) == [
        *("random_label@0.1", "random_label@0.5", "poison@0.5", "poison@0.1")  # .6 (npo), .7, .8, .9
    ]
    assert "npo wins on one replicate: 0.200 above REM" in weakest and "only REM has a result" in weakest
    failed = html.split("Failed trials")[1].split("<h2>")[0]
    assert "<td>0, 1</td>" in failed and "loss is &lt;nan&gt;" in failed
    assert "every trial failed" in html
    assert "versions.torch" in html and "2.9" in html
    assert "a score that needs no clean labels" in html


def test_sections_come_in_the_order_a_reader_asks(html: str) -> None:
    overview = html.split('<section class="cell"')[0]
    assert overview.index("REM has the highest mean") < overview.index('id="utility_x_healed"')
    heads = re.findall(r"<h2>(.*?)</h2>", overview)
    assert [head.split()[0] for head in heads] == [
        *(
            "The",
            "Who",
            "Methods",
            "Weakest",
            "Healed",
            "What",
            "Selected",
            "Choosing",
            "Cost",
            "Failed",
            "Manifest",
            "Study",
        )
    ]


def test_every_figure_is_written_for_the_screen_and_for_paper(folder: Path) -> None:
    names = [
        "attack_success",
        "cost",
        "found",
        "gain",
        "healed",
        "healed_discovered",
        "healed_undiscovered",
        "methods",
        "pareto",
    ]
    names += ["rem_choices", "trials", "utility", "utility_x_healed"]
    written = sorted(path.name for path in (folder / "figures").iterdir())
    assert written == sorted(f"{name}.{form}" for name in names for form in ("pdf", "png"))
    for name, start in ((n, b"%PDF" if n.endswith("pdf") else b"\x89PNG") for n in written):
        assert (folder / "figures" / name).read_bytes().startswith(start)


def test_what_is_not_there_is_said(html: str) -> None:
    assert "each trial ran on one replicate" in html
    assert "Not confirmed on fresh replicates" in html
    assert "No configuration was run in every cell" in html
    assert f"fewer than {importances.FEWEST_TRIALS} finished trials" in html


def test_confirmed_intervals_the_universal_configuration_and_spread_are_shown(tmp_path: Path) -> None:
    rows = study_rows()
    rows += [row | {"replicate": 1, "utility_x_healed": row["utility_x_healed"] - 0.02} for row in rows
             if row["utility_x_healed"] is not None]  # fmt: skip
    write_study(tmp_path, rows)
    cells = pd.read_parquet(tmp_path / "cells.parquet")
    known = {"utility_x_healed_low": 0.812, "utility_x_healed_high": 0.934, "gain_low": -0.01, "gain_high": 0.12}
    pq.write_table(columns.cells_table(cells.assign(**known, health="optimum on a bound")), tmp_path / "cells.parquet")
    best = {"universal": {"rem": {"config": {"lr": 0.125}, "worst_regret": 0.0771,
            "utility_x_healed": {"mean": 0.8123, "low": None, "high": None}}}}  # fmt: skip
    (tmp_path / "best.yaml").write_text(yaml.safe_dump(best))
    page = report.write_report(tmp_path).read_text(encoding="utf-8")
    assert "[0.812, 0.934]" in page and "[-0.010, +0.120]" in page
    assert "Not confirmed" not in page and "optimum on a bound" in page
    assert "0.077" in page and "lr=0.125" in page
    assert "REM · SD over replicates: 0.014" in page  # 0.9 and 0.88
    assert (tmp_path / "figures" / "spread.pdf").is_file()


def test_what_choosing_without_clean_labels_costs_is_told_per_cell() -> None:
    rows = study_rows()
    for row in rows:  # without clean labels, the worse of two trials looks better for REM on poison at 0.1
        misled = row["method"] == "rem" and row["cell"] == "poison@0.1"
        row["score_oracle"] = row["score"]
        row["score_deployable"] = None if row["score"] is None else -row["score"] if misled else row["score"]
    shown = report_tables.objectives_table(columns.trials_table(rows).to_pandas())
    mean, *cells = re.findall(r"<tr>(.*?)</tr>", shown.split("<tbody>", 1)[1])
    assert re.findall(r"[+–][\d.]*", mean) == ["+0.025", "+0.000"]
    assert {cell for cell in cells if "+0.100" in cell} == {cell for cell in cells if "poison@0.1<" in cell}
    unknown = [row | {"utility_x_healed": None, "score_oracle": None} for row in rows]
    assert "nobody knows" in report_tables.objectives_table(columns.trials_table(unknown).to_pandas())


def test_the_regret_matrix_is_shown_where_winners_ran_everywhere(tmp_path: Path) -> None:
    assert report_tables.regret_tables(columns.trials_table(study_rows()).to_pandas()) == ""
    rows = [row for row in study_rows() if row["method"] == "rem"]
    fresh = []
    for (
        row
    ) in rows:  # every cell's winner is its trial 1; the same text in every cell, so one candidate and the default
        own = {**row, "replicate": 0, "config": {"trial": row["trial"]}}
        fresh.append({**own, "phase": "confirm", "proposed_by": "selected" if row["trial"] else "default"})
    table = columns.trials_table([row | {"config": {"trial": row["trial"]}} for row in rows] + fresh).to_pandas()
    shown = report_tables.regret_tables(table)
    lines = re.findall(r"<tr>(.*?)</tr>", shown.split("<tbody>", 1)[1])
    assert len(lines) == 2
    assert "trial=1" in lines[0] and lines[0].count("+0.000") == 6  # four cells, worst, mean
    assert "trial=0" in lines[1] and lines[1].count("+0.100") == 6


def test_every_cell_has_a_page_that_its_square_leads_to(html: str) -> None:
    for corruption, rate in SCORES:
        cell = f"{corruption}@{rate:g}"
        assert html.count(f'<section class="cell" id="cell-{cell}">') == 1
        assert html.count(f'<a href="#cell-{cell}"') >= 2 * 2  # a square a method in two maps at least
        page = html.split(f'id="cell-{cell}">')[1].split("</section>")[0]
        assert "History of the search" in page and "redirect_width=0.5" in page


def test_ids_in_the_page_are_unique_and_links_within_it_lead_somewhere(html: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids)


def test_the_same_study_gives_the_same_page(folder: Path, html: str) -> None:
    report.write_report(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == html


def test_markup_in_the_data_is_shown_not_obeyed(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>"
    rows = [row | {"method": evil} if row["method"] == "npo" else row for row in study_rows(evil, evil)]
    (tmp_path / "manifest.json").write_text(json.dumps({evil: evil}))
    text = report.write_report(write_study(tmp_path, rows)).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_study_without_rem_manifest_or_study_file_still_has_a_report(tmp_path: Path) -> None:
    write_study(tmp_path, [row for row in study_rows() if row["method"] == "npo"])
    text = report.write_report(tmp_path).read_text(encoding="utf-8")
    assert "Weakest cells, by their best method" in text
    assert "What REM’s search chose" not in text


def test_a_study_file_of_another_version_costs_the_importances_alone(tmp_path: Path) -> None:
    folder = write_study(tmp_path, study_rows())
    (folder / "study.yaml").write_text("name: toy\ncolour: red\nmethods: {rem: {space: {method: rem}}}\n")
    page = report.write_report(folder).read_text(encoding="utf-8")
    assert "no search space that this version can read" in page and "colour" in page


def test_a_table_of_an_earlier_version_has_a_report_too(tmp_path: Path) -> None:
    write_study(tmp_path, study_rows())
    verdict = ["standing", "rival", "lead", "lead_low", "lead_high", "lead_replicates", "lead_samples"]
    later = {"trials.parquet": ["proposed_by", "attack_success", *columns.SAMPLES],
             "cells.parquet": ["attack_success", "healed_discovered", *columns.SAMPLES, *verdict]}  # fmt: skip
    for name, missing in later.items():
        pq.write_table(pq.read_table(tmp_path / name).drop_columns(missing), tmp_path / name)
    page = report.write_report(tmp_path).read_text(encoding="utf-8")
    assert "REM has the highest mean" in page and "In 3 cells no winner can be named" in page
    assert "of how many samples was not recorded everywhere" in page
    assert "no corruption here has a trigger, or it was not recorded" in page


@pytest.mark.parametrize("missing", ["trials.parquet", "cells.parquet"])
def test_a_missing_table_is_one_line_that_names_it(tmp_path: Path, missing: str) -> None:
    (write_study(tmp_path, study_rows()) / missing).unlink()
    with pytest.raises(InputError, match=missing) as caught:
        report.write_report(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_a_study_without_a_trial_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no trial"):
        report.write_report(write_study(tmp_path, []))


def test_a_lead_within_noise_is_level_and_the_page_says_why(tmp_path: Path) -> None:
    """REM and NPO heal 27 of 30 both; one test image lies between .900 and .895."""
    rows = []
    for row in study_rows():
        utility = 1.0 if row["method"] == "npo" else 0.895 / 0.9
        counts = {"healed_samples": 30, "healed_discovered_samples": 3, "utility_samples": 180, "error": None}
        rows.append(row | counts | {"healed": 0.9, "utility": utility, "utility_x_healed": 0.9 * utility,
                                    "state": "complete", "score": 0.9 * utility})  # fmt: skip
    page = report.write_report(write_study(tmp_path, rows)).read_text(encoding="utf-8")
    assert "It wins 0 of 4 cells" in page and "4 cells are level" in page
    assert page.count("level, one replicate: npo leads REM by 0.005, within the noise of 30 samples (-0.1") >= 4
    assert "too few (n 3)" in page and ">n 3<" in page.split('id="healed_discovered"')[1].split("</figure>")[0]
    assert not [one for one in figures.score_map(pd.read_parquet(tmp_path / "cells.parquet")).axes[0].patches
                if not one.get_fill() and one.get_linestyle() == "solid"]  # fmt: skip


def test_discovered_and_undiscovered_have_their_maps_and_a_trigger_its_own(html: str) -> None:
    assert "<title>poison at discovery 0.5 · npo · attack success: 0.60</title>" in html
    assert "random_label" not in html.split('<figure id="attack_success">')[1].split("</figure>")[0]
    assert "<title>poison at discovery 0.1 · REM · discovered healed: n 5</title>" in html
    assert "<title>poison at discovery 0.5 · REM · discovered healed: 0.80</title>" in html
    assert "<title>poison at discovery 0.1 · REM · undiscovered healed: 0.90</title>" in html


def test_uncertainty_over_replicates_and_spread_over_cells_are_told_apart(tmp_path: Path) -> None:
    rows = [row | {"replicate": n, "utility_x_healed": row["utility_x_healed"] and row["utility_x_healed"] - n / 100}
            for row in study_rows() for n in (0, 1, 2)]  # fmt: skip
    page = report.write_report(write_study(tmp_path, rows)).read_text(encoding="utf-8")
    half = 4.302653 * 0.01 / 3**0.5
    interval = f"95 % interval over 3 replicates {0.69 - half:.3f} to {0.69 + half:.3f}"
    assert f"0.690 over 4 cells (from 0.390 to 0.890; {interval})" in page
    assert "±" not in page


def test_numbers_stand_out_from_their_background() -> None:
    assert [figures.ink(colour) for colour in ("#000000", "#00224e", "#fde737", "#ffffff")] == [
        *("white", "white", "black", "black")
    ]


def test_the_map_puts_low_regularity_at_the_bottom_and_frames_the_winner() -> None:
    ax = figures.score_map(cells()).axes[0]
    height = {label.get_text().split("\n")[0]: label.get_position()[1] for label in ax.get_yticklabels()}
    assert height["random_label"] < height["poison"]
    assert "regularity 0.93" in ax.get_yticklabels()[0].get_text()
    assert len([patch for patch in ax.patches if not patch.get_fill()]) == 2  # REM's two; in a third it has no rival


def test_the_gain_map_is_centred_on_no_gain() -> None:
    colour_bar = figures.gain_map(cells()).axes[-1]
    low, high = colour_bar.get_ylim()
    assert low == pytest.approx(-high)
    assert high == pytest.approx(0.1)


def test_isolation_curves_are_drawn_per_cell_from_the_selected_trial_and_absent_where_none_were_recorded():
    rows = [row | {"curves": None} for row in study_rows()]
    trials = columns.trials_table(rows).to_pandas()
    cells = selection.cells_frame(trials)
    assert plots.isolation_curves(trials, cells, "rem") is None
    curves = json.dumps({"old": [1.0, 0.5, 0.0], "both": [1.0, 0.9, 0.8], "shared": [1.0, 0.7, 0.6]})
    trials["curves"] = curves
    figure = plots.isolation_curves(trials, cells, "rem")
    drawn = [ax for ax in figure.axes if ax.lines]
    assert len(drawn) == (cells["method"] == "rem").sum()
    assert drawn[0].lines[0].get_ydata().tolist() == [1.0, 0.5, 0.0]
