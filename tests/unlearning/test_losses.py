"""Losses against numbers worked out by hand, and the training loop around them."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from torch import nn

from rem_study.data.corruption import CorruptedTrainingSet
from rem_study.data.dataset import Augmentation, Dataset
from rem_study.errors import UnlearningError
from rem_study.seeds import generator
from rem_study.spec.original import RecipeSpec
from rem_study.training.loop import BatchLoader, make_optimizer, train_classifier, train_epoch
from rem_study.unlearning.objectives import (
    compute_kl_divergence,
    linear_mmd,
    npo_loss,
    proportion_loss,
    redirect_loss,
    sample_cross_entropy,
    small_loss,
)

PAIRS = [(0.1, 0.3), (2.0, 0.1), (0.7, 0.7), (5.0, 0.0), (0.0, 3.0)]  # cross-entropy, reference
CROSS_ENTROPIES, REFERENCES = (torch.tensor(column, dtype=torch.float64) for column in zip(*PAIRS, strict=True))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_cross_entropy_is_minus_the_log_of_the_labels_probability():
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    first = math.exp(1.0) + math.exp(2.0) + math.exp(0.5)
    second = 1 + math.exp(-1.0) + math.exp(3.0)
    expected = torch.tensor([math.log(first) - 2.0, math.log(second) - 0.0])
    assert torch.allclose(sample_cross_entropy(logits, torch.tensor([1, 0])), expected)


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_npo_loss_is_its_formula(beta):
    expected = [-(2 / beta) * math.log(sigmoid(beta * (ce - reference))) for ce, reference in PAIRS]
    assert npo_loss(CROSS_ENTROPIES, REFERENCES, beta).tolist() == pytest.approx(expected)
    assert redirect_loss(CROSS_ENTROPIES, REFERENCES, beta).tolist() == pytest.approx([-x for x in expected])


def test_npo_loss_at_the_reference_is_2_log_2_over_beta():
    at_reference = torch.tensor([0.4])
    assert npo_loss(at_reference, at_reference, 1.0).item() == pytest.approx(1.3862944)
    assert redirect_loss(at_reference, at_reference, 2.0).item() == pytest.approx(-0.6931472)


def slopes(loss, beta: float) -> list[float]:
    ce = CROSS_ENTROPIES.clone().requires_grad_()
    loss(ce, REFERENCES, beta).sum().backward()
    return ce.grad.tolist()


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_the_slope_of_both_losses_is_twice_a_sigmoid(beta):
    expected = [2 * sigmoid(-beta * (ce - reference)) for ce, reference in PAIRS]
    assert slopes(redirect_loss, beta) == pytest.approx(expected)
    assert slopes(npo_loss, beta) == pytest.approx([-x for x in expected])


def test_redirecting_weighs_samples_far_above_their_reference_little():
    ce = torch.tensor([0.0, 2.0, 4.0], requires_grad=True)
    redirect_loss(ce, torch.zeros(3), 1.0).sum().backward()
    assert [round(slope, 2) for slope in ce.grad.tolist()] == [1.0, 0.24, 0.04]


def test_npo_becomes_gradient_ascent_as_beta_goes_to_0():
    assert slopes(npo_loss, 1e-9) == pytest.approx([-1.0] * 5)


def test_the_losses_stay_finite_far_from_the_reference():
    far = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = npo_loss(far, torch.zeros(2), 5.0)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.0, 2e4]) and far.grad.tolist() == pytest.approx([0.0, -2.0])


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(x / temperature) for x in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_kl_divergence_is_that_of_the_target_from_the_network_averaged_over_the_batch(temperature):
    targets, logits = [[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], [[0.0, 0.0, 1.0], [2.0, 1.0, -1.0]]
    expected = sum(
        p * math.log(p / q)
        for target, row in zip(targets, logits, strict=True)
        for p, q in zip(softmax(target, temperature), softmax(row, temperature), strict=True)
    )
    value = compute_kl_divergence(torch.tensor(targets), torch.tensor(logits), temperature)
    assert value.item() == pytest.approx(expected / 2)
    assert value.item() != pytest.approx(compute_kl_divergence(torch.tensor(logits), torch.tensor(targets)).item())


def test_the_kl_divergence_from_itself_is_0_and_stays_finite_for_certain_targets():
    certain = torch.tensor([[1e4, 0.0]])
    assert compute_kl_divergence(certain, certain).item() == 0
    assert compute_kl_divergence(certain, torch.tensor([[0.0, 0.0]])).item() == pytest.approx(math.log(2))


def training_set(count: int, augmentation: Augmentation | None = None) -> CorruptedTrainingSet:
    """`count` samples of class 0, the image of sample i all of brightness i."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    labels = torch.zeros(count, dtype=torch.int64)
    return CorruptedTrainingSet(Dataset("toy", images, labels, images[:1], labels[:1], 2, augmentation), None)


def loader(count: int, batch_size: int, seed: int = 0) -> BatchLoader:
    return BatchLoader(training_set(count), torch.arange(count), batch_size, generator(seed))


class OneWeight(nn.Module):
    """Logits (p, 0) whatever the image, so that the slope of the loss of class 0 in p is -sigmoid(-p)."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))
        self.seen: list[float] = []

    def forward(self, images):
        self.seen.append(self.p.item())
        return torch.stack([self.p, self.p * 0]).expand(len(images), 2)


@pytest.mark.parametrize(
    ("warmup", "final_lr", "expected"),
    [
        # 5 epochs of 2 batches: 10 steps; 2 of them rise; the line falls by 0.08 a step from 1 towards 0.2
        (0.2, 0.2, [0.5, 0.92, 0.84, 0.76, 0.68, 0.60, 0.52, 0.44, 0.36, 0.28]),
        (0.0, 0.0, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        (0.0, 1.0, [1.0] * 10),
    ],
)
def test_the_learning_rate_rises_and_then_falls_on_a_line(warmup, final_lr, expected):
    network = OneWeight()
    recipe = RecipeSpec(epochs=5, lr=0.3, momentum=0, weight_decay=0, warmup=warmup, final_lr=final_lr)
    assert train_classifier(network, loader(8, 4), recipe) == 40
    path = [*network.seen, network.p.item()]
    rates = [(after - before) / sigmoid(-before) for before, after in itertools.pairwise(path)]
    assert rates == pytest.approx([0.3 * factor for factor in expected])


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)])
def test_the_optimiser_is_the_recipes_and_leaves_frozen_parameters_out(name, kind):
    free, frozen = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1), requires_grad=False)
    recipe = RecipeSpec(optimizer=name, momentum=0.7, weight_decay=0.01)
    optimizer = make_optimizer(recipe, [free, frozen], 0.5)
    (group,) = optimizer.param_groups
    assert type(optimizer) is kind and group["params"] == [free]
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.01)
    assert name == "adam" or group["momentum"] == 0.7


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_an_unlearning_error(bad):
    network = OneWeight()
    losses = iter([1.0, bad, 1.0])
    with pytest.raises(UnlearningError, match="not finite"):
        train_epoch(loader(9, 3), lambda _: network.p * next(losses) + 0, torch.optim.SGD(network.parameters(), 0.1))


@pytest.mark.parametrize("count", [2, 3, 5, 7, 8, 9, 31])
@pytest.mark.parametrize("batch_size", [2, 3, 4, 100])
def test_an_epoch_covers_each_sample_once_without_a_batch_of_one(count, batch_size):
    batches = loader(count, batch_size)
    for _ in range(3):
        sizes = [len(batch.ids) for batch in batches]
        assert min(sizes) >= 2
        assert max(sizes) - min(sizes) <= 1
        assert len(sizes) == len(batches)
        # one more than asked for only where a sample would be alone otherwise
        assert max(sizes) <= batch_size + (batch_size == 2 and count % 2)
        ids = Counter(i for batch in batches for i in batch.ids.tolist())
        assert ids == Counter(range(count))


def test_batches_hold_the_images_and_labels_of_their_ids_in_an_order_of_the_seed():
    data = training_set(20)
    chosen = torch.tensor([3, 5, 7, 11, 13, 17])
    orders = []
    for seed in (0, 0, 1):
        batches = list(BatchLoader(data, chosen, 2, generator(seed)))
        orders.append([i for batch in batches for i in batch.ids.tolist()])
        for batch in batches:
            assert torch.equal(batch.images, data.dataset.normalise(data.dataset.train_images[batch.ids]))
            assert torch.equal(batch.labels, data.labels[batch.ids]) and torch.equal(batch.host_ids, batch.ids)
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == chosen.tolist()


def test_each_epoch_has_an_order_of_its_own():
    batches = loader(31, 4)
    first, second = ([i for batch in batches for i in batch.ids.tolist()] for _ in range(2))
    assert first != second


def test_training_batches_are_augmented_where_the_data_set_says_so():
    data = training_set(20, Augmentation(padding=2, flip=False))
    ids = torch.arange(20)
    seen = torch.cat([batch.images for batch in BatchLoader(data, ids, 20, generator(0))])
    assert (seen.amax((1, 2, 3)) - seen.amin((1, 2, 3)) > 0).any()  # zeros moved in at some edge
    assert torch.equal(data.images(ids), data.dataset.normalise(data.dataset.train_images))


def test_proportion_loss_is_its_formula():
    logits = torch.tensor([[0.0, 1.0, -2.0], [3.0, 0.5, 0.5]])
    shares = torch.softmax(logits, dim=1).mean(0).tolist()
    assert proportion_loss(logits, torch.tensor([2, 0])).item() == pytest.approx(
        -0.5 * math.log(shares[2]) - 0.5 * math.log(shares[0])
    )


def test_proportion_loss_asks_how_often_a_class_is_predicted_and_not_where():
    labels = torch.tensor([0, 0, 1, 2])
    right, permuted = (10.0 * torch.nn.functional.one_hot(one, 3).float() for one in (labels, labels[[3, 2, 0, 1]]))
    lost = 10.0 * torch.nn.functional.one_hot(torch.tensor([1, 1, 1, 2]), 3).float()
    assert proportion_loss(right, labels).item() == pytest.approx(proportion_loss(permuted, labels).item())
    assert proportion_loss(right, labels).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4), abs=1e-3)
    assert proportion_loss(lost, labels) > 3
    assert math.isfinite(proportion_loss(100 * lost, labels).item())


@pytest.mark.parametrize(
    ("losses", "labels", "kept"),
    [
        ([3.0, 1.0, 2.0, 9.0], [0, 0, 0, 0], [1, 2]),
        ([3.0, 1.0, 2.0], [0, 0, 0], [1]),  # of an odd number the smaller half
        ([3.0, 1.0, 2.0, 9.0, 4.0], [0, 1, 0, 1, 1], [2, 1]),
        ([2.0, 2.0, 2.0, 2.0], [1, 1, 1, 1], [0, 1]),  # of equal ones the first
        ([500.0, 600.0, 0.1, 0.2], [0, 0, 1, 1], [0, 2]),
        ([1.0, 2.0], [0, 1], []),
    ],
)
def test_small_loss_is_the_mean_of_the_half_of_each_class_with_the_smallest(losses, labels, kept):
    """All that are chosen are pulled at alike, however large their losses."""
    cross_entropy = torch.tensor(losses, requires_grad=True)
    loss = small_loss(cross_entropy, torch.tensor(labels))
    loss.backward()
    assert loss.item() == pytest.approx(sum(losses[i] for i in kept) / max(1, len(kept)))
    assert cross_entropy.grad.tolist() == pytest.approx([(i in kept) / max(1, len(kept)) for i in range(len(losses))])


def test_small_loss_pulls_a_lost_class_back_where_redirect_loss_no_longer_does():
    labels = torch.tensor([0, 0, 1, 1])
    logits = torch.tensor([[0.0, 100.0], [0.0, 101.0], [-2.2, 0.0], [-1.5, 0.0]], requires_grad=True)
    cross_entropy = sample_cross_entropy(logits, labels)
    (pull,) = torch.autograd.grad(small_loss(cross_entropy, labels), logits, retain_graph=True)
    (faded,) = torch.autograd.grad(redirect_loss(cross_entropy, torch.zeros(4), 1.0).sum(), logits)
    assert pull[0].tolist() == pytest.approx([-0.5, 0.5])
    assert faded[0].abs().max() < 1e-30


def test_linear_mmd_is_its_formula():
    """Mean logits (3, 1, 2) and (1, 1, 1): gaps 2, 0, 1, less their mean 1: (1 + 1 + 0) / 3."""
    outputs = torch.tensor([[4.0, 1.0, 2.0], [2.0, 1.0, 2.0]])
    target = torch.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    assert linear_mmd(outputs, target).item() == pytest.approx(2 / 3)
    assert linear_mmd(outputs + 5, target).item() == pytest.approx(2 / 3)
    assert linear_mmd(target, target[[1, 0, 2]]).item() == pytest.approx(0)
