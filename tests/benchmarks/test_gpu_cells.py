"""gpu_cells.py: configurations in cells, in their order, until a deadline, gone on with after a stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from doubles.docs import ROOT
from doubles.tiny import TINY

sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu_cells
from cells_file import read_lines
from cells_plan import defaults, plan, read_entries

from rem_study.errors import InputError
from rem_study.spec.resolve import load_study
from rem_study.trial.originals import OriginalStore
from rem_study.trial.trial import run_trial

STUDY = TINY | {
    "corruptions": [{"name": "poison", "samples": 12}, {"name": "random_label", "samples": 12}],
    "methods": {"npo": {}, "finetune": {"fixed": {"epochs": 2}}, "rem": {"fixed": {"epochs": 2, "batch_size": 64}}},
}
CONFIGURATIONS = [
    {"label": "batch", "method": "rem", "set": {"remove_average": "batch"}},
    {"label": "NPO", "method": "npo", "cells": ["random_label@1", "poison@1"]},
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Where the module's originals are kept."""
    return tmp_path_factory.mktemp("originals")


@pytest.fixture
def place(tmp_path):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(CONFIGURATIONS))
    return tmp_path


@pytest.fixture
def call(place, shared):
    """Make a call in `place`, by default one that runs the whole of plan.yaml."""

    def make(*words, configurations="plan.yaml", deadline=1000.0):
        begin = [str(place / "tiny.yaml"), "--out", str(place / "runs.jsonl"), "--originals", str(shared)]
        if configurations:
            begin += ["--configurations", str(place / configurations)]
        gpu_cells.main([*begin, "--deadline", str(deadline), "--device", "cpu", "--replicates", "1", *map(str, words)])

    return make


def lines_of(place, what=None):
    return [line for line in read_lines(place / "runs.jsonl") if what in (None, line["what"])]


def names(place):
    return [(run["label"], run["cell"], run["replicate"]) for run in lines_of(place, "run")]


WHOLE = [
    *[("batch", cell, 0) for cell in ("poison@0.5", "poison@1", "random_label@0.5", "random_label@1")],
    ("NPO", "random_label@1", 0),
    ("NPO", "poison@1", 0),
]


def test_by_default_every_method_runs_at_its_default_and_rem_first(place):
    study = load_study(place / "tiny.yaml")
    entries = defaults(study, place / "tiny.yaml")
    assert [(entry.label, entry.method, entry.set) for entry in entries] == [
        ("rem", "rem", {}),
        ("npo", "npo", {}),
        ("finetune", "finetune", {}),
    ]
    first = plan(study, entries, None, 1)[0].trial
    assert first.cell.name == "poison@0.5" and first.configuration == study.spaces["rem"].defaults


def test_the_order_is_by_replicate_then_configuration_then_cell(place):
    study = load_study(place / "tiny.yaml")
    entries = read_entries(place / "plan.yaml", study)
    order = [
        (run.entry.label, run.trial.cell.name, run.trial.replicate)
        for run in plan(study, entries, ["random_label@1", "poison@0.5"], 2)
    ]
    once = [("batch", "random_label@1"), ("batch", "poison@0.5"), ("NPO", "random_label@1")]
    assert order == [(*pair, replicate) for replicate in range(2) for pair in once]


def test_a_call_says_where_it_ran_and_each_run_has_the_figures_of_a_trial(place, call, shared):
    call("--save-originals", place / "saved")
    first, *others = lines_of(place)
    assert first["what"] == "call" and first["study"] == "tiny" and first["device"] == "cpu"
    assert first["torch"] == torch.__version__ and first["machine"] and first["code"]
    assert [(line["what"], line.get("corruption")) for line in others if line["what"] == "original"] == [
        ("original", "poison"),
        ("original", "random_label"),
    ]
    assert others[0]["what"] == "original", "an original is told of before its runs"
    assert others[0]["as_it_is_healed"] < 0.5 < others[0]["memorised"]
    assert names(place) == WHOLE
    study = load_study(place / "tiny.yaml")
    run = plan(study, read_entries(place / "plan.yaml", study), ["poison@1"], 1)[0]
    expected = run_trial(study.spec, run.trial, OriginalStore(shared))
    told = lines_of(place, "run")[1]
    assert told["configuration"] == study.spaces["rem"].defaults | {"remove_average": "batch"}
    assert {name: told[name] for name in expected if name != "seconds"} == {
        name: value for name, value in expected.items() if name != "seconds"
    }
    saved = torch.load(place / "saved" / "poison-0.pt", weights_only=True)
    assert len(saved["ids"]) == len(saved["labels"]) == len(saved["clean_labels"]) == 12
    assert saved["facts"]["memorised"] == others[0]["memorised"] and "state" in saved


def test_originals_saved_elsewhere_are_taken_and_others_refused(place, call, tmp_path):
    saved, elsewhere = place / "saved", ("--originals", tmp_path / "elsewhere", "--load-originals", place / "saved")
    call("--save-originals", saved, "--cells", "poison@1")
    first = lines_of(place)
    (place / "runs.jsonl").unlink()
    call(*elsewhere, "--cells", "poison@1")
    again = lines_of(place)
    assert [line["trained"] for line in again if line["what"] == "original"] == [False]
    assert [line.get("utility_x_healed") for line in again] == [line.get("utility_x_healed") for line in first]
    (saved / "poison-0.pt").rename(saved / "random_label-0.pt")
    with pytest.raises(SystemExit):
        call(*elsewhere, "--cells", "random_label@1")
    (saved / "random_label-0.pt").write_bytes(b"torn")
    with pytest.raises(SystemExit):
        call(*elsewhere, "--cells", "random_label@1")


def test_the_same_call_goes_on_where_a_kill_has_torn_the_file(place, call):
    call()
    path = place / "runs.jsonl"
    whole = {name: run["utility_x_healed"] for name, run in zip(names(place), lines_of(place, "run"), strict=True)}
    rows = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(rows[:4]) + rows[4][:40])
    kept = names(place)
    assert kept == WHOLE[:2], "a torn last line is left out"
    call()
    assert sorted(names(place)) == sorted(WHOLE), "nothing twice, nothing lost"
    assert {
        name: run["utility_x_healed"] for name, run in zip(names(place), lines_of(place, "run"), strict=True)
    } == whole
    assert [line["what"] for line in lines_of(place)].count("call") == 2
    assert all(json.loads(row) for row in path.read_text().splitlines())
    call()
    assert sorted(names(place)) == sorted(WHOLE)


def test_a_run_is_not_begun_that_would_end_too_late_but_a_shorter_one_is(place, call, capsys):
    call("--cells", "poison@1")
    path = place / "runs.jsonl"
    slow = [
        line | ({"seconds": 5000.0} if line.get("method") == "rem" else {})
        for line in map(json.loads, path.read_text().splitlines())
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in slow))
    call(deadline=300)
    assert names(place) == [("batch", "poison@1", 0), ("NPO", "poison@1", 0), ("NPO", "random_label@1", 0)]
    assert "3 runs left: the same call goes on" in capsys.readouterr().out
    call(deadline=1e-6)
    assert len(names(place)) == 3, "time is up"
    call(deadline=6000)
    assert sorted(names(place)) == sorted(WHOLE)


def test_what_was_timed_on_another_device_is_no_measure(place, call):
    call("--cells", "poison@1")
    path = place / "runs.jsonl"
    rows = [json.loads(row) for row in path.read_text().splitlines()]
    rows[0]["device"] = "another"
    path.write_text("".join(json.dumps(row | ({"seconds": 5000.0} if "seconds" in row else {})) + "\n" for row in rows))
    call(deadline=300)
    assert sorted(names(place)) == sorted(WHOLE)


def test_a_method_not_timed_yet_is_expected_to_take_as_long_as_the_longest_run():
    pace = gpu_cells.Pace()
    assert pace.of("rem") == 0
    for method, seconds in (("npo", 2.0), ("rem", 9.0), ("npo", 1.0)):
        pace.note({"what": "run", "state": "complete", "method": method, "seconds": seconds})
    pace.note({"what": "run", "state": "failed", "method": "npo", "seconds": 100.0})
    assert (pace.of("npo"), pace.of("rem"), pace.of("scrub")) == (2.0, 9.0, 9.0)


def test_a_failed_run_is_told_and_stops_nothing(place, call, monkeypatch):
    real = gpu_cells.run_trial

    def faulty(spec, trial, *rest):
        if trial.method == "rem" and trial.cell.name == "poison@1":
            raise RuntimeError("out of\nmemory")
        return real(spec, trial, *rest)

    monkeypatch.setattr(gpu_cells, "run_trial", faulty)
    call()
    assert names(place) == WHOLE
    failed = [run for run in lines_of(place, "run") if run["state"] == "failed"]
    assert [(run["label"], run["cell"], run["error"]) for run in failed] == [
        ("batch", "poison@1", "RuntimeError: out of memory")
    ]
    call()
    assert names(place) == WHOLE, "it is not tried again"


def test_an_original_that_fails_leaves_its_own_runs_alone_and_is_tried_again(place, call, monkeypatch):
    def faulty(self, setting):
        if setting.corruption_spec.name == "poison":
            raise RuntimeError("out of memory")
        return real(self, setting)

    real = OriginalStore.obtain
    monkeypatch.setattr(OriginalStore, "obtain", faulty)
    call()
    assert names(place) == [name for name in WHOLE if name[1].startswith("random_label")]
    states = [(line["corruption"], line["state"]) for line in lines_of(place, "original")]
    assert states == [("poison", "failed"), ("random_label", "complete")]
    monkeypatch.setattr(OriginalStore, "obtain", real)
    call()
    assert sorted(names(place)) == sorted(WHOLE)


@pytest.mark.parametrize(
    ("content", "mistake"),
    {
        "no list": ("{label: a, method: rem}", "must be a list of configurations"),
        "no method": ("[{label: a}]", "0: method: is missing"),
        "unknown method": ("[{label: a, method: potion}]", "0: method: the study has no method potion; it has npo"),
        "unknown hyperparameter": ("[{label: a, method: npo, set: {lrr: 1}}]", "0: set.lrr: npo has no such"),
        "out of range": (
            "[{label: a, method: npo}, {label: b, method: rem, set: {lr: 7}}]",
            "1: set.lr: 7.0 is not in",
        ),
        "no number": ("[{label: a, method: npo, set: {lr: [1]}}]", "0: set.lr"),
        "unknown cell": (
            "[{label: a, method: npo, cells: [poison@0.3]}]",
            "0: cells: the study has no cell poison@0.3",
        ),
        "no cell": ("[{label: a, method: npo, cells: []}]", "0: cells"),
        "unknown key": ("[{label: a, method: npo, configuration: {}}]", "0: configuration: unknown key"),
        "label twice": ("[{label: a, method: npo}, {label: a, method: rem}]", "label: a stands twice"),
    }.values(),
)
def test_a_wrong_configuration_is_refused_before_anything_runs(place, call, capsys, content, mistake):
    (place / "wrong.yaml").write_text(content)
    with pytest.raises(SystemExit) as caught:
        call(configurations="wrong.yaml")
    assert caught.value.code == 2
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: {place / 'wrong.yaml'}: {mistake}")
    assert not (place / "runs.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "mistake"),
    {
        "cell": (["--cells", "poison@0.3"], "--cells: the study has no cell poison@0.3; it has poison@0.5"),
        "nothing": (
            ["--set", "methods={npo: {}, rem: {}}", "--cells", "poison@0.5"],
            "--cells: no configuration is to run",
        ),
        "data": (["--set", "data={name: cifar10, root: nowhere}"], "data.root: no usable CIFAR10 under"),
        "device": (["--device", "cuda"], "--device cuda: PyTorch sees no CUDA device here"),
        "field": (["--set", "budget.trails=1"], "budget.trails: unknown key"),
    }.values(),
)
def test_a_call_that_cannot_run_is_one_line(place, call, capsys, monkeypatch, words, mistake):
    (place / "plan.yaml").write_text(yaml.safe_dump(CONFIGURATIONS[1:]))  # NPO in two cells
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as caught:
        call(*words)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert mistake in line
    assert not (place / "runs.jsonl").exists()


def test_a_file_of_another_study_or_of_other_code_is_refused_and_left_as_it_is(place, call, capsys, monkeypatch):
    call("--cells", "poison@1")
    before = (place / "runs.jsonl").read_bytes()
    with pytest.raises(SystemExit):
        call("--set", "seed=3")
    assert "runs.jsonl: holds runs of another study: name another file" in capsys.readouterr().err
    monkeypatch.setattr(gpu_cells, "results_fingerprint", lambda: "0" * 64)
    with pytest.raises(SystemExit):
        call()
    assert "runs.jsonl: holds runs of other code: name another file" in capsys.readouterr().err
    assert (place / "runs.jsonl").read_bytes() == before


def test_cells_methods_and_budget_may_change_from_call_to_call(place, call):
    call("--cells", "poison@1")
    call("--set", "budget.trials=2", "discovery_rates=[1.0]")
    assert sorted(names(place)) == sorted(name for name in WHOLE if name[1].endswith("@1"))


def test_a_file_that_is_not_of_this_kind_is_left_as_it_is(place, call, capsys):
    path = place / "runs.jsonl"
    for content in (b"notes without a last newline", b"{}\n", b"\n"):
        path.write_bytes(content)
        with pytest.raises(SystemExit):
            call()
        assert f"error: {path}: line 1: is not the first line" in capsys.readouterr().err
        assert path.read_bytes() == content


def test_damage_in_the_middle_is_named(place, call):
    call("--cells", "poison@1")
    rows = (place / "runs.jsonl").read_bytes().splitlines(keepends=True)
    rows[1] = rows[1][:30] + b"\n"
    (place / "runs.jsonl").write_bytes(b"".join(rows))
    with pytest.raises(InputError, match=r"runs\.jsonl: line 2: is damaged"):
        read_lines(place / "runs.jsonl")


def program(*words):
    return [sys.executable, str(ROOT / "benchmarks" / "gpu_cells.py"), *map(str, words)]


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_neither_ray_nor_optuna_mlflow_or_pandas_is_needed(place, shared):
    absent = ("ray", "optuna", "mlflow", "pandas", "matplotlib", "pyarrow", "click")
    code = f"""
import sys
sys.modules.update(dict.fromkeys({absent!r}))  # None there: importing it fails
sys.path.insert(0, {str(ROOT / "benchmarks")!r})
import gpu_cells
gpu_cells.main(sys.argv[1:])
"""
    words = [place / "tiny.yaml", "--out", place / "runs.jsonl", "--originals", shared, "--deadline", "600"]
    words += ["--device", "cpu", "--replicates", "1", "--cells", "poison@1"]
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert names(place) == [(method, "poison@1", 0) for method in ("rem", "npo", "finetune")]


def test_two_calls_do_not_write_to_one_file(place, call, capsys):
    call("--cells", "poison@1")
    code = f"""
import fcntl, time
file = open({str(place / "runs.jsonl")!r}, "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        try:
            with pytest.raises(SystemExit):
                call()
        finally:
            other.kill()
    assert "runs.jsonl: another call is writing to it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_call_that_is_killed_in_the_middle_of_a_run_is_gone_on_with(place, shared):
    words = [place / "tiny.yaml", "--out", place / "runs.jsonl", "--originals", shared, "--deadline", "600"]
    words += ["--device", "cpu", "--replicates", "1", "--configurations", place / "plan.yaml"]
    words += ["--set", "methods.rem.fixed.epochs=10"]
    with subprocess.Popen(program(*words), env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "batch" in line:
                break
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    before = names(place)
    assert 1 <= len(before) < len(WHOLE)
    done = subprocess.run(program(*words), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("all runs are done\n"), done.stderr
    assert sorted(names(place)) == sorted(WHOLE)


def tables(*paths):
    command = [sys.executable, str(ROOT / "docs" / "gpu_tables.py"), *map(str, paths)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_line(label, cell, replicate, score, **fields):
    corruption, rate = cell.split("@")
    place = {"cell": cell, "corruption": corruption, "discovery_rate": float(rate), "replicate": replicate}
    given = {"label": label, "method": "rem", "set": {"lr": 0.1}, "configuration": {"lr": 0.1}, "error": None}
    return {"what": "run", "state": "complete", "utility_x_healed": score, "seconds": 2.0} | place | given | fields


def test_the_tables_have_means_over_replicates_and_the_original_as_it_is(tmp_path):
    device = {"device": "NVIDIA H100", "torch": "2.11", "precision": "bfloat16", "protocol": "paper"}
    head = {"what": "call", "study": "s", "at": "2026-11-26T10:00:00", "task": "t", "code": "c"} | device
    facts = {"state": "complete", "trained": True, "seconds": 84.2, "memorised": 0.551, "test_accuracy": 0.879}
    original = {"what": "original", "corruption": "random_label", "replicate": 0, "regularity": None} | facts
    mine = [
        head,
        original | {"as_it_is_utility_x_healed": 0.33},
        run_line("ours", "random_label@0.1", 0, 0.5),
        run_line("ours", "random_label@0.1", 1, 0.6),
        run_line("ours", "random_label@1", 0, 0.75),
        run_line("ours", "random_label@1", 0, 0.15, set={"lr": 1}, configuration={"lr": 1}),
    ]
    late = run_line("late", "random_label@1", 0, None, state="failed", error="Error: no", method="npo", set={})
    for name, lines in (("a", mine), ("b", [head, mine[2], late])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"what": "ru')
    text = tables(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    for row in (
        "## s on one NVIDIA H100",
        "2026-11-26, torch 2.11, bfloat16, protocol paper, code c.",
        "| random label | 0 | 0.879 | 0.551 |  | 84 |",
        "| utility × healed | random label 0.1 | random label 1 | mean | replicates | seconds a run |",
        "| original as it is | 0.330 | 0.330 | 0.330 | 1 |  |",
        "| ours (1) | 0.550 | 0.750 | 0.650 | 1 to 2 | 2.0 |",
        "| ours (2) |  | 0.150 |  | 1 | 2.0 |",
        "- ours (1): `rem`, `lr: 0.1`",
        "- late: `npo`, at the study's default",
        "- failed: late, random_label@1, replicate 0: Error: no",
    ):
        assert row in text.splitlines(), text


def test_runs_of_other_code_get_a_table_of_their_own(tmp_path):
    head = {"what": "call", "study": "s", "at": "2026-11-26T10:00:00", "task": "t", "device": "d", "torch": "2"}
    head |= {"precision": "float32", "protocol": "paper"}
    for code in ("one", "two"):
        lines = [head | {"code": code}, run_line("ours", "poison@1", 0, 0.5)]
        (tmp_path / code).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert tables(tmp_path / "one", tmp_path / "two").count("## s on one d") == 2
