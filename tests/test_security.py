"""What a file or a server could do to whoever runs a study: nothing that it holds is run, no password leaves."""

import contextlib
import hashlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from click.testing import CliRunner
from doubles.sockets import family, is_loopback, listening

from rem_study.cli import main
from rem_study.errors import InputError
from rem_study.results.study_folder import load_resolved
from rem_study.spec.resolve import load_study
from rem_study.storage.credentials import redact, without_credentials
from rem_study.study.submit import pack
from rem_study.trial.originals import Original, OriginalStore, _checksum

SMOKE = Path(__file__).parents[1] / "studies" / "smoke.yaml"
PASSWORD = "hunter2-not-to-be-seen"


class Payload:
    """Whoever unpickles this runs it: it leaves a file behind."""

    def __init__(self, mark):
        self._mark = mark

    def __reduce__(self):
        return Path.touch, (self._mark,)


@pytest.fixture
def mark(tmp_path):
    """The file that a payload leaves; the payload is known to work."""
    mark = tmp_path / "it-was-run"
    pickle.loads(pickle.dumps(Payload(mark)))
    assert mark.exists()
    mark.unlink()
    return mark


def invoke(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result


# Pickles


@pytest.mark.parametrize("form", ["torch", "pickle", "legacy"])
def test_a_pickle_among_the_originals_is_not_run(mark, tmp_path, form, caplog):
    """Weights and checksum are both the attacker's: the checksum is no protection here."""
    store = OriginalStore(tmp_path / "originals")
    store.save("key", Original({"weight": torch.zeros(1)}, {}))
    weights = store.folder / "key.pt"
    content = {"weight": torch.zeros(1), "more": Payload(mark)}
    if form == "pickle":
        weights.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, weights, _use_new_zipfile_serialization=form == "torch")
    record = json.loads((store.folder / "key.json").read_text())
    for checksum in (hashlib.sha256(weights.read_bytes()).hexdigest(), _checksum("key", weights.read_bytes(), {})):
        (store.folder / "key.json").write_text(json.dumps(record | {"sha256": checksum}))
        assert store.load("key") is None
    assert not mark.exists()
    assert "will be trained again" in caplog.text


@pytest.mark.parametrize("content", ["whole", "nested", "pickle"])
def test_a_pickle_as_a_checkpoint_is_not_run(mark, tmp_path, content):
    path, ids = tmp_path / "model.pt", tmp_path / "ids.csv"
    if content == "pickle":
        path.write_bytes(pickle.dumps(Payload(mark)))
    else:
        torch.save(Payload(mark) if content == "whole" else {"state_dict": {"w": Payload(mark)}}, path)
    ids.write_text("id\n" + "\n".join(map(str, range(10))))
    result = invoke("heal", path, "--model", "resnet9", "--data", "digits", "--ids", ids)
    assert result.exit_code == 2 and str(path) in result.stderr
    assert not mark.exists()


def test_pickled_arrays_as_data_are_not_run(mark, tmp_path):
    objects = np.empty(8, dtype=object)
    objects[:] = [Payload(mark)] * 8
    for name in ("train_images", "train_labels"):
        arrays = {"train_images": np.zeros((8, 12, 12), np.uint8), "train_labels": np.arange(8)} | {name: objects}
        np.savez(tmp_path / "data.npz", test_images=arrays["train_images"], test_labels=np.arange(8), **arrays)
        study = tmp_path / "study.yaml"
        study.write_text(
            yaml.safe_dump(
                yaml.safe_load(SMOKE.read_text()) | {"data": {"name": "npz", "root": str(study.parent / "data.npz")}}
            )
        )
        result = invoke("check", study)
        assert result.exit_code == 2 and "data.root" in result.stderr
    assert not mark.exists()


def test_pickled_cifar_batches_are_not_run(mark, tmp_path):
    """CIFAR-10 comes pickled, and torchvision opens it as such: only what has the published checksum."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Payload(mark)))
    study = tmp_path / "study.yaml"
    data = {"name": "cifar10", "root": str(tmp_path), "train_samples": 600, "test_samples": 300}
    study.write_text(yaml.safe_dump(yaml.safe_load(SMOKE.read_text()) | {"data": data}))
    result = invoke("check", study)
    assert result.exit_code == 2 and "data.root" in result.stderr
    assert not mark.exists()


def test_a_pickled_extension_type_in_parquet_is_not_run(mark, tmp_path):
    """Arrow once rebuilt Python's own extension types from a pickle in a file's schema (CVE-2023-47248)."""
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Payload(mark)),
    }
    field = pa.field("id", pa.int64(), metadata=metadata)
    table = pa.table([pa.array(range(10))], schema=pa.schema([field]))
    pq.write_table(table, tmp_path / "ids.parquet")
    pq.write_table(table, tmp_path / "trials.parquet")
    pq.write_table(table, tmp_path / "cells.parquet")
    study = tmp_path / "study.yaml"
    given = {"name": "given", "file": str(tmp_path / "ids.parquet")}
    study.write_text(
        yaml.safe_dump(
            yaml.safe_load(SMOKE.read_text())
            | {"corruptions": [given], "objective": "score_deployable", "data": {"name": "digits"}}
        )
    )
    invoke("check", study)
    CliRunner().invoke(main, ["export", str(tmp_path), "--format", "csv"])
    assert not mark.exists()


# YAML


@pytest.mark.parametrize("tag", ["object/apply:pathlib.Path.touch", "object/new:pathlib.Path", "name:os.system"])
def test_objects_in_yaml_are_not_made(mark, tmp_path, tag):
    """Wherever rem-study reads YAML: files of every kind, and options."""
    text = f"!!python/{tag} ['{mark}']"
    study, folder = tmp_path / "study.yaml", tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "model.pt").write_bytes(b"")
    (tmp_path / "space.yaml").write_text(f"method: {text}\n")
    (folder / "study.yaml").write_text(f"name: {text}\n")
    (folder / "best.yaml").write_text(f"format: 1\ncells: {text}\n")
    study.write_text(f"name: {text}\n")
    heal = ["heal", tmp_path / "model.pt", "--ids", study]
    digits, resnet9 = ["--data", "digits"], ["--model", "resnet9"]
    for command in (
        ["check", study],
        ["launch", study, "--root", tmp_path / "runs"],
        ["check", SMOKE, "--set", f"name={text}"],
        ["check", SMOKE, "--set", f"methods.npo.space={tmp_path / 'space.yaml'}"],
        ["check", SMOKE, "--set", f"warm_start={folder / 'best.yaml'}"],
        ["status", folder],
        ["sync", folder],
        ["export", folder, "--format", "json"],
        [*heal, *digits, *resnet9, "--best", folder / "best.yaml"],
        [*heal, *digits, *resnet9, "--config", study],
        [*heal, *digits, *resnet9, "--set", f"lr={text}"],
        [*heal, *digits, *resnet9, "--space", tmp_path / "space.yaml"],
        [*heal, *digits, *resnet9, "--original", f"{{lr: {text}}}"],
        [*heal, *resnet9, "--data", f"{{name: {text}}}"],
        [*heal, *digits, "--model", f"{{name: {text}}}"],
    ):
        result = invoke(*command)
        assert result.exit_code == 2 and ("python" in result.stderr or "model.pt" in result.stderr), (
            command,
            result.output,
        )
        assert not mark.exists()


# Paths


@pytest.mark.parametrize(
    "name", ["../outside", "/outside", "..", "a/b", ".hidden", "originals", "a\\b", "a\nb", "x" * 200]
)
def test_a_studys_name_leads_nowhere_else(name, tmp_path):
    result = invoke("launch", SMOKE, "--root", tmp_path / "runs", "--name", name)
    assert result.exit_code == 2 and "name" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", ["methods.npo.space", "warm_start"])
def test_a_studys_folder_names_no_other_file(field, tmp_path):
    """What a launch writes is written out. A path there is somebody else's, and what it names would show in errors."""
    document = load_study(SMOKE).spec.plain()
    *parents, last = field.split(".")
    node = document
    for parent in parents:
        node = node[parent]
    node[last] = "/etc/passwd"
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match="must be written out, not a path"):
        load_resolved(tmp_path)


def test_a_job_takes_what_the_study_names_and_nothing_that_lies_beside_it(tmp_path):
    """On the cluster nothing but the job's own working directory is read of what is relative."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "secret.txt").write_text("not to travel")
    space = yaml.safe_load((SMOKE.parents[1] / "search_spaces" / "npo.yaml").read_text())
    (tmp_path / "elsewhere.yaml").write_text(yaml.safe_dump(space))
    document = yaml.safe_load(SMOKE.read_text())
    document["methods"]["npo"] = {"space": "../elsewhere.yaml"}
    (mine / "study.yaml").write_text(yaml.safe_dump(document))
    job = tmp_path / "job"
    job.mkdir()
    package = pack(mine / "study.yaml", job, "/shared/runs")
    (override,) = [word for word in package.command if word.startswith("methods.npo.space=")]
    named = (job / "study" / override.partition("=")[2]).resolve()
    assert named.is_relative_to(job.resolve()) and yaml.safe_load(named.read_text()) == space
    assert not list(job.rglob("secret.txt"))


@pytest.mark.parametrize("root", ["runs", "../runs", "~/runs", "ftp://host/runs", "file:///runs", "memory://runs"])
def test_a_job_is_given_a_root_that_means_one_place(root, tmp_path):
    with pytest.raises(InputError, match="--root"):
        pack(SMOKE, tmp_path, root)
    assert list(tmp_path.iterdir()) == []


# Passwords


@pytest.mark.parametrize(
    "uri, kept, shown",
    [
        ("http://u:p@host:1/a", "http://host:1/a", "http://***@host:1/a"),
        ("postgresql://u:p@ss@db:5432/x", "postgresql://db:5432/x", "postgresql://***@db:5432/x"),
        (
            "postgresql://db/x?user=u&password=p&a=1",
            "postgresql://db/x?a=1",
            "postgresql://db/x?user=***&password=***&a=1",
        ),
        ("https://h/a?access_token=t", "https://h/a", "https://h/a?access_token=***"),
        ("http://host:5000", "http://host:5000", "http://host:5000"),
        ("sqlite:////runs/a@b/mlflow.db", "sqlite:////runs/a@b/mlflow.db", "sqlite:////runs/a@b/mlflow.db"),
    ],
)
def test_credentials_are_left_out_and_hidden(uri, kept, shown):
    assert without_credentials(uri) == kept and without_credentials(kept) == kept
    assert redact(uri) == shown


def test_a_password_in_a_wrong_field_is_not_shown(tmp_path):
    uri = f"http://user:{PASSWORD}@host"
    for override in (
        f"tracking.url={uri}",
        f"seed={uri}",
        f"name={uri}",
        f"{uri}",
        f"tracking.uri.x={uri}",
        f"{uri}=1",
    ):
        result = invoke("check", SMOKE, "--set", override)
        assert result.exit_code == 2 and PASSWORD not in result.output, override


def test_a_job_with_a_password_is_refused_since_the_dashboard_would_show_it(tmp_path):
    with pytest.raises(InputError, match=r"tracking.uri: holds a password") as caught:
        pack(SMOKE, tmp_path, "/shared/runs", overrides=(f"tracking.uri=http://user:{PASSWORD}@host",))
    assert PASSWORD not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_password_is_in_nothing_that_a_launch_writes_prints_or_starts(tmp_path, request):
    """A study whose MLflow server is dead: its folder, Ray's session, each process's command line, all output."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    study = tmp_path / "study.yaml"
    uri = f"http://user:{PASSWORD}@127.0.0.1:{port}/mlflow?token={PASSWORD}"
    study.write_text(yaml.safe_dump(yaml.safe_load(SMOKE.read_text()) | {"name": "quiet", "tracking": {"uri": uri}}))
    root = tmp_path / "runs"
    session = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)  # a socket's path must be short
    request.addfinalizer(session.cleanup)
    environment = os.environ | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "1", "RAY_TMPDIR": session.name}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "rem_study.cli", "launch", str(study), "--root", str(root)]
    launch = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    seen, watching = set(), threading.Event()
    of_ray, telling = set(), set()  # names of files in Ray's session, which goes when the launch ends; what tells it

    def watch():
        while not watching.wait(0.5):
            for process in family(launch.pid):
                seen.update(_of(process.pid, "cmdline"), _of(process.pid, "environ"))
            for path in Path(session.name).rglob("*"):
                with contextlib.suppress(OSError):
                    if path.is_file():
                        of_ray.add(path.name)
                        if PASSWORD.encode() in path.read_bytes():
                            telling.add(path)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = launch.communicate(timeout=400)
    watching.set()
    watcher.join()
    assert launch.returncode == 0, output
    assert "behind" in output and "rem-study sync" in output
    assert PASSWORD not in output
    assert len(seen) > 20 and not [text for text in seen if PASSWORD in text]
    assert "gcs_server.out" in of_ray and not telling
    written = [path for path in root.rglob("*") if path.is_file()]
    names = {path.name for path in written}
    assert {"study.yaml", "manifest.json", "trials.parquet", "report.html"} <= names, names
    assert [path for path in written if PASSWORD.encode() in path.read_bytes()] == []
    assert (
        yaml.safe_load((root / "quiet" / "study.yaml").read_text())["tracking"]["uri"]
        == f"http://127.0.0.1:{port}/mlflow"
    )
    result = subprocess.run(
        [sys.executable, "-m", "rem_study.cli", "sync", str(root / "quiet")],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert result.returncode == 1 and PASSWORD not in result.stdout + result.stderr


def _of(pid, what):
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


# What listens


@pytest.mark.slow
def test_the_ui_listens_on_loopback_alone(tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    MlflowClient(uri, registry_uri=uri).search_experiments()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "rem_study.cli", "ui", str(tmp_path), "--port", str(port)]
    ui = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = {}
    try:
        deadline = time.monotonic() + 120
        while (
            not any(port in {at for _, at in places} for places in found.values()) or time.monotonic() < deadline - 110
        ):
            assert time.monotonic() < deadline and ui.poll() is None, found
            for name, places in listening(ui.pid).items():
                found.setdefault(name, set()).update(places)
            time.sleep(0.2)
    finally:
        ui.send_signal(signal.SIGINT)
        ui.wait(timeout=30)
    assert [place for places in found.values() for place in places if not is_loopback(place[0])] == []


# Dependencies


@pytest.mark.slow
def test_the_installed_packages_fit_each_other():
    """`pip-audit` asks a server for known vulnerabilities (docs/security.md); this needs none."""
    check = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout
