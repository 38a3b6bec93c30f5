"""MSG: which weights are initialised anew, how many, and how fast the others move."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from doubles.quick_methods import configuration
from torch import nn

from rem_study.spec.original import RecipeSpec
from rem_study.unlearning.methods import msg
from rem_study.unlearning.methods.msg import draw_retained, layer_weights, rise_and_fall, select_smallest
from rem_study.unlearning.run import unlearn


def test_the_smallest_share_is_exact_ties_included_and_zeros_are_not_counted():
    values = torch.tensor([[0.0, 4.0, 1.0], [2.0, 2.0, 2.0]])
    assert select_smallest(values, 0.2).tolist() == [[False, False, True], [False, False, False]]
    assert select_smallest(values, 0.6).tolist() == [[False, False, True], [True, True, False]]
    assert select_smallest(values, 1.0).tolist() == [[False, True, True], [True, True, True]]
    assert not select_smallest(torch.zeros(3), 0.9).any()


@pytest.mark.parametrize("share", [0.05, 0.3, 0.95])
def test_in_each_layer_exactly_the_share_with_the_smallest_gradients_is_initialised_anew(make_task, share):
    """With a rate of nothing, what is not initialised anew stays; batch by batch, weight by weight."""
    task = make_task()
    before = copy.deepcopy(task.network)
    fresh = dict(task.fresh_network().named_parameters())
    compared = draw_retained(task)
    assert len(compared) == len(task.forget_ids) == 6 and torch.isin(compared, task.retain_ids).all()
    plain = copy.deepcopy(task.network).eval()
    loss = sum(
        sign * F.cross_entropy(plain(task.data.images(ids)), task.data.labels[ids])
        for sign, ids in ((1, compared), (-1, task.forget_ids))
    )
    gradients = dict(
        zip(dict(plain.named_parameters()), torch.autograd.grad(loss, list(plain.parameters())), strict=True)
    )
    settings = configuration("msg", reset_share=share, other_rate=0.0, lr=1e-8)
    healed = dict(unlearn("msg", task, settings).network.named_parameters())
    names = layer_weights(before)
    assert len(names) == 9 and all(name.endswith("weight") for name in names)
    for name, parameter in before.named_parameters():
        if name not in names:
            assert torch.allclose(healed[name], parameter, atol=1e-4), name
            continue
        gradient = gradients[name].abs()
        anew = healed[name] != parameter
        assert int(anew.sum()) == round(share * int((gradient > 0).sum())), name
        assert torch.allclose(healed[name][anew], fresh[name][anew], atol=1e-4), name
        assert gradient[anew].max() <= gradient[~anew].min() * (1 + 1e-3) or (gradient == 0).any(), name


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_other_weights_move_by_a_share_of_their_step_and_all_else_by_the_whole(make_task, monkeypatch, optimizer):
    """One step on all retained samples at once, whichever the optimiser, decay included."""
    recipe = RecipeSpec(optimizer=optimizer, momentum=0.9, weight_decay=0.1)
    starts, real = [], msg.train_epoch

    def noting(batches, loss, optimizer, after_step):
        starts.append({n: p.detach().clone() for n, p in task.network.named_parameters()})
        return real(batches, loss, optimizer, after_step=after_step)

    monkeypatch.setattr(msg, "train_epoch", noting)
    ends = []
    for rate in (0.25, 1.0):
        task = make_task(recipe=recipe)
        settings = configuration("msg", epochs=1, batch_size=1000, lr=0.01, reset_share=0.5, other_rate=rate)
        ends.append(dict(unlearn("msg", task, settings).network.named_parameters()))
    before = dict(make_task().network.named_parameters())
    names = layer_weights(task.network)
    for name, start in starts[0].items():
        assert torch.equal(start, starts[1][name])
        slow, fast = (end[name] - start for end in ends)
        held_back = start == before[name] if name in names else torch.zeros_like(start, dtype=torch.bool)
        assert torch.allclose(slow[held_back], 0.25 * fast[held_back], atol=1e-6), name
        assert torch.allclose(slow[~held_back], fast[~held_back], atol=1e-6), name
        assert fast.abs().sum() > 0


def test_silent_channels_take_nothing_of_the_share(make_task):
    """As at half capacity, where most of a layer's weights have no gradient: the share is of the others."""
    task = make_task()
    network = task.network
    with torch.no_grad():
        network.head.weight[:, :2] = 0
        network.conv4.norm.weight[2:] = 0
        network.conv4.norm.bias[2:] = 0  # these channels are silent: the head's weights for them get no gradient
    before = network.head.weight.detach().clone()
    healed = unlearn("msg", task, configuration("msg", reset_share=0.5, other_rate=0.0, lr=1e-8)).network
    anew = healed.head.weight != before
    assert int(anew[:, :2].sum()) == round(0.5 * anew[:, :2].numel()) and not anew[:, 2:].any()


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(1, [1]), (2, [1, 1 / 2]), (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]), (4, [1 / 2, 1, 2 / 3, 1 / 3])],
)
def test_the_learning_rate_rises_and_falls(make_task, monkeypatch, epochs, expected):
    assert [rise_and_fall(epoch, epochs) for epoch in range(epochs)] == pytest.approx(expected)
    rates, real = [], msg.train_epoch

    def noting(batches, loss, optimizer, after_step):
        rates.append(optimizer.param_groups[0]["lr"])
        return real(batches, loss, optimizer, after_step=after_step)

    monkeypatch.setattr(msg, "train_epoch", noting)
    unlearn("msg", make_task(), configuration("msg", epochs=epochs, lr=0.02))
    assert rates == pytest.approx([0.02 * share for share in expected])


def test_the_repair_never_sees_the_forget_set(make_task):
    """The forget set decides which weights are initialised anew, once a cell; nothing else of it is read."""
    cache: dict[object, object] = {}
    first = unlearn("msg", make_task(cell_cache=cache), configuration("msg")).network.state_dict()
    other = make_task(cell_cache=cache)
    other.data.labels[other.forget_ids] = 0
    second = unlearn("msg", other, configuration("msg")).network.state_dict()
    assert all(torch.equal(first[name], value) for name, value in second.items())


def test_the_layers_are_convolutions_and_linear_layers_without_biases():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 3))
    assert list(layer_weights(network)) == ["0.weight", "4.weight"]
