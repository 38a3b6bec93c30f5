"""One trial, or one cell's whole search, in this process: no Ray, no folder, no MLflow. For notebooks and debugging."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rem_study.errors import InputError, did_you_mean
from rem_study.results import load_resolved
from rem_study.spec import Configuration, Study, load_study

if TYPE_CHECKING:
    import pandas as pd

ORIGINALS = Path("runs/originals")


def run_trial(
    study: Study | Path | str,
    cell: str,
    method: str = "rem",
    configuration: Configuration | None = None,
    *,
    replicate: int = 0,
    originals: Path | str = ORIGINALS,
    device: str = "cpu",
) -> dict[str, Any]:
    """One configuration in one cell on one replicate: the same figures as in a study's trials.parquet.

    Args:
        study: a study, its file, or the folder that it left behind.
        cell: `poison@0.5`, say.
        configuration: hyperparameters by name; those left out have the study's defaults.
        originals: a folder; the original is trained and put there if it is not there yet. Prepared images lie in the
            folder `data` beside it.

    Raises:
        InputError: a wrong study file, cell, method or hyperparameter.
    """
    from rem_study.data.place import prepared_under
    from rem_study.trial import OriginalStore, Trial, identity
    from rem_study.trial import run_trial as run

    resolved = _resolved(study)
    space = resolved.spaces.get(method)
    if space is None:
        meant = did_you_mean(method, resolved.spaces)
        raise InputError(f"{method}: the study has no such method{meant}; it has {', '.join(resolved.spaces)}")
    trial = Trial(_cell(resolved, cell), method, space.complete(configuration or {}), replicate)
    with prepared_under(Path(originals).parent):
        row = run(resolved.spec, trial, OriginalStore(Path(originals)), device)
    return identity(resolved.spec, trial, 0, "search", "given") | row


def run_cell(
    study: Study | Path | str, cell: str, *, originals: Path | str = ORIGINALS, device: str = "cpu"
) -> pd.DataFrame:
    """The search of every method of the study in one cell, one trial after another; the rows of trials.parquet.

    The trials are those of the whole study, as far as they do not depend on its other cells. Arguments and errors as
    in `run_trial`.
    """
    from rem_study.data.place import prepared_under

    with prepared_under(Path(originals).parent):
        return _run_cell(_resolved(study), cell, Path(originals), device)


def _run_cell(resolved: Study, cell: str, originals: Path, device: str) -> pd.DataFrame:
    from rem_study.results.write import trials_of
    from rem_study.search.jobs import OriginalJob
    from rem_study.search.plan import GridPlan
    from rem_study.trial import OriginalStore, Setting, Trial, identity
    from rem_study.trial import run_trial as run

    place = _cell(resolved, cell)
    alone = {"corruptions": (place.corruption,), "discovery_rates": (place.discovery_rate,)}
    only = resolved.model_copy(update={"spec": resolved.spec.model_copy(update=alone)})
    store = OriginalStore(originals)
    plan, rows = GridPlan(only, [], []), []
    while not plan.done():
        job = plan.next_job()
        if job is None:
            raise RuntimeError(f"{cell}: nothing may run, though the search is not through")
        if isinstance(job, OriginalJob):
            store.obtain(Setting(only.spec, place.corruption, job.replicate, device))
            plan.original_done(job)
            continue
        trial = Trial(place, job.method, job.configuration, job.replicate)
        row = identity(only.spec, trial, job.trial, job.phase, job.proposed_by) | run(only.spec, trial, store, device)
        rows.append(row)
        plan.replicate_done(row)
    return trials_of(rows, plan.states(rows), {}).to_pandas()


def _resolved(study: Study | Path | str) -> Study:
    if isinstance(study, Study):
        return study
    path = Path(study)
    return load_resolved(path) if path.is_dir() else load_study(path)


def _cell(study: Study, name: str) -> Any:
    from rem_study.trial import cells_of

    cells = {cell.name: cell for cell in cells_of(study.spec)}
    if name not in cells:
        raise InputError(f"{name}: the study has no such cell{did_you_mean(name, cells)}; it has {', '.join(cells)}")
    return cells[name]
