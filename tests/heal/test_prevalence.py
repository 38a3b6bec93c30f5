"""How many samples can be corrupted where a network doubts clean ones too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, poisson

from rem_study.heal import prevalence
from rem_study.heal.prevalence import excess
from rem_study.heal.suspects import Witness, find_suspects


def mixture(seed: int, known: int, corrupted: int, clean: int, mistaken: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Doubts of known samples, and of others: corrupted ones are doubted by 3 on average, clean ones by -9, but for the
    share `mistaken`, by 1."""
    rng = torch.Generator().manual_seed(seed)
    wrong, right = torch.randn(known + corrupted, generator=rng) * 2 + 3, torch.randn(clean, generator=rng) * 2 - 9
    hard = round(mistaken * clean)
    right[:hard] = torch.randn(hard, generator=rng) + 1
    return wrong[:known], torch.cat([wrong[known:], right])


@pytest.mark.parametrize(("known", "corrupted"), [(20, 180), (60, 140), (300, 700)])
def test_what_clean_samples_add_is_not_counted(known, corrupted):
    """1,700 clean samples are rejected beside the corrupted ones; 9 of 10 ranges have to hold the truth."""
    found = [excess(*mixture(seed, known, corrupted, 10_000, mistaken=0.2)) for seed in range(20)]
    assert all(found)
    assert sum(one.low <= corrupted <= one.high for one in found) >= 18
    assert 0.7 * corrupted < np.mean([one.estimate for one in found]) < 1.3 * corrupted
    assert all(one.low <= one.estimate <= one.high for one in found)


@pytest.mark.parametrize("known", [5, 20, 300])
def test_where_no_clean_sample_is_doubted_there_is_no_excess(known):
    assert [excess(*mixture(seed, known, 180, 10_000, mistaken=0.0)) for seed in range(20)] == [None] * 20


def test_known_samples_that_nobody_doubts_bound_nothing():
    assert excess(torch.full((20,), -1.0), torch.ones(100)) is None
    assert excess(torch.ones(20), torch.full((100,), -1.0)) is None


def test_a_sample_that_counts_as_unlike_the_known_ones_is_not_caught():
    known, others = mixture(0, 60, 140, 10_000, mistaken=0.2)
    half = torch.where(torch.arange(60) % 2 == 0, known, -torch.inf)
    assert excess(half, others).estimate == pytest.approx(2 * excess(known[::2], others).estimate, rel=0.01)


def test_the_ends_are_the_exact_ones():
    hits = np.arange(0.0, 21.0)
    low, high = prevalence._share(hits, 20)
    exact = [binomtest(int(k), 20).proportion_ci(1 - 2 * prevalence.TAIL, method="exact") for k in hits]
    assert low == pytest.approx([one.low for one in exact]) and high == pytest.approx([one.high for one in exact])
    low, high = prevalence._count(hits)
    assert poisson.sf(hits[1:] - 1, low[1:]) == pytest.approx(np.full(20, prevalence.TAIL)) and low[0] == 0
    assert poisson.cdf(hits, high) == pytest.approx(np.full(21, prevalence.TAIL))


def doubting(doubts: torch.Tensor, forgot: torch.Tensor) -> Witness:
    """A network of two classes that doubts label 0 so much; of what it was told of, by 9."""
    doubts = doubts.clone()
    doubts[forgot] = 9.0
    return Witness(torch.stack([torch.zeros(len(doubts)), doubts], 1).float(), forgot)


def test_suspects_are_no_more_than_can_be_corrupted():
    """Known samples 0 to 59 are judged by two networks that were told of one half each; a third was told of all."""
    known, others = mixture(0, 60, 140, 10_000, mistaken=0.2)
    doubts, ids = torch.cat([known, others]), torch.arange(60)
    witnesses = [doubting(doubts, told) for told in (ids, ids[:30], ids[30:])]
    labels, before = torch.zeros(len(doubts), dtype=torch.int64), torch.zeros(len(doubts))
    found = find_suspects(witnesses, labels, ids, before)
    expected = excess(known, others)
    assert int((others > 0).sum()) > 1700
    assert (found.estimate, found.low, found.high) == (
        round(expected.estimate), int(expected.low), int(expected.high) + 1
    )  # fmt: skip
    assert int(found.suspect.sum()) == found.estimate
    nobody_judges = find_suspects(witnesses[:1], labels, ids, before)
    assert nobody_judges.estimate == int((others > 0).sum())


def test_where_the_only_judge_was_told_of_some_others_nothing_is_compared():
    """A judge that was told of suspects doubts known samples five times as much as any network doubts the others: by
    how often these are doubted so, next to none of the 140 would be corrupted."""
    known, others = mixture(0, 14, 140, 10_000, mistaken=0.02)
    doubts, ids, taken = torch.cat([known, others]), torch.arange(14), torch.arange(14, 114)
    scaled = torch.cat([5 * known.abs(), others])
    witnesses = [doubting(doubts, ids), doubting(doubts, torch.cat([ids, taken])), doubting(scaled, taken)]
    labels, before = torch.zeros(len(doubts), dtype=torch.int64), torch.zeros(len(doubts))
    found = find_suspects(witnesses, labels, ids, before)
    rejected = int((found.rejected & ~found.known).sum())
    assert found.confirmed == found.judged == 14
    assert found.estimate == rejected >= 140
