"""Which of several healed networks to keep: the one that is nearest to what all of them say together."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rem_study.heal.suspects import Witness, votes


def consensus(witnesses: Sequence[Witness], labels: Tensor, known: Tensor) -> Tensor:
    """What the witnesses say together of each sample, int64 (N,): the label with the most of their votes (`votes`), for
    a known one the most beside the label that it was given.

    Args:
        labels: int64 (N,), as given. known: int64 (n,), the ids known to be corrupted. All on the CPU.
    """
    together = votes([one.logits for one in witnesses]).argmax(1)
    together[known] = votes([one.logits[known] for one in witnesses], beside=labels[known]).argmax(1)
    return together


def agreement(witness: Witness, together: Tensor, labels: Tensor) -> float:
    """An estimate, in [0, 1], of a healed network's utility x healed that takes no clean label.

    The share of the samples left with their given label (in `together`, see `consensus`) to which the network gives it,
    times the share of all others to which it gives the label that was voted for. A network that has lost a class is
    outvoted in the former; one to which a trigger has come to mean some other class in the latter, for which class that
    is differs from seed to seed (docs/heal-measured.md has how often it chose well).
    """
    agreed, kept = witness.logits.argmax(1) == together, together == labels
    return _share(agreed[kept]) * _share(agreed[~kept])


def _share(agreed: Tensor) -> float:
    return agreed.double().mean().item() if len(agreed) else 1.0
