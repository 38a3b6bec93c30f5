"""Who won a study and by how much: what `launch` ends with."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from rem_study.results import load_resolved
from rem_study.results.comparison import Opened, difference, over_cells
from rem_study.results.read import read_tables
from rem_study.results.winners import Lead, Scored, judge
from rem_study.storage import Folder


def who_won(folder: Folder) -> list[str]:
    """The method with the highest mean over the cells, its lead over the next, and who wins how many cells.

    Means and lead are over the cells in which every method has a score.
    """
    scores = Opened(load_resolved(folder), *read_tables(folder)).scores()
    methods = sorted({method for one in scores.values() for method in one})
    shared = [cell for cell, one in scores.items() if set(one) == set(methods)]
    if not shared:
        none = "no method has a score in any cell" if not methods else "no cell has a score of every method"
        return [f"result:  {none}; report.html says why"]
    means = {method: over_cells(scores, method, shared) for method in methods}
    first, *others = sorted(methods, key=lambda method: (-means[method].score, method))
    place = f"over {_counted(len(shared), 'cell')}"
    head = f"result:  {first} has the highest mean utility x healed, {means[first].score:.3f} {place}"
    if not others:
        return [f"result:  {first}, the only method: mean utility x healed {means[first].score:.3f} {place}"]
    lead = difference(means[first], means[others[0]], paired=True)
    return [f"{head}: {_lead(lead)} above {others[0]}", f"cells:   {_cells(scores)}"]


def _lead(lead: Lead) -> str:
    value = f"{lead.value:.3f}"
    if math.isnan(lead.low):
        return f"{value} (no interval: one replicate)"
    return f"{value} (95 % interval over {lead.replicates} replicates {lead.low:+.3f} to {lead.high:+.3f})"


def _cells(scores: Mapping[str, Mapping[str, Scored]]) -> str:
    """`rem wins 5, npo 1; 3 are level`: by the report's rule."""
    won: Counter[str] = Counter()
    level = 0
    for one in scores.values():
        winner = next((method for method, verdict in judge(one).items() if verdict.standing == "won"), None)
        won.update([winner] if winner else [])
        level += winner is None
    wins = ", ".join(f"{method} wins {count}" for method, count in won.most_common()) or "nobody wins one"
    return f"{wins}; {level} without a winner beyond noise" if level else wins


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
