"""`rem-study watch`: the page of a study from its log, whom it is served to, when it ends; and in Chromium while one
really runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from doubles.browser import chromium

from rem_study.cli import main
from rem_study.spec.resolve import load_study
from rem_study.storage.log import StudyLog
from rem_study.study import watch
from rem_study.study.live import has_ended

STUDY = {
    "name": "toy",
    "corruptions": [{"name": "random_label", "samples": 20}, {"name": "poison", "samples": 20}],
    "discovery_rates": [0.1, 1.0],
    "methods": ["rem", "npo"],
    "budget": {"trials": 2},
    "race": {"replicates": 0},
    "confirm": {"replicates": 0},
}


def record(cell: str, method: str, trial: int, value: float | None, error: str | None = None) -> dict[str, Any]:
    now = int(time.time() * 1000)
    row = {"kind": "replicate", "cell": cell, "method": method, "trial": trial, "replicate": 0, "phase": "search"}
    row |= {"state": "failed" if error else "complete", "error": error, "score": value, "utility_x_healed": value}
    return row | {"start_time": now - 500, "end_time": now}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(STUDY))
    plain = load_study(tmp_path / "toy.yaml").spec.plain()
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    log = StudyLog(tmp_path / "log")
    log.append(record("poison@0.1", "rem", 0, 0.4))
    log.append(record("poison@0.1", "npo", 0, None, "<b>loss</b> is not finite"))
    log.close()
    return tmp_path


def grown(folder: Path) -> None:
    log = StudyLog(folder / "log")
    log.append(record("poison@0.1", "rem", 1, 0.9))
    log.close()


def ended(folder: Path) -> None:
    launched = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time()))
    (folder / "manifest.json").write_text(json.dumps({"launched": launched, "seconds_of_last_launch": 1.0}))
    (folder / "report.html").write_text("<h1>the report</h1>")


@pytest.fixture
def server(folder: Path) -> Iterator[watch._Server]:
    one = watch._Server(watch.Watched(folder, wait=3600), 0)
    thread = threading.Thread(target=one.serve_forever, daemon=True)
    thread.start()
    yield one
    one.shutdown()
    one.server_close()
    thread.join()


def got(server: watch._Server, path: str, host: str | None = None) -> str:
    port = server.server_address[1]
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host or f"127.0.0.1:{port}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def test_the_page_tells_the_grid_the_histories_and_the_failures(server: watch._Server) -> None:
    page = got(server, "/")
    assert "toy: 2 of 16 trials finished, 1 failed" in page
    cells = dict(re.findall(r'<td class="([a-z-]+)" data-cell="([^"]+)"', page))
    assert cells["under-way"] == "poison@0.1" and page.count('class="waiting"') == 3
    assert "<b>0.40</b> rem" in page and "best score after each of 1 trials, now 0.40" in page
    assert "poison@0.1 npo #0: &lt;b&gt;loss&lt;/b&gt; is not finite" in page


def test_what_is_new_is_in_the_part_that_changes(server: watch._Server, folder: Path) -> None:
    assert 'data-finished="2"' in got(server, "/live")
    grown(folder)
    _until(lambda: 'data-finished="3"' in got(server, "/live"), 60)
    assert "best score after each of 2 trials, now 0.90" in got(server, "/live")


def test_it_ends_when_the_launch_has_and_gives_the_report(server: watch._Server, folder: Path) -> None:
    ended(folder)
    _until(lambda: 'data-ended="true"' in got(server, "/live"), 60)
    assert not server.watched.read.is_set()
    assert got(server, "/report") == "<h1>the report</h1>"
    assert server.watched.read.wait(10)


def test_it_has_not_ended_before_the_report_is_there(server: watch._Server, folder: Path) -> None:
    ended(folder)
    report = folder / "report.html"
    os.utime(report, (1, 1))  # of an earlier launch
    assert not has_ended(folder, server.watched.now())
    os.utime(report)
    assert has_ended(folder, server.watched.now())


def test_a_study_that_had_ended_may_be_gone_on_with_for_a_moment(folder: Path) -> None:
    ended(folder)
    assert not watch.Watched(folder, wait=3600).ended
    assert watch.Watched(folder, wait=-1).ended


@pytest.mark.parametrize("host", ["elsewhere.example:80", "169.254.169.254"])
def test_another_sites_name_reads_nothing(server: watch._Server, host: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        got(server, "/live", host)


def test_a_taken_port_and_a_folder_that_is_no_study_are_one_line(server: watch._Server, folder: Path) -> None:
    taken = CliRunner().invoke(main, ["watch", str(folder), "--port", str(server.server_address[1])])
    assert taken.exit_code == 1 and taken.output.startswith("error: port ") and "--port" in taken.output
    none = CliRunner().invoke(main, ["watch", str(folder / "log")])
    assert none.exit_code == 2 and "is not a study's folder" in none.output


@pytest.mark.slow
def test_in_a_browser_the_page_grows_while_a_study_runs_and_ends_as_its_report(tmp_path: Path) -> None:
    words = ["launch", "smoke", "--root", str(tmp_path / "runs"), "--set", "budget.trials=12"]
    with _started(words, tmp_path / "launch.log") as launch:
        study = tmp_path / "runs" / "smoke"
        _until(lambda: (study / "study.yaml").is_file(), 120)
        with _started(["watch", str(study), "--port", "0"], tmp_path / "watch.log") as watcher:
            _until(lambda: "http://" in (tmp_path / "watch.log").read_text(), 60)
            address = re.findall(r"http://\S+", (tmp_path / "watch.log").read_text())[0]
            with chromium(tmp_path / "profile") as browser:
                browser.get(address)
                browser.execute_script("window.untouched = true")
                seen = _counts(browser, 1, 300)
                _picture(browser, "watch")
                with urllib.request.urlopen(f"{address}report", timeout=300) as answer:
                    assert "<b>Partial.</b>" in answer.read().decode()
                more = _counts(browser, seen + 1, 300)
                assert more > seen and browser.execute_script("return window.untouched")  # in place, not loaded anew
                _until(lambda: "/report" in browser.current_url, 300)
                _until(lambda: "smoke" in browser.title, 60)
                _picture(browser, "watch-ended")
                assert launch.wait(60) == 0
            assert watcher.wait(90) == 0
    told = (tmp_path / "watch.log").read_text()
    assert "the study has ended" in told and "report.html" in told


def _counts(browser: Any, least: int, patience: float) -> int:
    """Wait until the page says that so many trials are through; how many they are."""
    script = "return Number((document.getElementById('state') || {dataset: {}}).dataset.finished || 0)"
    _until(lambda: browser.execute_script(script) >= least, patience)
    found: int = browser.execute_script(script)
    return found


def _until(holds: Any, patience: float) -> None:
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.3)


def _picture(browser: Any, name: str) -> None:
    if folder := os.environ.get("REM_STUDY_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


class _started:
    """A command of rem-study in a process of its own, ended when this is left."""

    def __init__(self, words: list[str], log: Path) -> None:
        self._words, self._log = words, log

    def __enter__(self) -> subprocess.Popen[bytes]:
        with open(self._log, "wb") as output:
            command = [sys.executable, "-m", "rem_study.cli", *self._words]
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        return self._process

    def __exit__(self, *error: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(60)
