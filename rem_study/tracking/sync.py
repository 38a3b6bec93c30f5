"""MLflow brought level with a study's log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from rem_study.storage import Row, TrialKey, trial_key
from rem_study.tracking.about import About
from rem_study.tracking.entries import outline
from rem_study.tracking.errors import tracking_errors
from rem_study.tracking.patience import Patience
from rem_study.tracking.runs import StudyRuns
from rem_study.tracking.selections import Selection

Derive = Callable[[dict[TrialKey, str]], tuple[Sequence[Selection], Sequence[str | Path]]]


def sync(
    uri: str,
    experiment: str,
    rows: Iterable[Row],
    *,
    states: Mapping[TrialKey, str] | None = None,
    artifact_location: str | None = None,
    about: About | None = None,
    derived: Derive = lambda run_ids: ((), ()),
    status: str = "FINISHED",
    extended: bool = False,
    patience: Patience | None = None,
) -> int:
    """Brings MLflow level with `rows` (as in `TrackingWriter.record`, in the log's order), doubling nothing.

    `states` has how each trial ended, by default as its last row says. `derived` is given the trials' run ids once
    they are written, and returns what was selected and the files for the study's run. Returns how many replicates were
    missing. Not for a study that is running. Of an `extended` one, runs of what it was before are marked; those of
    trials that it does not have, too, if it is FINISHED. Raises TrackingError, also where `patience` is at its end.
    """
    trials: dict[TrialKey, list[Row]] = {}
    for row in rows:
        trials.setdefault(trial_key(row), []).append(row)
    times = [row[end] for own in trials.values() for row in own for end in ("start_time", "end_time")]
    patience = patience or Patience(uri)
    study = StudyRuns(uri, experiment, artifact_location, about or About(), patience.watched)
    in_all = sum(map(len, trials.values()))
    done = 0

    def write() -> int:
        nonlocal done
        study.connect()
        study.open(start_time=min(times, default=None))
        if extended:
            study.supersede(outline(row for own in trials.values() for row in own), whole=status == "FINISHED")
        written = 0
        for key, own in trials.items():
            written += study.write(key, own, (states or {}).get(key, own[-1]["state"]))
            done += len(own)
        return written

    def conclude() -> None:
        if selections:
            study.highlight(selections)
        for path in paths:
            study.attach(Path(path))
        study.end(status, end_time=max(times, default=None))

    with tracking_errors(uri):
        written = patience.run(write, lambda: f"left: {in_all - done} of {in_all} replicates{_AGAIN}")
    selections, paths = derived(study.run_ids())
    with tracking_errors(uri):
        patience.run(conclude, lambda: f"all replicates are there; left: what was selected, the report{_AGAIN}")
    return written


_AGAIN = "; the next sync goes on from there"
