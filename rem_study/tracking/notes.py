"""The descriptions of a study's and its cells' runs in MLflow, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rem_study.storage import TrialKey
from rem_study.tracking.entries import run_name
from rem_study.tracking.selections import Selection, ranked
from rem_study.tracking.views import run_link, runs_link

LONGEST = 5_000
"""Characters that every MLflow takes as the value of a run's tag."""

_STUDY = """Ready lists of this study's runs: {views}.

- A study's run has its cells' runs below it, a cell's its trials'; the selected trials are tagged `selected: yes`.
- `reported/` metrics of a selected trial are what the report says of it; those without are of its search, one step a
  replicate.
- A cell's tag `winner` names the method that has won it beyond noise, or says `level`; `leads` the one with the highest
  score.
- A selected trial of REM has a run below it with its curves, one step an epoch.
- To search: `tags.cell = 'poison@0.1'`, `tags.method = 'rem'`, `tags.selected = 'yes'`; `tags.superseded = 'yes'` is of
  what the study was before it was extended, in no table of it now.
- The report with every figure is among this run's artifacts: `report.html`.
"""

_CURVES = """One step an epoch, mean over replicates: how often the network still gives the corrupted samples their
wrong labels, through the old channels alone and together with the new ones. Where the new channels take the
corruption over, the first falls while the others stay high.
"""


def study_note(experiment_id: str, views: Iterable[str]) -> str:
    """What there is and how to find it."""
    links = [f"[{name}]({runs_link(experiment_id, name)})" for name in views]
    return _STUDY.replace("{views}", " · ".join(links)) if links else _STUDY.partition("\n\n")[2]


def curves_note() -> str:
    """What the curves of a selected trial are."""
    return _CURVES


def cell_note(experiment_id: str, selections: Sequence[Selection], runs: Mapping[TrialKey, str]) -> str:
    """A cell's table: what was selected of each method, best first, with its run where `runs` has one."""
    lines = [_standing(selections), "", _HEADINGS, "|---|---:|---:|---:|---:|---|"]
    for one in ranked(selections):
        cells = [one.method, _interval(one.scores), *(_share(one.scores.get(name)) for name in ("healed", "utility"))]
        name = run_name(one.trial)
        run = f"[{name}]({run_link(experiment_id, runs[one.trial])})" if one.trial in runs else name
        line = f"| {' | '.join([*cells, _gain(one.scores.get('gain')), run])} |"
        if sum(map(len, lines)) + len(lines) + len(line) > LONGEST:
            break
        lines.append(line)
    return "\n".join(lines)


_HEADINGS = "| method | utility × healed | healed | utility | gain over its default | selected trial |"


def _standing(selections: Sequence[Selection]) -> str:
    leader = ranked(selections)[0]
    if leader.standing == "won":
        return f"**{leader.method} has won this cell**: its lead over the next method is beyond noise."
    if any(one.standing == "level" for one in selections):
        return f"**Level**: {leader.method} has the highest score, and its lead over the next method is within noise."
    return f"**{leader.method} has the highest score**; whether its lead is beyond noise is not known."


def _interval(scores: Mapping[str, float]) -> str:
    low, high = scores.get("utility_x_healed_low"), scores.get("utility_x_healed_high")
    between = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return _share(scores.get("utility_x_healed")) + between


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _gain(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}".replace("-", "−")
