"""A worker of a study that compiles: whole trials in it, their time told, compiled code kept beside the originals."""

from __future__ import annotations

import json
import os

import pytest
import torch
from doubles.quick_methods import configuration

from rem_study.search.worker import Worker
from rem_study.training import compilation


@pytest.fixture
def in_a_worker(monkeypatch):
    """One job in a worker of this process, run as the graphs that the compiler traces."""
    monkeypatch.setitem(compilation.OPTIONS, "default", {"backend": "eager"})
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TORCHINDUCTOR_COMPILE_THREADS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    torch._dynamo.reset()

    def run(spec, job, originals):
        worker = Worker.__new__(Worker)
        worker.setup({"job": json.dumps(job)}, spec, str(originals))
        return json.loads(worker.step()["record"])

    yield run
    torch._dynamo.reset()


JOB = {
    "kind": "replicate",
    "cell": "random_label@0.5",
    "method": "finetune",
    "configuration": configuration("finetune", epochs=1),
    "replicate": 0,
    "trial": 0,
    "phase": "search",
    "proposed_by": "default",
}


def test_a_job_s_record_says_what_of_its_time_was_compiling(make_spec, in_a_worker, tmp_path):
    spec = make_spec(compile="default", original={"epochs": 1, "batch_size": 64})
    first = in_a_worker(spec, JOB, tmp_path / "originals")
    again = in_a_worker(spec, JOB, tmp_path / "originals")
    assert first["state"] == "complete" and 0 < first["compile_seconds"] < 600
    assert again["compile_seconds"] == 0 and again["score"] == first["score"]
    kept = os.environ["TORCHINDUCTOR_CACHE_DIR"]
    assert os.path.dirname(kept) == str(tmp_path / ".compiled")
    assert os.environ["TORCHINDUCTOR_COMPILE_THREADS"] == "1"


def test_a_study_that_compiles_nothing_says_nothing_of_it(make_spec, in_a_worker, tmp_path):
    record = in_a_worker(make_spec(original={"epochs": 1, "batch_size": 64}), JOB, tmp_path / "originals")
    assert record["state"] == "complete" and "compile_seconds" not in record
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
