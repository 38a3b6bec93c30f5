"""What the page says of its words, of its maps, and of where the corruption sits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rem_study.report.measures import NAMES
from rem_study.report.source import StudyData
from rem_study.results.winners import FEWEST_SAMPLES

WORDS = {
    "cell": "one kind of corruption at one discovery rate, the share of the corrupted training samples that is known",
    "healed": "share of the corrupted training samples that get their true label back",
    "utility": "accuracy on clean test data",
    "score": "utility × healed; 1 is perfect",
    "replicate": "the whole experiment with other seeds; without several, nobody knows how much is luck",
}


def words_used() -> str:
    """The words that the page uses, before it does."""
    return '<dl class="words">' + "".join(f"<dt>{word}</dt><dd>{told}</dd>" for word, told in WORDS.items()) + "</dl>"


class MeasureWords(NamedTuple):
    """A map's caption (HTML), and what is said where there is nothing to show (text)."""

    caption: str
    missing: str = ""


_FEW = f"A share of fewer than {FEWEST_SAMPLES} samples is not shown; their number stands there: n 3."
MEASURES = {
    "utility_x_healed": MeasureWords(
        "Utility × healed of the selected configuration: brighter is better. A solid frame marks the method that wins "
        "the cell, a dotted one those that are level in it. To the right, more of the corruption is known; upwards, "
        "the corrupted samples have more in common."
    ),
    "healed": MeasureWords("Share of the corrupted training samples that get their true label back."),
    "utility": MeasureWords("Accuracy on clean test data."),
    "gain": MeasureWords(
        "Selected minus default configuration, utility × healed. Purple: the search gained; orange: it lost."
    ),
    "healed_discovered": MeasureWords(
        f"Healed of the samples known when unlearning. {_FEW}", "Healed of the discovered: not recorded."
    ),
    "healed_undiscovered": MeasureWords(
        f"Healed of those that nobody pointed at. {_FEW}",
        "Healed of the undiscovered: nothing was, or it was not recorded.",
    ),
    "found": MeasureWords(
        "How well the healed network’s doubt of given labels finds the corruption that nobody pointed at among the "
        "retained samples (average precision; 1: all of it comes first).",
        "Found: nothing was undiscovered, or it was not recorded.",
    ),
    "attack_success": MeasureWords(
        "How often a clean test image of another class gets the trigger’s target once the trigger is on it. Lower is "
        "better, and brighter.",
        "Attack success: no corruption here has a trigger, or it was not recorded.",
    ),
    "spread": MeasureWords(
        "Standard deviation of the selected configuration’s utility × healed over replicates; brighter is wider.",
        "Spread: each trial ran on one replicate, so there is none.",
    ),
    "trials": MeasureWords("Trials spent; in brackets those that were stopped early or failed."),
}


def measure_tabs(names: Sequence[str]) -> str:
    """A choice among the maps, by CSS alone."""
    tabs = "".join(
        f'<label><input type="radio" name="measure" id="show-{name}"{" checked" * (place == 0)}>{NAMES[name]}</label>'
        for place, name in enumerate(names)
    )
    rules = ",".join(f"section:has(#show-{name}:checked) #map-{name}" for name in names)
    return f'<style>{rules}{{display:block}}</style><fieldset class="tabs" aria-label="figure shown">{tabs}</fieldset>'


def isolation_told(data: StudyData) -> str | None:
    """What the curves of REM's selected trials show, in words (HTML), with means over cells; None without curves."""
    chosen = data.cells.loc[data.cells["method"] == "rem", ["cell", "trial"]].dropna()
    recorded = data.trials[(data.trials["method"] == "rem") & data.trials["curves"].notna()]
    own = recorded[recorded["phase"] != "transfer"].merge(chosen, on=["cell", "trial"])
    if own.empty:
        return None
    curves = [json.loads(text) for text in own["curves"]]
    start, both, old = (
        np.mean([one[path][at] for one in curves]) for path, at in (("both", 0), ("both", -1), ("old", -1))
    )
    text = (
        "Accuracy of REM’s selected networks on the wrong labels, epoch by epoch: through the old channels alone, and "
        f"with the new ones, which are erased afterwards. At the start the networks give {start:.0%} of the wrong "
        f"labels; at the end, {both:.0%} with the new channels and {old:.0%} without them: "
    )
    if both - old >= 0.1:
        return f"{text}<b>{both - old:.0%} of the corruption has moved into the new channels, and goes with them.</b>"
    if old < start / 2:
        return f"{text}<b>unlearning itself destroys the corruption; hardly any of it moves into the new channels.</b>"
    return f"{text}<b>most of the corruption stays in the old channels.</b>"
