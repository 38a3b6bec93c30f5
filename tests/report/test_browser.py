"""The report and MLflow's UI in a real browser: what a person sees and where a click leads.

Needs Chromium and its driver (Debian: apt-get install chromium chromium-driver) and selenium.
REM_STUDY_SCREENSHOTS=DIR keeps pictures of what was looked at.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.toy_study import SCORES, study_rows, write_study

from rem_study.report import page as report
from rem_study.results.write import selections
from rem_study.tracking import About
from rem_study.tracking.sync import sync
from rem_study.tracking.views import runs_link

pytestmark = pytest.mark.slow

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,1000"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium or chromedriver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.set_page_load_timeout(120)
    yield started
    started.quit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report's toy study with its report and MLflow's runs."""
    folder = write_study(tmp_path_factory.mktemp("toy"), study_rows())
    report.write_report(folder)
    rows = [row | {"start_time": 1_760_000_000_000, "end_time": 1_760_000_001_000} for row in study_rows()]
    files = [folder / "report.html", folder / "figures"]
    about = About(methods=["npo", "rem"], hyperparameters=["lr"], data="digits", fingerprint="0123456789abcdef")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    sync(uri, "toy", rows, about=about, derived=lambda run_ids: (selections(folder, rows), files))
    return folder


def picture(browser: Any, name: str) -> None:
    if folder := os.environ.get("REM_STUDY_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def shown(browser: Any, css: str) -> list[Any]:
    return [element for element in browser.find_elements("css selector", css) if element.is_displayed()]


@pytest.fixture
def overview(browser: Any, folder: Path) -> Any:
    browser.get("about:blank")
    browser.get((folder / "report.html").as_uri())
    return browser


def test_the_first_screen_has_the_answer_and_the_heat_map(overview: Any) -> None:
    picture(overview, "report")
    summary = shown(overview, ".summary")[0]
    assert "REM has the highest mean utility × healed" in summary.text
    heat_map = shown(overview, "#utility_x_healed svg")[0]
    assert heat_map.rect["y"] + heat_map.rect["height"] < 900
    numbers = {text.text for text in heat_map.find_elements("css selector", "text")}
    assert {f"{score:.2f}" for pair in SCORES.values() for score in pair if score is not None} <= numbers
    assert overview.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_a_square_opens_its_cell_and_the_way_back_leads_to_the_grid(overview: Any) -> None:
    square = overview.find_element("css selector", '#utility_x_healed a[href="#cell-poison@0.5"]')
    overview.execute_script("arguments[0].querySelector('path').dispatchEvent("
                            "new MouseEvent('click', {bubbles: true, cancelable: true}))", square)  # fmt: skip
    (cell,) = shown(overview, ".cell")
    picture(overview, "cell")
    assert cell.get_attribute("id") == "cell-poison@0.5"
    assert "History of the search" in cell.text and not shown(overview, "#overview")
    assert shown(overview, "#cell-poison\\@0\\.5 svg")
    cell.find_element("partial link text", "the whole grid").click()
    assert shown(overview, "#overview") and not shown(overview, ".cell")


def test_values_show_on_hover_and_in_a_table(overview: Any) -> None:
    titles = overview.execute_script(
        "return Array.from(document.querySelectorAll('#utility_x_healed title')).map(t => t.textContent)"
    )
    assert "poison at discovery 0.5 · REM · utility × healed: 0.80" in titles
    fold = overview.find_element("css selector", "#section-grid details")
    assert not shown(overview, "#section-grid details table")
    fold.find_element("css selector", "summary").click()
    measured, searched = shown(overview, "#section-grid details table")
    assert "0.800" in measured.text and "0.100" in searched.text  # the score, and its gain over the default


def test_it_loads_nothing_and_complains_of_nothing(overview: Any) -> None:
    loaded = overview.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert loaded == []
    assert [entry for entry in overview.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_it_prints_without_cutting_figures_off(overview: Any) -> None:
    import base64

    pdf = base64.b64decode(overview.print_page())
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000


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
