"""A sync ends, whatever MLflow's server does, and says what is left."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from doubles.mlflow_rows import row
from mlflow import MlflowClient

from rem_study.errors import TrackingError
from rem_study.tracking.patience import Patience
from rem_study.tracking.sync import sync


def silent(connection: socket.socket) -> None:
    """Take all, answer nothing."""
    while connection.recv(4096):
        pass


def trickling(connection: socket.socket) -> None:
    """Answer a byte at a time: no read ever takes long, and the answer never ends."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{")
    while True:
        connection.sendall(b" ")
        time.sleep(0.1)


@pytest.fixture(params=[silent, trickling])
def server(request) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            def answer(connection: socket.socket) -> None:
                with connection, contextlib.suppress(OSError):
                    request.param(connection)

            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=listening.accept()[:1], daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://me:secret@127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("limits", [{"silence": 2}, {"in_all": 2}])
def test_a_server_that_never_answers_is_given_up_with_what_is_left(server, limits):
    began = time.monotonic()
    with pytest.raises(TrackingError) as told:
        sync(server, "grid", [row(0), row(0, 1), row(1)], patience=Patience(server, **limits))
    assert time.monotonic() - began < 10
    assert re.search(r"(not answered for|too slowly to be done in) 2 s; left: 3 of 3 replicates", str(told.value))
    assert "secret" not in str(told.value) and "\n" not in str(told.value)


class Slowly(Patience):
    """Each call to MLflow takes 30 ms more, so that 60 replicates take longer than they have on any machine."""

    def _call(self, call, *arguments, **named):
        time.sleep(0.03)
        return super()._call(call, *arguments, **named)


def test_what_took_too_long_in_all_is_gone_on_with_and_nothing_is_doubled(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    MlflowClient(uri, registry_uri=uri).search_experiments()  # the schema takes seconds
    rows = [row(trial) for trial in range(60)]
    with pytest.raises(TrackingError, match=r"too slowly to be done in 0\.7 s; left: (\d+) of 60 replicates") as told:
        sync(uri, "grid", rows, patience=Slowly(uri, in_all=0.7))
    left = int(re.search(r"left: (\d+)", str(told.value))[1])
    time.sleep(1)  # what was given up ends at its next call
    assert sync(uri, "grid", rows) in (left, left - 1)  # one may have been written when it was given up
    client = MlflowClient(uri, registry_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("grid").experiment_id])
    trials = [run.data.tags["trial"] for run in runs if "trial" in run.data.tags]
    assert sorted(map(int, trials)) == list(range(60))


def test_a_failure_of_the_work_is_its_own():
    with pytest.raises(ZeroDivisionError):
        Patience("x").run(lambda: 1 // 0, lambda: "")
