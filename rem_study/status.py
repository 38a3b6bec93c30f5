"""How far a study is, from its files alone."""

from __future__ import annotations

from collections import Counter

from rem_study.folder import Folder
from rem_study.rows import TrialKey, trial_key
from rem_study.spec import cell_name
from rem_study.store import read_log
from rem_study.study import LOG_FOLDER, load_resolved, replicate_rows


def describe(folder: Folder) -> str:
    """A few lines for the terminal: what is finished, per cell and method. Raises InputError."""
    study = load_resolved(folder)
    records, damaged = read_log(folder / LOG_FOLDER)
    rows = replicate_rows(records)
    spec = study.spec
    replicates: Counter[TrialKey] = Counter()
    failed = set()
    for row in rows:
        if row["phase"] != "search":
            continue
        replicates[trial_key(row)] += 1
        if row["state"] == "failed":
            failed.add(trial_key(row))
    pruned = {trial_key(record) for record in records if record["kind"] == "pruned"}
    finished = {key for key, count in replicates.items() if count == spec.budget.replicates} | failed | pruned
    cells = [cell_name(c.name, rate) for c in spec.corruptions for rate in spec.discovery_rates]
    total = len(cells) * sum(study.trials(method) for method in spec.methods)
    originals = {(r["corruption"], r["replicate"]) for r in records if r["kind"] == "original"}
    lines = [
        f"{spec.name}: {len(finished)} of {total} trials finished, {len(failed)} failed, "
        f"{len(originals)} originals trained here"
    ]
    width = max(len(cell) for cell in cells)
    lines.append(" " * width + "  " + "  ".join(f"{method:>9}" for method in spec.methods))
    for cell in cells:
        counts = (sum(1 for key in finished if key[:2] == (cell, method)) for method in spec.methods)
        done = (f"{count}/{study.trials(method)}" for count, method in zip(counts, spec.methods, strict=True))
        lines.append(f"{cell:{width}}  " + "  ".join(f"{text:>9}" for text in done))
    return "\n".join([*lines, *damaged])
