"""What a study file promises: cells, trials, originals, and roughly what they cost."""

from __future__ import annotations

from pathlib import Path

from rem_study.spec import load_study
from rem_study.study import preflight


def describe(path: Path, overrides: tuple[str, ...] = ()) -> str:
    """A few lines for the terminal. Raises InputError if the study cannot run."""
    study = load_study(path, overrides)
    preflight(study, str(path))
    spec = study.spec
    cells = len(spec.corruptions) * len(spec.discovery_rates)
    replicates = spec.budget.replicates
    lines = [
        f"{spec.name}: {spec.data.name}, {spec.model.name}, objective {spec.objective}, protocol {spec.protocol}",
        f"cells      {cells} = {len(spec.corruptions)} corruptions x {len(spec.discovery_rates)} discovery rates",
        f"originals  {len(spec.corruptions) * replicates} (each {spec.original.epochs} epochs, trained once)",
    ]
    total, epochs = 0, 0.0
    for method, space in study.spaces.items():
        trials = cells * study.trials(method)
        total += trials
        epochs += (
            trials
            * replicates
            * float(space.defaults.get("epochs", spec.original.epochs if method == "retrain" else 0))
        )
        lines.append(f"  {method:14} {study.trials(method)} trials a cell, {trials} in all")
    epochs += len(spec.corruptions) * replicates * spec.original.epochs
    lines.append(f"trials     {total}, each on {replicates} replicate(s): {total * replicates} rows in trials.parquet")
    lines.append(
        f"cost       about {epochs:.0f} passes over the training set at default epochs (REM's cost 2 to 4 each)"
    )
    return "\n".join(lines)
