"""A real MLflow server on PostgreSQL that goes down, is slow, or refuses: the study goes on, `sync` makes it whole."""

from __future__ import annotations

import math
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from doubles.cheap import ROWS, Cheap, assert_equal_tables, faulty, records, study_file, wait_until
from mlflow import MlflowClient

from rem_study.cli import main
from rem_study.study.launch import launch
from rem_study.tracking.runs import KEY

pytestmark = pytest.mark.slow
METRICS = ("healed", "utility", "test_accuracy", "utility_x_healed", "score_oracle", "score_deployable")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def postgres_binaries() -> Path | None:
    """Where Debian's packages have them; the newest."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> Iterator[str]:
    """The URI of an empty PostgreSQL database on loopback."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not there: pip install psycopg2-binary")
    binaries = postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    user = pwd.getpwuid(os.geteuid()).pw_name
    if user == "root":  # which PostgreSQL refuses to run as
        user = "postgres"
    folder = Path("/tmp") / f"rem-study-postgres-{os.getpid()}"
    folder.mkdir()
    shutil.chown(folder, user)
    as_user = ["runuser", "-u", user, "--"] if os.geteuid() == 0 else []

    def run(program: str, *words: str) -> None:
        done = subprocess.run([*as_user, str(binaries / program), *words], capture_output=True, text=True, cwd=folder)
        assert done.returncode == 0, done.stderr + done.stdout

    port = free_port()
    try:
        run("initdb", "--pgdata", str(folder / "data"), "--auth=trust", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "start", "--wait", "-D", str(folder / "data"), "-l", str(folder / "log"), "-o", options)
        try:
            run("createdb", "--host=127.0.0.1", f"--port={port}", "mlflow")
            yield f"postgresql+psycopg2://{user}@127.0.0.1:{port}/mlflow"
        finally:
            run("pg_ctl", "stop", "--mode=immediate", "-D", str(folder / "data"))
    finally:
        shutil.rmtree(folder)


class Server:
    """`mlflow server`, which can be killed and started again on the same port."""

    def __init__(self, database: str, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        command = f"{sys.executable} -m mlflow server --host 127.0.0.1 --port {self.port} --workers 1"
        self._command = [*command.split(), "--backend-store-uri", database, "--artifacts-destination", str(folder)]
        self._process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with open(self._folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=os.environ | quiet, start_new_session=True
            )

    def wait(self) -> None:
        wait_until(self.answers, pause=0.5)

    def answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "server.log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.read() == b"OK"
        except OSError:
            return False

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="module")
def server(database, tmp_path_factory) -> Iterator[Server]:
    made = Server(database, tmp_path_factory.mktemp("server"))
    made.start()
    try:
        made.wait()
        yield made
    finally:
        made.kill()


class Between:
    """A proxy before the server, in one of these moods.

    slow: each connection waits half a second; refusing: 503 to all; silent: nothing is ever answered; fair: as it is.
    """

    def __init__(self, port: int) -> None:
        self.mood = "fair"
        self._port = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.mood == "silent":
            client.recv(1)
            time.sleep(3600)
        if self.mood == "refusing":
            client.recv(65536)
            client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            client.close()
            return
        if self.mood == "slow":
            time.sleep(0.5)
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join()

    def close(self) -> None:
        self._socket.close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def between(server) -> Iterator[Between]:
    made = Between(server.port)
    yield made
    made.close()


@pytest.fixture(scope="module")
def undisturbed(local_ray, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    return launch(study_file(root), root, worker=Cheap).folder


def at_record(folder: Path, number: int, act) -> threading.Thread:
    """A thread that acts once the log holds so many records."""

    def work() -> None:
        wait_until(lambda: records(folder) >= number)
        act()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def assert_mlflow_has_each_trial_once_as_the_tables_have_it(uri: str, folder: Path) -> None:
    client = MlflowClient(uri, registry_uri=uri)
    runs, token = [], None
    while True:
        page = client.search_runs([client.get_experiment_by_name(folder.name).experiment_id], page_token=token)
        runs += page
        token = page.token
        if not token:
            break
    assert len({run.data.tags[KEY] for run in runs}) == len(runs), "a run is there twice"
    of_trials = {run.info.run_id: run for run in runs if "trial" in run.data.tags}
    table = pd.read_parquet(folder / "trials.parquet")
    assert len(table) == ROWS and table.groupby(["cell", "method", "trial"]).ngroups == len(of_trials)
    assert set(table["mlflow_run_id"]) == set(of_trials)
    for run_id, rows in table.groupby("mlflow_run_id"):
        assert of_trials[run_id].info.status == "FINISHED"
        for metric in METRICS:
            points = [(point.step, point.value) for point in client.get_metric_history(run_id, metric)]
            expected = list(zip(rows["replicate"], rows[metric], strict=True))
            assert sorted(points) == [(step, value) for step, value in expected if math.isfinite(value)], metric
    study_run = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    assert study_run.info.status == "FINISHED"
    assert {"report.html", "best.yaml"} <= {item.path for item in client.list_artifacts(study_run.info.run_id)}


def sync(folder: Path) -> int:
    done = CliRunner().invoke(main, ["sync", str(folder)])
    assert done.exit_code == 0, done.output
    return int(done.output.split()[0])


def warnings_in(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if "MLflow" in line]


def test_a_server_killed_and_started_again_in_mid_study_ends_up_whole(server, undisturbed, tmp_path, capfd):
    def restart() -> None:
        server.kill()
        time.sleep(3)
        server.start()

    path = study_file(tmp_path, name="restarted", tracking={"uri": server.uri})
    thread = at_record(tmp_path / "restarted", 20, restart)
    outcome = launch(path, tmp_path, worker=faulty(lambda trial: time.sleep(0.2)))
    thread.join()
    server.wait()
    assert outcome.done
    assert sum("is behind" in line for line in warnings_in(capfd.readouterr().err)) == 1
    sync(outcome.folder)
    assert sync(outcome.folder) == 0
    assert_mlflow_has_each_trial_once_as_the_tables_have_it(server.uri, outcome.folder)


def test_a_server_that_stays_down_costs_a_warning_and_sync_brings_it_level(server, undisturbed, tmp_path, capfd):
    path = study_file(tmp_path, name="lost", tracking={"uri": server.uri})
    thread = at_record(tmp_path / "lost", 20, server.kill)
    outcome = launch(path, tmp_path, worker=Cheap)
    thread.join()
    assert outcome.done
    behind, lacking = warnings_in(capfd.readouterr().err)
    assert "is behind" in behind and "`rem-study sync" in lacking
    failed = CliRunner().invoke(main, ["sync", str(outcome.folder)])
    assert failed.exit_code == 1 and failed.output.startswith(f"error: MLflow at {server.uri}: ")
    server.start()
    server.wait()
    assert sync(outcome.folder) > 0
    assert sync(outcome.folder) == 0
    assert_mlflow_has_each_trial_once_as_the_tables_have_it(server.uri, outcome.folder)


@pytest.mark.parametrize("mood", ["slow", "refusing", "silent"])
def test_a_server_in_a_bad_mood_does_not_hold_up_the_search(between, undisturbed, tmp_path, capfd, mood):
    path = study_file(tmp_path, name=mood, tracking={"uri": between.uri})
    between.mood = mood
    finished: list[float] = []
    thread = at_record(tmp_path / mood, 1 + 4 + ROWS, lambda: finished.append(time.monotonic()))
    began = time.monotonic()
    outcome = launch(path, tmp_path, worker=Cheap)
    thread.join()
    assert outcome.done
    assert finished[0] - began < 60, "the search waited for the server"
    assert time.monotonic() - finished[0] < 180, "the end waited too long for the server"
    said = warnings_in(capfd.readouterr().err)
    assert len(said) <= 2 and (mood == "slow" or any("`rem-study sync" in line for line in said))
    between.mood = "fair"
    sync(outcome.folder)
    assert_mlflow_has_each_trial_once_as_the_tables_have_it(between.uri, outcome.folder)
    assert_equal_tables(undisturbed_named(undisturbed, mood), outcome.folder)


def undisturbed_named(folder: Path, name: str) -> Path:
    """The undisturbed study's tables under another study's name, which is a column of theirs."""
    renamed = folder.parent / f"as-{name}"
    renamed.mkdir()
    table = pd.read_parquet(folder / "trials.parquet")
    table.assign(study=name).to_parquet(renamed / "trials.parquet")
    shutil.copy(folder / "cells.parquet", renamed)
    (renamed / "best.yaml").write_text((folder / "best.yaml").read_text().replace("study: cheap", f"study: {name}"))
    return renamed
