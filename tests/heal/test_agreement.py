"""Which of several healed networks is kept."""

from __future__ import annotations

import torch

from rem_study.heal.agreement import agreement, consensus
from rem_study.heal.suspects import Witness

GIVEN = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
KNOWN = torch.tensor([0, 1])  # both were poisoned towards class 0; clean: 1, 2


def says(*predicted: int, sure: float = 5.0) -> Witness:
    logits = torch.zeros(len(predicted), 3)
    logits[range(len(predicted)), list(predicted)] = sure
    return Witness(logits, KNOWN)


HEALED = says(1, 2, 0, 0, 1, 1, 2, 2)
DRIFTED = says(2, 2, 0, 0, 1, 1, 2, 2)  # the trigger means class 2 to it
LOST = says(1, 2, 1, 2, 1, 1, 2, 2, sure=50.0)  # class 0 is lost, and it is very sure
UNREACHED = says(0, 2, 0, 0, 1, 1, 2, 2)


def test_a_known_sample_is_given_another_label_and_the_rest_what_most_say():
    assert consensus([HEALED, DRIFTED, LOST, UNREACHED], GIVEN, KNOWN).tolist() == [1, 2, 0, 0, 1, 1, 2, 2]
    assert consensus([UNREACHED], GIVEN, KNOWN)[0] != 0


def test_a_sure_network_has_no_more_than_its_vote():
    assert consensus([HEALED, HEALED, LOST], GIVEN, KNOWN).tolist() == [1, 2, 0, 0, 1, 1, 2, 2]


def test_what_damages_or_drifts_or_does_not_reach_agrees_less_than_what_heals():
    together = consensus([HEALED, DRIFTED, LOST, UNREACHED], GIVEN, KNOWN)
    assert agreement(HEALED, together, GIVEN) == 1.0
    assert agreement(DRIFTED, together, GIVEN) == agreement(UNREACHED, together, GIVEN) == 0.5
    assert agreement(LOST, together, GIVEN) == 4 / 6


def test_an_undiscovered_sample_that_most_reject_counts_as_corrupted():
    others = [says(1, 2, 1, 0, 1, 1, 2, 2), says(1, 2, 1, 0, 1, 1, 2, 2)]
    together = consensus([*others, HEALED], GIVEN, KNOWN)
    assert agreement(others[0], together, GIVEN) == 1.0
    assert agreement(HEALED, together, GIVEN) == 2 / 3
