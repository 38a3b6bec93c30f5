"""The report: what a reader is told, that it stands alone, and that data cannot break the page."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from doubles.toy_study import SCORES, cells, study_rows, write_study
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from rem_study.errors import InputError
from rem_study.report import charts, heat_maps, measures, plots, verdicts
from rem_study.report import page as report
from rem_study.report import tables as report_tables
from rem_study.report.styles import method_styles
from rem_study.results import columns, importances, plane, selection


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
    page = report.study_page(folder)
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
    page = report.study_page(write_study(tmp_path, rows))
    assert "the highest mean" not in page and "No clean labels" in page


def test_the_page_needs_nothing_but_itself(html: str) -> None:
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", html)
    assert "@import" not in html and not re.findall(r"url\((?!#)", html)


def test_every_way_out_of_the_page_leads_somewhere(html: str, folder: Path) -> None:
    files = set(re.findall(r'<li><a href="([^"#]+)"', html))
    assert files == {"cells.parquet", "trials.parquet", "study.yaml", "manifest.json", "figures"}
    assert all((folder / name).exists() for name in files)


def payload_of(html: str) -> dict[str, Any]:
    packed = re.search(r'id="payload">([^<]+)<', html)
    assert packed is not None
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))


def map_of(html: str, name: str) -> str:
    return html.split(f'id="map-{name}">')[1].split('<div class="measure"')[0].split("<details>")[0]


def test_every_cell_shows_its_value_on_its_map_when_pointed_at_and_in_the_table(html: str) -> None:
    content, shown = payload_of(html), map_of(html, "utility_x_healed")
    for (corruption, rate), pair in SCORES.items():
        for method, score in zip(("rem", "npo"), pair, strict=True):
            place = [one["name"] for one in content["methods"]].index(method)
            text = "–" if score is None else f"{score:.2f}"
            assert f'<a href="#cell-{corruption}@{rate:g}" data-of="{place}">{text}</a>' in shown
            told = content["tips"][content["cells"].index(f"{corruption}@{rate:g}")][place]
            assert f"utility × healed {'–' if score is None else f'{score:.3f}'}" in told
            assert score is None or f'<td class="number">{score:.3f} (n 100)</td>' in html


def test_the_page_holds_every_trial_with_its_configuration(html: str) -> None:
    content = payload_of(html)
    trials, methods = content["trials"], content["methods"]
    assert {len(column) for column in trials.values()} == {16}  # 4 cells, 2 methods, 2 trials
    place = next(i for i in range(16) if (content["cells"][trials["c"][i]], methods[trials["m"][i]]["name"],
                                          trials["t"][i]) == ("poison@0.1", "rem", 1))  # fmt: skip
    names = methods[trials["m"][place]]["names"]
    assert dict(zip(names, trials["v"][place], strict=True)) == {
        "redirect_width": 0.5, "erase_mode": "drop", "trial": 1}  # fmt: skip
    assert trials["x"][place] == 0.9 and trials["state"].count("failed") == 2


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
    order = ['class="words"', "REM has the highest mean score", 'class="wins"', 'id="methods"', 'id="map-']
    assert [overview.index(part) for part in order] == sorted(overview.index(part) for part in order)
    heads = re.findall(r"<h2>(.*?)</h2>", overview)
    assert [head.split()[0] for head in heads] == [
        *("Who", "Methods", "Every", "Cell", "Weakest", "Healed", "What"),
        *("Selected", "Choosing", "Cost", "Failed", "Files"),
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
    page = report.study_page(tmp_path)
    assert "[0.812, 0.934]" in page and "[−0.010, +0.120]" in page
    assert "Not confirmed" not in page and "optimum on a bound" in page
    assert "0.077" in page and "lr=0.125" in page
    assert ">0.014</a>" in map_of(page, "spread")  # 0.9 and 0.88


def test_what_choosing_without_clean_labels_costs_is_told_per_cell() -> None:
    rows = study_rows()
    for row in rows:  # without clean labels, the worse of two trials looks better for REM on poison at 0.1
        misled = row["method"] == "rem" and row["cell"] == "poison@0.1"
        row["score_oracle"] = row["score"]
        row["score_deployable"] = None if row["score"] is None else -row["score"] if misled else row["score"]
    shown = report_tables.objectives_table(columns.trials_table(rows).to_pandas())
    mean, *cells = re.findall(r"<tr>(.*?)</tr>", shown.split("<tbody>", 1)[1])
    assert re.findall(r"[+–−][\d.]*", mean) == ["+0.025", "+0.000"]
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
        assert html.count(f'<a href="#cell-{cell}"') >= 1 + 2 * 2  # who wins; a square a method in two maps at least
        page = html.split(f'id="cell-{cell}">')[1].split("</section>")[0]
        assert "History of the search" in page and "redirect_width=0.5" in page


def test_ids_in_the_page_are_unique_and_links_within_it_lead_somewhere(html: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'href="#([^"/]+)"', html)) <= set(ids)


def test_the_same_study_gives_the_same_page(folder: Path, html: str) -> None:
    report.write_report(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == html


def test_markup_in_the_data_is_shown_not_obeyed(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>"
    rows = [row | {"method": evil} if row["method"] == "npo" else row for row in study_rows(evil, evil)]
    (tmp_path / "manifest.json").write_text(json.dumps({evil: evil}))
    text = report.study_page(write_study(tmp_path, rows))
    assert evil not in text and "alert('x')" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert text.count("<script") == 3 and "&lt;script&gt;" in text  # the payload, Plotly and the page's own


def test_a_study_without_rem_manifest_or_study_file_still_has_a_report(tmp_path: Path) -> None:
    write_study(tmp_path, [row for row in study_rows() if row["method"] == "npo"])
    text = report.study_page(tmp_path)
    assert "Weakest cells, by their best method" in text
    assert "What REM’s search chose" not in text


def test_a_study_file_of_another_version_costs_the_importances_alone(tmp_path: Path) -> None:
    folder = write_study(tmp_path, study_rows())
    (folder / "study.yaml").write_text("name: toy\ncolour: red\nmethods: {rem: {space: {method: rem}}}\n")
    page = report.study_page(folder)
    assert "no search space that this version can read" in page and "colour" in page


def test_a_table_of_an_earlier_version_has_a_report_too(tmp_path: Path) -> None:
    write_study(tmp_path, study_rows())
    verdict = ["standing", "rival", "lead", "lead_low", "lead_high", "lead_replicates", "lead_samples"]
    later = {"trials.parquet": ["proposed_by", "attack_success", *columns.SAMPLES],
             "cells.parquet": ["attack_success", "healed_discovered", *columns.SAMPLES, *verdict]}  # fmt: skip
    for name, missing in later.items():
        pq.write_table(pq.read_table(tmp_path / name).drop_columns(missing), tmp_path / name)
    page = report.study_page(tmp_path)
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
    page = report.study_page(write_study(tmp_path, rows))
    assert "It wins 0 of 4 cells" in page and "4 cells are level" in page
    assert page.count("level, one replicate: npo leads REM by 0.005, within the noise of 30 samples (−0.1") >= 4
    assert "too few (n 3)" in page and ">n 3<" in map_of(page, "healed_discovered")
    frames = heat_map(pd.read_parquet(tmp_path / "cells.parquet")).axes[0].patches
    assert frames and not [one for one in frames if one.get_linestyle() == "solid"]


def test_discovered_and_undiscovered_have_their_maps_and_a_trigger_its_own(html: str) -> None:
    def square(name: str, cell: str, method: int) -> str:
        found = re.search(rf'href="#cell-{cell}" data-of="{method}">([^<]*)<', map_of(html, name))
        assert found is not None
        return found[1]

    assert square("attack_success", "poison@0.5", 1) == "0.60"
    assert "random label" not in map_of(html, "attack_success")
    assert square("healed_discovered", "poison@0.1", 0) == "n 5"
    assert square("healed_discovered", "poison@0.5", 0) == "0.80"
    assert square("healed_undiscovered", "poison@0.1", 0) == "0.90"


def heat_map(cells: pd.DataFrame, name: str = "utility_x_healed") -> Figure:
    figure = heat_maps.heat_map(plane.with_spread(cells, columns.trials_table(study_rows()).to_pandas()), name)
    assert figure is not None
    return figure


def test_uncertainty_over_replicates_and_spread_over_cells_are_told_apart(tmp_path: Path) -> None:
    rows = [row | {"replicate": n, "utility_x_healed": row["utility_x_healed"] and row["utility_x_healed"] - n / 100}
            for row in study_rows() for n in (0, 1, 2)]  # fmt: skip
    page = report.study_page(write_study(tmp_path, rows))
    half = 4.302653 * 0.01 / 3**0.5
    interval = f"95 % interval over 3 replicates {0.69 - half:.3f} to {0.69 + half:.3f}"
    assert f"0.690 over 4 cells (from 0.390 to 0.890; {interval})" in page
    assert "±" not in page


def test_numbers_stand_out_from_their_background() -> None:
    assert [measures.ink(colour) for colour in ("#000000", "#00224e", "#fde737", "#ffffff")] == [
        *("white", "white", "black", "black")
    ]


def test_the_map_puts_low_regularity_at_the_bottom_and_frames_the_winner() -> None:
    ax = heat_map(cells()).axes[0]
    height = {label.get_text().split("\n")[0]: label.get_position()[1] for label in ax.get_yticklabels()}
    assert height["random_label"] < height["poison"]
    assert "regularity 0.93" in ax.get_yticklabels()[0].get_text()
    assert len(ax.patches) == 2  # REM's two; in a third it has no rival


@pytest.mark.parametrize("name", ["healed", "utility", "gain"])
def test_only_the_map_of_what_the_verdict_is_about_has_frames(name: str, html: str) -> None:
    assert not [patch for ax in heat_map(cells(), name).axes[:2] for patch in ax.patches]
    assert 'class="won' not in map_of(html, name) and 'class="won' in map_of(html, "utility_x_healed")


def test_the_gain_map_is_centred_on_no_gain() -> None:
    colour_bar = heat_map(cells(), "gain").axes[-1]
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
    assert [line.get_ydata().tolist() for line in drawn[0].lines][-1] == [1.0, 0.5, 0.0]  # the old channels, on top


def test_sixteen_methods_have_a_colour_and_a_marker_each_that_the_colour_blind_tell_apart() -> None:
    styles = method_styles(["rem", *(f"method {n}" for n in range(15))])
    assert len({style.colour for style in styles.values()}) == len({style.symbol for style in styles.values()}) == 16
    assert len({style.svg_path() for style in styles.values()}) == 16
    colours = np.array([to_rgb(style.colour) for style in styles.values()])
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    for seen in DICHROMACIES:  # Machado et al. 2009, severity 1
        lab = _lab(np.clip(linear @ np.array(seen).T, 0, 1))
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)[~np.eye(16, dtype=bool)]
        assert apart.min() > 12
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    assert (1.05 / (luminance + 0.05) > 2.1).all() and ((luminance + 0.05) / 0.0597 > 2.1).all()  # white, #15181d


DICHROMACIES = (
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
)


def _lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ to_xyz.T / np.array([0.95047, 1, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def test_corruptions_and_discovery_rates_have_colours_of_their_own_that_no_method_has() -> None:
    corruptions, rates = plots.ramp("corruption", 5), plots.ramp("discovery_rate", 6)
    assert len({*corruptions, *rates}) == 11
    assert not {*corruptions, *rates} & {
        style.colour for style in method_styles(["rem", *map(str, range(15))]).values()
    }


def test_the_comparison_of_methods_names_every_cell_it_marks() -> None:
    trials = columns.trials_table(study_rows()).to_pandas()
    means, shown = charts.methods_chart(cells(), trials)["data"][1], charts.methods_chart(cells(), trials)["data"][0]
    assert len(shown["x"]) == len(shown["hovertext"]) == 7  # npo has no result in one cell
    assert "REM · poison@0.1" in shown["hovertext"][shown["x"].index(0.9)]
    assert means["x"] == pytest.approx([0.4333333, 0.7])


def test_numbers_below_zero_have_a_true_minus_sign() -> None:
    assert measures.minus("from -0.1 to +0.2, layers 2-4, 1e-05") == "from −0.1 to +0.2, layers 2-4, 1e-05"
    gain = measures.measure(cells(), "gain")
    assert gain is not None and gain.paint(-0.12)[1] == "−0.12"
    assert report_tables.number(-0.5) == "−0.500"


def test_the_universal_table_begins_with_the_best_and_says_nothing_twice() -> None:
    def choice(score: float, **config: float) -> dict[str, Any]:
        return {"config": config, "worst_regret": 0.1, "utility_x_healed": {"mean": score, "low": None, "high": None}}

    best = {"universal": {"finetune": choice(0.1, lr=1) | {"best_mean": choice(0.1, lr=1)},
                          "rem": choice(0.8, lr=2) | {"best_mean": choice(0.9, lr=3)}}}  # fmt: skip
    rows = re.findall(r"<tr><td>(\w+)</td>.*?>([\d.]+)</td>", report_tables.universal_table(best))
    assert rows == [("REM", "0.900"), ("REM", "0.800"), ("finetune", "0.100")]


def test_the_page_says_where_the_corruption_sits(tmp_path: Path) -> None:
    def told(old: float, both: float) -> str:
        curves = {"both": [1.0, both], "shared": [1.0, both], "old": [1.0, old]}
        write_study(tmp_path, [row | {"curves": json.dumps(curves)} for row in study_rows()])
        return report.study_page(tmp_path).split("Where the corruption sits in REM")[1][:1000]

    assert "unlearning itself destroys the corruption" in told(0.02, 0.04)
    assert "70% of the corruption has moved into the new channels" in told(0.1, 0.8)
    assert "stays in the old channels" in told(0.8, 0.8)
