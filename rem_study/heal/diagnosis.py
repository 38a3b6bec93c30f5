"""Where a case lies in the plane of corruptions, from the samples that somebody knows: discovery rate and kind.

1. Heal by REM, gently (GENTLE), from all known samples, and twice from one half of them. Suspects are what the first
   network doubts. A handful of known samples (fewer than FEW) reaches few of the others: the surest suspects
   (LEAST_TAKEN of them at least) are then taken for known, and suspects are what the network doubts that is healed from
   both; up to ROUNDS times, while there are more. Where they are a handful with a trigger, all that is done once more
   by REM's defaults, whose strong steps reach more of it.
2. Each half is judged by the network that was not told of it; a handful by one that was told of the suspects alone.
   Confirmed are the known samples whose label it rejects; their share counts less what those networks reject of the
   retained samples: (share - base) / (1 - base).
3. Kind, from what labels have in common (given label and likeliest other) among the known samples, and where these are
   few (`kinds`) the surest suspects beside them: at least KIND_SHARE between the same two classes: interclass
   confusion; as many with the same given label: poison; both: the larger share; neither share above SPREAD_SHARE:
   random labels, unless they carry over like samples that share something (MOST_RANDOM); in between nobody can tell.
4. Discovery rate = known / (known + estimated suspects); suspects are those alone whose labels are of that kind.
5. Carry-over (`unlearning.carry_over`) says beside it how much they share, whatever their labels.

It can't tell the rate where healing wrecks the network (less than LEAST_KEPT of the accuracy is left; a half
that does so is not heard), and where a share of less than LEAST_CONFIRMED is confirmed. Where it is at most
LITTLE_CONFIRMED and the carry-over less than LEAST_SHARED, there is little to heal: what was reported looks like the
rest. Where every healing wrecks the network, REM can't heal it: to give up what was reported, it has to give up the
rest, too. A half of a handful of known samples often confirms none of the others, though:

- Of a trigger, the carry-over shows that they share something all the same; then the kind is told by the labels alone.
  (Clean samples of one class share something too: reported as corrupted, they look like a trigger.)
- Random labels share nothing. Where fewer than LABELS_ASKED are known, there is more than little to heal if a network
  that was told of the suspects alone confirms most of them, less what it rejects of the rest (MOST_CONFIRMED; of clean
  ones two of five, or six of eight by a network that rejects a fifth of everything), and they have no kind that would
  have carried over.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rem_study.errors import InputError, UnlearningError
from rem_study.heal.again import joined, surest
from rem_study.heal.healing import Healing, Say, heal, pose
from rem_study.heal.inputs import Case
from rem_study.heal.kinds import LABELS_ASKED
from rem_study.heal.suspects import Suspects, Witness, find_suspects
from rem_study.seeds import derive_seed, generator
from rem_study.spec import Configuration
from rem_study.training import given_label_accuracy
from rem_study.unlearning.carry_over import carry_over
from rem_study.unlearning.suspicion import doubt

GENTLE: Configuration = {"lr": 0.01, "final_lr": 1.0, "small_loss_weight": 0.0}
"""What a diagnosis changes of REM's defaults: small steps to the end. By the defaults' strong ones networks doubt more
samples that nothing is wrong with, which counts too many suspects and spoils their list (docs/rem.md)."""

_FEWEST = 4
FEW = 20
ROUNDS = 3
LEAST_TAKEN = 0.5
MOST_RANDOM = 0.75
SPREAD_SHARE = 0.45
LEAST_CONFIRMED = 0.4
MOST_CONFIRMED = 0.75
LITTLE_CONFIRMED = 0.25
LEAST_SHARED = 0.4
LEAST_LEARNT = 0.5
LEAST_KEPT = 0.7


@dataclass(frozen=True)
class Diagnosis:
    """What the known samples say of the rest.

    Attributes:
        known: how many are known; judged: by a network that was not told of them; confirmed: rejected by it.
        share: of the judged ones confirmed, less what those networks reject of the retained samples (step 2), from 0.
        suspects: what the network healed from all known samples doubts, and of the known ones the others.
        discovery_rate: with `rate_low` and `rate_high`; None where it can't be told.
        kind: `random_label`, `interclass_confusion` or `poison`; None where it can't be told.
        pair_share, target_share: of known samples, and suspects where these are few, between the same two classes, and
            with one given label.
        carry_over: by split, see `unlearning.carry_over`; none where the flush told nothing.
        unclear: why something can't be told, one line each.
        little_to_heal: what was reported looks like the rest.
        wrecked: each of the healings, from all known samples and from their halves, wrecked the network.
    """

    known: int
    judged: int
    confirmed: int
    share: float
    suspects: Suspects
    discovery_rate: float | None
    rate_low: float | None
    rate_high: float | None
    kind: str | None
    pair_share: float
    target_share: float
    carry_over: tuple[float, ...]
    unclear: tuple[str, ...]
    little_to_heal: bool
    wrecked: bool

    def lines(self) -> list[str]:
        """For a terminal."""
        if self.wrecked:
            return ["every healing by REM wrecks the network: it can't give up what was reported without the rest"]
        told = [f"known samples confirmed by the rest  {self.confirmed} of {self.judged}"]
        if self.little_to_heal:
            return [*told, "little to heal: the samples that were reported look like the rest", *self.unclear]
        estimate = self.suspects
        told.append(f"others estimated to be corrupted     {estimate.estimate} ({estimate.low} to {estimate.high})")
        if self.discovery_rate is not None:
            told.append(
                f"discovery rate                       {self.discovery_rate:.2f} "
                f"({self.rate_low:.2f} to {self.rate_high:.2f})"
            )
        told.append(
            f"kind of corruption                   {self.kind or 'unclear'} "
            f"(between two classes {self.pair_share:.0%}, one given label {self.target_share:.0%})"
        )
        if self.carry_over:
            told.append(
                f"carry-over from half to half         {statistics.fmean(self.carry_over):.2f} "
                f"({min(self.carry_over):.2f} to {max(self.carry_over):.2f} in {len(self.carry_over)} splits)"
            )
        if self.counts_from_a_handful_of_poison:
            told.append("so few samples with a trigger may not reach all others: there may be more, at a lower rate")
        return [*told, *(f"can't tell: {reason}" for reason in self.unclear)]

    @property
    def is_handful_of_poison(self) -> bool:
        """Whether healing may have reached few of the others, so that the rate is an upper bound at best: fewer than
        LABELS_ASKED samples with a trigger are known."""
        return self.kind == "poison" and self.known < LABELS_ASKED

    @property
    def counts_from_a_handful_of_poison(self) -> bool:
        """Whether it could tell how many others there are, though `is_handful_of_poison`."""
        return self.is_handful_of_poison and self.discovery_rate is not None

    @property
    def is_of_what_shares_nothing(self) -> bool:
        """Whether most known samples are confirmed, without a kind whose halves would have carried over."""
        most = self.share >= MOST_CONFIRMED
        return self.discovery_rate is not None and most and self.kind in (None, "random_label")

    def facts(self) -> dict[str, Any]:
        """For a JSON report."""
        return {
            "known": self.known,
            "judged": self.judged,
            "confirmed": self.confirmed,
            "suspects": {
                "estimate": self.suspects.estimate, "low": self.suspects.low, "high": self.suspects.high
            },
            "discovery_rate": self.discovery_rate,
            "discovery_rate_low": self.rate_low,
            "discovery_rate_high": self.rate_high,
            "kind": self.kind,
            "pair_share": self.pair_share,
            "target_share": self.target_share,
            "carry_over": list(self.carry_over),
            "unclear": list(self.unclear),
            "little_to_heal": self.little_to_heal,
            "wrecked": self.wrecked,
        }  # fmt: skip


@dataclass(frozen=True)
class Examined:
    """A diagnosis and what it was made from: a healing of the case by REM, and the witnesses (that one first)."""

    diagnosis: Diagnosis
    healing: Healing
    witnesses: tuple[Witness, ...]


def diagnose(case: Case, splits: int = 8, say: Say = lambda line: None) -> Examined:
    """Diagnose a case.

    Args:
        splits: of the known samples, for the carry-over.
        say: told of each step as it begins.

    Raises:
        InputError: fewer than four known samples, a network that has not learnt its labels (of fewer than
            LEAST_LEARNT), or one that REM cannot expand. UnlearningError: a loss was not finite.
    """
    if len(case.ids) < _FEWEST:
        raise InputError(f"ids: {len(case.ids)} are too few to diagnose from; at least {_FEWEST} are needed")
    network, dataset = case.architecture.network, case.dataset
    task = pose(network, dataset, case.ids, case.recipe, seed=case.seed)
    learnt = given_label_accuracy(task.network, task.data, task.all_ids)
    if learnt < LEAST_LEARNT:
        raise InputError(
            f"checkpoint: it gives only {learnt:.0%} of the training samples their labels; were mean, std and the size "
            "of the images these in training?"
        )
    say(f"diagnosing: how far unlearning one half carries over to the other, {splits} splits")
    try:
        carried = tuple(carry_over(task, splits))
    except UnlearningError:
        carried = ()  # the flush broke: it told nothing
    examined = _examined(case, GENTLE, carried, say)
    if not examined.diagnosis.is_handful_of_poison:
        return examined
    say("once more, by REM's defaults, which reach more of what has a trigger")
    try:
        again = _examined(case, {}, carried, say)
    except UnlearningError as error:
        say(f"that broke ({error}): as found before")
        return examined
    return again if again.diagnosis.is_handful_of_poison else examined


def _examined(case: Case, configuration: Configuration, carried: tuple[float, ...], say: Say) -> Examined:
    """What networks healed by this configuration of REM say, and the carry-over. Raises UnlearningError."""
    few = len(case.ids) < FEW
    steps = 4 if few else 3
    say(f"diagnosing, 1 of {steps}: healing by REM from all {len(case.ids)} known samples")
    healing = _healed(case, configuration, case.ids, case.seed, case.clean_labels)
    witnesses = [witness(healing, case, case.ids)]
    order = case.ids.cpu()[torch.randperm(len(case.ids), generator=generator("halves", case.seed))]
    for number, half in enumerate(order.tensor_split(2)):
        say(f"diagnosing, {number + 2} of {steps}: from {'the other' if number else 'one'} half of them")
        witnesses += _heard(case, configuration, half, derive_seed("half", case.seed, number))
    found = _concluded(case, healing, witnesses, witnesses[1:], carried)
    asked_further = not found.little_to_heal or len(case.ids) < LABELS_ASKED
    if few and asked_further and healing.kept >= LEAST_KEPT:
        say(f"diagnosing, 4 of {steps}: from them and the surest suspects, as so few are known")
        if told := _further(case, configuration, witnesses):
            heard, judges = told
            further = _concluded(case, healing, heard, judges, carried)
            if not found.little_to_heal or further.is_of_what_shares_nothing:
                found, witnesses = further, heard
    return Examined(found, healing, tuple(witnesses))


def _concluded(
    case: Case, healing: Healing, witnesses: list[Witness], judges: list[Witness], carried: tuple[float, ...]
) -> Diagnosis:
    """What these witnesses say, those that judge the known samples (`judges`) among them."""
    labels, known = case.dataset.train_labels, case.ids
    base = _rejected(judges, labels.cpu(), known.cpu())
    suspects = find_suspects(witnesses, labels, known, case.doubt_before)
    return conclude(suspects, len(known), case.dataset.num_classes, base, healing.kept, carried)


def _further(
    case: Case, configuration: Configuration, witnesses: list[Witness]
) -> tuple[list[Witness], list[Witness]] | None:
    """The first witness and those of up to ROUNDS rounds that take suspects for known, each of which still judges what
    the next ones take; and who judges the known samples: a network that was told of the suspects alone, or else the
    halves. None where no round told anything."""
    labels = case.dataset.train_labels
    more = torch.zeros(0, dtype=torch.int64)

    further: list[Witness] = []
    for number in range(ROUNDS):
        suspects = find_suspects([*further, *witnesses], labels, case.ids, case.doubt_before)
        surer = surest(suspects, LEAST_TAKEN)[: case.room]
        if not suspects.believable or len(surer) <= len(more):
            break
        seed = derive_seed(f"further/{number}", case.seed)
        if not (heard := _heard(case, configuration, joined(case.ids, surer), seed)):
            break
        more = surer
        further += heard
    if not further:
        return None
    alone = _heard(case, configuration, more, derive_seed("judge", case.seed)) if len(more) > 1 else []
    judges = alone or witnesses[1:]
    return [witnesses[0], *further, *judges], judges


def _healed(
    case: Case, configuration: Configuration, ids: Tensor, seed: int, clean_labels: Tensor | None = None
) -> Healing:
    network, dataset = case.architecture.network, case.dataset
    return heal(network, dataset, ids, configuration, recipe=case.recipe, clean_labels=clean_labels, seed=seed)


def _heard(case: Case, configuration: Configuration, ids: Tensor, seed: int) -> list[Witness]:
    """A network healed from these samples, as a witness; none where that broke or wrecked it."""
    try:
        healing = _healed(case, configuration, ids, seed)
    except UnlearningError:
        return []
    return [witness(healing, case, ids)] if healing.kept >= LEAST_KEPT else []


def _rejected(judges: Sequence[Witness], labels: Tensor, known: Tensor) -> float:
    """The share of the retained samples whose given label these networks reject, on average; 0 without any."""
    retained = torch.ones(len(labels), dtype=torch.bool)
    retained[known] = False
    shares = [(doubt(one.logits, labels)[retained] > 0).double().mean().item() for one in judges]
    return statistics.fmean(shares) if shares else 0.0


def witness(healing: Healing, case: Case, forgot: Tensor) -> Witness:
    """What the healed network says of all training samples."""
    return Witness(case.logits_of(healing.network), forgot.cpu())


def conclude(
    suspects: Suspects,
    known: int,
    num_classes: int,
    base: float,
    kept: float,
    carried: tuple[float, ...],
) -> Diagnosis:
    """The rules above.

    Args:
        base: share of the retained samples whose label the networks reject that judge the known ones.
        kept: what healing from all known samples left of the accuracy, as a share (`Healing.kept`).
        carried: the carry-over of each split.
    """
    confirmed, judged = suspects.confirmed, suspects.judged
    share = max(0.0, (confirmed / judged - base) / (1 - base)) if judged else 0.0
    shared = statistics.fmean(carried) if carried else math.nan
    little = judged > 0 and share <= LITTLE_CONFIRMED and shared < LEAST_SHARED
    wrecked = not judged and kept < LEAST_KEPT
    unclear = [] if little else _why_no_rate(confirmed, judged, share, kept)
    told = not little and not unclear
    common = suspects.common
    kind = rate = low = high = None
    if told:
        rate, low, high = (known / (known + n) for n in (suspects.estimate, suspects.high, suspects.low))
    if told or (not little and shared >= LEAST_SHARED):
        spread = max(common.pair_share, common.target_share) <= SPREAD_SHARE
        kind = common.kind or ("random_label" if spread and not shared > MOST_RANDOM else None)
        kind = kind if num_classes > 2 else None
        if num_classes == 2:
            unclear.append("the kind, for with two classes every wrong label lies between the same two")
        elif kind is None and spread:
            unclear.append(f"the kind, for the labels look random, but the samples share something ({shared:.2f})")
        elif kind is None:
            unclear.append("the kind, for the labels have something in common, but too little to name it")
    return Diagnosis(
        known, judged, confirmed, share, suspects, rate, low, high, kind, common.pair_share, common.target_share,
        carried, tuple(unclear), little, wrecked,
    )  # fmt: skip


def _why_no_rate(confirmed: int, judged: int, share: float, kept: float) -> list[str]:
    """What keeps the suspects from being counted; at most one line."""
    if not judged:
        return ["no network healed from a half of the known samples keeps the rest"]
    if kept < LEAST_KEPT:
        return [f"healing by REM keeps only {kept:.0%} of the accuracy"]
    if share < LEAST_CONFIRMED:
        return [f"only {confirmed} of {judged} known samples are confirmed by the rest"]
    return []
