"""Studies run whole, on a real Ray: what the file promises is in the tables, whatever the concurrency or the stop."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from doubles import cheap

from rem_study.cli import main
from rem_study.errors import InputError
from rem_study.results.study_folder import load_resolved
from rem_study.storage.log import read_log, segments
from rem_study.study.launch import launch
from rem_study.tracking.views import NAMES

TIMES = ["seconds", "mlflow_run_id"]

TINY = {
    "name": "tiny",
    "data": {"name": "digits", "image_size": 12, "train_samples": 300, "test_samples": 200},
    "model": {"width": 0.0625},
    "original": {"epochs": 6, "batch_size": 64},
    "corruptions": [{"name": "poison", "samples": 20}, {"name": "random_label", "samples": 20}],
    "discovery_rates": [0.5],
    "methods": {"rem": {"fixed": {"epochs": 2}}, "npo": {}, "retrain": {}},
    "budget": {"trials": 3, "replicates": 2},
    "race": {"replicates": 0},
    "confirm": {"replicates": 0},
    "resources": {"concurrent": 2},
}
ROWS = 2 * (3 + 3 + 1) * 2


def study_file(folder: Path, **changes) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY | changes))
    return path


@pytest.fixture(scope="module")
def ray_session():
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def finished(ray_session, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    outcome = launch(study_file(folder), folder)
    assert outcome.done
    return outcome.folder


def trials(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "trials.parquet")


def assert_equal_tables(one: Path, other: Path) -> None:
    pd.testing.assert_frame_equal(trials(one).drop(columns=TIMES), trials(other).drop(columns=TIMES))
    cells = [pd.read_parquet(f / "cells.parquet").drop(columns=["seconds"]) for f in (one, other)]
    pd.testing.assert_frame_equal(*cells)


def test_the_tables_have_exactly_the_promised_rows(finished):
    table = trials(finished)
    assert len(table) == ROWS
    key = ["cell", "method", "trial", "phase", "replicate"]
    assert not table.duplicated(key).any()
    assert (table["state"] == "complete").all()
    assert table.groupby(["cell", "method"]).size().unique().tolist() in ([6, 2], [2, 6])
    assert table[["healed", "utility", "score_oracle", "score_deployable", "regularity"]].notna().to_numpy().all()


def test_duckdb_reads_the_tables(finished):
    count = duckdb.sql(f"select count(*) from '{finished}/trials.parquet' where method = 'rem'").fetchall()
    assert count == [(12,)]
    assert len(duckdb.sql(f"select * from '{finished}/cells.parquet'").df()) == 6


def test_trial_zero_is_the_default_and_retrain_runs_once(finished):
    table = trials(finished)
    defaults = load_resolved(finished).spaces["rem"].defaults
    first = table[(table["method"] == "rem") & (table["trial"] == 0)]
    assert all(json.loads(config) == defaults for config in first["config"])
    assert table.loc[table["method"] == "retrain", "trial"].unique().tolist() == [0]


def test_mlflow_has_the_same_trials_under_their_cells_with_the_same_metrics(finished):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{finished}/mlflow.db")
    experiment = client.get_experiment_by_name("tiny")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    by_id = {run.info.run_id: run for run in runs}
    table = trials(finished)
    trial_runs = [run for run in runs if "trial" in run.data.tags]
    assert len(trial_runs) == table.groupby(["cell", "method", "trial"]).ngroups
    for run_id, rows in table.groupby("mlflow_run_id"):
        run = by_id[run_id]
        parent = by_id[run.data.tags["mlflow.parentRunId"]]
        assert parent.data.tags["cell"] == rows["cell"].iloc[0]
        assert by_id[parent.data.tags["mlflow.parentRunId"]].info.run_name == "tiny"
        logged = {m.step: m.value for m in client.get_metric_history(run_id, "utility_x_healed")}
        assert logged == dict(zip(rows["replicate"], rows["utility_x_healed"], strict=True))
    study_run = next(run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    names = {artifact.path for artifact in client.list_artifacts(study_run.info.run_id)}
    assert {"report.html", "best.yaml", "manifest.json", "figures"} <= names


def test_best_yaml_names_a_configuration_for_every_cell_and_method(finished):
    best = yaml.safe_load((finished / "best.yaml").read_text())
    assert best["format"] == 1
    assert [cell["corruption"] for cell in best["cells"]] == ["random_label", "poison"] or len(best["cells"]) == 2
    for cell in best["cells"]:
        assert set(cell["methods"]) == {"rem", "npo", "retrain"}
        assert set(cell["methods"]["rem"]["config"]) == set(load_resolved(finished).spaces["rem"].parameters)
    assert "rem" in best["universal"]


def test_rem_records_where_the_corruption_sits(finished):
    rem = trials(finished).query("method == 'rem'")
    curves = rem["curves"].map(json.loads)
    assert all(set(c) == {"old", "both", "shared"} and len(c["old"]) == 1 + 2 for c in curves)
    originals = {
        (r["corruption"], r["replicate"]): r["facts"] for r in read_log(finished / "log")[0] if r["kind"] == "original"
    }
    for corruption, replicate, curve in zip(rem["corruption"], rem["replicate"], curves, strict=True):
        memorised = originals[corruption, replicate]["memorised"]
        assert curve["old"][0] == pytest.approx(memorised, abs=1e-6)  # all in the old channels before the first epoch


def test_launching_again_runs_nothing(finished, ray_session):
    before = read_log(finished / "log")[0]
    outcome = launch(finished.parent / "tiny.yaml", finished.parent)
    assert outcome.done
    assert read_log(finished / "log")[0] == before
    assert len(trials(finished)) == ROWS
    assert list(outcome.views) == list(NAMES)
    assert outcome.views["By cell"].startswith(
        "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning"
    )


def test_one_worker_gives_the_same_tables(finished, ray_session, tmp_path):
    outcome = launch(study_file(tmp_path), tmp_path, overrides=("resources.concurrent=1",))
    assert_equal_tables(finished, outcome.folder)


def test_a_study_cut_in_mid_record_goes_on_to_the_same_tables(finished, ray_session, tmp_path):
    first = launch(study_file(tmp_path, name="tiny"), tmp_path)
    (segment,) = segments(first.folder / "log")
    content = segment.read_bytes()
    kept = content[: int(len(content) * 0.55)]
    segment.write_bytes(kept)
    for name in ("trials.parquet", "cells.parquet", "best.yaml"):
        (first.folder / name).unlink()
    second = launch(study_file(tmp_path, name="tiny"), tmp_path)
    assert_equal_tables(finished, second.folder)
    assert segments(second.folder / "log")[0].read_bytes() == kept
    records = [r for r in read_log(second.folder / "log")[0] if r["kind"] == "replicate"]
    assert len(records) == ROWS


def test_a_launch_gives_the_callers_ctrl_c_back(ray_session, tmp_path):
    """As in a notebook, which goes on after the study: Tune takes both signals and keeps them."""
    for number in (signal.SIGINT, signal.SIGUSR1):
        mine, before = (lambda *_: None), signal.getsignal(number)
        try:
            signal.signal(number, mine)
            launch(cheap.study_file(tmp_path), tmp_path / str(number), worker=cheap.Cheap)
            assert signal.getsignal(number) is mine
        finally:
            signal.signal(number, before)


def test_another_study_in_the_same_folder_is_named_not_mixed(finished, ray_session):
    with pytest.raises(InputError, match=r"holds another study; it differs in budget\.trials \(3 there, 2 here\); "):
        launch(finished.parent / "tiny.yaml", finished.parent, overrides=("budget.trials=2",))


def test_check_says_what_a_launch_would_find_and_writes_nothing(finished, monkeypatch):
    def told(*words):
        result = CliRunner().invoke(main, ["check", str(finished.parent / "tiny.yaml"), "--root", root, *words])
        assert result.exit_code == 0, result.output
        (line,) = (line for line in result.output.splitlines() if line.startswith("folder "))
        return line.removeprefix("folder     ")

    def content():
        return {path: path.stat().st_mtime_ns for path in finished.parent.rglob("*") if path.is_file()}

    root, before = str(finished.parent), content()
    assert told() == f"{finished} holds this study, 14 of 14 trials finished: a launch goes on with it"
    assert told("--set", "resources.concurrent=1") == told()
    assert told("--set", "methods.rem.trials=5", "--set", "confirm.replicates=1") == (
        f"{finished} holds a study that a launch extends, 14 of 18 trials finished: "
        "methods.rem.trials (3 there, 5 here), confirm.replicates (0 there, 1 here)"
    )
    assert "14 of 28 trials finished: discovery_rates.1 (new)" in told("--set", "discovery_rates=[0.5, 1.0]")
    assert " 0 of 14 trials finished: budget.replicates (2 there" in told("--set", "budget.replicates=3")
    refused = f"{finished} holds another study; it differs in seed (0 there, 1 here); a study that has run may get more"
    assert told("--set", "seed=1").startswith(refused)
    assert told("--name", "elsewhere") == f"{finished.parent / 'elsewhere'}, new"
    monkeypatch.setattr("rem_study.trial.code.results_fingerprint", lambda: "of another release")
    assert told() == f"{finished}: its trials stand on other code (rem_study) than is there now; choose another --name"
    assert content() == before


def test_trials_that_stand_on_other_ids_or_other_code_are_named_not_mixed(ray_session, tmp_path, monkeypatch):
    ids = tmp_path / "ids.csv"
    ids.write_text("id\n" + "\n".join(str(i) for i in range(20)))
    given = study_file(
        tmp_path,
        data={"name": "digits", "image_size": 12},
        original={"epochs": 1},
        corruptions=[{"name": "given", "file": str(ids)}],
        methods={"npo": {}},
        objective="score_deployable",
        budget={"trials": 1},
    )
    folder = launch(given, tmp_path).folder
    assert launch(given, tmp_path).done
    ids.write_text("id\n" + "\n".join(str(i) for i in range(1, 21)))
    with pytest.raises(InputError, match=r"stand on other ids of corruptions\.given than is there now"):
        launch(given, tmp_path)
    monkeypatch.setattr("rem_study.trial.code.results_fingerprint", lambda: "after a change of rem.py")
    with pytest.raises(InputError, match=r"ids of corruptions\.given and code \(rem_study\)"):
        launch(given, tmp_path)
    assert sum(record["kind"] == "basis" for record in read_log(folder / "log")[0]) == 1


def test_trials_that_break_are_recorded_with_their_reason_and_the_study_ends(ray_session, tmp_path):
    space = {
        "method": "ascent",
        "summary": "rates that must blow up",
        "reference": "none",
        "parameters": {
            "lr": {"type": "float", "low": 1e30, "high": 1e36, "default": 1e35, "source": "a test"},
            "passes": {"type": "int", "low": 1, "high": 9, "default": 9, "search": False, "source": "a test"},
            "batch_size": {
                "type": "int",
                "low": 2,
                "high": 99,
                "default": 4,
                "search": False,
                "source": "a test",
            },
        },
    }
    path = study_file(
        tmp_path,
        corruptions=[{"name": "poison", "samples": 20}],
        methods={"ascent": {"space": space}, "npo": {}},
        budget={"trials": 2, "replicates": 1},
    )
    outcome = launch(path, tmp_path)
    assert outcome.done
    table = trials(outcome.folder)
    broken = table[table["method"] == "ascent"]
    assert (broken["state"] == "failed").all()
    assert broken["error"].str.contains("not finite").all()
    assert (table.loc[table["method"] == "npo", "state"] == "complete").all()
    cells = pd.read_parquet(outcome.folder / "cells.parquet").set_index("method")
    assert cells.loc["ascent", "health"] == "every trial failed"
    assert "2 failed" in outcome.summary


def test_status_report_and_export_read_the_folder(finished):
    run = CliRunner().invoke
    status = run(main, ["status", str(finished)])
    assert status.exit_code == 0
    assert "14 of 14 trials finished" in status.output
    assert run(main, ["report", str(finished)]).exit_code == 0
    assert yaml.safe_load(run(main, ["export", str(finished)]).output)["study"] == "tiny"
    assert json.loads(run(main, ["export", str(finished), "--format", "json"]).output)["format"] == 1


def start(root: Path, path: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "rem_study.cli", "launch", str(path), "--root", str(root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_records(root: Path, count: int) -> None:
    deadline = time.monotonic() + 300
    while len(read_log(root / "tiny" / "log")[0]) < count:
        assert time.monotonic() < deadline, "the study does not get on"
        time.sleep(0.05)


def test_ctrl_c_ends_with_one_line_that_says_how_to_resume(tmp_path):
    driver = start(tmp_path, study_file(tmp_path))
    wait_for_records(tmp_path, 8)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: to the whole group
    out, err = driver.communicate(timeout=60)
    assert driver.returncode == 1
    assert out == ""
    *progress, last = [line for line in err.splitlines() if line]
    assert last.startswith("stopped: ") and "launch again: rem-study launch" in last
    assert all(line.startswith("originals ") for line in progress)  # on a slow machine there are some


@pytest.mark.parametrize("records", [12, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 20, 29))])
def test_a_killed_driver_resumes_to_the_tables_of_an_undisturbed_run(finished, ray_session, tmp_path, records):
    path = study_file(tmp_path)
    driver = start(tmp_path, path)
    wait_for_records(tmp_path, records)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    outcome = launch(path, tmp_path)
    assert outcome.done
    assert_equal_tables(finished, outcome.folder)
