"""The report and MLflow's UI in a real browser: what a person sees and where a click leads.

Needs Chromium and its driver (Debian: apt-get install chromium chromium-driver) and selenium.
REM_STUDY_SCREENSHOTS=DIR keeps pictures of what was looked at.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from doubles.browser import chromium
from doubles.toy_study import SCORES, study_rows, write_study

from rem_study.report import page as report
from rem_study.results.best_document import best
from rem_study.results.write import selections
from rem_study.tracking import About
from rem_study.tracking.sync import sync
from rem_study.tracking.views import runs_link

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report's toy study with its report and MLflow's runs."""
    folder = write_study(tmp_path_factory.mktemp("toy"), study_rows())
    tables = [pd.read_parquet(folder / name) for name in ("trials.parquet", "cells.parquet")]
    (folder / "best.yaml").write_text(yaml.safe_dump(best("toy", "score_oracle", *tables)))
    document = {"name": "toy", "model": {"name": "resnet9", "width": 0.125}, "data": {"name": "digits", "root": None}}
    (folder / "study.yaml").write_text(yaml.safe_dump(document))
    report.write_report(folder)
    rows = [row | {"start_time": 1_760_000_000_000, "end_time": 1_760_000_001_000} for row in study_rows()]
    files = [folder / "report.html", folder / "figures"]
    about = About(methods=["npo", "rem"], hyperparameters=["lr"], data="digits", fingerprint="0123456789abcdef")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    sync(uri, "toy", rows, about=about, derived=lambda run_ids: (selections(folder, rows), files))
    report.write_report(folder)  # with its cells' runs
    return folder


def picture(browser: Any, name: str) -> None:
    if folder := os.environ.get("REM_STUDY_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def shown(browser: Any, css: str) -> list[Any]:
    return [element for element in browser.find_elements("css selector", css) if element.is_displayed()]


def ready(browser: Any) -> None:
    wait_for(lambda: browser.execute_script("return document.documentElement.dataset.ready") == "yes", 60)


def drawn(browser: Any, chart: str) -> Any:
    """The chart's place, once Plotly has drawn it."""
    place = browser.find_element("css selector", f'[data-chart="{chart}"]')
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", place)
    wait_for(lambda: place.get_attribute("data-drawn") == "yes", 60)
    return place


def screen(browser: Any, width: int, height: int, scheme: str) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


@pytest.fixture
def overview(browser: Any, folder: Path) -> Iterator[Any]:
    screen(browser, 1280, 1000, "light")
    browser.get("about:blank")
    browser.get((folder / "report.html").as_uri())
    ready(browser)
    yield browser
    screen(browser, 1280, 1000, "light")


def test_the_first_screen_has_the_answer_then_who_wins_then_the_methods(overview: Any) -> None:
    picture(overview, "report")
    answer, winners, methods = (shown(overview, css)[0] for css in (".answer", ".wins", "#methods"))
    assert "REM has the highest mean score, 0.700, 0.267 above npo" in answer.text
    assert answer.rect["y"] < winners.rect["y"] < methods.rect["y"] < 1000
    assert float(answer.value_of_css_property("font-size")[:-2]) > 18
    assert "REM\nby 0.60 over npo" in winners.text


def test_a_square_opens_its_cell_and_the_way_back_leads_to_the_grid(overview: Any) -> None:
    overview.find_element("css selector", '.wins a[href="#cell-poison@0.5"]').click()
    (cell,) = shown(overview, ".cell")
    drawn(overview, cell.find_element("css selector", "[data-chart^=history]").get_attribute("data-chart"))
    picture(overview, "cell")
    assert cell.get_attribute("id") == "cell-poison@0.5"
    assert "History of the search" in cell.text and not shown(overview, "main")
    cell.find_element("partial link text", "the whole grid").click()
    assert shown(overview, "main") and not shown(overview, ".cell")


def test_pointing_shows_every_value_on_maps_and_charts(overview: Any) -> None:
    from selenium.webdriver import ActionChains

    square = shown(overview, '#map-utility_x_healed a[href="#cell-poison@0.5"]')[0]
    overview.execute_script("arguments[0].scrollIntoView({block: 'center'})", square)
    time.sleep(0.5)  # scrolling hides what was pointed at before
    ActionChains(overview).move_to_element(square).perform()
    tip = wait_for(lambda: shown(overview, "#tip"), 30)[0].text
    assert "poison@0.5 · REM" in tip and "utility × healed 0.800" in tip and "gain over the default +0.100" in tip
    place = drawn(overview, "methods")
    mark = place.find_elements("css selector", ".scatterlayer .trace:nth-of-type(2) .points path")[-1]
    ActionChains(overview).move_to_element(mark).perform()
    label = wait_for(lambda: place.find_elements("css selector", ".hoverlayer .hovertext"), 30)[0]
    assert "REM: mean 0.700 over 4 cells" in label.text


def test_a_head_sorts_its_table_by_value_and_says_so(overview: Any) -> None:
    table = overview.find_element("css selector", "#section-methods table")

    def first() -> str:
        return table.find_element("css selector", "tbody tr td").text

    head = table.find_elements("css selector", "th")[1]
    assert first() == "REM"
    head.find_element("css selector", "button").click()
    assert (first(), head.get_attribute("aria-sort")) == ("REM", "descending")
    head.find_element("css selector", "button").click()
    assert (first(), head.get_attribute("aria-sort")) == ("npo", "ascending")


def copied(browser: Any, button: Any) -> str:
    permission = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", permission)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()
    wait_for(lambda: button.text == "copied", 10)
    read = "const done = arguments[0]; navigator.clipboard.readText().then(done, error => done('no: ' + error))"
    return str(browser.execute_async_script(read))


def test_what_is_copied_is_a_command_that_runs_and_a_configuration_that_it_takes(
    overview: Any, folder: Path, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from rem_study.cli import main

    overview.execute_script("location.hash = '#cell-poison@0.1'")
    buttons = {button.text: button for button in shown(overview, ".cell:target tr:first-child .copy")}
    assert set(buttons) == {"copy as heal command", "copy configuration"}
    words = shlex.split(copied(overview, buttons["copy as heal command"]))
    assert words[:3] == ["rem-study", "heal", "MODEL.pt"]
    assert words[-6:] == ["--best", str(folder / "best.yaml"), "--cell", "poison@0.1", "--method", "rem"]
    assert words[3:7] == ["--model", "{name: resnet9, width: 0.125}", "--data", "digits"]
    told = CliRunner().invoke(main, words[1:])  # all of it is understood; MODEL.pt and KNOWN.csv are the reader's
    assert told.exit_code == 2 and "MODEL.pt" in told.output and "No such option" not in told.output
    configuration = yaml.safe_load(copied(overview, buttons["copy configuration"]))
    assert configuration == {"redirect_width": 0.5, "erase_mode": "drop", "trial": 1}
    fold = shown(overview, ".cell:target details[data-trials]")[0]
    fold.find_element("css selector", "summary").click()
    rows = wait_for(lambda: shown(overview, ".cell:target details tbody tr"), 30)
    assert len(rows) == 4
    assert yaml.safe_load(copied(overview, rows[0].find_element("css selector", ".copy")))["trial"] in (0, 1)


def test_a_cell_of_the_trade_off_shows_its_trials(overview: Any) -> None:
    place = drawn(overview, "pareto")
    marks = len(place.find_elements("css selector", ".scatterlayer .points path"))
    choice = overview.find_element("css selector", "#pareto select")
    choice.find_element("css selector", "option:nth-child(2)").click()
    assert marks == 7 and len(place.find_elements("css selector", ".scatterlayer .points path")) == 4


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_without_scrolling_sideways_in_light_and_dark(overview: Any, width: int, scheme: str) -> None:
    screen(overview, width, 900, scheme)
    for anchor in ("", "cell-poison@0.5"):
        overview.execute_script("location.hash = arguments[0]", anchor)
        for place in shown(overview, ".plot"):
            drawn(overview, place.get_attribute("data-chart"))
        picture(overview, f"report-{width}-{scheme}-{anchor or 'grid'}")
        assert overview.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    ground = overview.find_element("css selector", "body").value_of_css_property("background-color")
    assert ("255, 255, 255" in ground) == (scheme == "light")
    text = overview.find_element("css selector", ".plot[data-drawn] text").value_of_css_property("fill")
    assert text == ("rgb(27, 31, 36)" if scheme == "light" else "rgb(230, 233, 237)")


def test_it_loads_nothing_and_complains_of_nothing(overview: Any) -> None:
    for place in shown(overview, ".plot"):
        drawn(overview, place.get_attribute("data-chart"))
    loaded = overview.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []
    assert [entry for entry in overview.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_charts_and_tables_have_names_for_those_who_cannot_see_them(overview: Any) -> None:
    plots = overview.find_elements("css selector", ".plot")
    assert plots and all(plot.get_attribute("role") == "img" and plot.get_attribute("aria-label") for plot in plots)
    grids = overview.find_elements("css selector", ".wins, .map")
    assert grids and all(grid.get_attribute("aria-label") for grid in grids)
    assert all(grid.find_elements("css selector", "th[scope=row]") for grid in grids)


def test_it_prints_every_chart_of_the_grid(overview: Any) -> None:
    import base64

    wait_for(lambda: overview.execute_script("return !!window.Plotly"), 60)
    pdf = base64.b64decode(overview.print_page())
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000
    assert all(place.get_attribute("data-drawn") for place in shown(overview, ".plot"))


@pytest.fixture(scope="module")
def mlflow_ui(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = f"serve(Path({str(folder)!r}), {port})"
    code = f"from pathlib import Path; from rem_study.tracking.ui import serve; raise SystemExit({start})"
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 600
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                break
        except OSError:
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.5)
    yield url
    server.terminate()
    server.wait()


def wait_for(condition: Any, seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except Exception:  # an element that is being replaced
            pass
        assert time.monotonic() < deadline
        time.sleep(0.5)


def body(browser: Any) -> str:
    return str(browser.find_element("css selector", "body").text)


def test_mlflow_groups_runs_by_cell_and_shows_the_report(browser: Any, mlflow_ui: str, folder: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("toy").experiment_id
    browser.get(f"{mlflow_ui}/#/experiments/{experiment}/runs")
    wait_for(lambda: "toy" in names(browser))
    assert not {"poison@0.1", "rem #0 @0.1 poison"} & set(names(browser))
    wait_for(lambda: expand(browser, "toy"))
    wait_for(lambda: {f"{corruption}@{rate:g}" for corruption, rate in SCORES} <= set(names(browser)))
    wait_for(lambda: expand(browser, "poison@0.1"))
    wait_for(lambda: "rem #1 @0.1 poison" in names(browser))
    picture(browser, "mlflow-runs")
    assert {name for name in names(browser) if "#" in name} == {
        f"{method} #{trial} @0.1 poison" for method in ("npo", "rem") for trial in (0, 1)
    }
    run = next(r for r in client.search_runs([experiment]) if "mlflow.parentRunId" not in r.data.tags)
    browser.get(f"{mlflow_ui}/#/experiments/{experiment}/runs/{run.info.run_id}/artifacts")
    wait_for(lambda: "report.html" in body(browser))
    picture(browser, "mlflow-artifacts")
    links = re.findall(r'href="[^"]*(/#/runs/\w+)"[^>]*>this cell’s', (folder / "report.html").read_text("utf-8"))
    assert len(links) == len(SCORES)
    browser.get(mlflow_ui + links[0])
    wait_for(lambda: re.search(r"(poison|random_label)@0\.[15]", body(browser)))


def open_view(browser: Any, mlflow_ui: str, folder: Path, view: str) -> None:
    from mlflow import MlflowClient

    experiment = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").get_experiment_by_name("toy").experiment_id
    browser.get(f"{mlflow_ui}/version")  # MLflow opens its assistant over a quarter of the page, once a browser
    browser.execute_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    browser.get("about:blank")
    browser.get(f"{mlflow_ui}/{runs_link(experiment, view)}")
    wait_for(lambda: rows(browser))


def column(browser: Any, name: str) -> list[str]:
    """The cells of a column, from above."""
    cells = shown(browser, f"[col-id='{name}'][role='gridcell']")
    return [cell.text for cell in sorted(cells, key=lambda cell: cell.rect["y"])]


def test_selected_opens_flat_and_sorted_by_what_is_reported(browser: Any, mlflow_ui: str, folder: Path) -> None:
    open_view(browser, mlflow_ui, folder, "Selected")
    scores = wait_for(lambda: column(browser, "metrics.`reported/utility_x_healed`"))
    picture(browser, "mlflow-selected")
    values = [float(score) for score in scores]
    assert len(values) > 4 and values == sorted(values, reverse=True)
    assert not shown(browser, "button[data-component-id*='runnamecellrenderer']")  # nothing to unfold
    assert column(browser, "metrics.`reported/healed`") and "Model training" in body(browser)
    assert all(name.split()[0] in ("rem", "npo") for name in names(browser))


def test_by_cell_has_a_line_a_cell_with_who_has_won_it(browser: Any, mlflow_ui: str, folder: Path) -> None:
    open_view(browser, mlflow_ui, folder, "By cell")
    picture(browser, "mlflow-by-cell")
    assert set(names(browser)) == {f"{corruption}@{rate:g}" for corruption, rate in SCORES}
    assert set(column(browser, "tags.`winner`")) <= {"rem", "npo", "level", "not decided"}
    best = [float(score) for score in column(browser, "metrics.`utility_x_healed`")]
    assert best == sorted(best, reverse=True)


def test_rem_and_its_rivals_are_a_line_a_method(browser: Any, mlflow_ui: str, folder: Path) -> None:
    open_view(browser, mlflow_ui, folder, "REM and its rivals")
    found = wait_for(lambda: column(browser, "metrics.`reported/utility_x_healed`"))
    picture(browser, "mlflow-rivals")
    assert len(found) == 2 and all("average" in text for text in found)
    assert all(any(f"Group: {method}" in cell.text for cell in rows(browser)) for method in ("rem", "npo"))


def test_failures_show_their_errors(browser: Any, mlflow_ui: str, folder: Path) -> None:
    failed = {row["error"] for row in study_rows() if row["state"] == "failed"}
    open_view(browser, mlflow_ui, folder, "Failures")
    picture(browser, "mlflow-failures")
    assert failed and set(column(browser, "tags.`error`")) == {str(error) for error in failed}


def rows(browser: Any) -> list[Any]:
    """The lines of the list of runs, from above."""
    cells = shown(browser, "[col-id='attributes.`Run Name`'][role='gridcell']")
    return sorted(cells, key=lambda cell: cell.rect["y"])


def names(browser: Any) -> list[str]:
    return [row.find_element("css selector", "a").text for row in rows(browser)]


def expand(browser: Any, name: str) -> bool:
    """Open the run `name`, so that its children are listed."""
    row = next(row for row in rows(browser) if row.find_element("css selector", "a").text == name)
    row.find_element("css selector", "button[data-component-id*='runnamecellrenderer']").click()
    return True
