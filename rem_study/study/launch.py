"""A study run from its file, gone on with where it was left, or extended."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rem_study.errors import InputError
from rem_study.results import LOG_FOLDER, artifacts
from rem_study.results.lost import require_nothing_lost
from rem_study.spec import Study, load_study
from rem_study.spec.yaml_file import one_line
from rem_study.storage import Folder, ObjectPath, StudyLog, locked, read_history
from rem_study.storage.credentials import redact
from rem_study.storage.folder import make_writable, storage
from rem_study.storage.log import summarise
from rem_study.storage.rows import result_key
from rem_study.storage.study_id import keep_study_id
from rem_study.study.about import about
from rem_study.study.claim import Extension, claim, extend, fingerprints, require_same_fingerprints
from rem_study.study.hindered import write_hindrances
from rem_study.tracking import TrackingPlace, tracking_place
from rem_study.tracking.views import LOCAL_UI, links

if TYPE_CHECKING:
    from rem_study.search.jobs import OriginalJob
    from rem_study.search.plan import GridPlan
    from rem_study.search.watch import Lost
    from rem_study.search.worker import Worker
    from rem_study.study.recorder import Recorder
    from rem_study.tracking import TrackingProcess


@dataclass(frozen=True)
class Outcome:
    """How a launch ended.

    Attributes:
        folder: the study's folder.
        done: False if it was interrupted.
        summary: for the terminal.
        verdict: who won and by how much, a line each; empty until there are tables.
        views: the ready lists of its runs in MLflow, by name the link.
    """

    folder: Folder
    done: bool
    summary: str
    verdict: tuple[str, ...] = ()
    views: Mapping[str, str] = field(default_factory=dict)


def launch(
    path: Path,
    root: Folder,
    name: str | None = None,
    address: str | None = None,
    overrides: tuple[str, ...] = (),
    worker: type[Worker] | None = None,
    lost: Lost | None = None,
) -> Outcome:
    """Run the study file at `path` in `root`, or go on with it where it was left.

    A folder whose study is this one but for more trials, methods and the like is extended (docs/searching.md).

    Args:
        name: of the study and its folder; default: the study file's.
        address: of a Ray cluster; default: a local one, for this launch.
        overrides: `key.path=value`, as on the command line.
        worker: what runs in the actors; default: `rem_study.search.worker.Worker`, which trains and unlearns.
        lost: says why this process is about to end, where Ray is gone (`rem_study.search.watch`); default: on stderr.

    Raises:
        InputError: the input is wrong, or the folder holds another study; nothing has been started then.
        StorageError: the folder cannot be written any more; launching again goes on from its log.
        ClusterError: Ray does not start, or its workers do not.
    """
    study = load_study(path, overrides, name)
    folder = root / study.spec.name
    if isinstance(root, ObjectPath) and root.scheme == "memory":
        raise InputError(f"--root: {root} would be seen by this process alone, not by the workers")
    try:
        str(root).encode()  # Ray and MLflow take no other
    except UnicodeEncodeError:
        raise InputError(f"--root: {one_line(root)}: is not UTF-8; rename it, or make a link to it that is") from None
    make_writable(root)
    from rem_study.data.place import prepared_under  # and with it torch: a wrong file is told of sooner

    with prepared_under(root, thorough=True):
        return _launch(study, folder, root, str(path), address, worker, lost)


def _launch(
    study: Study,
    folder: Folder,
    root: Folder,
    origin: str,
    address: str | None,
    worker: type[Worker] | None,
    lost: Lost | None,
) -> Outcome:
    from rem_study.study.preflight import preflight

    for note in preflight(study, origin):
        print(f"note: {note}", file=sys.stderr)
    if address is None and not (folder / LOG_FOLDER).exists():
        from rem_study.search.room import require_room

        require_room(study.spec.resources, origin)
    make_writable(folder)
    with locked(folder) as holds, storage(folder):
        extension = claim(folder, study, origin)
        if note := unread_tracking_uri(study):
            print(f"note: {note}", file=sys.stderr)
        with tracking_place(study, folder) as place:
            return _run(study, extension, folder, root / "originals", place, address, worker, holds, lost)


def unread_tracking_uri(study: Study) -> str:
    """What is to be said of MLflow's own variable, which no study reads; empty where there is nothing to say."""
    elsewhere = os.environ.get("MLFLOW_TRACKING_URI")
    if not elsewhere or study.spec.tracking.uri is not None:
        return ""
    return (
        f"MLFLOW_TRACKING_URI ({redact(elsewhere)}) is not read; runs go into the study's folder unless the study "
        "names a server: --set tracking.uri=..."
    )


def _run(
    study: Study,
    extension: Extension | None,
    folder: Folder,
    originals: Folder,
    place: TrackingPlace,
    address: str | None,
    worker: type[Worker] | None,
    holds: Callable[[], None],
    lost: Lost | None,
) -> Outcome:
    """Resume from the log, run what is left, and write down what came of it."""
    from rem_study.study.progress import describe
    from rem_study.study.recorder import Recorder
    from rem_study.study.replay import replay
    from rem_study.study.verdict import who_won
    from rem_study.tracking import TrackingProcess

    started = time.time()
    history = read_history(folder / LOG_FOLDER)
    study_log = StudyLog(folder / LOG_FOLDER, holds, keep_study_id(folder, history.study_id))
    summarise(folder / LOG_FOLDER)
    for line in history.damaged:
        print(f"warning: {line}", file=sys.stderr)
    stands_on = fingerprints(study)
    stands_on_anew = require_same_fingerprints(folder, history, stands_on)
    try:
        if extension is not None:
            print(f"extending {folder}: {', '.join(extension.changed)}", file=sys.stderr)
            history = extend(folder, study, extension, history, study_log)
        if stands_on_anew:
            study_log.append({"kind": "basis", "content": stands_on_anew})
        plan = replay(study, _stored(study, originals), history, folder)
        if plan.finished:
            print(f"resuming {folder}: {describe(plan)}", file=sys.stderr)
        with TrackingProcess(place.uri, study.spec.name, about=about(study, stands_on)) as tracking:
            recorder = Recorder(study_log, tracking, history)
            recorder.catch_up(plan)
            if not plan.done():
                if address is None:
                    from rem_study.search.room import require_room

                    require_room(study.spec.resources, str(folder))
                _run_grid(plan, folder, originals, recorder, address, worker, lost)
            study_log.check()
            require_nothing_lost(folder, recorder.rows, history.earlier, "Launching again runs what is missing")
            views = _conclude(study, folder, plan, recorder, tracking, place, started)
    finally:
        study_log.close()
    summary = describe(plan)
    if plan.done() and (unused := history.earlier.keys() - set(map(result_key, recorder.rows))):
        summary += f"; {len(unused)} replicates from before it was extended belong to no trial of it (the log has them)"
    if hopeless := plan.hopeless():
        summary += "; every trial failed in " + ", ".join(f"{cell} ({method})" for cell, method in hopeless)
    verdict = tuple(who_won(folder)) if plan.done() and recorder.rows else ()
    return Outcome(folder, plan.done(), summary, verdict, views)


def _stored(study: Study, originals: Folder) -> list[OriginalJob]:
    """The originals of this study that need no training any more."""
    from rem_study.search.jobs import OriginalJob
    from rem_study.trial import OriginalStore, Setting

    store = OriginalStore(originals)
    return [
        OriginalJob(corruption.name, replicate)
        for corruption in study.spec.corruptions
        for replicate in range(study.spec.confirmed.stop)
        if store.has(Setting(study.spec, corruption, replicate).key())
    ]


def _run_grid(
    plan: GridPlan,
    folder: Folder,
    originals: Folder,
    recorder: Recorder,
    address: str | None,
    worker: type[Worker] | None,
    lost: Lost | None,
) -> None:
    from rem_study.search.connection import connected
    from rem_study.search.run import run_grid
    from rem_study.search.watch import say_lost
    from rem_study.search.worker import Worker
    from rem_study.study.progress import ProgressLine

    progress = ProgressLine(plan)

    def record(entry: dict[str, object]) -> None:
        recorder.record(entry)
        progress.compile_seconds = recorder.compile_seconds
        progress.update()

    def say(reason: str) -> None:
        progress.close()
        (lost or say_lost)(reason)

    try:
        with connected(address, lambda: plan.failed > 0, say) as own:
            progress.update()
            run_grid(
                plan, originals, record, worker or Worker, lambda lines: write_hindrances(folder, lines), scratch_in=own
            )
    finally:
        write_hindrances(folder, [])
        progress.close()


def _conclude(
    study: Study,
    folder: Folder,
    plan: GridPlan,
    recorder: Recorder,
    tracking: TrackingProcess,
    place: TrackingPlace,
    started: float,
) -> dict[str, str]:
    """Manifest, tables, report, and the rest of MLflow's runs; the links to the ready lists of these."""
    from rem_study.results.manifest import write_manifest
    from rem_study.results.write import selections
    from rem_study.study.derive import write_derived

    if recorder.extended:
        recorder.level(plan)  # only now is it known which runs are no part of it
    tracking.drain()
    experiment, views = tracking.views()
    write_manifest(folder, study, started, recorder.originals, recorder.extensions, recorder.compile_seconds)
    if rows := recorder.rows:
        write_derived(folder, study, rows, plan.states(rows), tracking.run_ids())
        tracking.highlight(selections(folder, rows))
    if plan.done():
        tracking.artifacts(place.local(artifacts(folder)))
    tracking.finish_study("FINISHED" if plan.done() else "KILLED")
    if not tracking.close():
        print(
            f"warning: MLflow lacks {tracking.unwritten} records; `rem-study sync {folder}` writes them",
            file=sys.stderr,
        )
    return links(redact(study.spec.tracking.uri or LOCAL_UI), experiment, views)
