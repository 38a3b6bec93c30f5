"""A study's trials as Optuna has them, and what PED-ANOVA makes of them."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from rem_study.errors import InputError
from rem_study.results import importances
from rem_study.search.optuna_studies import frozen_trials, optuna_study, write_storage
from rem_study.spec.resolve import resolve
from rem_study.spec.space import SearchSpace, load_space
from rem_study.spec.study import Study

SPACE = SearchSpace.model_validate(
    {
        "method": "npo",
        "summary": "s",
        "reference": "r",
        "parameters": {
            "mode": {"type": "categorical", "choices": ["a", "b"], "default": "a", "source": "s"},
            "lr": {"type": "float", "low": 0.001, "high": 1.0, "default": 0.1, "log": True, "source": "s"},
            "noise": {"type": "float", "low": 0.0, "high": 1.0, "default": 0.5, "source": "s"},
            "depth": {"type": "int", "low": 1, "high": 5, "default": 2, "when": {"mode": ["b"]}, "source": "s"},
            "held": {"type": "int", "low": 1, "high": 5, "default": 2, "search": False, "source": "s"},
        },
    }
)


def row(trial: int, replicate: int = 0, *, score: float | None = 0.5, state: str = "complete", **more: Any) -> dict:
    config = {"mode": "a", "lr": 0.1, "noise": 0.5, "depth": 2, "held": 2} | more.pop("config", {})
    return {
        "dataset": "digits",
        "model": "resnet9",
        "cell": "poison@0.5",
        "corruption": "poison",
        "discovery_rate": 0.5,
        "method": "npo",
        "phase": "search",
        "trial": trial,
        "replicate": replicate,
        "state": state,
        "score": score,
        "healed": score,
        "utility": 1.0,
        "test_accuracy": 1.0,
        "utility_x_healed": score,
        "config": json.dumps(config),
        "error": "boom" if state == "failed" else None,
        **more,
    }


def searched(cells: int = 1, trials: int = 60, seed: int = 0) -> pd.DataFrame:
    """Trials in which the score falls with the distance of lr from 0.1 (in decades); noise changes nothing."""
    random = np.random.default_rng(seed)
    rows = []
    for cell in range(cells):
        for trial in range(trials):
            lr = 10 ** random.uniform(-3, 0)
            config = {"lr": lr, "noise": random.uniform(), "mode": random.choice(["a", "b"]).item()}
            score = (1 - abs(math.log10(lr) + 1)) / (1 + 9 * cell)
            name, rate = f"poison@{0.1 * (cell + 1):g}", 0.1 * (cell + 1)
            rows.append(row(trial, score=score, config=config, cell=name, discovery_rate=rate))
    return pd.DataFrame(rows)


def test_a_trial_has_its_mean_its_replicates_and_what_was_searched_and_active() -> None:
    (trial,) = frozen_trials(SPACE, [row(0, 1, score=0.6), row(0, 0, score=0.4, start_time=1000, end_time=3000)])
    assert trial.state is TrialState.COMPLETE
    assert trial.value == pytest.approx(0.5)
    assert trial.intermediate_values == {0: 0.4, 1: 0.6}
    assert trial.params == {"mode": "a", "lr": 0.1, "noise": 0.5}  # depth needs mode b, held is fixed
    assert trial.user_attrs["config"]["held"] == 2 and trial.user_attrs["utility_x_healed"] == pytest.approx(0.5)
    assert frozen_trials(SPACE, [row(0, config={"mode": "b"})])[0].params["depth"] == 2


def test_states_are_the_worst_of_the_replicates_and_a_score_that_is_no_number_failed() -> None:
    rows = [row(0, 0), row(0, 1, state="failed", score=None), row(1, state="pruned"), row(2, score=math.nan)]
    trials = frozen_trials(SPACE, rows)
    assert [trial.state for trial in trials] == [TrialState.FAIL, TrialState.PRUNED, TrialState.FAIL]
    assert trials[0].user_attrs["error #1"] == "boom"


def test_times_are_the_replicates_own() -> None:
    rows = [row(0, r, start_time=1_000_000 * (r + 1), end_time=1_000_000 * (r + 1) + 5000) for r in (0, 1)]
    (trial,) = frozen_trials(SPACE, rows)
    assert trial.duration is not None and trial.duration.total_seconds() == 1005


@pytest.fixture(scope="module")
def study() -> Study:
    document = {
        "name": "toy",
        "corruptions": [{"name": "poison", "samples": 20}],
        "discovery_rates": [0.1, 0.2],
        "methods": {"npo": {"space": SPACE.model_dump(mode="json", exclude_defaults=True)}},
    }
    return resolve(yaml.safe_load(yaml.safe_dump(document, sort_keys=False)), "toy.yaml", Path())


@pytest.fixture(scope="module")
def storage_file(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("storage") / "toy.journal"
    path.write_text("an older export")
    assert write_storage(study, searched(cells=2, trials=10).to_dict("records"), path) == 2
    return path


def test_optuna_loads_what_was_exported(storage_file: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(storage_file)))
    assert optuna.get_all_study_names(storage) == ["toy/poison@0.1/npo", "toy/poison@0.2/npo"]
    loaded = optuna.load_study(study_name="toy/poison@0.1/npo", storage=storage)
    table = searched(cells=2, trials=10)
    scores = table.loc[table["cell"] == "poison@0.1", "score"]
    assert loaded.best_value == pytest.approx(scores.max()) and len(loaded.trials) == 10
    assert loaded.best_params["lr"] == json.loads(table.loc[scores.idxmax(), "config"])["lr"]
    assert loaded.user_attrs["objective"] == "score_oracle"


def test_an_export_that_cannot_be_written_or_is_empty_is_one_line(study: Study, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_storage(study, [row(0)], tmp_path / "no" / "such" / "file")
    with pytest.raises(InputError, match="no trial"):
        write_storage(study, [], tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_the_dashboard_has_configurations_as_parameters_the_values_name_and_a_note(
    study: Study, tmp_path: Path
) -> None:
    rows = [row(0, score=0.5), row(1, score=0.75, config={"mode": "b"}), row(2, score=None, state="failed")]
    selected = {"trial": 1, "utility_x_healed": 0.7, "healed": 0.8, "utility": float("nan")}
    write_storage(study, rows, tmp_path / "file", {("poison@0.5", "npo"): selected})
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "file")))
    loaded = optuna.load_study(study_name="toy/poison@0.5/npo", storage=storage)
    assert loaded.metric_names == ["score_oracle"]
    first, second, _ = loaded.trials
    assert first.params == {"mode": "a", "lr": 0.1, "noise": 0.5, "held": 2}  # depth is off in mode a
    assert second.params == {"mode": "b", "lr": 0.1, "noise": 0.5, "depth": 2, "held": 2}
    assert not any("config" in trial.user_attrs for trial in loaded.trials)
    assert optuna_dashboard_note(loaded, first._trial_id) == "The default configuration."
    assert optuna_dashboard_note(loaded, second._trial_id).startswith("Selected. Reported: utility × healed 0.700")
    note = optuna_dashboard_note(loaded)
    assert "3 trials, 0 of them pruned, 1 failed" in note and "Best value: **0.7500**, trial 1" in note
    assert "Selected: **trial 1**. Reported, on the report split: utility × healed 0.700, healed 0.800." in note


def optuna_dashboard_note(study: optuna.Study, trial: int | None = None) -> str:
    note = pytest.importorskip("optuna_dashboard._note")
    return str(note.get_note_from_system_attrs(study._storage.get_study_system_attrs(study._study_id), trial)["body"])


@pytest.mark.slow
def test_optuna_dashboard_opens_it(storage_file: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import sys; from optuna_dashboard._cli import main; sys.argv[0] = 'optuna-dashboard'; main()"
    command = [sys.executable, "-c", code, str(storage_file), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        studies = _ask(server, f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        assert sorted(one["study_name"] for one in studies) == ["toy/poison@0.1/npo", "toy/poison@0.2/npo"]
        detail = _ask(server, f"http://127.0.0.1:{port}/api/studies/{studies[0]['study_id']}")
        assert detail["objective_names"] == ["score_oracle"] and "Best value" in detail["note"]["body"]
        assert len(detail["trials"]) == 10 and {"lr", "noise"} <= {p["name"] for p in detail["trials"][0]["params"]}
    finally:
        server.kill()
        server.wait()


def _ask(server: subprocess.Popen, url: str) -> Any:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.loads(answer.read())
        except OSError:
            assert time.monotonic() < deadline and server.poll() is None
            time.sleep(0.3)


def test_the_hyperparameter_that_decides_is_the_most_important_one() -> None:
    table = importances.importances(searched(), SPACE, resamples=10)
    assert table["hyperparameter"].iloc[0] == "lr"
    assert table["importance"].sum() == pytest.approx(1)
    first, noise = table.iloc[0], table[table["hyperparameter"] == "noise"].iloc[0]
    assert first["low"] > noise["importance"]
    assert (table["low"] <= table["high"]).all()


def test_they_are_optunas_own() -> None:
    rows = searched()
    own = optuna.importance.get_param_importances(
        optuna_study(SPACE, rows.to_dict("records")), evaluator=optuna.importance.PedAnovaImportanceEvaluator()
    )
    ours = importances.importances(rows, SPACE).set_index("hyperparameter")["importance"]
    assert ours.to_dict() == pytest.approx(own)


def test_pooled_cells_count_alike_whatever_their_scores_and_each_has_its_own() -> None:
    rows = searched(cells=3, trials=40)
    pooled = importances.importances(rows, SPACE)
    rows["score"] = rows["score"] * np.where(rows["cell"] == "poison@0.1", 100, 1)
    pd.testing.assert_frame_equal(importances.importances(rows, SPACE), pooled)
    assert pooled["trials"].iloc[0] == 120
    per_cell = importances.cell_importances(rows, SPACE)
    assert per_cell.groupby("cell")["importance"].sum().tolist() == pytest.approx([1, 1, 1])


def test_too_few_trials_or_nothing_searched_give_no_importance() -> None:
    assert importances.importances(searched(trials=importances.FEWEST_TRIALS - 1), SPACE).empty
    assert importances.importances(searched(), SPACE.fixed(SPACE.defaults)).empty
    assert importances.cell_importances(searched(cells=2, trials=5), SPACE).empty


def test_the_same_seed_draws_the_same_interval() -> None:
    rows = searched(trials=30)
    one, other = (importances.importances(rows, SPACE, resamples=5, seed=3) for _ in range(2))
    pd.testing.assert_frame_equal(one, other)


def test_a_trend_is_where_the_good_values_lie_with_an_interval_around_it() -> None:
    table = importances.trends(searched(cells=2, trials=60), "lr")
    assert table["discovery_rate"].tolist() == [0.1, 0.2]
    assert table["value"].between(0.05, 0.2).all()
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    assert importances.trends(searched(trials=60), "mode").empty  # no number
    assert importances.trends(searched(trials=2), "lr").empty


def test_the_shipped_spaces_are_optunas_too() -> None:
    space = load_space("rem")
    (trial,) = frozen_trials(space, [row(0, config={}) | {"config": space.defaults, "method": "rem"}])
    assert trial.params["redirect_width"] == space.defaults["redirect_width"]
