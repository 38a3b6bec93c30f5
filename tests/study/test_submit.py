"""A study as a Ray job: what is refused, what travels, and the whole way over a real job server."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rem_study.cli import main
from rem_study.errors import InputError
from rem_study.spec.resolve import load_study
from rem_study.study.submit import PACKAGES, pack

CHECKOUT = Path(__file__).parents[2]
SMOKE = CHECKOUT / "studies" / "smoke.yaml"
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens there

GOOD = {
    "data": {"name": "digits", "image_size": 12, "train_samples": 300, "test_samples": 200},
    "model": {"width": 0.0625},
    "corruptions": [{"name": "poison", "samples": 20}],
    "discovery_rates": [0.5],
    "methods": {"npo": {}},
}
SPACE = {
    "method": "npo",
    "summary": "s",
    "reference": "r",
    "parameters": {"lr": {"type": "float", "low": 0.1, "high": 0.9, "default": 0.5, "source": "s"}},
}


def study_file(folder: Path, **changes) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes))
    return path


def submit(*words: object):
    return CliRunner().invoke(main, ["submit", *map(str, words)])


WRONG = {
    "an unknown key": ({"colour": "red"}, "colour: unknown key"),
    "too many corrupted digits": ({"corruptions": [{"name": "poison", "samples": 5000}]}, "corruptions.poison.samples"),
    "no data root": ({"data": {"name": "cifar10"}}, "data.root"),
    "a data root of this machine": ({"data": {"name": "cifar10", "root": "data"}}, "data.root: 'data' must be an abs"),
    "ids on this machine": (
        {"data": {}, "corruptions": [{"name": "given", "file": "ids.csv"}]},
        "corruptions.given.file",
    ),
    "no such layer in a network for data elsewhere": (
        {
            "data": {"name": "cifar10", "root": "/on/the/cluster"},
            "methods": {"rem": {"fixed": {"layer_position": "7-99"}}},
        },
        "layer_position",
    ),
    "a network that its data set does not fit": (
        {"data": {"name": "fashion_mnist", "root": "/there"}, "model": {"name": "vit", "patch_size": 8}},
        "model.patch_size",
    ),
    "no such space": ({"methods": {"npo": {"space": "none.yaml"}}}, "none.yaml"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_study_is_refused_before_the_cluster_is_asked(case, tmp_path):
    changes, expected = WRONG[case]
    result = submit(study_file(tmp_path, **changes), "--address", NOWHERE)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert expected in result.stderr


@pytest.mark.parametrize(
    "options, expected",
    [(["--root", "runs"], "--root: runs"), (["--set", "seed"], "--set seed"), (["--name", "a/b"], "name")],
)
def test_wrong_options_are_refused(options, expected, tmp_path):
    result = submit(study_file(tmp_path), "--address", NOWHERE, *options)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1 and expected in result.stderr


def test_an_address_must_be_one(tmp_path):
    result = submit(study_file(tmp_path), "--address", "auto")
    assert result.exit_code == 2
    assert "--address: auto" in result.stderr


def test_an_address_where_nobody_answers_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:10")  # Ray's client would take this one
    result = submit(study_file(tmp_path), "--address", NOWHERE)
    assert result.exit_code == 1
    *_, line = result.stderr.splitlines()
    assert line.startswith(f"error: {NOWHERE}: ") and "refused" in line


def test_data_that_only_the_cluster_has_are_no_mistake(tmp_path):
    for number, data in enumerate((
        {"name": "cifar10", "root": "/on/the/cluster", "download": True},
        {"name": "folder", "root": "/on/the/cluster"},
    )):  # fmt: skip
        (tmp_path / str(number)).mkdir()
        corruptions = [{"name": "given", "file": "/on/the/cluster/ids.csv"}]
        path = study_file(tmp_path, data=data, corruptions=corruptions, objective="score_deployable")
        pack(path, tmp_path / str(number), "/shared/runs")


def test_only_what_the_job_needs_travels(tmp_path):
    project, folder = tmp_path / "project", tmp_path / "packed"
    for name in (".git", "runs/study", "data", "deep"):
        (project / name).mkdir(parents=True)
        (project / name / "file").write_text("x")
    folder.mkdir()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SPACE))
    path = study_file(project, methods={"npo": {"space": "../mine.yaml"}, "finetune": {}})
    pack(path, folder, "/shared/runs")
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    outside = {name for name in files if not name.startswith("rem_study/")}
    assert outside == {"study/study.yaml", "spaces/npo.yaml"}
    assert {
        "rem_study/cli/__main__.py",
        "rem_study/unlearning/methods/rem.py",
        "rem_study/search_spaces/rem.yaml",
    } <= files
    assert not [name for name in files if "__pycache__" in name]
    assert sum((folder / name).stat().st_size for name in files) < 2_000_000


def test_the_packed_job_is_the_same_study(tmp_path):
    """The job's own command, with `check` for `launch`, away from the checkout."""
    folder = tmp_path / "packed"
    folder.mkdir()
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(SPACE))
    path = study_file(tmp_path, methods={"npo": {"space": "mine.yaml"}})
    package = pack(path, folder, "/shared/runs", "other", ("budget.trials=3", "methods.npo.fixed={lr: 0.25}"))
    (tmp_path / "mine.yaml").unlink()
    assert package.name == "other"
    assert package.command[:6] == ["python", "-m", "rem_study.cli", "launch", "study/study.yaml", "--address"]
    options = package.command[5:]
    assert options[:6] == ["--address", "auto", "--root", "/shared/runs", "--name", "other"]
    code = """if True:
        import sys, pathlib, rem_study
        from rem_study.spec.resolve import load_study
        study = load_study(pathlib.Path(sys.argv[1]), tuple(sys.argv[2:]))
        print(rem_study.__file__, study.trials("npo"), study.spaces["npo"].defaults)"""
    sets = [word for flag, word in itertools.pairwise(options) if flag == "--set"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", code, package.command[4], *sets]
    out = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
    assert out.split(maxsplit=1) == [str(folder / "rem_study" / "__init__.py"), "1 {'lr': 0.25}\n"]


def test_a_warm_start_travels_with_the_study(tmp_path):
    folder = _empty(tmp_path)
    best = CHECKOUT / "docs" / "results" / "digits-best.yaml"
    (tmp_path / "mine.yaml").write_text(best.read_text())
    package = pack(study_file(tmp_path, methods=["npo"]), folder, "/r", None, ("warm_start=mine.yaml",))
    (tmp_path / "mine.yaml").unlink()
    sets = [word for flag, word in itertools.pairwise(package.command) if flag == "--set"]
    starts = load_study(folder / package.command[4], tuple(sets)).spec.warm_start
    assert starts["npo"]["poison@0.5"][0].source == "poison@0.5"


def test_a_root_on_an_object_store_brings_its_client(tmp_path):
    package = pack(study_file(tmp_path), _empty(tmp_path), "s3://bucket/runs")
    assert package.command[package.command.index("--root") + 1] == "s3://bucket/runs"
    versions = dict(line.split("==") for line in package.requirements)
    assert versions["s3fs"] == versions["fsspec"]


def test_every_requirement_but_ray_is_pinned_to_what_runs_here(tmp_path):
    pinned = [Requirement(line) for line in pack(study_file(tmp_path), _empty(tmp_path), "/r").requirements]
    tomllib = pytest.importorskip("tomllib")
    declared = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {canonicalize_name(Requirement(line).name) for line in declared}
    assert {canonicalize_name(r.name) for r in pinned} - {"rem-study"} == names - {"ray"}
    assert {canonicalize_name(name) for name in PACKAGES} == names - {"ray"}
    for requirement in pinned:
        (only,) = requirement.specifier
        assert only.operator == "==" and "+" not in only.version


def test_nothing_is_written_for_a_wrong_study(tmp_path):
    folder = _empty(tmp_path)
    with pytest.raises(InputError):
        pack(study_file(tmp_path, seed=-1), folder, "/shared/runs")
    assert not list(folder.iterdir())


def _empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-this-test-only"}


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The job server of a Ray head of its own, on free ports of loopback, in a folder of its own, behind a token."""
    pytest.importorskip("aiohttp_cors", reason="a head that takes jobs needs ray[default]")
    from ray._private.process_watcher import psutil  # Ray brings its own

    folder = Path("/tmp") / f"rem-submit-{os.getpid()}"  # a socket's path holds 107 characters at most
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | TOKEN | {"PATH": path, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # loopback
    environment.pop("PYTHONPATH", None)  # rem_study comes with the job, or not at all
    log = tmp_path_factory.mktemp("head") / "log"
    for _ in range(3):  # Ray gives a node 30 s to start, too few on a machine with much else to do
        dashboard = _free_port()
        options = [
            "--head", f"--port={_free_port()}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            "--num-cpus=1", f"--temp-dir={folder}", "--dashboard-agent-listen-port=0", "--disable-usage-stats",
            f"--ray-client-server-port={_free_port()}", "--block",
        ]  # fmt: skip
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
        with open(log, "w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd="/")
        try:
            if _answers(f"http://127.0.0.1:{dashboard}", process):
                yield f"http://127.0.0.1:{dashboard}"
                return
        finally:
            family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            for member in psutil.wait_procs(family, timeout=20)[1]:
                member.kill()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)
    pytest.fail(f"the Ray head has not come up: {log.read_text()[-300:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(address: str, head: subprocess.Popen) -> bool:
    import requests

    headers = {"Authorization": f"Bearer {TOKEN['RAY_AUTH_TOKEN']}"}
    while head.poll() is None:
        try:
            if requests.get(f"{address}/api/jobs/", headers=headers, timeout=60).ok:
                return True
        except requests.RequestException:
            pass
        time.sleep(0.5)
    return False


@pytest.mark.slow
def test_the_smoke_study_as_a_job(head, tmp_path):
    runs = tmp_path / "runs"

    def start(*words: object, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "rem_study.cli", "submit", str(SMOKE), "--address", head, "--installed"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*command, *map(str, words)], env=os.environ | TOKEN | environment, **pipes)

    def run(*words: object, **environment: str) -> tuple[int, str, str]:
        process = start(*words, **environment)
        out, err = process.communicate()
        return process.returncode, out, err

    code, _, err = run("--root", runs, RAY_AUTH_TOKEN="another")
    assert code == 1 and err.splitlines()[-1].startswith(f"error: {head}: "), err

    first = start("--root", runs, "--follow")
    lines = [first.stderr.readline(), first.stderr.readline()]
    assert lines[1] == f"submitted: job rem-study-smoke on {head}\n", lines
    first.send_signal(signal.SIGINT)  # Ctrl-C ends the following, not the job
    out, err = first.communicate()
    assert first.returncode == 1 and "no longer followed; the job goes on" in err, err

    code, _, err = run("--root", runs)
    assert code == 2 and "running already, as job rem-study-smoke" in err.splitlines()[-1], err

    code, out, err = run("--root", runs, "--follow")
    assert "running already: job rem-study-smoke" in err
    assert code == 0 and "done: originals 1/1 · trials 8/8" in out, out[-2000:] + err
    table = pd.read_parquet(runs / "smoke" / "trials.parquet")
    assert len(table) == 8 and (table["state"] == "complete").all()
    assert (runs / "smoke" / "best.yaml").is_file() and (runs / "smoke" / "report.html").is_file()

    code, _, err = run("--root", runs, "--follow")  # nothing is left to do, and Ray takes an id only once
    assert code == 0 and "submitted: job rem-study-smoke~2" in err

    code, out, err = run("--root", "/proc/none", "--name", "bad", "--follow")
    assert code == 1 and "--root: /proc/none" in out and "error: job rem-study-bad failed" in err
