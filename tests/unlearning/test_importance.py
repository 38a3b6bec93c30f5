"""Importances and dampening against plain loops on a network of a few weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rem_study.data.corruption import CorruptedTrainingSet
from rem_study.data.dataset import Dataset
from rem_study.seeds import generator
from rem_study.spec.original import RecipeSpec
from rem_study.trial.cell_cache import CellCaches
from rem_study.unlearning.importance import compute_label_free_importance, compute_saliency, compute_squared_gradients
from rem_study.unlearning.methods.potion import percentile, sorted_ratios
from rem_study.unlearning.methods.salun import select_largest
from rem_study.unlearning.run import unlearn
from rem_study.unlearning.task import UnlearningTask

COUNT, BATCH, SEED = 23, 4, 5
FORGET = torch.tensor([2, 3, 11, 17, 20])


class Tiny(nn.Sequential):
    """Flatten, linear, batch norm, tanh, linear: 40 weights, one of them without influence."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3, bias=False))


@pytest.fixture
def task() -> UnlearningTask:
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (COUNT, 1, 2, 2), generator=rng).to(torch.uint8)
    labels = torch.randint(0, 3, (COUNT,), generator=rng)
    network = Tiny()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    network[2].running_mean.copy_(torch.randn(4, generator=rng))
    retain = torch.tensor([i for i in range(COUNT) if i not in FORGET.tolist()])
    data = CorruptedTrainingSet(Dataset("toy", images, labels, images[:1], labels[:1], 3, None), None)
    return UnlearningTask(network.train(), data, FORGET, retain, RecipeSpec(), SEED, Tiny)


def naive(task, ids, batch_size, loss, of_gradient):
    """One batch after the other, one weight after the other."""
    network = task.network.eval()
    order = torch.randperm(len(ids), generator=generator("importance", task.seed))
    batches = ids[order].tensor_split(math.ceil(len(ids) / batch_size))
    importance = {name: [0.0] * p.numel() for name, p in network.named_parameters()}
    for part in batches:
        network.zero_grad()
        images = torch.stack([task.data.images(part[i : i + 1])[0] for i in range(len(part))])
        logits = network(images)
        loss(logits, task.data.labels[part]).backward()
        for name, p in network.named_parameters():
            for i, g in enumerate(p.grad.flatten().tolist()):
                importance[name][i] += of_gradient(g) / len(batches)
    network.zero_grad(set_to_none=True)
    network.train()
    return importance


def mean_cross_entropy(logits, labels):
    return sum(F.cross_entropy(row[None], label[None]) for row, label in zip(logits, labels, strict=True)) / len(labels)


def mean_norm(logits, labels):
    return sum(row.square().sum().sqrt() for row in logits) / len(logits)


def assert_same(computed, expected):
    assert computed.keys() == expected.keys()
    for name, value in computed.items():
        assert value.flatten().tolist() == pytest.approx(expected[name], rel=1e-4, abs=1e-9), name


@pytest.mark.parametrize("ids", [FORGET, torch.arange(COUNT)], ids=["forget", "all"])
def test_importances_are_those_of_a_loop_over_the_batches(task, ids):
    squared = naive(task, ids, BATCH, mean_cross_entropy, lambda g: g * g)
    assert_same(compute_squared_gradients(task, ids, BATCH), squared)
    label_free = naive(task, ids, BATCH, mean_norm, abs)
    assert_same(compute_label_free_importance(task, ids, BATCH), label_free)
    # the gradient of all samples at once: one batch
    assert_same(compute_saliency(task, ids), naive(task, ids, 1000, mean_cross_entropy, abs))


def test_importances_leave_the_network_and_its_mode_alone(task):
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    compute_squared_gradients(task, FORGET, BATCH)
    compute_label_free_importance(task, FORGET, BATCH)
    assert all(torch.equal(before[name], value) for name, value in task.network.state_dict().items())
    assert task.network.training and all(p.grad is None for p in task.network.parameters())


def test_the_label_free_importance_reads_no_label(task):
    before = compute_label_free_importance(task, FORGET, BATCH)
    task.data.labels[:] = (task.data.labels + 1) % 3
    after = compute_label_free_importance(task, FORGET, BATCH)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("alpha", "ratio"), [(0.5, 0.1), (1.5, 0.1), (1.5, 1.0), (0.05, 10.0), (1e6, 0.1)])
def test_ssd_is_its_two_equations_weight_by_weight(task, alpha, ratio):
    everything = naive(task, torch.arange(COUNT), BATCH, mean_cross_entropy, lambda g: g * g)
    forget = naive(task, FORGET, BATCH, mean_cross_entropy, lambda g: g * g)
    expected = {}
    for name, p in task.network.named_parameters():
        expected[name] = []
        for weight, of_all, of_forget in zip(p.flatten().tolist(), everything[name], forget[name], strict=True):
            if of_forget > alpha * of_all:
                weight *= min(ratio * alpha * of_all / of_forget, 1)
            expected[name].append(weight)
    changed = sum(p.flatten().tolist() != expected[name] for name, p in task.network.named_parameters())
    assert (changed == 0) == (alpha == 1e6)
    healed = unlearn("ssd", task, {"alpha": alpha, "dampening_ratio": ratio, "batch_size": BATCH}).network
    assert_same(dict(healed.named_parameters()), expected)


@pytest.mark.parametrize("steps", [1, 3, 100])
def test_potion_is_its_loop_written_out(task, steps):
    settings = {"stop_share": 0.3, "start_share": 4.0, "growth": 2.0, "steps": steps, "batch_size": BATCH}
    everything = naive(task, torch.arange(COUNT), BATCH, mean_norm, abs)
    forget = naive(task, FORGET, BATCH, mean_norm, abs)
    names = [name for name, _ in task.network.named_parameters()]
    ratios = sorted(a / b if b else 0.0 for n in names for a, b in zip(forget[n], everything[n], strict=True))
    original = {name: p.flatten().tolist() for name, p in task.network.named_parameters()}
    with torch.no_grad():
        task.data.labels[FORGET] = task.network.eval()(task.data.images(FORGET)).argmax(1)  # memorised: 1.0
    network = Tiny()
    network.load_state_dict(task.network.state_dict())
    f = 4.0 * len(FORGET) / COUNT
    for _ in range(steps):
        position = max(0.0, 100 - math.log(1 + 100 * f)) / 100 * (len(ratios) - 1)
        low = math.floor(position)
        alpha = ratios[low] + (position - low) * (ratios[min(low + 1, len(ratios) - 1)] - ratios[low])
        expected = {
            name: [
                w * min(b / a, 1) if a > alpha * b else w
                for w, a, b in zip(original[name], forget[name], everything[name], strict=True)
            ]
            for name in names
        }
        with torch.no_grad():
            for name, p in network.named_parameters():
                p.copy_(torch.tensor(expected[name]).view_as(p))
            predicted = network.eval()(task.data.images(FORGET)).argmax(1)
        if (predicted == task.data.labels[FORGET]).float().mean() <= 0.3:
            break
        f *= 2.0
    healed = unlearn("potion", task, settings).network
    assert any(p.flatten().tolist() != original[name] for name, p in healed.named_parameters())
    assert_same(dict(healed.named_parameters()), expected)


def test_percentiles_are_numpys():
    values = torch.tensor([0.5, 1.0, 4.0, 4.5, 9.0])
    for q in (0, 10, 37.5, 50, 99.9, 100):
        assert percentile(values, q) == pytest.approx(float(np.percentile(values.numpy(), q)))
    assert percentile(values, -3) == 0.5 and percentile(values, 101) == 9.0


def test_a_weight_that_nothing_depends_on_has_ratio_0_and_is_not_dampened():
    zero, some = {"w": torch.tensor([0.0, 2.0])}, {"w": torch.tensor([0.0, 1.0])}
    assert sorted_ratios(zero, some).tolist() == [0.0, 2.0]


def test_the_largest_share_is_exact_over_all_tensors_together_ties_included():
    values = {"a": torch.tensor([[5.0, 1.0], [1.0, 1.0]]), "b": torch.tensor([1.0, 7.0])}
    assert {n: m.tolist() for n, m in select_largest(values, 1 / 3).items()} == {
        "a": [[True, False], [False, False]],
        "b": [False, True],
    }
    assert sum(int(m.sum()) for m in select_largest(values, 0.5).values()) == 3
    assert all(m.all() for m in select_largest(values, 1.0).values())


def test_cell_caches_drop_the_cells_used_longest_ago_but_never_the_one_in_use():
    caches = CellCaches(limit=100)
    for cell in "abc":
        caches.of(cell)["importance"] = {"w": torch.zeros(10)}  # 40 bytes
    caches.of("a")
    assert "importance" in caches.of("a")  # 120 bytes: one had to go, and a was used last
    kept = [cell for cell in "bc" if caches.of(cell)]
    assert kept == ["c"]
    alone = CellCaches(limit=1)
    alone.of("x")["w"] = torch.zeros(100)
    assert "w" in alone.of("x")
