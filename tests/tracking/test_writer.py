"""MLflow's view of a study, against real MLflow on SQLite."""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from doubles.mlflow_rows import CELL, STUDY, row
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, PERMISSION_DENIED

from rem_study.errors import InputError, TrackingError
from rem_study.storage.credentials import redact
from rem_study.tracking import About, Selection, outline, ui
from rem_study.tracking import client as mlflow_client
from rem_study.tracking import runs as mlflow_runs
from rem_study.tracking import writer as tracking
from rem_study.tracking.notes import cell_note
from rem_study.tracking.sync import sync
from rem_study.tracking.views import NAMES
from rem_study.tracking.writer import TrackingWriter

ABOUT = About(
    tags={"objective": "score_oracle"},
    methods=["rem", "npo"],
    hyperparameters=["lr"],
    data="digits",
    fingerprint="ab" * 32,
)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """A SQLite file with MLflow's schema, so that each test need not run the migrations."""
    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    uri = f"sqlite:///{path}"
    MlflowClient(uri, registry_uri=uri).search_experiments()
    return path.read_bytes()


@pytest.fixture
def make_uri(tmp_path, empty_database):
    def make(name="a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mlflow.db").write_bytes(empty_database)
        return f"sqlite:///{tmp_path / name / 'mlflow.db'}"

    return make


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def dead_uri(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    return f"http://reader:secret@127.0.0.1:{free_port()}"


@pytest.fixture
def quick_retries(monkeypatch):
    monkeypatch.setattr(tracking, "FIRST_DELAY", 0.01)


def runs_of(uri):
    """Every run of the experiment by its key."""
    client = MlflowClient(uri, registry_uri=uri)
    found = client.search_runs([client.get_experiment_by_name(STUDY).experiment_id])
    runs = {run.data.tags[mlflow_runs.KEY]: run for run in found}
    assert len(runs) == len(found), "a run was doubled"
    return runs


def trial_run_ids(uri):
    trials = [run for run in runs_of(uri).values() if run.data.tags["kind"] == "trial"]
    return {
        (*(run.data.tags[name] for name in ("cell", "method", "phase")), int(run.data.tags["trial"])): run.info.run_id
        for run in trials
    }


def picture(uri):
    """All that a reader of MLflow sees, without the run ids: runs by key, with every metric point."""
    client, runs = MlflowClient(uri, registry_uri=uri), runs_of(uri)
    keys = {run.info.run_id: key for key, run in runs.items()}
    seen = {}
    for key, run in runs.items():
        tags = {name: _without_ids(value, keys) for name, value in run.data.tags.items()}
        points = {
            name: sorted(
                (point.step, point.value, point.timestamp) for point in client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
        }
        seen[key] = run.info.run_name, run.info.status, run.data.params, tags, points
    return seen


def _without_ids(text, keys):
    for run_id, key in keys.items():
        text = text.replace(run_id, key)
    return text


def write(uri, rows, finished=(), **more):
    writer = TrackingWriter(uri, STUDY, about=ABOUT, **more)
    for one in rows:
        writer.record(one)
    for one in finished:
        writer.finish(*one)
    return writer


def test_runs_nest_study_cell_trial(make_uri):
    uri = make_uri()
    writer = write(uri, [row(0), row(3, cell="poison@0.5")], [((CELL, "rem", "search", 0), "complete")])
    writer.finish_study()
    assert writer.close() and writer.unwritten == 0
    runs = runs_of(uri)
    trial, cell, study = (runs[key] for key in (f"grid/{CELL}/rem/search/0", f"grid/{CELL}", "grid"))
    assert trial.data.tags["mlflow.parentRunId"] == cell.info.run_id
    assert cell.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert "mlflow.parentRunId" not in study.data.tags and study.data.tags["objective"] == "score_oracle"
    assert trial.info.run_name == "rem #0 @0.3 random_label"
    assert trial.data.params == {
        "method": "rem",
        "lr": "0.01",
        "erase_mode": "drop",
        "sites": '["block1", "head"]',
    }
    expected = {"corruption": "random_label", "discovery_rate": "0.3", "method": "rem", "phase": "search"}
    assert expected.items() <= trial.data.tags.items()
    assert writer.run_ids() == {
        (CELL, "rem", "search", 0): trial.info.run_id,
        ("poison@0.5", "rem", "search", 3): runs["grid/poison@0.5/rem/search/3"].info.run_id,
    }
    assert {key: run.info.status for key, run in runs.items()} == {
        "grid": "FINISHED",
        f"grid/{CELL}": "FINISHED",
        f"grid/{CELL}/rem/search/0": "FINISHED",
        "grid/poison@0.5": "FINISHED",
        "grid/poison@0.5/rem/search/3": "KILLED",  # was never finished
    }


def test_a_replicate_is_one_step_of_every_finite_number(make_uri):
    uri = make_uri()
    assert write(uri, [row(replicate=0), row(replicate=1), row(replicate=1)]).close()
    points = picture(uri)[f"grid/{CELL}/rem/search/0"][-1]
    assert points == {
        "healed": [(0, 0.8, 1_009), (1, 0.81, 1_019)],
        "utility": [(0, 0.9, 1_009), (1, 0.9, 1_019)],
        "seconds": [(0, 3.0, 1_009), (1, 3.0, 1_019)],
    }


@pytest.mark.parametrize("state, status", [("complete", "FINISHED"), ("failed", "FAILED"), ("pruned", "KILLED")])
def test_a_trial_ends_as_its_state_says(make_uri, state, status):
    uri = make_uri()
    assert write(uri, [row(error="loss is not finite")], [((CELL, "rem", "search", 0), state)]).close()
    run = runs_of(uri)[f"grid/{CELL}/rem/search/0"]
    assert (run.info.status, run.data.tags["state"]) == (status, state)
    assert run.data.tags["error"] == "loss is not finite"


def test_a_resumed_study_doubles_nothing(make_uri):
    uri = make_uri()
    first = write(uri, [row(0), row(1)], [((CELL, "rem", "search", 0), "complete")])
    first.finish_study("KILLED")
    assert first.close()
    second = write(uri, [row(0), row(1), row(1, 1)], [((CELL, "rem", "search", 1), "complete")])
    assert second.close()
    assert second.run_ids() == trial_run_ids(uri) and len(runs_of(uri)) == 4
    assert runs_of(uri)["grid"].info.status == "RUNNING"
    points = picture(uri)[f"grid/{CELL}/rem/search/1"][-1]
    assert [step for step, _, _ in points["healed"]] == [0, 1]


def test_sync_after_a_lost_server_equals_the_live_run(make_uri, dead_uri):
    rows = [row(trial, replicate) for trial in range(3) for replicate in range(2)]
    states = {
        (CELL, "rem", "search", 0): "complete",
        (CELL, "rem", "search", 1): "pruned",
        (CELL, "rem", "search", 2): "complete",
    }
    live_uri, lost_uri, half_uri = make_uri("live"), make_uri("lost"), make_uri("half")

    live = write(live_uri, rows, list(states.items()))
    live.finish_study()
    assert live.close()

    lost = write(dead_uri, rows)
    assert not lost.close(timeout=0.5)
    assert sync(lost_uri, STUDY, rows, states=states, about=ABOUT) == 6

    assert write(half_uri, rows[:3]).close()
    assert sync(half_uri, STUDY, rows, states=states, about=ABOUT) == 3

    expected = picture(live_uri)
    assert picture(lost_uri) == expected
    assert picture(half_uri) == expected
    assert sync(half_uri, STUDY, rows, states=states, about=ABOUT) == 0
    assert picture(half_uri) == expected


@pytest.mark.parametrize("call", ["create_run", "log_batch", "set_terminated"])
def test_an_answer_lost_after_the_write_doubles_nothing(make_uri, monkeypatch, quick_retries, call):
    real, lost = getattr(MlflowClient, call), []

    def loses_the_second_answer(*args, **kwargs):
        result = real(*args, **kwargs)
        lost.append(call)
        if len(lost) == 2:
            raise ConnectionError("the connection was reset")
        return result

    monkeypatch.setattr(MlflowClient, call, loses_the_second_answer)
    uri, calm_uri = make_uri(), make_uri("calm")
    rows, finished = [row(0), row(1)], [((CELL, "rem", "search", trial), "complete") for trial in (0, 1)]
    writer = write(uri, rows, finished)
    writer.finish_study()
    assert writer.close() and len(lost) >= 2
    monkeypatch.undo()
    calm = write(calm_uri, rows, finished)
    calm.finish_study()
    assert calm.close()
    assert picture(uri) == picture(calm_uri)


def test_a_dead_server_neither_stops_nor_delays_the_study(dead_uri, caplog, quick_retries):
    caplog.set_level(logging.WARNING)
    began = time.monotonic()
    writer = write(dead_uri, [row(trial) for trial in range(200)])
    writer.finish((CELL, "rem", "search", 0), "complete")
    writer.artifacts(["nowhere.html"])
    writer.finish_study()
    assert time.monotonic() - began < 0.5
    time.sleep(0.5)
    assert writer.run_ids() == {}
    assert writer.close(timeout=0.5) is False
    assert writer.unwritten == 204
    (warning,) = caplog.records
    assert "127.0.0.1" in warning.getMessage() and "secret" not in caplog.text


def test_a_full_queue_drops_and_says_so(dead_uri, monkeypatch, quick_retries):
    monkeypatch.setattr(tracking, "QUEUE_SIZE", 5)
    writer = write(dead_uri, [row(trial) for trial in range(20)])
    assert not writer.close(timeout=0.1)
    assert writer.unwritten == 21  # the study's own run is one


def test_what_mlflow_refuses_does_not_hold_up_the_rest(make_uri, quick_retries, caplog):
    uri = make_uri()
    writer = write(uri, [row(0, **{"not a name!": 1.0}), row(1)])
    assert writer.close() is False and writer.unwritten == 1
    assert picture(uri)[f"grid/{CELL}/rem/search/1"][-1]["healed"] == [(0, 0.8, 1_109)]
    assert len([record for record in caplog.records if record.name == tracking.__name__]) == 1


def test_more_points_than_one_batch_takes(make_uri):
    uri = make_uri()
    many = {f"m{index}": float(index) for index in range(90)}
    assert sync(uri, STUDY, [row(replicate=replicate, **many) for replicate in range(25)]) == 25
    points = picture(uri)[f"grid/{CELL}/rem/search/0"][-1]
    assert len(points) == 93 and {len(steps) for steps in points.values()} == {25}


def test_artifacts_lie_on_the_studys_run_beside_the_database(make_uri, tmp_path, monkeypatch):
    uri = make_uri()
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "figures").mkdir(parents=True)
    (elsewhere / "best.yaml").write_text("format: 1")
    (elsewhere / "figures" / "heat.png").write_bytes(b"png")
    monkeypatch.chdir(elsewhere)
    writer = write(uri, [])
    writer.artifacts([elsewhere / "best.yaml", "figures"])
    assert writer.close()
    run = runs_of(uri)["grid"]
    client = MlflowClient(uri, registry_uri=uri)
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"best.yaml", "figures"}
    assert [item.path for item in client.list_artifacts(run.info.run_id, "figures")] == ["figures/heat.png"]
    assert (tmp_path / "a" / "artifacts" / run.info.run_id / "artifacts" / "best.yaml").is_file()
    assert sorted(path.name for path in elsewhere.iterdir()) == ["best.yaml", "figures"]


def test_sync_reports_a_dead_server_in_one_line_without_credentials(dead_uri):
    with pytest.raises(TrackingError) as caught:
        sync(dead_uri, STUDY, [row()])
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "text, clean",
    [
        ("postgresql://user:pa@ss@db:5432/x", "postgresql://***@db:5432/x"),
        ("see https://u:p@host/a?b=c@d and http://plain/", "see https://***@host/a?b=c@d and http://plain/"),
        ("sqlite:////runs/a@b/mlflow.db", "sqlite:////runs/a@b/mlflow.db"),
    ],
)
def test_credentials_are_redacted(text, clean):
    assert redact(text) == clean


def test_the_ui_needs_a_database(tmp_path):
    with pytest.raises(InputError, match=r"mlflow\.db"):
        ui.serve(tmp_path)


def test_params_of_any_json_value(make_uri):
    uri = make_uri()
    config = {"a": True, "b": None, "c": {"d": [1, 2]}, "long": "x" * 10_000}
    assert sync(uri, STUDY, [row(config=config)]) == 1
    params = runs_of(uri)[f"grid/{CELL}/rem/search/0"].data.params
    assert [params[name] for name in "abc"] == ["true", "null", json.dumps({"d": [1, 2]})]


def healthy(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return answer.read() == b"OK"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_the_ui_serves_the_folder_and_ends_with_its_command(make_uri, tmp_path, ending):
    make_uri()
    port = free_port()
    start = f"serve(Path({str(tmp_path / 'a')!r}), {port})"
    command = f"from pathlib import Path; from rem_study.tracking.ui import serve; raise SystemExit({start})"
    process = subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not healthy(port):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.2)
        process.send_signal(ending)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0 and "Traceback" not in errors
    assert not healthy(port)


def selection(trial, score, curve=(1.0, 0.25), standing=None):
    return Selection(
        trial=(CELL, "rem", "search", trial),
        scores={"utility_x_healed": score, "healed": 0.9},
        curves={"old": list(curve)},
        time=5_000,
        standing=standing,
    )


def test_selected_trials_are_marked_with_their_curves_and_shown_above(make_uri):
    uri = make_uri()
    writer = write(uri, [row(0), row(1)], [((CELL, "rem", "search", n), "complete") for n in (0, 1)])
    writer.highlight([selection(0, 0.7)])
    writer.highlight([selection(1, 0.8)])
    writer.finish_study()
    assert writer.close()
    seen = picture(uri)
    (_, _, _, before, _), (_, status, _, tags, points) = (seen[f"grid/{CELL}/rem/search/{n}"] for n in (0, 1))
    assert before["selected"] == "no" and tags["selected"] == "yes" and status == "FINISHED"
    assert points["reported/utility_x_healed"] == [(0, 0.8, 5_000)]
    assert seen[f"grid/{CELL}/rem/search/1/curves"][-1] == {"epoch/old": [(0, 1.0, 5_000), (1, 0.25, 5_000)]}
    cell, study = seen[f"grid/{CELL}"][-1], seen["grid"][-1]
    assert (0, 0.8, 5_000) in cell["rem/utility_x_healed"]
    assert study["rem/utility_x_healed_mean"][-1][1] == 0.8 and study["rem/healed_mean"][-1][1] == 0.9
    assert "tags.selected = 'yes'" in seen["grid"][3]["mlflow.note.content"]


@pytest.mark.parametrize(
    ("standing", "winner"), [("won", "rem"), ("level", "level"), ("behind", "not decided"), (None, "not decided")]
)
def test_a_cells_run_names_who_has_won_it_or_says_that_it_is_level(make_uri, standing, winner):
    uri = make_uri()
    writer = write(uri, [row(0)], [((CELL, "rem", "search", 0), "complete")])
    writer.highlight([selection(0, 0.7, standing=standing)])
    writer.finish_study()
    assert writer.close()
    assert runs_of(uri)[f"grid/{CELL}"].data.tags.get("winner") == winner


def test_marking_again_or_by_sync_changes_nothing(make_uri):
    uri, synced_uri = make_uri(), make_uri("synced")
    rows, chosen = [row(0), row(1)], [selection(1, 0.8)]
    for _ in range(2):
        writer = write(uri, rows, [((CELL, "rem", "search", n), "complete") for n in (0, 1)])
        writer.highlight(chosen)
        writer.finish_study()
        assert writer.close()
    assert sync(synced_uri, STUDY, rows, derived=lambda run_ids: (chosen, ()), about=ABOUT) == 2
    assert picture(synced_uri) == picture(uri)


def test_a_database_whose_making_is_cut_short_is_made_again(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as small:
        small.setattr("rem_study.tracking.client.write_atomically", full)
        with pytest.raises(OSError, match="No space left"):
            mlflow_client.make_client(uri)
    assert not (tmp_path / "mlflow.db").exists()
    code = f"from rem_study.tracking.client import make_client; make_client({uri!r}).search_experiments()"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(scratch)}) as process:
        while process.poll() is None and not any(file.stat().st_size for file in scratch.glob("*/mlflow.db")):
            time.sleep(0.001)
        assert process.poll() is None
        process.kill()  # amid MLflow's making of its tables
    assert list(scratch.glob("*/mlflow.db")) and not (tmp_path / "mlflow.db").exists()
    assert mlflow_client.make_client(uri).search_experiments()[0].name == "Default"


def test_runs_of_what_an_extended_study_was_are_marked_and_looked_at_no_more(make_uri):
    uri = make_uri()
    other = {"config": {"lr": 0.02, "erase_mode": "drop", "sites": ["block1", "head"]}}
    rows = [row(0), row(1), row(2), row(2, 1), row(3), row(4, phase="confirm")]
    first = write(uri, rows, [(trial, "complete") for trial in dict.fromkeys(map(mlflow_runs.trial_key, rows))])
    first.highlight([selection(1, 0.7)])
    first.finish_study()
    assert first.close()
    before = {run_id: key for key, run_id in first.run_ids().items()}

    # Trial 0 gets a replicate, 1 another configuration, 2 is pruned after its first replicate, 3 is known in time only.
    second = TrackingWriter(uri, STUDY, about=About())
    second.supersede(outline([row(0), row(2)]), whole=False)
    now = [row(0), row(0, 1), row(1, **other), row(2), row(3, **other)]
    for one in now:
        second.record(one)
    second.supersede(outline(now), whole=True)
    second.highlight([selection(0, 0.8)])
    second.finish_study()
    assert second.close()

    client = MlflowClient(uri, registry_uri=uri)
    found = client.search_runs([client.get_experiment_by_name(STUDY).experiment_id])
    kinds = {run.info.run_id: run.data.tags["kind"] for run in found if run.data.tags.get("superseded") == "yes"}
    superseded = {before[run_id] for run_id, kind in kinds.items() if kind == "superseded trial"}
    assert list(kinds.values()).count("superseded curves") == 1  # of trial 1
    assert superseded == {
        (CELL, "rem", *rest) for rest in (("search", 1), ("search", 2), ("search", 3), ("confirm", 4))
    }
    assert [run.data.tags["trial"] for run in found if run.data.tags.get("selected") == "yes"] == ["0"]
    assert second.run_ids().keys() == {(CELL, "rem", "search", trial) for trial in range(4)}
    replicates = {run.info.run_id: run.data.tags[mlflow_runs.REPLICATES] for run in found if "trial" in run.data.tags}
    lr = {run.info.run_id: run.data.params["lr"] for run in found if "trial" in run.data.tags}
    shown = [(key[-1], replicates[run_id], lr[run_id]) for key, run_id in sorted(second.run_ids().items())]
    assert shown == [(0, "0,1", "0.01"), (1, "0", "0.02"), (2, "0", "0.01"), (3, "0", "0.02")]


def test_every_run_says_what_made_it_who_and_on_which_data(make_uri):
    uri = make_uri()
    assert write(uri, [row(0)]).close()
    for run in runs_of(uri).values():
        assert run.data.tags["mlflow.source.name"].startswith("rem-study ") and run.data.tags["mlflow.user"]
        (given,) = run.inputs.dataset_inputs
        assert (given.dataset.name, given.dataset.digest) == ("digits", "abababababab")
    assert write(uri, [row(0), row(1)]).close()  # resumed: named no second time
    assert all(len(run.inputs.dataset_inputs) == 1 for run in runs_of(uri).values())


def test_the_first_metric_is_the_one_to_compare_by_and_no_tag_is_for_this_program_alone(make_uri):
    uri = make_uri()
    writer = write(uri, [row(0, memorised=1.0, utility_x_healed=0.72)], [((CELL, "rem", "search", 0), "complete")])
    writer.highlight([selection(0, 0.72)])
    assert writer.close()
    runs = runs_of(uri)
    for key in (f"grid/{CELL}", f"grid/{CELL}/rem/search/0"):
        assert next(iter(runs[key].data.metrics)) == "utility_x_healed"
    assert not [name for run in runs.values() for name in run.data.tags if name.startswith("rem_study.")]


def test_curves_have_a_run_of_their_own_below_their_trial(make_uri):
    uri = make_uri()
    writer = write(uri, [row(0), row(1)], [((CELL, "rem", "search", n), "complete") for n in (0, 1)])
    writer.highlight([selection(0, 0.7)])
    writer.highlight([selection(1, 0.8)])
    writer.finish_study("KILLED")
    assert writer.close()
    runs = runs_of(uri)
    trial, curves = runs[f"grid/{CELL}/rem/search/1"], runs[f"grid/{CELL}/rem/search/1/curves"]
    assert curves.data.tags["mlflow.parentRunId"] == trial.info.run_id and curves.info.status == "FINISHED"
    assert list(curves.data.metrics) == ["epoch/old"] and not [name for name in trial.data.metrics if "epoch/" in name]
    kinds = {key: run.data.tags["kind"] for key, run in runs.items() if "curves" in key}
    assert kinds == {
        f"grid/{CELL}/rem/search/0/curves": "curves of one selected before",
        f"grid/{CELL}/rem/search/1/curves": "curves",
    }


def test_a_cells_note_has_its_methods_best_first_and_leads_to_their_runs(make_uri):
    uri = make_uri()
    rival = Selection((CELL, "npo", "search", 0), {"utility_x_healed": 0.9, "gain": -0.25}, {}, 5_000, "level")
    writer = write(uri, [row(0), row(0, method="npo")])
    writer.highlight([selection(0, 0.7), rival])
    assert writer.close()
    runs = runs_of(uri)
    tags = runs[f"grid/{CELL}"].data.tags
    first, second = tags["mlflow.note.content"].splitlines()[4:]
    assert first.startswith("| npo | 0.900 | – | – | −0.250 | [npo #0 @0.3 random_label](#/experiments/")
    assert second.startswith("| rem | 0.700 |") and runs[f"grid/{CELL}/rem/search/0"].info.run_id in second
    assert (tags["leads"], tags["winner"]) == ("npo", "level")
    assert runs[f"grid/{CELL}"].data.metrics["utility_x_healed"] == 0.9


def test_a_note_of_many_methods_stays_as_long_as_a_tag_may_be():
    many = [Selection((CELL, f"method_{n:03}", "search", 0), {"utility_x_healed": 0.5}, {}, 0) for n in range(200)]
    note = cell_note("1", many, {one.trial: "f" * 32 for one in many})
    assert 4_500 < len(note) <= 5_000 and note.endswith(" |")


def shared_state(value):
    return json.loads(zlib.decompress(base64.b64decode(value.removeprefix("deflate;"))))


def test_the_study_leaves_ready_views_once_and_changes_them_when_a_method_joins(make_uri, monkeypatch):
    sent = []
    real = MlflowClient.set_experiment_tag
    monkeypatch.setattr(MlflowClient, "set_experiment_tag", lambda *given: (sent.append(given[2]), real(*given)))
    uri = make_uri()
    writer = write(uri, [row(0), row(1)])
    assert writer.close() and writer.views()[1] == list(NAMES)
    assert len(sent) == 1 + len(NAMES)
    assert write(uri, [row(2)]).close() and len(sent) == 1 + len(NAMES)
    tags = MlflowClient(uri, registry_uri=uri).get_experiment_by_name(STUDY).tags
    selected = shared_state(tags["mlflow.sharedViewState.Selected"])
    assert selected["searchFilter"] == "tags.selected = 'yes'"
    assert selected["orderByKey"] == "metrics.`reported/utility_x_healed`" and selected["orderByAsc"] is False
    assert {"tags.`cell`", "params.`method`", "params.`lr`"} <= set(selected["selectedColumns"])
    larger = dataclasses.replace(ABOUT, methods=["rem", "npo", "ssd"])
    assert sync(uri, STUDY, [row(0)], about=larger) == 0
    by_cell = MlflowClient(uri, registry_uri=uri).get_experiment_by_name(STUDY).tags["mlflow.sharedViewState.By cell"]
    assert "metrics.`ssd/utility_x_healed`" in shared_state(by_cell)["selectedColumns"]


@pytest.mark.parametrize("code", [INVALID_PARAMETER_VALUE, PERMISSION_DENIED])
def test_a_server_that_takes_no_views_has_none_and_the_study_all_the_rest(make_uri, monkeypatch, caplog, code):
    def refuse(*_):
        raise MlflowException("not taken", code)

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", refuse)
    uri = make_uri()
    writer = write(uri, [row(0)])
    assert writer.close() and writer.views()[1] == [] and not caplog.records
    assert f"grid/{CELL}/rem/search/0" in runs_of(uri)


@pytest.mark.parametrize(("answer", "taken"), [("3.17.2", True), ("2.22.0", False), ("<html>", False), (None, False)])
def test_only_a_server_of_mlflow_3_is_told_of_views(answer, taken):
    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if answer and self.path == "/version" else 404)
            self.end_headers()
            self.wfile.write((answer or "").encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        assert mlflow_client.takes_views(mlflow_client.make_client(uri), uri) is taken
        server.shutdown()


@pytest.mark.parametrize("uri, taken", [("databricks", False), ("sqlite:////x.db", True), ("postgresql://h/db", True)])
def test_views_are_for_mlflows_own_stores(uri, taken):
    assert mlflow_client.takes_views(None, uri) is taken


def test_runs_of_version_0_1_are_known_again(make_uri):
    uri = make_uri()
    assert write(uri, [row(0)], [((CELL, "rem", "search", 0), "complete")]).close()
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database, database:
        database.execute("UPDATE tags SET key = substr(key, 8) WHERE key LIKE 'mlflow.rem_study.%'")
    assert sync(uri, STUDY, [row(0), row(0, 1)], about=ABOUT) == 1
    client = MlflowClient(uri, registry_uri=uri)
    assert len(client.search_runs([client.get_experiment_by_name(STUDY).experiment_id])) == 3
