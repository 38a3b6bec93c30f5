"""Doubts of given labels, and how well an order of doubts finds what is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_recall_curve

from rem_study.unlearning.suspicion import average_precision, doubt, recall_at_precision


def test_doubt_is_the_best_other_logit_less_the_given_labels():
    logits = torch.tensor([[2.0, 0.5, -1.0], [2.0, 0.5, -1.0], [0.0, 0.0, 3.0]])
    assert doubt(logits, torch.tensor([0, 1, 2])).tolist() == [-1.5, 1.5, -3.0]


def test_both_figures_by_hand():
    doubts = torch.tensor([0.1, 0.9, 0.8, 0.7, 0.6])
    wrong = torch.tensor([False, True, False, True, False])
    assert average_precision(doubts, wrong) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert recall_at_precision(doubts, wrong, 0.9) == 0.5
    assert recall_at_precision(doubts, wrong, 0.6) == 1.0
    assert recall_at_precision(-doubts, wrong, 0.9) == 0.0


def test_both_figures_as_scikit_learn_has_them():
    rng = np.random.default_rng(0)
    wrong = rng.random(500) < 0.1
    doubts = rng.standard_normal(500) + 1.5 * wrong
    precision, recall, _ = precision_recall_curve(wrong, doubts)
    ours = torch.from_numpy(doubts), torch.from_numpy(wrong)
    assert average_precision(*ours) == pytest.approx(average_precision_score(wrong, doubts))
    assert recall_at_precision(*ours, 0.5) == pytest.approx(recall[precision >= 0.5].max())


def test_where_nothing_is_wrong_neither_figure_means_anything():
    nothing = torch.zeros(3), torch.zeros(3, dtype=torch.bool)
    assert math.isnan(average_precision(*nothing)) and math.isnan(recall_at_precision(*nothing, 0.9))
