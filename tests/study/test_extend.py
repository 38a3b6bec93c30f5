"""A study that is extended: it keeps what it has run, and equals the larger one launched at once."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import yaml
from doubles.cheap import assert_equal_tables
from doubles.mlflow_runs import assert_mlflow_agrees, trial_runs

from rem_study.errors import InputError
from rem_study.report.export import export
from rem_study.results import load_resolved
from rem_study.results.write import selections, write_results
from rem_study.search.jobs import OriginalJob, TrialJob
from rem_study.search.plan import GridPlan
from rem_study.seeds import derive_seed
from rem_study.spec import Study
from rem_study.spec.resolve import resolve
from rem_study.storage import StudyLog, read_history
from rem_study.storage.log import read_log, segments
from rem_study.storage.rows import result_key
from rem_study.study import status
from rem_study.study.claim import claim, extend, require_same_fingerprints
from rem_study.study.recorder import Recorder
from rem_study.study.sync import sync
from rem_study.tracking import About
from rem_study.tracking.writer import TrackingWriter
from rem_study.trial import Trial, identity

SMALL: dict[str, Any] = {
    "name": "t",
    "corruptions": [{"name": "poison", "samples": 20}, {"name": "random_label", "samples": 20}],
    "discovery_rates": [0.1, 1.0],
    "methods": {"npo": {}},
    "budget": {"trials": 6, "replicates": 2},
    "race": {"replicates": 0},
    "confirm": {"replicates": 0},
}
ALL_ON: dict[str, Any] = {
    "budget": {"trials": 6, "replicates": 2, "in_flight": 2},
    "sampler": {"startup_trials": 2},
    "pruner": {"name": "median", "startup_trials": 2},
    "neighbours": {"from_trial": 3},
    "race": {"replicates": 3, "top": 2},
    "confirm": {"replicates": 2, "everywhere": True},
}
MORE_TRIALS = {"budget.trials": 9}
MORE_REPLICATES = {"budget.replicates": 3}


def made(changes: dict[str, Any], *more: dict[str, Any]) -> Study:
    """The small study with top-level fields changed, then single ones by path."""
    document = yaml.safe_load(yaml.safe_dump(SMALL | changes))
    for path, value in [item for one in more for item in one.items()]:
        *parents, last = path.split(".")
        node = document
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return resolve(document, "t.yaml", Path())


class Nobody:
    """In MLflow's place."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **more: None


def replicate(study: Study, plan: GridPlan, job: TrialJob) -> dict[str, Any]:
    """A row that follows from the cell, the configuration and the replicate, as a real one does; some fail."""
    trial = Trial(plan.cells[job.cell], job.method, job.configuration, job.replicate)
    rng = random.Random(derive_seed(job.cell, job.method, repr(sorted(job.configuration.items()))))
    healed, fails, passes = rng.random(), rng.random() < 0.1, rng.randrange(1, 20)
    utility = random.Random(derive_seed(healed, job.replicate)).random()
    row = identity(study.spec, trial, job.trial, job.phase, job.proposed_by)
    row |= {"kind": "replicate", "regularity": 0.5, "start_time": 1_000, "end_time": 2_000, "seconds": 1.0}
    if fails:
        return row | {"state": "failed", "error": "diverged"}
    scores = ("utility_x_healed", "score_oracle", "score")
    row |= {
        "state": "complete",
        "healed": healed,
        "utility": utility,
        "test_accuracy": utility,
        "sample_passes": passes,
    }
    return row | dict.fromkeys(scores, healed * utility) | {"score_healed": healed, "score_utility": utility}


def go(
    folder: Path,
    study: Study,
    stop_after: float = float("inf"),
    workers: int = 2,
    timing: int = 0,
    tracking: Any = Nobody(),  # noqa: B008  has no state
) -> int:
    """What `launch` does, on simulated workers that finish in an order drawn from `timing`: claim the folder, extend
    it, run what is missing, write the tables. How many replicates were run; if it is stopped, as a kill would, no table
    is written."""
    folder.mkdir(exist_ok=True)
    extension = claim(folder, study, "t.yaml")
    history, log = read_history(folder / "log"), StudyLog(folder / "log")
    if extension is not None:
        history = extend(folder, study, extension, history, log)
    originals = [OriginalJob(c.name, r) for c in study.spec.corruptions for r in range(20)]
    plan = GridPlan(study, originals, history.rows, history.earlier)
    recorder = Recorder(log, tracking, history)
    recorder.catch_up(plan)
    rng, running, ran = random.Random(timing), [], 0
    while not plan.done() and ran < stop_after:
        while len(running) < workers and (job := plan.next_job()):
            running.append(job)
        if not running:
            assert plan.done(), "nothing runs and nothing may start"
            break
        row = replicate(study, plan, running.pop(rng.randrange(len(running))))
        recorder.record(row)
        plan.replicate_done(row)
        ran += 1
    log.close()
    if plan.done():
        recorder.level(plan)
        tracking.drain()
        write_results(folder, study, recorder.rows, plan.states(recorder.rows), tracking.run_ids() or {})
        tracking.highlight(selections(folder, recorder.rows))
        tracking.finish_study("FINISHED")
    return ran


def results(folder: Path) -> list[tuple[Any, ...]]:
    """What has been run, whatever for, in the log's order."""
    return [result_key(record) for record in read_log(folder / "log")[0] if record["kind"] == "replicate"]


def wanted(folder: Path) -> set[tuple[Any, ...]]:
    """What the study as it is consists of."""
    return set(map(result_key, read_history(folder / "log").rows))


EXTENSIONS: dict[str, dict[str, Any]] = {
    "more trials": MORE_TRIALS,
    "more trials of one method": {"methods.npo.trials": 9},
    "more replicates": MORE_REPLICATES,
    "a method": {"methods.ascent": {}},
    "a rate between": {"discovery_rates": [0.1, 0.5, 1.0]},
    "a corruption": {"corruptions": [*SMALL["corruptions"], {"name": "interclass_confusion", "samples": 20}]},
    "more confirmation": {"confirm.replicates": 3},
    "a longer race": {"race.replicates": 4, "confirm.replicates": 2},
    "more that race": {"race.top": 3},
    "all at once": MORE_TRIALS
    | MORE_REPLICATES
    | {"methods.ascent": {}, "discovery_rates": [1.0, 0.3, 0.1], "confirm.replicates": 3},
}


def assert_extended_equals_whole(tmp_path: Path, before: Study, after: Study) -> Path:
    """From the finished smaller study, and from a half-finished one; killed on the way, too."""
    whole, folder, killed = (tmp_path / name for name in ("whole", "extended", "killed"))
    go(whole, after)
    first = go(folder, before)
    kept = set(results(folder))
    again = go(folder, after, workers=3, timing=1)
    assert_equal_tables(whole, folder)
    missing = [key for key in results(whole) if key not in kept]
    assert again == len(missing), "what was there has been run again"

    go(killed, before, stop_after=first * 2 // 3)
    for kill in range(2):
        go(killed, after, stop_after=1 + again // 3, workers=3, timing=kill)
    go(killed, after)
    assert_equal_tables(whole, killed)
    assert go(folder, after) == go(killed, after) == 0, "launching again runs nothing"
    assert_equal_tables(whole, killed)
    return folder


@pytest.mark.parametrize("change", EXTENSIONS.values(), ids=EXTENSIONS)
def test_with_everything_on_the_extended_study_equals_the_whole(tmp_path, change):
    assert_extended_equals_whole(tmp_path, made(ALL_ON), made(ALL_ON, change))


@pytest.mark.parametrize("change", [MORE_TRIALS, MORE_REPLICATES], ids=["trials", "replicates"])
@pytest.mark.parametrize("sampler", ["tpe", "gp", "random", "qmc", "nsga2"])
def test_with_each_sampler_the_extended_study_equals_the_whole(tmp_path, sampler, change):
    fields = {"sampler": {"name": sampler, "startup_trials": 3}, "corruptions": ["poison"], "discovery_rates": [0.5]}
    assert_extended_equals_whole(tmp_path, made(fields), made(fields, change))


@pytest.mark.parametrize(
    "change",
    [
        {"confirm": {"replicates": 2}},
        {"confirm": {"replicates": 2, "everywhere": True}},
        {"race": {"replicates": 3}, "confirm": {"replicates": 2}},
        {"budget.sample_passes": 200},
        {"budget.sample_passes": None},
    ],
    ids=["confirmation", "confirmation everywhere", "a race", "more sample passes", "no limit of them"],
)
def test_what_was_off_or_limited_is_added(tmp_path, change):
    limited = {"budget.sample_passes": 60} if "budget.sample_passes" in change else {}
    assert_extended_equals_whole(tmp_path, made({}, limited), made({}, limited, change))


def test_extended_twice_it_equals_the_whole_too(tmp_path):
    go(tmp_path / "whole", made(ALL_ON, MORE_TRIALS, MORE_REPLICATES))
    go(tmp_path / "steps", made(ALL_ON), stop_after=30)
    go(tmp_path / "steps", made(ALL_ON, {"budget.trials": 8}))
    go(tmp_path / "steps", made(ALL_ON, {"budget.trials": 8}, MORE_REPLICATES), stop_after=20)
    go(tmp_path / "steps", made(ALL_ON, MORE_TRIALS, MORE_REPLICATES))
    assert_equal_tables(tmp_path / "whole", tmp_path / "steps")
    assert [record["extension"] for record in read_history(tmp_path / "steps" / "log").extensions] == [1, 2, 3]


def test_more_trials_keep_each_of_the_first_ones(tmp_path):
    go(tmp_path, made(ALL_ON))
    before = {key for key in map(result_key, read_history(tmp_path / "log").rows) if key[3] < 2}  # of the search
    go(tmp_path, made(ALL_ON, MORE_TRIALS))
    assert before <= wanted(tmp_path)


def test_with_more_replicates_the_search_sees_other_scores_and_what_it_would_not_have_run_leaves_the_tables(tmp_path):
    """What cannot be kept: TPE's fifth trial follows from the first four's means, which another replicate changes. Such
    a replicate stays in the log. Where suggestions follow from no score, as in the start-up, all are kept."""
    fields = {"sampler": {"startup_trials": 4}, "budget": {"trials": 12, "replicates": 1}}
    before, after = made(fields), made(fields, {"budget.replicates": 2})
    go(tmp_path, before)
    ran, first = set(results(tmp_path)), pd.read_parquet(tmp_path / "trials.parquet")
    go(tmp_path, after)
    left_out = ran - wanted(tmp_path)
    number = {key: int(trial) for key, trial in zip(map(result_key, _rows(first)), first["trial"], strict=True)}
    assert left_out and min(number[key] for key in left_out) >= 4
    assert ran <= set(results(tmp_path))
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert not set(map(result_key, _rows(table))) & left_out
    assert not table.duplicated(["cell", "method", "phase", "trial", "replicate"]).any()


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [row | {"config": yaml.safe_load(row["config"])} for row in table.to_dict("records")]


def test_what_was_confirmed_on_a_replicate_that_becomes_one_of_the_search_is_not_run_again(tmp_path):
    random_search = {"sampler": {"name": "random"}, "confirm": {"replicates": 2}}
    go(tmp_path, made(random_search))
    confirmed = {key for key in results(tmp_path) if key[3] == 2}
    assert confirmed
    go(tmp_path, made(random_search, MORE_REPLICATES))
    rows = read_history(tmp_path / "log").rows
    assert confirmed <= {result_key(row) for row in rows if row["phase"] == "search"}
    assert {row["replicate"] for row in rows if row["phase"] == "confirm"} == {3, 4}
    assert len(set(results(tmp_path))) == len(results(tmp_path))


def test_status_and_optuna_see_the_extended_study_alone(tmp_path):
    after = made(ALL_ON, MORE_TRIALS, MORE_REPLICATES)
    go(tmp_path / "whole", after)
    go(tmp_path / "extended", made(ALL_ON))
    go(tmp_path / "extended", after)
    told = [status.describe(tmp_path / name).splitlines() for name in ("whole", "extended")]
    assert "36 of 36 trials finished" in told[1][0]
    assert told[0] == told[1]
    seen = []
    for name in ("whole", "extended"):
        export(tmp_path / name, "optuna", tmp_path / f"{name}.log")
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(tmp_path / f"{name}.log"))
        )
        seen.append({study.study_name: _trials(storage, study._study_id) for study in storage.get_all_studies()})
    assert seen[0] == seen[1] and len(seen[0]) == 4


@pytest.fixture
def tracked(tmp_path) -> Callable[..., None]:
    """`go` in tmp_path / "study", with MLflow."""

    def run(study: Study, **more: Any) -> None:
        folder = tmp_path / "study"
        writer = TrackingWriter(f"sqlite:///{folder}/mlflow.db", study.spec.name, about=About())
        go(folder, study, tracking=writer, **more)
        assert writer.close()

    return run


@pytest.mark.slow
def test_mlflow_marks_what_the_study_was_whether_written_as_it_runs_or_by_sync(tmp_path, tracked):
    fields = ALL_ON | {"discovery_rates": [0.5]}
    before, after = made(fields), made(fields, MORE_TRIALS, MORE_REPLICATES)
    folder = tmp_path / "study"
    tracked(before)
    assert_mlflow_agrees(folder)
    assert not any("superseded" in run.data.tags for run in trial_runs(folder))
    tracked(after, stop_after=25)
    sync(folder)  # of an extension that was killed: it shows as much of the larger study as there is
    go(tmp_path / "whole", after)
    place = ["cell", "method", "phase", "trial", "replicate"]
    part, whole = (pd.read_parquet(one / "trials.parquet").set_index(place) for one in (folder, tmp_path / "whole"))
    assert 25 < len(part) < len(whole) and part.index.is_unique
    pd.testing.assert_frame_equal(part[["config", "score"]], whole.loc[part.index, ["config", "score"]])
    tracked(after)
    assert_equal_tables(tmp_path / "whole", folder)
    assert_mlflow_agrees(folder)
    old = [run for run in trial_runs(folder) if run.data.tags.get("superseded") == "yes"]
    assert old and all(run.data.tags.get("selected") != "yes" for run in old)
    assert sync(folder) == 0
    assert_equal_tables(tmp_path / "whole", folder)
    assert_mlflow_agrees(folder)
    assert len([run for run in trial_runs(folder) if run.data.tags.get("superseded") == "yes"]) == len(old)


def _trials(storage: optuna.storages.BaseStorage, study: int) -> list[Any]:
    return [
        (trial.number, trial.state, trial.params, trial.intermediate_values, trial.user_attrs)
        for trial in storage.get_all_trials(study)
    ]


def test_the_log_keeps_what_the_study_was_and_the_folder_says_what_it_is(tmp_path):
    before, after = made({}), made({}, MORE_TRIALS)
    go(tmp_path, before)
    go(tmp_path, after)
    (record,) = read_history(tmp_path / "log").extensions
    assert record["changed"] == ["budget.trials (6 there, 9 here)"]
    assert resolve(record["before"], "study.yaml", tmp_path).spec == before.spec
    assert load_resolved(tmp_path).spec == after.spec


@pytest.mark.parametrize("moment", range(6))
def test_a_log_cut_anywhere_in_the_extension_goes_on_to_the_same_tables(tmp_path, moment):
    after = made(ALL_ON, MORE_TRIALS, MORE_REPLICATES)
    go(tmp_path / "whole", after)
    go(tmp_path / "cut", made(ALL_ON))
    go(tmp_path / "cut", after)
    last = segments(tmp_path / "cut" / "log")[-1]
    content = last.read_bytes()
    last.write_bytes(content[: int(len(content) * moment / 6)])
    if moment % 2 == 0:  # killed between the record and study.yaml
        (tmp_path / "cut" / "study.yaml").write_text(yaml.safe_dump(made(ALL_ON).spec.plain(), sort_keys=False))
    go(tmp_path / "cut", after, workers=3, timing=moment)
    assert_equal_tables(tmp_path / "whole", tmp_path / "cut")


def test_killed_before_the_folder_says_what_it_is_to_become_it_is_still_what_it_was(tmp_path):
    before = made(ALL_ON)
    go(tmp_path / "was", before)
    go(tmp_path / "is", before)
    written = (tmp_path / "is" / "study.yaml").read_bytes()
    go(tmp_path / "is", made(ALL_ON, MORE_TRIALS, MORE_REPLICATES), stop_after=1)
    last = segments(tmp_path / "is" / "log")[-1]
    last.write_bytes(last.read_bytes().splitlines(keepends=True)[0])
    (tmp_path / "is" / "study.yaml").write_bytes(written)
    assert go(tmp_path / "is", before) == 0
    assert_equal_tables(tmp_path / "was", tmp_path / "is")


@pytest.mark.parametrize("kind", ["extended", "kept", "replicate", "pruned"])
def test_a_damaged_record_of_an_extended_study_costs_no_more_than_a_replicate(tmp_path, kind):
    after = made(ALL_ON, MORE_TRIALS, MORE_REPLICATES)
    go(tmp_path / "whole", after)
    folder = tmp_path / "damaged"
    go(folder, made(ALL_ON))
    go(folder, after)
    first = next(path for path in segments(folder / "log") if b'"kind":"%s"' % kind.encode() in path.read_bytes())
    lines = first.read_bytes().split(b"\n")
    hit = next(n for n, line in enumerate(lines) if b'"kind":"%s"' % kind.encode() in line)
    lines[hit] = lines[hit][:-2] + b"?" + lines[hit][-1:]
    first.write_bytes(b"\n".join(lines))
    assert len(read_history(folder / "log").damaged) == 1
    assert go(folder, after) <= 1
    assert_equal_tables(tmp_path / "whole", folder)


FORBIDDEN: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 1}, r"seed \(0 there, 1 here\)"),
    "data": ({"data": {"image_size": 12}}, r"data\.image_size \(none there, 12 here\)"),
    "model": ({"model": {"width": 0.5}}, r"model\.width \(1\.0 there, 0\.5 here\)"),
    "original": ({"original": {"epochs": 9}}, r"original\.epochs \(40 there, 9 here\)"),
    "samples": (
        {"corruptions": [SMALL["corruptions"][0], {"name": "random_label", "samples": 21}]},
        r"corruptions\.random_label\.samples \(20 there, 21 here\)",
    ),
    "fewer trials": ({"budget.trials": 4}, r"budget\.trials \(6 there, 4 here\)"),
    "fewer of one method": ({"methods.npo.trials": 4}, r"methods\.npo\.trials \(6 there, 4 here\)"),
    "fewer replicates": ({"budget.replicates": 1}, r"budget\.replicates \(2 there, 1 here\)"),
    "fewer sample passes": ({"budget.sample_passes": 99}, r"budget\.sample_passes \(none there, 99 here\)"),
    "in flight": ({"budget.in_flight": 2}, r"budget\.in_flight \(1 there, 2 here\)"),
    "less confirmation": ({"confirm": {"replicates": 0}}, r"confirm\.replicates \(1 there, 0 here\)"),
    "a method gone": ({"methods": {"ascent": {}}}, r"methods\.npo \(gone\)"),
    "a corruption gone": ({"corruptions": SMALL["corruptions"][:1]}, r"corruptions\.random_label \(gone\)"),
    "a rate gone": ({"discovery_rates": [1.0]}, r"discovery_rates\.0\.1 \(gone\)"),
    "a range": ({"methods.npo": {"ranges": {"lr": {"high": 0.5}}}}, r"methods\.npo\.ranges\.lr \(new\)"),
    "a default": ({"methods.npo": {"defaults": {"lr": 0.05}}}, r"methods\.npo\.defaults\.lr \(new\)"),
    "sampler": ({"sampler": {"name": "gp"}}, r"sampler\.name \(tpe there, gp here\)"),
    "pruner": ({"pruner": {"name": "median"}}, r"pruner\.name \(none there, median here\)"),
    "objective": ({"objective": "score_deployable"}, r"objective \(score_oracle there, score_deployable here\)"),
    "neighbours": ({"neighbours": {"from_trial": 2}}, r"neighbours\.from_trial \(none there, 2 here\)"),
    "warm start": ({"warm_start": {"npo": {}}}, r"warm_start"),
}


@pytest.mark.parametrize(("change", "named"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_what_cannot_change_is_refused_by_name_and_nothing_is_written(tmp_path, change, named):
    claim(tmp_path, made({"confirm": {"replicates": 1}}), "t.yaml")
    written = (tmp_path / "study.yaml").read_bytes()
    with pytest.raises(InputError) as refused:
        claim(tmp_path, made({"confirm": {"replicates": 1}}, {"budget.trials": 12} | change), "t.yaml")
    expected = rf"t\.yaml: .* holds another study; it differs in {named}; a study that has run may get more trials, .*"
    (line,) = str(refused.value).splitlines()
    assert re.fullmatch(expected, line), line
    assert (tmp_path / "study.yaml").read_bytes() == written and list(tmp_path.iterdir()) == [tmp_path / "study.yaml"]


def test_other_resources_and_the_same_study_again_are_no_extension(tmp_path):
    assert claim(tmp_path, made({}), "t.yaml") is None
    assert claim(tmp_path, made({"resources": {"cpus": 2}}), "t.yaml") is None
    assert claim(tmp_path, made({}, MORE_TRIALS), "t.yaml") is not None


def test_a_new_cell_brings_its_own_starting_points(tmp_path):
    start = {"source": "universal", "config": made({}).spaces["npo"].defaults | {"lr": 0.004}}
    old, new = {"poison@0.1": [start]}, {"poison@0.1": [start], "poison@0.5": [start]}
    before = made({"warm_start": {"npo": old}})
    after = made({"warm_start": {"npo": new}}, {"discovery_rates": [0.1, 0.5, 1.0]})
    assert_extended_equals_whole(tmp_path, before, after)
    with pytest.raises(InputError, match=r"differs in warm_start\.npo\.poison@1"):
        more = {"warm_start": {"npo": new | {"poison@1": [start]}}}
        claim(tmp_path / "extended", made(more, {"discovery_rates": [0.1, 0.5, 1.0]}), "t.yaml")


def test_the_ids_of_a_corruption_that_is_added_are_taken_note_of_and_others_must_stay(tmp_path):
    log = StudyLog(tmp_path)
    log.append({"kind": "basis", "content": {"data": "a"}})
    added = require_same_fingerprints(tmp_path, read_history(tmp_path), {"data": "a", "ids": "b"})
    assert added == {"ids": "b"}
    log.append({"kind": "basis", "content": added})
    assert require_same_fingerprints(tmp_path, read_history(tmp_path), {"data": "a", "ids": "b"}) == {}
    with pytest.raises(InputError, match="stand on other ids than"):
        require_same_fingerprints(tmp_path, read_history(tmp_path), {"data": "a", "ids": "c"})
