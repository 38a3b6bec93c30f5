"""The report of a healing: what a model was before and after."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from rem_study.heal.choice import Source
from rem_study.heal.diagnosis import Diagnosis
from rem_study.heal.effects import Effects
from rem_study.heal.healing import Healing
from rem_study.heal.inputs import Case
from rem_study.heal.suspects import MANY, Suspects
from rem_study.spec import Configuration
from rem_study.spec.best import Recommendation
from rem_study.version import __version__

_LOST = 0.05  # of retain accuracy, beyond which healing has cost more than it should
_POOR = 0.5  # accuracy on given labels below which the network is unlikely to have learnt these samples as they are


@dataclass(frozen=True)
class Try:
    """A configuration that was run, what it comes from, and its `score_deployable`; None: it broke."""

    source: Source
    configuration: Configuration
    score_deployable: float | None


@dataclass(frozen=True)
class Candidate:
    """A healed network that may be kept.

    Attributes:
        case: whose ids it was told.
        round, erasure: both from 1; the networks of a round differ in their seed alone.
        source: what its configuration comes from; of `tries`, where there were several.
        agreement: see `agreement.agreement`; None until all have been heard, and of a network left as it was given.
    """

    healing: Healing
    case: Case
    round: int
    erasure: int
    source: Source = None
    tries: tuple[Try, ...] = ()
    agreement: float | None = None


def report_facts(
    asked: Mapping[str, Any],
    kept: Candidate,
    candidates: Sequence[Candidate],
    suspects: Suspects,
    effects: Effects,
    diagnosis: Diagnosis | None,
) -> dict[str, Any]:
    """The document of the JSON report; `asked` are its first entries, what the person gave; `kept` is one of
    `candidates`.

    Every quality is `{before, after}` (see `Quality`); those that cannot be measured are absent.
    """
    case, healing = kept.case, kept.healing
    dataset = case.dataset
    before, after = asdict(healing.before), asdict(healing.after)
    return {
        "format": 1,
        **asked,
        "samples": {
            "train": len(dataset.train_labels),
            "forget": len(case.ids),
            "test": len(dataset.test_labels),
        },
        "mean": dataset.mean.flatten().tolist(),
        "std": dataset.std.flatten().tolist(),
        "augmentation": None if dataset.augmentation is None else asdict(dataset.augmentation),
        "views": len(case.views),
        "configuration": healing.configuration,
        "recommendation": _provenance(kept.source),
        **({"tries": [_told_try(one) for one in kept.tries]} if len(kept.tries) > 1 else {}),
        "candidates": [
            {"round": one.round, "erasure": one.erasure, "agreement": one.agreement, "kept": one is kept}
            for one in candidates
        ],
        "suspects": {"estimate": suspects.estimate, "low": suspects.low, "high": suspects.high},
        **effects.facts(),
        "diagnosis": None if diagnosis is None else diagnosis.facts(),
        "original": case.recipe.model_dump(mode="json"),
        **{name: {"before": before[name], "after": after[name]} for name in before if before[name] is not None},
        "epochs": healing.epochs,
        "sample_passes": healing.sample_passes,
        "seconds": round(healing.seconds, 3),
        "device": str(dataset.device),
        "versions": {"rem_study": __version__, "torch": torch.__version__},
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _told_try(one: Try) -> dict[str, Any]:
    told = {"configuration": one.configuration, "score_deployable": one.score_deployable}
    return {"cell": one.source.cell, **told} if isinstance(one.source, Recommendation) else told


def _provenance(source: Source) -> dict[str, Any] | None:
    if source is None:
        return None
    return {name: value for name, value in asdict(source).items() if name != "configuration"}


QUALITIES = {
    "forget_accuracy": "forget set, wrong labels",
    "healed_discovered": "forget set, clean labels",
    "retain_accuracy": "retain accuracy",
    "test_accuracy": "held-out accuracy",
}


def report_lines(facts: Mapping[str, Any], source: Source) -> list[str]:
    """The report for a terminal."""
    samples = facts["samples"]
    forgot = f"{samples['forget']} of {samples['train']} samples unlearned"
    lines = [f"{source or facts['method']}: {forgot} in {facts['seconds']:.1f} s"]
    if facts["left_alone"]:
        lines = ["nothing was unlearned: the healed checkpoint is the one given (--no-diagnosis heals all the same)"]
    if taken := samples["forget"] - facts["told"]:
        lines.append(f"{taken} of these are suspects, taken for known")
    width = max(map(len, QUALITIES.values()))
    for name, told in QUALITIES.items():
        if name in facts:
            lines.append(f"{told:{width}}  {facts[name]['before']:.3f} -> {facts[name]['after']:.3f}")
    if facts["left_alone"]:
        return lines
    found = facts["suspects"]
    lines.append(
        f"{'others likely corrupted':{width}}  {found['estimate']} of {samples['train'] - samples['forget']}"
        f" ({found['low']} to {found['high']})"
    )
    if "tries" in facts:
        scores = [f"{one['cell']} {_score(one['score_deployable'])}" for one in facts["tries"]]
        lines.append(f"chosen among {', '.join(scores)}, by retain accuracy x (1 - forget accuracy)")
    if len(facts["candidates"]) > 1:
        lines.append(told_candidates(facts["candidates"]))
    return lines


def told_candidates(candidates: Sequence[Mapping[str, Any]]) -> str:
    """Which of several healed networks was kept, and how far each agrees with all of them."""
    [kept] = (one for one in candidates if one["kept"])
    others = sorted(one["agreement"] for one in candidates if not one["kept"])
    spread = f"{others[0]:.3f}" if len(others) == 1 else f"{others[0]:.3f} to {others[-1]:.3f}"
    return (
        f"kept of {len(candidates)} healed networks: round {kept['round']}, erasure {kept['erasure']}, which agrees "
        f"most with what all say together ({kept['agreement']:.3f}; others {spread})"
    )


def _score(value: float | None) -> str:
    return "broke" if value is None else f"{value:.3f}"


def looks_damaged(healing: Healing, suspects: Suspects) -> bool:
    """Whether there are so many suspects that it is likelier that healing damaged the network, where no held-out
    accuracy says that it did not."""
    return not suspects.believable and healing.kept_held_out < 1


def find_warnings(healing: Healing, suspects: Suspects, suspecting: Healing) -> list[str]:
    """What looks wrong with the input, though it could be healed. `suspecting` is the healing that the suspects are of:
    the diagnosis' where the network was left alone."""
    told = []
    before = healing.before
    if before.retain_accuracy < _POOR:
        told.append(
            f"the checkpoint gives only {before.retain_accuracy:.0%} of the retained samples their labels; were mean, "
            "std and the size of the images these in training?"
        )
    elif before.forget_accuracy < _POOR:
        told.append(f"the checkpoint gives only {before.forget_accuracy:.0%} of the forget set its wrong labels")
    lost = before.retain_accuracy - healing.after.retain_accuracy
    if lost > _LOST:
        told.append(
            f"healing cost {lost:.1%} of retain accuracy; if its own wrong labels cannot account for that, "
            "another configuration may do better (--tries with --best, or a lower lr)"
        )
    if looks_damaged(suspecting, suspects):
        told.append(
            f"{suspects.estimate} of the retained samples are suspects, more than {MANY:.0%}: "
            "the healed network may be damaged, and the list no guide"
        )
    return told
