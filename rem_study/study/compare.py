"""`rem-study compare`: several studies side by side, as text for the terminal."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

from rem_study.errors import InputError
from rem_study.results import load_resolved
from rem_study.results.comparison import Opened, beyond_noise, difference, over_cells, share_seeds
from rem_study.results.read import read_tables
from rem_study.results.winners import Lead, Scored, judge
from rem_study.spec import cell_name
from rem_study.storage import Folder
from rem_study.study.extension import Absent, by_name, walk

LETTERS = string.ascii_uppercase
VERDICTS = {1: "+", 0: "=", -1: "-"}
WIDEST = 40
"""Characters of a value of a study file that are shown."""


def describe(folders: Sequence[Folder]) -> str:
    """What differs in the studies' files, then their scores: over the cells they share, and cell by cell.

    Raises:
        InputError: fewer than two folders or more than 26, or one that is no study with tables.
    """
    if not 2 <= len(folders) <= len(LETTERS):
        raise InputError(f"compare: takes 2 to {len(LETTERS)} studies, not {len(folders)}")
    studies = [Opened(load_resolved(folder), *read_tables(folder)) for folder in folders]
    scores = [study.scores() for study in studies]
    lines = [_head(LETTERS[place], folders[place], study) for place, study in enumerate(studies)]
    for part in (_settings(folders, studies), _means(studies, scores), _cells(studies, scores)):
        lines += ["", *part]
    return "\n".join([*lines, "", *_winners(studies, scores), "", *LEGEND])


LEGEND = (
    "Scores are utility x healed on the report split; a difference stands with its 95 % interval: over the replicates",
    "that are the same in both studies (paired), else Welch's; of one replicate two standard errors of its samples.",
    "+ above A, - below A, = neither beyond noise, by the rule that names a cell's winner; ? too few to say.",
)


def _head(letter: str, folder: Folder, study: Opened) -> str:
    spec = study.study.spec
    known = sorted(set(study.cells.loc[study.cells["utility_x_healed"].notna(), "replicates"]))
    each = " to ".join(f"{count:.0f}" for count in dict.fromkeys(known[:1] + known[-1:]))
    of = "fresh replicates" if spec.confirm.replicates else "replicates of the search, which chose by them"
    scored = f"scores on {each} {of}" if known else "no scores"
    return f"{letter}  {folder}: {len(_cell_names([study]))} cells, {len(spec.methods)} methods, {scored}"


def _settings(folders: Sequence[Folder], studies: Sequence[Opened]) -> list[str]:
    """What differs between the study files, and what the studies were made with."""
    documents = [
        {**by_name(study.study.spec), **_made_with(folder)} for folder, study in zip(folders, studies, strict=True)
    ]
    for document in documents:
        del document["name"]
    paths = {path: None for document in documents[1:] for path, _, _ in walk(documents[0], document)}
    own = any(method.trials for study in studies for method in study.study.spec.methods.values())
    rows: dict[str, list[str]] = {}
    for path in paths:
        each = path[0] == "methods" and path[2:] == ("trials",) and not own
        rows["budget.trials" if each else ".".join(path)] = [_told(_at(document, path)) for document in documents]
    if not rows:
        return ["their study files say the same"]
    return [
        "What differs in their study files",
        *_table(["", *LETTERS[: len(studies)]], [[k, *v] for k, v in rows.items()]),
    ]


def _made_with(folder: Folder) -> dict[str, Any]:
    path = folder / "manifest.json"
    content = json.loads(path.read_text()) if path.is_file() else {}
    names = ("rem_study", "data_fingerprint", "code_fingerprint")
    return {"(made with)": {name: str(content[name])[:12] for name in names if name in content}}


def _at(document: Any, path: Sequence[str]) -> Any:
    for part in path:
        document = document.get(part, Absent) if isinstance(document, dict) else Absent
    return document


def _told(value: Any) -> str:
    if value is Absent:
        return "-"
    if isinstance(value, dict):
        return "there"
    text = "none" if value is None else json.dumps(value) if isinstance(value, list) else str(value)
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}..."


_Scores = Mapping[str, Mapping[str, Scored]]


def _means(studies: Sequence[Opened], scores: Sequence[_Scores]) -> list[str]:
    """A row a method: its means over the cells in which all studies have a score of it."""
    rows = []
    for method in _methods(studies):
        shared = [cell for cell in _cell_names(studies) if all(method in one.get(cell, {}) for one in scores)]
        if shared:
            means = [over_cells(one, method, shared) for one in scores]
            rows.append([method, str(len(shared)), *_row(studies, means, shared)])
    if not rows:
        return ["no method has a score in a cell that all of them have"]
    return ["Means over the cells they share", *_table(["method", "cells", *_heads(len(studies))], rows)]


def _cells(studies: Sequence[Opened], scores: Sequence[_Scores]) -> list[str]:
    """A row a (cell, method) that the first study and another one have, and how many only one of them has."""
    rows = []
    alone: dict[str, int] = {}
    for cell in _cell_names(studies):
        for method in _methods(studies):
            own = [one.get(cell, {}).get(method) for one in scores]
            having = "".join(letter for letter, one in zip(LETTERS, own, strict=False) if one is not None)
            if having.startswith("A") and len(having) > 1:
                rows.append([cell, method, *_row(studies, own, [cell])])
            elif having:
                alone[having] = alone.get(having, 0) + 1
    lines = ["Cell by cell", *_table(["cell", "method", *_heads(len(studies))], rows)] if rows else []
    for letters, count in alone.items():
        lines.append(f"  and {count} scores (cell, method) that {' and '.join(letters)} alone {_has(letters)}")
    return lines


def _has(letters: str) -> str:
    return "has" if len(letters) == 1 else "have"


def _heads(count: int) -> list[str]:
    return [*LETTERS[:count], *(f"{letter} - A" for letter in LETTERS[1:count])]


def _row(studies: Sequence[Opened], own: Sequence[Scored | None], cells: Sequence[str]) -> list[str]:
    """Each study's score over `cells`, then each later one's difference from the first's."""
    first, texts = own[0], [f"{one.score:.3f}" if one is not None else "-" for one in own]
    corruptions = {cell.rpartition("@")[0] for cell in cells}
    for study, one in zip(studies[1:], own[1:], strict=True):
        if one is None or first is None:
            texts.append("-")
            continue
        paired = all(share_seeds(studies[0].study, study.study, name) for name in corruptions)
        texts.append(_difference(difference(one, first, paired), beyond_noise(one, first, paired)))
    return texts


def _difference(lead: Lead, verdict: int) -> str:
    if math.isnan(lead.low):
        return f"{lead.value:+.3f} ?"
    if lead.replicates and lead.low == lead.high == 0:
        return f"the same, {lead.replicates} paired {VERDICTS[verdict]}"
    paired = f" {lead.replicates} paired" if lead.replicates else ""
    return f"{lead.value:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}]{paired} {VERDICTS[verdict]}"


def _winners(studies: Sequence[Opened], scores: Sequence[_Scores]) -> list[str]:
    """Who wins each cell in each study: by the rule of the report."""
    rows = [[cell, *(_winner(one.get(cell, {})) for one in scores)] for cell in _cell_names(studies)]
    return ["Who wins", *_table(["cell", *LETTERS[: len(studies)]], rows)]


def _winner(scores: Mapping[str, Scored]) -> str:
    standings = judge(scores)
    for method, one in standings.items():
        if one.standing == "alone":
            return f"{method}, alone"
        if one.standing == "won" and one.lead is not None:
            return f"{method} by {one.lead.value:.3f}"
    return f"level: {', '.join(m for m, one in standings.items() if one.standing == 'level')}" if standings else "-"


def _methods(studies: Sequence[Opened]) -> list[str]:
    return list(dict.fromkeys(method for study in studies for method in study.study.spec.methods))


def _cell_names(studies: Sequence[Opened]) -> list[str]:
    """The cells of all studies, as the first ones order them."""
    return list(
        dict.fromkeys(
            cell_name(corruption.name, rate)
            for study in studies
            for corruption in study.study.spec.corruptions
            for rate in study.study.spec.discovery_rates
        )
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest text, two spaces in front of the first."""
    wide = [max(len(row[place]) for row in [heads, *rows]) for place in range(len(heads))]
    return [
        "  " + "  ".join(f"{text:<{width}}" for text, width in zip(row, wide, strict=True)).rstrip()
        for row in [heads, *rows]
    ]
