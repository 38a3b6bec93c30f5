"""What `rem-study watch` shows of a study that runs, as HTML: counts, pace, the grid, each cell's history, failures."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path

from rem_study.spec import Study, cell_name
from rem_study.storage import Folder, TrialKey
from rem_study.study.status import Finished, Glance, fresh, head, notes, pace, total

WIDE, HIGH = 150, 44
"""Pixels of a cell's history."""
SHOWN = 8
"""Failures that are listed, the last ones."""


def live(folder: Folder, seen: Glance, ended: bool) -> str:
    """The part of the page that changes."""
    study, trials = seen.study, seen.trials
    done, needed = len(trials), total(study) * len(study.spec.corruptions) * len(study.spec.discovery_rates)
    told = "the study has ended" if ended else pace(study, trials, time.time())
    later = fresh(seen.history.rows)
    parts = [
        f'<p class="head">{escape(head(study, trials, seen.originals))}</p>',
        f'<progress max="{max(1, needed)}" value="{done}" aria-label="search trials finished"></progress>',
        f'<p class="pace">{escape(" · ".join([told, *later]))}</p>',
        _grid(study, trials),
        *(f"<p>{escape(line)}</p>" for line in [*notes(study, trials), *seen.history.damaged]),
        _failures(seen),
    ]
    return f'<div id="state" data-ended="{str(ended).lower()}" data-finished="{done}">{"".join(parts)}</div>'


def _grid(study: Study, trials: Mapping[TrialKey, Finished]) -> str:
    """A row a corruption, a column a discovery rate: how many trials are through, and the best score so far."""
    rates = study.spec.discovery_rates
    columns = "".join(f'<th scope="col">{rate:g}</th>' for rate in rates)
    rows = [f'<tr><th scope="col">discovery rate</th>{columns}</tr>']
    for corruption in study.spec.corruptions:
        squares = "".join(_square(study, trials, cell_name(corruption.name, rate)) for rate in rates)
        rows.append(f'<tr><th scope="row">{escape(corruption.name)}</th>{squares}</tr>')
    note = (
        "In each cell: search trials through, the best utility × healed so far and whose it is; the line: how it grew."
    )
    return f"<table>{''.join(rows)}</table><p class='note'>{note}</p>"


def _square(study: Study, trials: Mapping[TrialKey, Finished], cell: str) -> str:
    own = sorted(((key[1], trial) for key, trial in trials.items() if key[0] == cell), key=lambda one: one[1].ended)
    needed = total(study)
    failed = sum(trial.state == "failed" for _, trial in own)
    best: list[tuple[float, str]] = []
    for method, trial in own:
        if trial.utility_x_healed is not None:
            best.append(max([*best[-1:], (trial.utility_x_healed, method)], key=lambda one: one[0]))
    state = "done" if len(own) == needed else "under-way" if own else "waiting"
    told = f"<b>{best[-1][0]:.2f}</b> {escape(best[-1][1])}" if best else "–"
    broken = f' <span class="failed">{failed} failed</span>' if failed else ""
    count = f'<span class="count">{len(own)}/{needed}{broken}</span>'
    history = _history([value for value, _ in best], needed)
    return f'<td class="{state}" data-cell="{escape(cell)}">{told} {count}{history}</td>'


def _history(best: Sequence[float], needed: int) -> str:
    """The best score so far (0 to 1, upwards) after each trial that has one, as steps."""
    step = WIDE / max(1, needed)
    path = "".join(
        f"{'M' if place == 0 else 'V'}{'0 ' if place == 0 else ''}{_height(value)}H{(place + 1) * step:.1f}"
        for place, value in enumerate(best)
    )
    told = f"best score after each of {len(best)} trials, now {best[-1]:.2f}" if best else "no score yet"
    drawn = f'<path d="{path}"/>' if best else ""
    return f'<svg viewBox="0 0 {WIDE} {HIGH}" preserveAspectRatio="none" role="img" aria-label="{told}">{drawn}</svg>'


def _height(value: float) -> str:
    return f"{HIGH - 2 - max(0.0, min(1.0, value)) * (HIGH - 4):.1f}"


def _failures(seen: Glance) -> str:
    broken = [row for row in seen.history.rows if row["state"] == "failed"]
    if not broken:
        return ""
    items = "".join(
        "<li>" + escape(f"{row['cell']} {row['method']} #{row['trial']}: {row.get('error') or '?'}") + "</li>"
        for row in broken[-SHOWN:][::-1]
    )
    return f"<h2>Failures ({len(broken)} replicates, the last ones)</h2><ul>{items}</ul>"


def has_ended(folder: Folder, seen: Glance) -> bool:
    """Whether the last launch has written its manifest and then its report, which it does at its end, and nothing has
    come since."""
    path, report = folder / "manifest.json", folder / "report.html"
    if not path.is_file() or not report.is_file():
        return False
    if isinstance(path, Path) and isinstance(report, Path) and report.stat().st_mtime < path.stat().st_mtime:
        return False  # of an earlier launch
    try:
        content = json.loads(path.read_text())
        began = datetime.strptime(content["launched"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        ended = began.timestamp() + float(content["seconds_of_last_launch"]) + 1.1  # both are rounded
    except (ValueError, KeyError, TypeError):
        return False
    return all(row.get("end_time", 0) / 1000 <= ended for row in seen.history.rows)


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{name}: running</title><style>
:root {{ color-scheme: light dark; --ink: #1b1f24; --paper: #fff; --faint: #667; --line: #d5dae0; --done: #0b57a4;
  --bad: #b3261e }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6e9ee; --paper: #14171b; --faint: #9aa3ad; --line: #333a42;
  --done: #7ab8ff; --bad: #ff8a80 }} }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 80rem;
  margin: 1.5rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.3rem; margin: 0 }} h2 {{ font-size: 1rem }} .head {{ margin: .2rem 0 }}
progress {{ width: 100%; height: .8rem; accent-color: var(--done) }}
.pace, .note, .count {{ color: var(--faint) }} .failed, #lost {{ color: var(--bad) }}
table {{ border-collapse: collapse; display: block; overflow-x: auto }}
th {{ text-align: left; padding: .3rem .6rem; font-weight: 600 }}
td {{ border: 1px solid var(--line); padding: .3rem .6rem; min-width: 10rem; font-variant-numeric: tabular-nums }}
td.done {{ border-left: 4px solid var(--done) }} td.waiting {{ opacity: .6 }}
svg {{ display: block; width: 100%; height: {high}px }}
svg path {{ fill: none; stroke: var(--done); stroke-width: 2; vector-effect: non-scaling-stroke }}
li {{ overflow-wrap: anywhere }} a {{ color: var(--done) }}
</style></head><body>
<h1>{name}</h1><p id="lost" role="alert" hidden>rem-study watch has ended; what stands here is its last word.</p>
<div id="live" aria-live="off">{live}</div>
<p><a href="/report">The report so far</a>: winners, maps, methods, drawn when you open it.</p>
<script>
const ended = () => document.getElementById("state").dataset.ended === "true";
async function look() {{
  if (ended()) {{ location.replace("/report"); return; }}
  try {{
    const answer = await fetch("/live", {{cache: "no-store"}});
    if (answer.ok) document.getElementById("live").innerHTML = await answer.text();
    document.getElementById("lost").hidden = answer.ok;
  }} catch {{ document.getElementById("lost").hidden = false; }}
  setTimeout(look, ended() ? 0 : {every});
}}
setTimeout(look, {every});
</script></body></html>
"""


def page(folder: Folder, seen: Glance, ended: bool, every: float) -> str:
    """The whole page, which looks for what is new each `every` seconds and, at the end, becomes the report."""
    name, part = escape(seen.study.spec.name), live(folder, seen, ended)
    return PAGE.format(name=name, live=part, every=round(every * 1000), high=HIGH)
