"""The report of a healing as one page that needs nothing but itself: words, tables, contact sheets."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from torch import Tensor

from rem_study.heal.diagnosis import Diagnosis
from rem_study.heal.effects import Effects, class_accuracies
from rem_study.heal.inputs import Case
from rem_study.heal.names import Names
from rem_study.heal.report import QUALITIES, told_candidates
from rem_study.heal.suspects import Suspects
from rem_study.report.html import style, table

_KNOWN_SHOWN = 32
_SUSPECTS_SHOWN = 64
_MOST_PIXELS = 96  # of a thumbnail's side
_MOST_CLASSES = 25  # of a confusion matrix that is shown
_SHEETS = """
.sheet { display: flex; flex-wrap: wrap; gap: .6rem; margin: .5rem 0 }
.sheet figure { margin: 0; width: 7.2rem; font-size: .78rem; overflow-wrap: anywhere }
.sheet img { width: 7rem; height: 7rem; object-fit: contain; image-rendering: pixelated; background: #eee }
.confusion td, .confusion th { text-align: right; padding: .1rem .45rem } .wrong { background: var(--wrong) }
.matrices { display: flex; flex-wrap: wrap; gap: 2rem }
"""


def page(
    facts: Mapping[str, Any],
    case: Case,
    suspects: Suspects,
    effects: Effects,
    diagnosis: Diagnosis | None,
    warnings: Sequence[str],
) -> str:
    """The whole page. `facts` are those of the JSON report; `warnings` as a terminal shows them."""
    title = f"Healing of {facts['checkpoint']}"
    sections = [
        f"<h1>{escape(title)}</h1>",
        *(f'<p class="summary">{sentence}</p>' for sentence in _summary(facts, suspects, effects)),
        "<h2>Before and after</h2>",
        _qualities(facts),
        *_diagnosis(diagnosis),
        "<h2>Known samples</h2>",
        *_sheet(case, suspects, suspects.known, _KNOWN_SHOWN),
        "<h2>Suspects</h2>",
        *_sheet(case, suspects, suspects.suspect, _SUSPECTS_SHOWN),
        "<h2>Class by class</h2>",
        *_classes(effects, case.names),
        "<h2>How sure this is</h2>",
        *(f"<p>{sentence}</p>" for sentence in _doubts(facts, diagnosis, warnings)),
    ]
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{style()}{_SHEETS}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>\n' + "\n".join(sections) + "\n</body></html>\n"


def _summary(facts: Mapping[str, Any], suspects: Suspects, effects: Effects) -> Iterator[str]:
    samples = facts["samples"]
    known = f"{facts['told']} of {samples['train']:,} training samples were said to have wrong labels"
    if facts["left_alone"]:
        why = "they look like all the others: there is little to heal"
        if facts["diagnosis"]["wrecked"]:
            why = "the network can't give them up without the others: every healing wrecks it"
        yield f"{known}, but {why}, and nothing was changed."
        return
    forgot = facts["forget_accuracy"]
    taken = samples["forget"] - facts["told"]
    more = f", and {taken} suspects were taken for such" if taken else ""
    yield (
        f"{known}{more}. The network gave {forgot['before']:.0%} of these wrong labels before, and "
        f"{forgot['after']:.0%} now."
    )
    yield (
        f"Of the others {suspects.estimate} are likely to be wrong too ({suspects.low} to {suspects.high}): the healed "
        "network rejects their label."
    )
    yield (
        f"{effects.lost} retained samples no longer get the label that they were given: {effects.lost_suspects} of "
        f"them are such suspects, {effects.lost - effects.lost_suspects} are likely damage."
    )


def _qualities(facts: Mapping[str, Any]) -> str:
    rows = [
        {"accuracy on": told, "before": f"{facts[name]['before']:.3f}", "after": f"{facts[name]['after']:.3f}"}
        for name, told in QUALITIES.items()
        if name in facts
    ]
    return table(rows, ["accuracy on"])


def _diagnosis(diagnosis: Diagnosis | None) -> list[str]:
    if diagnosis is None:
        return []
    return ["<h2>Diagnosis</h2>", "<pre>" + "\n".join(map(escape, diagnosis.lines())) + "</pre>"]


def _sheet(case: Case, suspects: Suspects, chosen: Tensor, most: int) -> list[str]:
    """The chosen samples, in the list's order: image, name, given label and the other with the most votes."""
    places = chosen.nonzero().squeeze(1)
    if not len(places):
        return ['<p class="absent">There are none.</p>']
    shown = places[:most].tolist()
    images = case.dataset.train_images[suspects.ids[shown].to(case.dataset.train_images.device)].cpu()
    cards = []
    for place, image in zip(shown, images, strict=True):
        number, now = int(suspects.ids[place]), int(suspects.proposed[place])
        given = case.names.of_class(int(suspects.given[place]))
        name = str(case.names.number(number)) if case.names.files is None else case.names.files[number]
        rejected = bool(suspects.rejected[place])
        verdict = f"{given} → {case.names.of_class(now)}" if rejected else f"{given} (not rejected)"
        cards.append(
            f'<figure><img alt="{escape(name)}" src="{_png(image)}"><br>{escape(verdict)}<br>'
            f'<span class="note">{escape(name)}, {float(suspects.score[place]):+.1f}</span></figure>'
        )
    more = f" The other {len(places) - len(shown)} are in the list." if len(places) > len(shown) else ""
    note = f'<p class="note">Given label → the other with the most votes; sample and score.{more}</p>'
    return [note, f'<div class="sheet">{"".join(cards)}</div>']


def _png(image: Tensor) -> str:
    """A uint8 image (C, H, W) of 1 or 3 channels as a data URI, at most _MOST_PIXELS a side."""
    from PIL import Image

    pixels = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    picture = Image.fromarray(pixels.contiguous().numpy())
    picture.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _classes(effects: Effects, names: Names) -> list[str]:
    on = "held-out images" if effects.measured_on == "held-out" else "retained samples, against the labels given"
    before, after = class_accuracies(effects.before), class_accuracies(effects.after)
    rows = [
        {"class": escape(names.of_class(label)), "samples": str(count), "before": _share(old), "after": _share(new)}
        for label, (count, old, new) in enumerate(zip(effects.before.sum(1).tolist(), before, after, strict=True))
    ]
    parts = [f'<p class="note">Measured on {on}.</p>', table(rows, ["class"])]
    if len(rows) > _MOST_CLASSES:
        return [
            *parts,
            '<p class="absent">The confusion matrices are in the JSON report: too many classes for a page.</p>',
        ]
    matrices = [
        _matrix(title, matrix, names) for title, matrix in (("before", effects.before), ("after", effects.after))
    ]
    note = '<p class="note">Confusion, a row a label, a column a prediction.</p>'
    return [*parts, note, f'<div class="matrices">{"".join(matrices)}</div>']


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _matrix(title: str, matrix: Tensor, names: Names) -> str:
    labels: Sequence[str] = [escape(names.of_class(label)) for label in range(len(matrix))]
    head = "".join(f"<th>{label}</th>" for label in labels)
    rows = []
    for label, counts in enumerate(matrix.tolist()):
        cells = "".join(
            f'<td class="wrong">{count}</td>' if count and column != label else f"<td>{count or ''}</td>"
            for column, count in enumerate(counts)
        )
        rows.append(f"<tr><th>{labels[label]}</th>{cells}</tr>")
    return f'<table class="confusion"><tr><th>{title}</th>{head}</tr>{"".join(rows)}</table>'


def _doubts(facts: Mapping[str, Any], diagnosis: Diagnosis | None, warnings: Sequence[str]) -> Iterator[str]:
    yield (
        "There are as many suspects as retained samples like the known ones whose given label lies below another one "
        "in the mean logits of the healed networks, or as can be corrupted, by how often known ones are doubted by "
        "networks that were not told of them; of a poison they are those of its label that healing moved most. On "
        "digits, with three kinds of corruption, their number was 0.83 to 1.27 times the true one; others may be "
        "harder."
    )
    if len(facts["candidates"]) > 1:
        yield (
            f"{told_candidates(facts['candidates']).capitalize()}: an estimate of how much is healed times the "
            "accuracy that is left, by the votes of networks that may all be wrong."
        )
    if diagnosis is None:
        yield "The case was not diagnosed: whether the known samples are wrong at all was not looked at."
    elif diagnosis.judged:
        yield f"Of {diagnosis.judged} known samples, {diagnosis.confirmed} are rejected by networks not told of them."
    if not facts["samples"]["test"]:
        yield "There are no held-out images: what healing cost is only seen on training samples."
    for warning in warnings:
        yield f"Warning: {escape(warning)}"
