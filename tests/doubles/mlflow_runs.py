"""What MLflow has of a study, against its tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow import MlflowClient

STATUS = {"failed": "FAILED", "pruned": "KILLED", "complete": "FINISHED"}
"""Of a trial's run, by the worst state of its rows."""


def trial_runs(folder: Path) -> list[Any]:
    """Of the study in `folder`, all runs of trials."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name(yaml.safe_load((folder / "study.yaml").read_text())["name"])
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    return [run for run in runs if "trial" in run.data.tags]


def assert_mlflow_agrees(folder: Path) -> None:
    """Each trial has one run that is not superseded, with the steps, state and configuration of the tables."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    table = pd.read_parquet(folder / "trials.parquet")
    runs = [run for run in trial_runs(folder) if run.data.tags.get("superseded") != "yes"]
    assert {run.info.run_id for run in runs} == set(table["mlflow_run_id"])
    assert len(runs) == table.groupby(["cell", "method", "phase", "trial"]).ngroups
    for run in runs:
        rows = table[table["mlflow_run_id"] == run.info.run_id]
        place = [str(rows[name].iloc[0]) for name in ("cell", "method", "phase", "trial", "proposed_by")]
        assert place == [run.data.tags[name] for name in ("cell", "method", "phase", "trial", "proposed_by")]
        steps = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "utility_x_healed")}
        scored = rows[rows["utility_x_healed"].notna()]
        assert steps == dict(zip(scored["replicate"], scored["utility_x_healed"], strict=True))
        config = {"method": rows["method"].iloc[0]} | json.loads(rows["config"].iloc[0])
        assert run.data.params == {n: v if isinstance(v, str) else json.dumps(v) for n, v in config.items()}
        status = next(status for state, status in STATUS.items() if state in set(rows["state"]))
        assert run.info.status == status
