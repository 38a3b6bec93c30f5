"""Which training samples a healed network no longer believes: the rest of the corruption, as far as healing reached
it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rem_study.heal.kinds import Common, in_common
from rem_study.heal.names import Names
from rem_study.heal.prevalence import Prevalence, excess
from rem_study.shown import in_a_cell
from rem_study.unlearning.suspicion import doubt

COLUMNS = ("rank", "id", "file", "given_label", "proposed_label", "score", "known", "suspect", "confirmed")
MANY = 0.3
"""Of the retained samples suspected, beyond which it is likelier that the network is to blame."""


@dataclass(frozen=True)
class Witness:
    """What a healed network says of all training samples.

    Attributes:
        logits: float32 (N, K), on the CPU.
        forgot: int64, the ids that it was told to forget, and cannot vouch for.
    """

    logits: Tensor
    forgot: Tensor


@dataclass(frozen=True)
class Suspects:
    """All training samples: the suspects, and the known ones that look like them, then all others (of a poison, those
    with its label before the rest), each by falling score. Tensors (N,), on the CPU.

    Attributes:
        ids: int64. given: int64, the labels in the data. proposed: int64, the other class with the most of the
            witnesses' votes (`votes`).
        score: float32, the doubt of the given label (`suspicion.doubt`), in logits: the mean over those witnesses that
            were told the most among all that were not told of this sample (over all of them where each was), and over
            the network as it was before healing, which counts for as much as it rejects of the known samples: nothing
            where it knows all wrong labels by heart. Of a poison, less what it was before healing: a trigger makes a
            network sure of its label, as a sample that is merely hard does not.
        rejected: bool, the witnesses' doubt is above 0.
        known: bool, told to be corrupted. left_out: bool, known, and some witness was not told so.
        common: what the labels of the known samples have in common.
        estimate: how many retained samples are estimated to be corrupted like the known ones, with `low` and `high`.
    """

    ids: Tensor
    given: Tensor
    proposed: Tensor
    score: Tensor
    rejected: Tensor
    known: Tensor
    left_out: Tensor
    common: Common
    estimate: int
    low: int
    high: int

    @property
    def suspect(self) -> Tensor:
        """Which samples lie above the cut: the first `estimate` that are not known; bool (N,)."""
        return ~self.known & ((~self.known).cumsum(0) <= self.estimate)

    @property
    def judged(self) -> int:
        """Known samples of which some witness was not told."""
        return int(self.left_out.sum())

    @property
    def confirmed(self) -> int:
        """Those of them whose given label is rejected."""
        return int((self.left_out & self.rejected).sum())

    @property
    def believable(self) -> bool:
        """Whether they are so few that it is likelier that they are corrupted than that the network is damaged."""
        return self.estimate <= MANY * int((~self.known).sum())


def votes(logits: Sequence[Tensor], beside: Tensor | None = None) -> Tensor:
    """The mean of several networks' probabilities of each label, float32 (N, K), from their logits, each (N, K): none
    counts for more than one, however sure it is. With `beside`, int64 (N,), of the labels beside these."""
    total = torch.zeros_like(logits[0])
    for said in logits:
        others = said if beside is None else said.scatter(1, beside[:, None], -math.inf)
        total += others.softmax(1)
    return total / len(logits)


def find_suspects(witnesses: Sequence[Witness], labels: Tensor, known: Tensor, before: Tensor) -> Suspects:
    """Put all samples in order.

    The estimate is the number of retained samples whose given label the witnesses reject on the whole (their mean
    margin is above 0), as far as their labels are like those of the known samples where these name a kind
    (`Common.has`): a network that healing has hurt doubts others too. Its range allows for the spread of that number
    among single witnesses, and for twice its square root, as of a count. Where those witnesses that were not told of
    some known samples doubt more than can be corrupted by how many of these they doubt, it is what can be
    (`prevalence.excess`): a network that mistakes many images doubts clean ones.

    Args:
        witnesses: at least one.
        labels: int64 (N,), as given. known: int64 (n,), the ids known to be corrupted.
        before: float32 (N,), on the CPU: the doubt of the network that was healed.
    """
    labels, known = labels.cpu(), known.cpu()
    is_known = torch.zeros(len(labels), dtype=torch.bool)
    is_known[known] = True
    told = torch.zeros(len(witnesses), len(labels), dtype=torch.bool)
    for row, one in zip(told, witnesses, strict=True):
        row[one.forgot.cpu()] = True
    doubts = torch.stack([doubt(one.logits, labels) for one in witnesses])
    weights = _weights(witnesses, told)
    doubted = (doubts.double() * weights).sum(0).float()
    rejected = doubted > 0
    proposed = votes([one.logits for one in witnesses], beside=labels).argmax(1)
    by_doubt = doubted.argsort(descending=True, stable=True)
    common = in_common(labels[by_doubt], proposed[by_doubt], is_known[by_doubt], rejected[by_doubt])
    like_known = common.has(labels, proposed)
    unlearnt = (before[known] > 0).double().mean().item() if len(known) else 0.0
    score, first = (doubted + unlearnt * before) / (1 + unlearnt), like_known & rejected
    if common.kind == "poison":
        score, first = doubted - before, like_known
    order = score.argsort(descending=True, stable=True)
    order = order[first[order].int().argsort(descending=True, stable=True)]
    possible = ~is_known & like_known
    estimate, low, high = _estimate(witnesses, doubts, rejected, possible)
    judged = is_known & ~told.all(0)
    if found := _excess(doubts, told, weights, judged, like_known, possible):
        estimate, low, high = min(estimate, round(found.estimate)), math.floor(found.low), math.ceil(found.high)
    return Suspects(
        ids=order,
        given=labels[order],
        proposed=proposed[order],
        score=score[order],
        rejected=rejected[order],
        known=is_known[order],
        left_out=judged[order],
        common=common,
        estimate=estimate,
        low=low,
        high=min(int((~is_known).sum()), high),
    )


def _weights(witnesses: Sequence[Witness], told: Tensor) -> Tensor:
    """How much each witness's word on each sample counts, float64 (W, N): alike, of those that were told the most among
    all that were not `told` of it, bool (W, N), and cannot vouch for it; of all where each was."""
    informed = torch.tensor([len(one.forgot) for one in witnesses])[:, None].expand_as(told).clone()
    informed[told] = -1
    counts = informed == informed.max(0).values
    return counts.double() / counts.sum(0)


def _estimate(witnesses: Sequence[Witness], doubts: Tensor, rejected: Tensor, possible: Tensor) -> tuple[int, int, int]:
    """How many of the `possible` samples, bool (N,), are `rejected`, and its range; `doubts` is float (W, N)."""
    estimate = int(rejected[possible].sum())
    most = max(len(one.forgot) for one in witnesses)
    singly = [
        int((row[possible] > 0).sum()) for row, one in zip(doubts, witnesses, strict=True) if len(one.forgot) == most
    ]
    slack = 2 * math.sqrt(max(1, estimate))
    return estimate, max(0, math.floor(min([*singly, estimate - slack]))), math.ceil(max([*singly, estimate + slack]))


def _excess(
    doubts: Tensor, told: Tensor, weights: Tensor, judged: Tensor, like_known: Tensor, possible: Tensor
) -> Prevalence | None:
    """What `prevalence.excess` says of the `judged` known samples and the `possible` others, each seen by one of the
    witnesses that judge known samples: by one, since what several say together has another spread. None where none of
    these can judge one of the others: what another network doubts it by is not comparable.

    Args:
        doubts: float (W, N). told: bool (W, N). weights: float64 (W, N), see `_weights`.
        judged, like_known, possible: bool (N,). Whose labels are unlike those of the known is not caught.
    """
    if not judged.any():
        return None
    judges = (weights[:, judged] > 0).any(1)
    heard = ~told & judges[:, None]
    if not heard[:, judged | possible].any(0).all():
        return None
    turn = torch.arange(doubts.shape[1]) % heard.sum(0).clamp(min=1)
    place = ((heard.cumsum(0) == turn + 1) & heard).int().argmax(0)
    by_one = doubts.gather(0, place[None]).squeeze(0).double()
    return excess(torch.where(like_known, by_one, -math.inf)[judged], by_one[possible])


def suspects_csv(suspects: Suspects, names: Names) -> bytes:
    """The list as CSV (COLUMNS): classes by their folders' names where there are any, `known` and `suspect` yes or
    no."""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = zip(
        suspects.ids.tolist(),
        suspects.given.tolist(),
        suspects.proposed.tolist(),
        suspects.score.tolist(),
        suspects.known.tolist(),
        suspects.suspect.tolist(),
        strict=True,
    )
    for rank, (number, given, proposed, score, known, suspect) in enumerate(rows, 1):
        file = "" if names.files is None else in_a_cell(names.files[number])
        told = ("yes" if flag else "no" for flag in (known, suspect))
        writer.writerow(
            [
                rank,
                names.number(number),
                file,
                in_a_cell(names.of_class(given)),
                in_a_cell(names.of_class(proposed)),
                f"{score:.4f}",
                *told,
                "",
            ]
        )
    return lines.getvalue().encode()
