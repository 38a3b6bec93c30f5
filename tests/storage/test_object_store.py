"""A study's root on an object store: the same log, lock, originals and files, and whole studies on an S3 server."""

import io
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
import zlib
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from click.testing import CliRunner

from rem_study.cli import main
from rem_study.errors import ClusterError, InputError
from rem_study.storage import object_store
from rem_study.storage.folder import ObjectPath, address, copy_tree, make_writable, open_folder, write_atomically
from rem_study.storage.log import StudyLog, locked, read_log
from rem_study.trial.originals import Original, OriginalStore

CHECKOUT = Path(__file__).parents[2]
SMOKE = CHECKOUT / "studies" / "smoke.yaml"


@pytest.fixture
def prefix():
    """An empty prefix of fsspec's store in memory."""
    return open_folder(f"memory://{uuid.uuid4().hex}/runs")


@pytest.fixture
def quick_lock(monkeypatch):
    monkeypatch.setattr(object_store, "BEAT", 0.1)
    monkeypatch.setattr(object_store, "PATIENCE", 0.6)


@pytest.fixture(params=["disk", "store"])
def folder(request, tmp_path, prefix):
    """A folder of either kind: what follows must hold on both."""
    return open_folder(tmp_path.as_uri()) / "runs" if request.param == "disk" else prefix


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(folder, *records):
    log = StudyLog(folder)
    for record in records:
        log.append(record)
    log.close()


# Folders


def test_files_are_written_read_listed_and_removed(folder):
    make_writable(folder)
    path = folder / "figures" / "a.png"
    assert not path.exists() and not path.is_file() and not (folder / "figures").is_dir()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, b"one")
    write_atomically(path, "two ä")
    assert path.read_text(encoding="utf-8") == "two ä" and path.is_file() and not path.is_dir()
    assert (folder / "figures").is_dir() and not (folder / "figures").is_file()
    assert names(folder / "figures") == ["a.png"] and (path.stem, path.parent) == ("a", folder / "figures")
    path.unlink()
    path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError) as caught:
        path.read_bytes()
    assert caught.value.filename == str(path)
    assert open_folder(address(path)) == path


def test_a_tree_is_copied_either_way(prefix, tmp_path):
    for name in ("a", "b/c", "b/d/e"):
        write_atomically(prefix / name, name)
    copy_tree(prefix, tmp_path / "copy")
    copy_tree(tmp_path / "copy", prefix / "again")
    assert (tmp_path / "copy" / "b" / "d" / "e").read_text() == "b/d/e"
    assert (prefix / "again" / "b" / "c").read_text() == "b/c"
    copy_tree(prefix / "none", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("text, expected", [("runs", "runs"), ("file:///a%20b/runs", "/a b/runs")])
def test_paths_and_file_urls_are_paths(text, expected):
    assert open_folder(text) == Path(expected)


@pytest.mark.parametrize(
    "text, reason", [("ftp://host/runs", "must be a path"), ("s3://", "no bucket"), ("file://runs", "absolute path")]
)
def test_other_urls_are_refused(text, reason):
    with pytest.raises(InputError, match=reason):
        open_folder(text)


def test_a_store_without_its_client_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    result = CliRunner().invoke(main, ["status", "gs://bucket/runs/smoke"])
    assert result.exit_code == 2
    assert result.stderr == "error: gs://bucket/runs/smoke: needs the package gcsfs: pip install gcsfs\n"


def test_a_launch_in_memory_is_refused_since_workers_would_not_see_it():
    result = CliRunner().invoke(main, ["launch", str(SMOKE), "--root", "memory://runs"])
    assert result.exit_code == 2 and "this process alone" in result.stderr


@pytest.mark.parametrize("command", ["status", "report", "export", "ui", "sync"])
def test_a_folder_that_is_no_study_is_named(command, prefix):
    result = CliRunner().invoke(main, [command, str(prefix)])
    assert result.exit_code == 2
    assert str(prefix) in result.stderr and len(result.stderr.splitlines()) == 1


# The log


def test_records_come_back_in_order_over_launches(prefix):
    write(prefix, {"n": 1}, {"n": 2, "text": "ä\n"})
    write(prefix, {"n": 3})
    assert read_log(prefix) == ([{"n": 1}, {"n": 2, "text": "ä\n"}, {"n": 3}], [])
    assert names(prefix) == ["00001.jsonl", "00002.jsonl"]


def test_a_record_is_in_the_store_when_append_returns_and_outlives_a_kill(prefix):
    killed = StudyLog(prefix)
    for n in range(3):
        killed.append({"n": n})
        assert read_log(prefix)[0][-1] == {"n": n}
    assert names(prefix) == ["00001-000000.jsonl", "00001-000001.jsonl", "00001-000002.jsonl"]
    write(prefix, {"n": 3})
    assert read_log(prefix)[0] == [{"n": n} for n in range(4)]
    assert names(prefix) == ["00001.jsonl", "00002.jsonl"]


def test_a_kill_at_any_step_of_merging_loses_nothing(prefix, monkeypatch):
    """Each write and each removal of a merge fails in its turn; the next launch merges what is there then."""
    records = [{"n": n} for n in range(5)]
    for step in itertools.count():
        place = prefix / str(step)
        left = itertools.count()

        def failing(real, left=left, step=step):
            def call(self, *args, **kwargs):
                if next(left) >= step:
                    raise OSError(5, "killed here")
                return real(self, *args, **kwargs)

            return call

        log = StudyLog(place)
        for record in records:
            log.append(record)
        with monkeypatch.context() as patch:
            patch.setattr(ObjectPath, "write_bytes", failing(ObjectPath.write_bytes))
            patch.setattr(ObjectPath, "unlink", failing(ObjectPath.unlink))
            log.close()
        found = read_log(place)[0]
        assert [r for n, r in enumerate(found) if r not in found[:n]] == records
        write(place, {"n": 5})
        assert read_log(place) == ([*records, {"n": 5}], [])
        assert names(place) == ["00001.jsonl", "00002.jsonl"]
        if next(left) <= step:
            break
    assert step == 1 + len(records)


def test_many_records_are_merged_on_the_way(prefix, monkeypatch):
    monkeypatch.setattr(object_store, "PARTS", 4)
    log = StudyLog(prefix)
    for n in range(10):
        log.append({"n": n})
    assert len(names(prefix)) == 2 + 2
    assert read_log(prefix)[0] == [{"n": n} for n in range(10)]


def test_an_answer_lost_after_the_write_is_no_error_and_another_drivers_record_is(prefix, monkeypatch):
    real = ObjectPath.create

    def tries_twice(self, content):
        real(self, content)
        real(self, content)

    monkeypatch.setattr(ObjectPath, "create", tries_twice)
    log = StudyLog(prefix)
    log.append({"n": 1})
    monkeypatch.undo()
    (prefix / "00001-000001.jsonl").create(b"of another driver")
    with pytest.raises(FileExistsError):
        log.append({"n": 2})
    assert (prefix / "00001-000001.jsonl").read_bytes() == b"of another driver"


def test_a_flipped_byte_is_named_with_its_object_and_spoils_that_record_alone(prefix):
    log = StudyLog(prefix)
    for n in range(3):
        log.append({"n": n})
    damaged = prefix / "00001-000001.jsonl"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + b"x")  # its newline too, which the next record must not pay for
    write(prefix, {"n": 3})
    records, (complaint,) = read_log(prefix)
    assert records == [{"n": 0}, {"n": 2}, {"n": 3}]
    assert f"{prefix}/00001.jsonl: line 2" in complaint


def test_a_reader_that_meets_a_merge_reads_again(prefix, monkeypatch):
    log = StudyLog(prefix)
    for n in range(3):
        log.append({"n": n})
    real, closed = object_store._read, []

    def merged_meanwhile(paths):
        if not closed:
            closed.append(log.close())
        return real(paths)

    monkeypatch.setattr("rem_study.storage.object_store._read", merged_meanwhile)
    closed.append(None)  # the merge itself reads too
    assert read_log(prefix)[0] == [{"n": n} for n in range(3)]


# The lock


def test_a_second_driver_is_refused_and_a_released_lock_is_free(prefix, quick_lock):
    with (
        locked(prefix),
        pytest.raises(InputError, match=r"another launch of this study is running \(.*process \d+\)"),
        locked(prefix),
    ):
        pass
    assert names(prefix) == []
    with locked(prefix):
        assert names(prefix) == [".lock-00001"]


def test_a_dead_drivers_lock_is_taken_over_by_one_only(prefix, quick_lock):
    (prefix / ".lock-00007").create(b"a killed driver")
    entered, refused = [], []

    def driver(n):
        try:
            with locked(prefix):
                entered.append(n)
                time.sleep(2)
        except InputError:
            refused.append(n)

    drivers = [threading.Thread(target=driver, args=(n,)) for n in range(4)]
    for one in drivers:
        one.start()
    for one in drivers:
        one.join()
    assert len(entered) == 1 and len(refused) == 3
    assert names(prefix) == []


def test_a_driver_that_was_taken_for_dead_stops(prefix, quick_lock):
    def overtakes():
        time.sleep(0.3)
        (prefix / ".lock-00002").create(b"another driver")

    other = threading.Thread(target=overtakes)
    other.start()
    with pytest.raises(ClusterError, match="another launch took this study over"), locked(prefix):
        time.sleep(5)
    other.join()
    assert ".lock-00002" in names(prefix)


def test_a_store_out_of_reach_for_a_moment_costs_no_lock(prefix, quick_lock, monkeypatch):
    def unreachable(self):
        raise OSError(5, "no route to host")

    with locked(prefix):
        with monkeypatch.context() as patch:
            patch.setattr(ObjectPath, "iterdir", unreachable)
            time.sleep(0.4)
        time.sleep(0.3)
        assert names(prefix) == [".lock-00001"]


# Originals


def test_originals_come_back_and_a_damaged_one_is_not_used(prefix):
    original = Original({"weight": torch.arange(3.0)}, {"regularity": 0.5})
    OriginalStore(prefix).save("key", original)
    store = OriginalStore(open_folder(address(prefix)))
    loaded = store.load("key")
    assert torch.equal(loaded.state["weight"], original.state["weight"]) and loaded.facts == original.facts
    content = (prefix / "key.pt").read_bytes()
    (prefix / "key.pt").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not store.has("key") and store.load("key") is None
    assert store.load("none") is None


# Whole studies on an S3 server


@pytest.fixture(scope="module")
def bucket():
    """A bucket of an S3 server on loopback, and the environment that leads there."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    environment = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (environment | {"AWS_ENDPOINT_URL": url}).items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="studies")
        yield client
    server.stop()


def rem_study(*arguments):
    command = [sys.executable, "-m", "rem_study.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def keys(client):
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="studies")
    return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


def table(path):
    return pd.read_parquet(io.BytesIO(path.read_bytes())).drop(columns=["seconds", "mlflow_run_id"], errors="ignore")


def test_s3_grants_an_object_and_a_lock_to_one(bucket, quick_lock):
    root = open_folder("s3://studies/locks")
    (root / "once").create(b"1")
    with pytest.raises(FileExistsError):
        (root / "once").create(b"2")
    assert (root / "once").read_bytes() == b"1"
    write(root / "log", {"n": 1}, {"n": 2})
    write(root / "log", {"n": 3})
    assert read_log(root / "log") == ([{"n": 1}, {"n": 2}, {"n": 3}], [])
    with locked(root), pytest.raises(InputError, match="another launch"), locked(root):
        pass
    assert not [name for name in names(root) if name.startswith(".lock")]


def test_a_bucket_that_is_not_there_is_named(bucket):
    result = CliRunner().invoke(main, ["launch", str(SMOKE), "--root", "s3://nowhere/runs"])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --root: s3://nowhere/runs cannot be written (")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_store_out_of_reach_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    for command, expected in ((["status", "s3://b/runs/x"], 1), (["launch", SMOKE, "--root", "s3://b/runs"], 2)):
        code, _, err = rem_study(*command)
        assert code == expected and len(err.splitlines()) == 1 and "s3://b/runs" in err and "hidden" not in err, err


@pytest.mark.slow
def test_a_study_on_s3_killed_and_resumed_equals_one_on_a_disk(bucket, tmp_path):
    """Launched, killed in mid-study, resumed, relaunched; and what every command that takes a folder makes of it."""
    code, _, err = rem_study("launch", SMOKE, "--root", tmp_path)
    assert code == 0, err
    root = "s3://studies/runs"
    folder = open_folder(f"{root}/smoke")
    command = [sys.executable, "-m", "rem_study.cli", "launch", str(SMOKE), "--root", root]
    told = tmp_path / "killed.log"
    with open(told, "wb") as output:
        killed = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + 240
    while len([r for r in read_log(folder / "log")[0] if r["kind"] == "replicate"]) < 3:
        assert killed.poll() is None and time.monotonic() < deadline, told.read_text()
        time.sleep(0.2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    before = read_log(folder / "log")[0]
    assert "runs/smoke/.lock-00001" in keys(bucket)

    code, out, err = rem_study("launch", SMOKE, "--root", root)  # taken over after PATIENCE
    assert code == 0 and f"report:  {folder}/report.html" in out, out + err
    assert f"resuming {folder}: " in err
    after = read_log(folder / "log")[0]
    assert [record for record in after if record in before] == before
    files = {"study.yaml", "manifest.json", "trials.parquet", "cells.parquet", "best.yaml", "report.html", "mlflow.db"}
    found = keys(bucket)
    assert {f"runs/smoke/{name}" for name in files} <= found
    assert [key for key in found if ".lock" in key or ".writable" in key or "-0000" in key] == []
    for name in ("trials.parquet", "cells.parquet"):
        pd.testing.assert_frame_equal(table(folder / name), table(tmp_path / "smoke" / name))
    assert {key for key in found if key.startswith("runs/originals/")} == {
        f"runs/originals/{path.name}" for path in (tmp_path / "originals").iterdir()
    }

    code, out, _ = rem_study("status", folder)
    assert code == 0 and "8 of 8 trials finished" in out
    code, out, _ = rem_study("export", folder, "--format", "json")
    assert code == 0 and json.loads(out) == yaml.safe_load((folder / "best.yaml").read_text())
    (folder / "report.html").unlink()
    code, out, _ = rem_study("report", folder)
    assert code == 0 and out == f"{folder}/report.html\n" and (folder / "report.html").is_file()

    run_ids = pd.read_parquet(io.BytesIO((folder / "trials.parquet").read_bytes()))["mlflow_run_id"]
    (folder / "mlflow.db").unlink()
    assert rem_study("sync", folder)[1].startswith("8 replicates were missing")
    assert rem_study("sync", folder)[1].startswith("0 replicates were missing")
    assert run_ids.notna().all()

    logged = read_log(folder / "log")
    assert rem_study("launch", SMOKE, "--root", root)[0] == 0
    assert read_log(folder / "log") == logged
    assert zlib.crc32(canonical(after)) == zlib.crc32(canonical(logged[0]))


def canonical(records):
    return json.dumps(records, sort_keys=True).encode()


@pytest.mark.slow
def test_the_ui_shows_a_study_on_s3_with_its_artifacts(bucket, tmp_path):
    import socket
    import urllib.request

    from doubles.mlflow_rows import row
    from mlflow import MlflowClient

    from rem_study.results.study_folder import artifacts
    from rem_study.spec.resolve import load_study
    from rem_study.tracking.place import tracking_place
    from rem_study.tracking.sync import sync

    folder = open_folder("s3://studies/shown/grid")
    write_atomically(folder / "best.yaml", "format: 1")
    write_atomically(folder / "figures" / "heat.png", b"png")
    with tracking_place(load_study(SMOKE), folder) as place:
        sync(place.uri, "grid", [row()], derived=lambda ids: ((), place.local(artifacts(folder))))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ui = subprocess.Popen([sys.executable, "-m", "rem_study.cli", "ui", str(folder), "--port", str(port)])
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline and ui.poll() is None
                time.sleep(0.3)
        client = MlflowClient(f"http://127.0.0.1:{port}")
        runs = client.search_runs([client.get_experiment_by_name("grid").experiment_id])
        (study,) = [run for run in runs if run.info.run_name == "grid"]
        assert {item.path for item in client.list_artifacts(study.info.run_id)} == {"best.yaml", "figures"}
        assert Path(client.download_artifacts(study.info.run_id, "best.yaml", str(tmp_path))).read_text() == "format: 1"
    finally:
        ui.send_signal(signal.SIGINT)
        assert ui.wait(timeout=30) == 0
