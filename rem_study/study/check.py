"""What a study file promises: cells, trials, originals, and roughly what they cost."""

from __future__ import annotations

from pathlib import Path

from rem_study.data.gather import cores
from rem_study.data.place import prepared_under
from rem_study.data.survey import Survey
from rem_study.errors import InputError
from rem_study.results.study_folder import STUDY_FILE
from rem_study.search.race import longest_race
from rem_study.search.room import lacking
from rem_study.shown import duration
from rem_study.spec import Study, load_study
from rem_study.storage import Folder
from rem_study.study.claim import fingerprints, require_same_fingerprints, required_extension
from rem_study.study.cost import passes, told_cost
from rem_study.study.preflight import preflight, preflight_without_data, sgd_rates, surveyed_data
from rem_study.study.status import finished, look


def describe(
    path: Path,
    overrides: tuple[str, ...] = (),
    root: Folder | None = None,
    name: str | None = None,
    measure: bool = False,
) -> str:
    """A few lines for the terminal. Raises InputError if the study cannot run.

    Args:
        root: where its folder and prepared images are looked for; where there are none of these, a few are decoded and
            none is written. None: no folder is looked for, and all images are decoded.
        name: of the study and its folder; default: the study file's.
        measure: estimate the cost from some seconds of training.
    """
    with prepared_under(root):
        return _describe(load_study(path, overrides, name), str(path), root, measure)


def _describe(study: Study, origin: str, root: Folder | None, measure: bool) -> str:
    spec = study.spec
    surveyed = None
    if there := spec.data.are_there():
        surveyed = surveyed_data(study, origin)
        notes = preflight(study, origin, surveyed.stand_in if surveyed else None)
    else:
        preflight_without_data(study, origin)
        notes = [_absent(study), *sgd_rates(study)]
    cells = len(spec.corruptions) * len(spec.discovery_rates)
    replicates, fresh = spec.budget.replicates, spec.confirm.replicates
    originals = f"{'at most ' if spec.race.replicates else ''}{len(spec.corruptions) * spec.confirmed.stop}"
    lines = [
        f"{spec.name}: {spec.data.name}, {spec.model.name}, objective {spec.objective}, protocol {spec.protocol}",
        f"cells      {cells} = {len(spec.corruptions)} corruptions x {len(spec.discovery_rates)} discovery rates",
        f"originals  {originals} (each {spec.original.epochs} epochs, trained once)",
    ]
    total, rows, epochs = 0, 0, 0.0
    limit = "at most " if spec.budget.sample_passes else ""
    for method, space in study.spaces.items():
        a_cell = study.trials(method)
        challengers = min(spec.race.top, a_cell - 1) if spec.race.replicates else 0
        confirmed = min(2, a_cell) if fresh else 0
        if spec.confirm.everywhere:  # every cell's selected one and the default, unless some are the same
            confirmed = cells * min(1, a_cell - 1) + 1
        total += cells * a_cell
        racing = longest_race(challengers, spec.race.replicates)
        runs = cells * (a_cell * replicates + racing + confirmed * fresh)
        rows += runs
        epochs += runs * passes(method, space.defaults, spec.original.epochs)
        again = f", at most {challengers} race the default" if challengers else ""
        again += f", then {confirmed} on fresh replicates" if confirmed else ""
        lines.append(f"  {method:14} {limit}{a_cell} trials a cell{again}, {cells * a_cell} in all")
    epochs += len(spec.corruptions) * spec.confirmed.stop * spec.original.epochs
    each = f"{replicates} replicate(s)" + (f", selected ones on {fresh} fresh ones too" if fresh else "")
    most = "at most" if spec.race.replicates else "about"
    lines.append(f"trials     {limit}{total}, each on {each}: {most} {rows} rows in trials.parquet")
    stand_in = surveyed.stand_in if surveyed else None
    lines.append(f"cost       {most} {told_cost(study, epochs, there, origin, stand_in, measure)}")
    lines += [] if surveyed is None else [_data(surveyed)]
    if root is not None:
        ready = there and (surveyed is None or surveyed.stand_in is None)
        lines.append(f"folder     {_folder(study, root / spec.name, origin, ready)}")
    lines += [f"note       {note}" for note in notes]
    if lack := lacking(spec.resources):
        lines.append(f"note       {lack}; a launch needs --address, of a cluster that does")
    return "\n".join(lines)


def _folder(study: Study, folder: Folder, origin: str, data_ready: bool) -> str:
    """What a launch would find in the study's folder, and do with it.

    Args:
        data_ready: whether the data are there, and prepared, for the folder's to be held against.
    """
    if not (folder / STUDY_FILE).exists():
        return f"{folder}, new"
    try:
        extension = required_extension(folder, study, origin)
        found = look(folder, study=study)
        if data_ready:
            require_same_fingerprints(folder, found.history, fingerprints(study))
    except InputError as error:  # the study file is none the worse for it
        return str(error).removeprefix(f"{origin}: ")
    there = finished(study, found.trials)
    if extension is None:
        return f"{folder} holds this study, {there}: a launch goes on with it"
    return f"{folder} holds a study that a launch extends, {there}: {', '.join(extension.changed)}"


def _data(found: Survey) -> str:
    """Whether a user's own images are prepared, or what that will take."""
    if found.stand_in is None:
        return f"data       prepared: {found.folder}"
    counts = f"{len(found.stand_in.train_labels):,} + {len(found.stand_in.test_labels):,}"
    size = f"{found.bytes / 1e9:.1f} GB" if found.bytes >= 1e9 else f"{found.bytes / 1e6:.0f} MB"
    shape = " x ".join(map(str, found.stand_in.train_images.shape[1:]))
    return (
        f"data       {counts} images of {shape}, not prepared yet; the launch will: about {duration(found.seconds)} on "
        f"{cores()} cores, {size} in {found.folder.parent} (from {found.sampled} of them)"
    )


def _absent(study: Study) -> str:
    data = study.spec.data
    fetched = ", which a launch fetches" if data.download else ""
    return f"data.root: {data.root} has no {data.name} images{fetched}: what they alone can tell was not checked"
