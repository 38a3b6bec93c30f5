"""CUTS: the task vector, how far it is reversed, and what becomes of batch norm."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from doubles.quick_methods import configuration
from torch import nn
from torch.nn.utils import parameters_to_vector

from rem_study.spec.original import RecipeSpec
from rem_study.training.evaluation import given_label_accuracy
from rem_study.unlearning.methods import cuts
from rem_study.unlearning.norm_statistics import estimate_statistics
from rem_study.unlearning.run import unlearn


def plain_copy(task, lr, epochs):
    """The original after full-batch gradient descent on the forget set's wrong labels."""
    network = copy.deepcopy(task.network).train()
    for _ in range(epochs):
        loss = F.cross_entropy(network(task.data.images(task.forget_ids)), task.data.labels[task.forget_ids])
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.sub_(lr * gradient)
    return network


@pytest.mark.parametrize("max_alpha", [0.05, 0.2, 3.0])
def test_the_weights_go_back_by_one_alpha_times_what_fine_tuning_moved_them(make_task, max_alpha):
    task = make_task(recipe=RecipeSpec(momentum=0, weight_decay=0))
    before = parameters_to_vector(task.network.parameters()).detach()
    tau = parameters_to_vector(plain_copy(task, 0.05, 3).parameters()).detach() - before
    settings = {"lr": 0.05, "epochs": 3, "stop_accuracy": 0.0, "max_alpha": max_alpha, "batch_size": 100}
    change = parameters_to_vector(unlearn("cuts", task, settings).network.parameters()).detach() - before
    alpha = -(change @ tau / (tau @ tau)).item()
    assert tau.norm() > 0.1 and torch.allclose(change, -alpha * tau, atol=1e-5)
    if max_alpha < 1:  # not enough to forget all: the bound itself
        assert alpha == pytest.approx(max_alpha, rel=1e-4)
    else:  # one of the sequence
        steps = math.log(alpha / 0.05) / math.log(1.1)
        assert steps > 1 and steps == pytest.approx(round(steps), abs=0.01)


def test_alpha_is_the_first_at_which_the_wrong_labels_are_gone(make_task, monkeypatch):
    task, seen = make_task(), []
    real = given_label_accuracy
    monkeypatch.setattr(cuts, "given_label_accuracy", lambda *a: seen.append(real(*a)) or seen[-1])
    healed = unlearn("cuts", task, configuration("cuts", stop_accuracy=0.4)).network
    assert seen[0] == 1.0 and seen[-1] <= 0.4 < min(seen[:-1])
    assert real(healed, task.data, task.forget_ids) == seen[-1]


def test_where_nothing_is_to_be_forgotten_the_network_stays(make_task):
    task = make_task()
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    healed = unlearn("cuts", task, configuration("cuts", stop_accuracy=1.0)).network
    assert all(torch.equal(before[name], value) for name, value in healed.state_dict().items())


def test_the_copy_is_fine_tuned_on_the_forget_set_alone_and_retained_samples_serve_batch_norm(make_task):
    """What the retained samples' labels are has no influence; what their images are has."""
    task, other = make_task(), make_task()
    other.data.labels[other.retain_ids] = (other.data.labels[other.retain_ids] + 1) % 10
    first, second = (unlearn("cuts", t, configuration("cuts")).network.state_dict() for t in (task, other))
    assert all(torch.equal(first[name], value) for name, value in second.items())
    fewer = make_task()
    fewer.retain_ids = fewer.retain_ids[:20]
    third = unlearn("cuts", fewer, configuration("cuts", max_alpha=0.05)).network.state_dict()
    assert any(not torch.equal(first[name], value) for name, value in third.items() if "running" in name)


def test_estimated_statistics_are_the_moments_of_retained_samples_and_leave_all_else(make_task):
    task = make_task()
    network = task.network
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    weights = {name: p.detach().clone() for name, p in network.named_parameters()}
    inputs = []
    hook = norm.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    with torch.no_grad():
        network.eval()(task.data.images(task.retain_ids))
    hook.remove()
    network.train()
    momentum = norm.momentum
    norm.running_mean += 3
    estimate_statistics(task, network)
    assert torch.allclose(norm.running_mean, inputs[0].mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, inputs[0].var((0, 2, 3)), rtol=1e-4)
    assert norm.momentum == momentum and all(module.training for module in network.modules())
    assert all(torch.equal(weights[name], p) for name, p in network.named_parameters())


def test_a_network_without_batch_norm_needs_no_estimate(make_task):
    task = make_task()
    task.network = nn.Sequential(nn.Flatten(), nn.Linear(144, 10))
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    estimate_statistics(task, task.network)
    assert all(torch.equal(before[name], value) for name, value in task.network.state_dict().items())
