"""What a study file promises: cells, trials, originals, and roughly what they cost."""

from __future__ import annotations

from pathlib import Path

from rem_study.search.race import longest_race
from rem_study.search.room import lacking
from rem_study.spec import StudySpec, load_study
from rem_study.study.preflight import preflight


def describe(path: Path, overrides: tuple[str, ...] = (), measure: bool = False) -> str:
    """A few lines for the terminal; `measure`: hours too, from a few seconds of training on the device at hand.

    Raises InputError if the study cannot run."""
    study = load_study(path, overrides)
    notes = preflight(study, str(path))
    spec = study.spec
    cells = len(spec.corruptions) * len(spec.discovery_rates)
    replicates, fresh = spec.budget.replicates, spec.confirm.replicates
    originals = f"{'at most ' if spec.race.replicates else ''}{len(spec.corruptions) * spec.confirmed.stop}"
    lines = [
        f"{spec.name}: {spec.data.name}, {spec.model.name}, objective {spec.objective}, protocol {spec.protocol}",
        f"cells      {cells} = {len(spec.corruptions)} corruptions x {len(spec.discovery_rates)} discovery rates",
        f"originals  {originals} (each {spec.original.epochs} epochs, trained once)",
    ]
    total, rows, epochs, of_rem = 0, 0, 0.0, 0.0
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
        own = runs * float(space.defaults.get("epochs", spec.original.epochs if method == "retrain" else 0))
        epochs += own
        of_rem += own if method == "rem" else 0.0
        again = f", at most {challengers} race the default" if challengers else ""
        again += f", then {confirmed} on fresh replicates" if confirmed else ""
        lines.append(f"  {method:14} {limit}{a_cell} trials a cell{again}, {cells * a_cell} in all")
    epochs += len(spec.corruptions) * spec.confirmed.stop * spec.original.epochs
    each = f"{replicates} replicate(s)" + (f", selected ones on {fresh} fresh ones too" if fresh else "")
    most = "at most" if spec.race.replicates else "about"
    lines.append(f"trials     {limit}{total}, each on {each}: {most} {rows} rows in trials.parquet")
    lines.append(
        f"cost       {most} {epochs:.0f} passes over the training set at default epochs (REM's cost 2 to 4 each)"
    )
    if measure:
        lines.append(_told_hours(spec, str(path), epochs + of_rem, epochs + 3 * of_rem))
    lines += [f"note       {note}" for note in notes]
    if lack := lacking(spec.resources):
        lines.append(f"note       {lack}; a launch needs --address, of a cluster that does")
    return "\n".join(lines)


def _told_hours(spec: StudySpec, origin: str, least: float, most: float) -> str:
    """What so many passes over the training set take here, at the rate of the original's training."""
    from rem_study.study.measure import images_per_second
    from rem_study.trial import Setting

    rate = images_per_second(spec, origin)
    images = len(Setting(spec, spec.corruptions[0], 0).dataset.train_labels)
    low, high = (passes * images / rate / 3600 for passes in (least, most))
    device = "GPU" if spec.resources.gpus else f"{spec.resources.cpus} CPU thread(s)"
    hours = f"{low:.2g} to {high:.2g} h with one trial after another, evaluation left out"
    return f"measured   {rate:.0f} images/s of training on this machine's {device}: {hours}"
