"""MLflow, the tables and the report brought level with the log."""

from __future__ import annotations

import sys
from pathlib import Path

from rem_study.errors import TrackingError
from rem_study.results import LOG_FOLDER, artifacts, load_resolved
from rem_study.results.lost import require_nothing_lost
from rem_study.results.write import selections
from rem_study.storage import Folder, TrialKey, locked, read_history
from rem_study.storage.folder import storage
from rem_study.storage.log import summarise
from rem_study.study.about import about
from rem_study.study.derive import write_derived
from rem_study.study.replay import replay
from rem_study.tracking import Selection, tracking_place
from rem_study.tracking.patience import IN_ALL, Patience
from rem_study.tracking.sync import sync as write


def sync(folder: Folder, force: bool = False, timeout: float = IN_ALL) -> int:
    """Bring MLflow, the tables and the report level with the log in `folder`.

    Args:
        force: even where the tables have results that the log lacks.
        timeout: seconds that MLflow may take in all; one answer may take `rem_study.tracking.patience.SILENCE`.

    Returns:
        how many replicates were missing in MLflow.

    Raises:
        InputError: not a study's folder, or a launch of it is running.
        TrackingError: MLflow cannot be written, or not in time; the tables have been, without its run ids.
        StorageError: the folder cannot be written, or its log lacks what the tables have.
    """
    study = load_resolved(folder)
    with locked(folder), storage(folder), tracking_place(study, folder) as place:
        history = read_history(folder / LOG_FOLDER)
        summarise(folder / LOG_FOLDER)
        for line in history.damaged:
            print(f"warning: {line}", file=sys.stderr)
        if not force:
            require_nothing_lost(
                folder,
                history.rows,
                history.earlier,
                f"Launching the study again runs what is missing; `rem-study sync --force {folder}` goes by the log",
            )
        plan = replay(study, [], history, folder)
        rows = history.rows + plan.reused
        states = plan.states(rows)
        derived = False

        def derive(run_ids: dict[TrialKey, str]) -> tuple[list[Selection], list[Path]]:
            nonlocal derived
            if rows and not derived:
                write_derived(folder, study, rows, states, run_ids)
            derived = True
            return selections(folder, rows) if rows else [], place.local(artifacts(folder)) if plan.done() else []

        try:
            return write(
                place.uri,
                study.spec.name,
                rows,
                states=states,
                about=about(study, history.basis),
                derived=derive,
                status="FINISHED" if plan.done() else "KILLED",
                extended=history.extension > 0,
                patience=Patience(place.uri, in_all=timeout),
            )
        except TrackingError:
            derive({})
            raise
