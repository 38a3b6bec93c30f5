"""How far a study is, from its files alone: the grid at a glance, its pace, what is left, where it is weak."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any, NamedTuple

from rem_study.results import LOG_FOLDER, load_resolved
from rem_study.shown import duration
from rem_study.spec import Study, cell_name
from rem_study.storage import Folder, TrialKey, read_history, trial_key
from rem_study.storage.history import History
from rem_study.study.hindered import hindrances

RECENT = 50
"""Finished trials that the pace is taken from."""
PAUSE = 20.0
"""A gap between two results that is as many times longer than usual: the study was stopped, or waited."""
DONE, UNDER_WAY, WAITING = "✓", "▸", "·"


class Finished(NamedTuple):
    """A finished search trial: complete, pruned or failed."""

    state: str
    ended: float  # epoch seconds
    score: float | None
    utility_x_healed: float | None


@dataclass(frozen=True)
class Glance:
    """A study as its log has it now.

    Attributes:
        trials: the search trials that are through.
        originals: how many are trained.
    """

    study: Study
    history: History
    trials: Mapping[TrialKey, Finished]
    originals: int


def look(folder: Folder, whole: bool = False, study: Study | None = None) -> Glance:
    """Read the log of the study in `folder`.

    Args:
        whole: its rows with all that they have.
        study: whose trials they are counted as, which the folder's may become; default: the folder's.

    Raises:
        InputError: there is no study, or its log cannot be read.
    """
    study = study or load_resolved(folder)
    history = read_history(folder / LOG_FOLDER, glance=not whole)
    originals = {(record["corruption"], record["replicate"]) for record in history.originals}
    return Glance(study, history, _finished(study, history.rows, history.pruned), len(originals))


def describe(folder: Folder) -> str:
    """A screenful for the terminal. Raises InputError."""
    seen = look(folder)
    study, trials = seen.study, seen.trials
    lines = [head(study, trials, seen.originals), pace(study, trials, time.time())]
    lines += hindrances(folder, time.time())
    lines += ["", *_grid(study, trials), "", *notes(study, trials), *fresh(seen.history.rows), *seen.history.damaged]
    return "\n".join(lines)


def _finished(study: Study, rows: Iterable[Mapping[str, Any]], pruned: Set[TrialKey]) -> dict[TrialKey, Finished]:
    """The search trials that are through: all replicates there, or one that failed, or given up early."""
    replicates: dict[TrialKey, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["phase"] == "search":
            replicates.setdefault(trial_key(row), []).append(row)
    found, needed = {}, study.spec.budget.replicates
    for key, own in replicates.items():
        state, ended, scores, values = "pruned" if key in pruned else "complete", 0, [], []
        for row in own:
            if row["state"] == "failed":
                state = "failed"
            ended = max(ended, row["end_time"])
            scores.append(row.get("score"))
            values.append(row.get("utility_x_healed"))
        if state != "complete" or len(own) == needed:
            score = _mean(scores) if state == "complete" else None
            found[key] = Finished(state, ended / 1000, score, _mean(values))
    return found


def _mean(values: list[Any]) -> float | None:
    return None if None in values else math.fsum(values) / len(values)


def total(study: Study) -> int:
    """Search trials of one cell."""
    return sum(study.trials(method) for method in study.spec.methods)


def _cells(study: Study) -> int:
    return len(study.spec.corruptions) * len(study.spec.discovery_rates)


def finished(study: Study, trials: Mapping[TrialKey, Finished]) -> str:
    """`3 of 8 trials finished`."""
    return f"{len(trials)} of {total(study) * _cells(study)} trials finished"


def head(study: Study, trials: Mapping[TrialKey, Finished], originals: int) -> str:
    """`smoke: 3 of 8 trials finished, 0 failed, 0 pruned, 1 of 1 originals trained here`."""
    states = Counter(trial.state for trial in trials.values())
    needed = len(study.spec.corruptions) * study.spec.confirmed.stop
    return (
        f"{study.spec.name}: {finished(study, trials)}, "
        f"{states['failed']} failed, {states['pruned']} pruned, "
        f"{originals} of {'at most ' if study.spec.race.replicates else ''}{needed} originals trained here"
    )


def pace(study: Study, trials: Mapping[TrialKey, Finished], now: float) -> str:
    """`0.4 trials/s · about 5 min left · last result 3 s ago`."""
    if not trials:
        return "no trial has finished yet"
    ends = sorted(trial.ended for trial in trials.values())[-RECENT:]
    ago = f"last result {duration(max(0.0, now - ends[-1]))} ago"
    left = total(study) * _cells(study) - len(trials)
    if not left:
        return f"the search is through · {ago}"
    gaps = [later - earlier for earlier, later in itertools.pairwise(ends)]
    usual = PAUSE * max(statistics.median(gaps), 0.1) if gaps else 0.0
    steady = [gap for gap in gaps if gap <= usual]
    if not sum(steady):
        return ago
    rate = len(steady) / sum(steady)
    return f"{rate:.2g} trials/s · about {duration(left / rate)} left at that pace · {ago}"


def _grid(study: Study, trials: Mapping[TrialKey, Finished]) -> list[str]:
    """A square a cell: trials finished of all, `2!` for failed ones, and a mark for done, under way, waiting."""
    needed = total(study)
    finished = Counter(key[0] for key in trials)
    failed = Counter(key[0] for key, trial in trials.items() if trial.state == "failed")

    def square(cell: str) -> str:
        mark = DONE if finished[cell] == needed else UNDER_WAY if finished[cell] else WAITING
        return f"{finished[cell]}/{needed}{f' {failed[cell]}!' if failed[cell] else ''} {mark}"

    rates = study.spec.discovery_rates
    rows = {c.name: [square(cell_name(c.name, rate)) for rate in rates] for c in study.spec.corruptions}
    first = max(len(name) for name in [*rows, "discovery rate"])
    wide = max(len(text) for row in rows.values() for text in row)
    lines = [f"{'discovery rate':>{first}}  " + "  ".join(f"{rate:>{wide}g}" for rate in rates)]
    lines += [f"{name:>{first}}  " + "  ".join(f"{text:>{wide}}" for text in row) for name, row in rows.items()]
    return [*lines, f"{'':{first}}  trials; {DONE} done  {UNDER_WAY} under way  {WAITING} waiting  ! failed"]


def notes(study: Study, trials: Mapping[TrialKey, Finished]) -> list[str]:
    """The worst cell so far, and where trials failed."""
    selected: dict[tuple[str, str], tuple[tuple[float, int], float | None]] = {}
    for (cell, method, _, number), trial in trials.items():
        if trial.score is not None:
            place, rank = (cell, method), (trial.score, -number)
            if place not in selected or rank > selected[place][0]:
                selected[place] = rank, trial.utility_x_healed
    best: dict[str, tuple[float, str]] = {}
    for (cell, method), (_, value) in selected.items():
        if value is not None:
            best[cell] = max(best.get(cell, (value, method)), (value, method))
    lines = []
    if best:
        cell, (value, method) = min(best.items(), key=lambda item: item[1])
        lines.append(f"worst cell so far: {cell}; best utility x healed there {value:.2f}, by {method}")
    failed = Counter(key[:2] for key, trial in trials.items() if trial.state == "failed")
    lines += [f"failed: {count} of {method} in {cell}" for (cell, method), count in failed.most_common(5)]
    if len(failed) > 5:
        lines.append(f"failed: and in {len(failed) - 5} more places")
    return lines


def fresh(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """How much of the race, the confirmation and the transfer is there; nothing while they have not begun."""
    done = Counter(row["phase"] for row in rows if row["phase"] != "search")
    return [f"{phase}: {count} replicates so far" for phase, count in done.items()]
