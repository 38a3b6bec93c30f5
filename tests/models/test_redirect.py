"""Expansion of a trained network, masks over its new channels, and the ways to erase them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rem_study.errors import InputError
from rem_study.models.masks import SHARED_ID, sample_masks
from rem_study.models.redirect import ExpandedNetwork
from rem_study.models.resnet9 import ResNet9
from rem_study.models.site import Site, select_sites

POSITIONS = [
    "all",
    "early",
    "middle",
    "late",
    "early_middle",
    "middle_late",
    "1",
    "2-4",
    "conv1+res2",
    "conv4",
]


@pytest.fixture(scope="module")
def images():
    return torch.randn(6, 1, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def trained(images):
    """A small ResNet-9 whose batch norms have statistics and scales of their own, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResNet9(1, 10, 0.0625)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
        for _ in range(5):
            network(torch.randn(16, 1, 12, 12) + images.mean())
    return network.eval()


def expand(trained, position="all", width=0.5, initialisation="random", seed=3) -> ExpandedNetwork:
    network = copy.deepcopy(trained)
    expanded = ExpandedNetwork(network, select_sites(network.sites(), position), width, initialisation, seed)
    return expanded.train(trained.training)


def some_masks(expanded, count=6, density=0.5):
    return sample_masks(torch.arange(count), expanded.total_channels, density, 11).float()


def close(a, b):
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def give_new_channels_weight(expanded):
    """As if trained: weights out of the new channels that matter, statistics of their own."""
    generator = torch.Generator().manual_seed(5)
    for parameter in expanded.new_parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    expanded.train()
    for _ in range(3):
        expanded(torch.randn(16, 1, 12, 12, generator=generator), torch.ones(16, expanded.total_channels))
    return expanded.eval()


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
def test_zero_outgoing_weights_leave_the_function_unchanged(trained, images, position, training):
    expanded = expand(trained, position, initialisation="zero").train(training)
    original = copy.deepcopy(trained).train(training)
    for masks in (some_masks(expanded), torch.ones(6, expanded.total_channels)):
        assert close(expanded(images, masks), original(images))


@pytest.mark.parametrize("position", POSITIONS)
def test_random_outgoing_weights_change_the_function(trained, images, position):
    expanded = expand(trained, position)
    outputs = expanded(images, torch.ones(6, expanded.total_channels))
    assert not torch.allclose(outputs, trained(images), atol=1e-3)


@pytest.mark.parametrize("initialisation", ["zero", "random"])
@pytest.mark.parametrize("position", POSITIONS)
def test_without_masks_the_network_is_the_original(trained, images, position, initialisation):
    for training in (False, True):
        expanded = expand(trained, position, initialisation=initialisation).train(training)
        original = copy.deepcopy(trained).train(training)
        assert torch.equal(expanded(images), original(images))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
def test_masks_of_zeros_run_the_original_network(trained, images, position, training):
    expanded = expand(trained, position).train(training)
    original = copy.deepcopy(trained).train(training)
    assert close(expanded(images, torch.zeros(6, expanded.total_channels)), original(images))


def test_each_sample_meets_its_own_mask_only(trained, images):
    expanded = expand(trained)
    masks = some_masks(expanded)
    together = expanded(images, masks)
    for i in range(6):
        assert close(expanded(images[i : i + 1], masks[i : i + 1]), together[i : i + 1])


def test_a_masked_channel_does_not_matter_and_an_active_one_does(trained, images):
    expanded = expand(trained, "conv2", width=0.5)
    assert expanded.channels == (4,)
    masks = torch.tensor([[1.0, 0.0, 1.0, 0.0]]).expand(6, 4)
    before = expanded(images, masks)
    producer = expanded.network.conv2.conv
    with torch.no_grad():
        producer.new_weight[1] += 5
    assert torch.equal(expanded(images, masks), before)
    with torch.no_grad():
        producer.new_weight[2] += 5
    assert not close(expanded(images, masks), before)


@pytest.mark.parametrize(
    ("width", "channels"),
    [(0.5, (2, 4, 4, 8, 8, 4)), (1.0, (4, 8, 8, 16, 16, 8)), (0.125, (1, 1, 1, 2, 2, 1)), (0.001, (1,) * 6)],
)
def test_the_width_is_a_share_of_each_sites_channels_and_at_least_one(trained, width, channels):
    expanded = expand(trained, width=width)
    assert expanded.channels == channels
    assert expanded.total_channels == sum(channels)


def test_the_new_weights_depend_on_the_seed_alone(trained):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = expand(trained, seed=1).new_parameters()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = expand(trained, seed=1).new_parameters(), expand(trained, seed=2).new_parameters()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("position", POSITIONS)
def test_dropping_gives_back_exactly_the_original_architecture(trained, images, position):
    expanded = give_new_channels_weight(expand(trained, position))
    old_alone = expanded(images)
    with expanded.statistics.of_both():
        without = expanded(images)
    assert close(expanded(images, torch.zeros(6, expanded.total_channels)), without)
    dropped = expanded.erased("drop", 0.2)
    assert {k: v.shape for k, v in dropped.state_dict().items()} == {
        k: v.shape for k, v in trained.state_dict().items()
    }
    assert list(dropped.state_dict()) == list(trained.state_dict())
    assert [type(m) for m in dropped.modules()] == [type(m) for m in trained.modules()]
    assert close(dropped(images), old_alone)
    loaded = ResNet9(1, 10, 0.0625)
    loaded.load_state_dict(dropped.state_dict())
    assert torch.equal(loaded.eval()(images), dropped(images))


def test_annealed_channels_are_dropped(trained, images):
    annealed = expand(trained).erased("anneal", 0.2)
    assert list(annealed.state_dict()) == list(trained.state_dict())


def test_attenuated_channels_are_multiplied_by_the_density(trained, images):
    expanded = give_new_channels_weight(expand(trained))
    expected = expanded(images, torch.full((6, expanded.total_channels), 0.3))
    assert torch.equal(expanded.erased("attenuate", 0.3).eval()(images), expected)


def test_deactivated_channels_are_kept_and_change_nothing(trained, images):
    expanded = give_new_channels_weight(expand(trained))
    expected = expanded(images)
    kept = expanded.erased("deactivate", 0.3).eval()
    assert torch.equal(kept(images), expected)
    assert set(expanded.new_parameters()) <= set(kept.parameters())


def naive_means(expanded, batches):
    """Mean over samples and positions of what each consumer reads from the new channels, by hooks."""
    sums, count = {}, 0

    def reads(name):
        def hook(module, inputs):
            (x,) = inputs
            new = x[:, module.base.weight.shape[1] :]
            for sample in new:
                per_channel = [float(channel.double().mean()) for channel in sample]
                sums[name] = [a + b for a, b in zip(sums.get(name, [0.0] * len(per_channel)), per_channel, strict=True)]

        return hook

    handles = [
        expanded.network.get_submodule(name).register_forward_pre_hook(reads(name))
        for name in ("conv2.conv", "res1.block1.conv", "conv3.conv", "res2.block1.conv", "conv4.conv", "head")
    ]
    expanded.eval()
    with torch.no_grad():
        for images, masks in batches:
            expanded(images, masks)
            count += len(images)
    for handle in handles:
        handle.remove()
    return {name: torch.tensor([total / count for total in totals]) for name, totals in sums.items()}


def test_mean_erasure_puts_the_mean_over_the_given_batches_in_place_of_the_new_channels(trained, images):
    expanded = give_new_channels_weight(expand(trained))
    masks = some_masks(expanded)
    batches = [(images[:4], masks[:4]), (images[4:], masks[4:])]
    naive = naive_means(expanded, batches)
    means = expanded.mean_activations(batches)
    assert len(means) == 6
    for mean, expected in zip(means, naive.values(), strict=True):
        assert torch.allclose(mean, expected, atol=1e-5)
    assert max(mean.abs().max() for mean in means) > 0.01

    def constant(name):
        def hook(module, inputs):
            x = inputs[0].clone()
            for channel, value in enumerate(naive[name]):
                x[:, module.base.weight.shape[1] + channel] = value
            return (x,)

        return hook

    handles = [expanded.network.get_submodule(n).register_forward_pre_hook(constant(n)) for n in naive]
    expected = expanded(images, torch.ones(6, expanded.total_channels))
    for handle in handles:
        handle.remove()
    assert close(expanded.erased("mean", 0.2, means).eval()(images), expected)
    assert not close(expected, expanded(images))


def test_measuring_means_changes_nothing(trained, images):
    expanded = expand(trained).train()
    before = copy.deepcopy(expanded.state_dict())
    expanded.mean_activations([(images, some_masks(expanded))])
    assert expanded.training
    assert all(torch.equal(before[k], v) for k, v in expanded.state_dict().items())


@pytest.mark.parametrize("mode", ["attenuate", "deactivate", "mean"])
def test_an_erased_network_passes_no_gradient_to_its_new_channels(trained, images, mode):
    expanded = expand(trained)
    means = expanded.mean_activations([(images, some_masks(expanded))])
    erased = expanded.erased(mode, 0.2, means)
    erased(images).sum().backward()
    assert all(parameter.grad is None for parameter in expanded.new_parameters())
    assert expanded.network.head.base.weight.grad is not None


def test_a_sample_keeps_its_mask_whatever_the_batch(trained):
    ids = torch.tensor([5, 0, 17, 40_000, 3])
    masks = sample_masks(ids, 64, 0.3, 1)
    assert masks.shape == (5, 64) and masks.dtype == torch.bool
    for order in ([4, 2, 0], [1], [3, 3]):
        assert torch.equal(sample_masks(ids[order], 64, 0.3, 1), masks[order])
    assert torch.equal(sample_masks(ids, 10, 0.3, 1), masks[:, :10])


def test_samples_and_seeds_have_masks_of_their_own():
    masks = sample_masks(torch.arange(-1, 500), 64, 0.5, 1)
    assert len({tuple(row) for row in masks.tolist()}) == 501
    assert not torch.equal(masks, sample_masks(torch.arange(-1, 500), 64, 0.5, 2))
    assert SHARED_ID not in range(500)


@pytest.mark.parametrize("density", [0.1, 0.2, 0.5, 0.8])
def test_masks_have_their_density_over_samples_and_over_channels(density):
    masks = sample_masks(torch.arange(4000), 100, density, 9).double()
    assert abs(masks.mean() - density) < 0.005  # deviation of the mean: 0.0008 at most
    assert (masks.mean(0) - density).abs().max() < 0.04  # 5 deviations
    # two samples overlap as independent draws do
    assert abs((masks[0::2] * masks[1::2]).mean() - density**2) < 0.005


def test_a_denser_mask_contains_the_sparser_one():
    sparse, dense = (sample_masks(torch.arange(50), 40, density, 3) for density in (0.2, 0.6))
    assert (dense | ~sparse).all()


def test_masks_leave_the_global_random_states_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    sample_masks(torch.arange(10), 10, 0.5, 2**62 + 5)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))


def test_with_old_weights_frozen_only_new_channels_and_norms_move(trained, images):
    expanded = expand(trained).train()
    expanded.freeze_old_weights()
    before = {name: value.clone() for name, value in expanded.named_parameters()}
    optimizer = torch.optim.SGD([p for p in expanded.parameters() if p.requires_grad], 0.1, weight_decay=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        loss = F.cross_entropy(expanded(images), torch.arange(6)) + F.cross_entropy(
            expanded(images, some_masks(expanded, density=0.8)), torch.arange(6)
        )
        loss.backward()
        optimizer.step()
    new = {id(p) for p in expanded.new_parameters()}
    kinds = {"old": 0, "norm": 0, "new": 0}
    for name, value in expanded.named_parameters():
        kind = "new" if id(value) in new else "norm" if ".norm." in name else "old"
        kinds[kind] += 1
        assert torch.equal(value, before[name]) == (kind == "old"), name
    # 8 convolutions with bias and the head; 8 batch norms; see ResNet9
    assert (kinds["old"], kinds["norm"]) == (17, 16) and kinds["new"] > 0
    assert all(parameter.requires_grad for parameter in expanded.narrow().parameters())


def test_the_optimiser_of_an_expanded_network_sees_each_parameter_once(trained):
    expanded = expand(trained)
    ids = [id(p) for p in expanded.parameters()]
    old = sum(p.numel() for p in trained.parameters())
    new = sum(p.numel() for p in expanded.new_parameters())
    assert len(ids) == len(set(ids))
    assert sum(p.numel() for p in expanded.parameters()) == old + new


@pytest.mark.parametrize(
    ("position", "names"),
    [
        ("all", "conv1 conv2 res1 conv3 res2 conv4"),
        ("early", "conv1 conv2"),
        ("middle", "res1 conv3"),
        ("late", "res2 conv4"),
        ("early_middle", "conv1 conv2 res1 conv3"),
        ("middle_late", "res1 conv3 res2 conv4"),
        ("2-4", "conv2 res1 conv3"),
        ("6", "conv4"),
        ("3-3", "res1"),
        ("res2+conv1", "conv1 res2"),
        ("res1", "res1"),
    ],
)
def test_a_layer_position_names_sites_from_the_input_to_the_head(trained, position, names):
    assert " ".join(site.name for site in select_sites(trained.sites(), position)) == names


@pytest.mark.parametrize("position", ["", "0", "7", "0-2", "4-2", "3-9", "conv9", "conv1+", "conv1,res2", "2-x", "-3"])
def test_a_layer_position_that_names_no_site_is_an_input_error(trained, position):
    with pytest.raises(InputError, match=r"layer_position.*conv1, conv2, res1, conv3, res2, conv4"):
        select_sites(trained.sites(), position)


class Perceptron(nn.Module):
    """Three linear layers, without batch norm."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(5, 4), nn.Linear(4, 6), nn.Linear(6, 3, bias=False)

    def forward(self, x):
        return self.third(torch.relu(self.second(torch.relu(self.first(x)))))


PERCEPTRON_SITES = (Site("first", "first", None, ("second",)), Site("second", "second", None, ("third",)))


@pytest.fixture
def perceptron():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return Perceptron()


def test_linear_layers_are_widened_too(perceptron):
    x = torch.randn(7, 5)
    plain = perceptron(x)
    zero = ExpandedNetwork(copy.deepcopy(perceptron), PERCEPTRON_SITES, 0.5, "zero", 0)
    assert zero.channels == (2, 3)
    assert close(zero(x, torch.ones(7, 5)), plain)

    wide = ExpandedNetwork(perceptron, PERCEPTRON_SITES, 0.5, "random", 0)
    masks = (torch.rand(7, 5) < 0.5).float()
    first, second, third = (wide.network.get_submodule(name) for name in ("first", "second", "third"))
    rows = []
    for sample, mask in zip(x, masks, strict=True):
        old = torch.relu(first.base.weight @ sample + first.base.bias)
        new = torch.relu((first.new_weight @ sample + first.new_bias) * mask[:2])
        both = torch.cat([old, new])
        old = torch.relu(second.base.weight @ old + second.from_new @ new + second.base.bias)
        new = torch.relu((second.new_weight @ both + second.new_bias) * mask[2:])
        rows.append(third.base.weight @ old + third.from_new @ new)
    assert close(wide(x, masks), torch.stack(rows))
    assert torch.equal(wide(x), plain)
    assert not close(wide(x, torch.ones(7, 5)), plain)
    dropped = wide.erased("drop", 0.5)
    assert torch.equal(dropped(x), plain) and isinstance(dropped.first, nn.Linear)


def test_a_linear_producer_over_tokens_is_masked_on_its_features(perceptron):
    tokens = torch.randn(3, 2, 5)  # (B, T, D)
    wide = ExpandedNetwork(perceptron, PERCEPTRON_SITES, 0.5, "random", 0)
    masks = torch.tensor([[1.0, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    by_token = torch.stack([wide(tokens[:, t], masks) for t in range(2)], dim=1)
    assert close(wide(tokens, masks), by_token)
    means = wide.mean_activations([(tokens, masks)])
    first = wide.network.first
    new = torch.relu((tokens @ first.new_weight.T + first.new_bias) * masks[:, None, :2])
    assert close(means[0], new.mean((0, 1)))


def test_a_layer_that_cannot_be_widened_is_refused():
    network = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 2, 3))
    with pytest.raises(ValueError, match="only plain convolutions"):
        ExpandedNetwork(network, (Site("a", "0", None, ("2",)),), 0.5, "zero", 0)
    with pytest.raises(ValueError, match="1 is neither a convolution nor a linear layer"):
        ExpandedNetwork(network, (Site("a", "2", None, ("1",)),), 0.5, "zero", 0)


def test_only_a_layer_norm_over_channels_is_bypassed(perceptron):
    site = Site("first", "first", None, ("third",), bypassed=("second",))
    with pytest.raises(ValueError, match="second is no layer norm over channels"):
        ExpandedNetwork(perceptron, (site,), 0.5, "zero", 0)


def test_new_channels_pass_a_layer_norm_untouched_and_the_old_ones_do_not_feel_them():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    site = Site("first", "0", None, ("2",), bypassed=("1",))
    x, masks = torch.randn(3, 7, 5), torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])  # 7 tokens
    wide = ExpandedNetwork(copy.deepcopy(network), (site,), 0.5, "random", 0)
    first, third = wide.network[0], wide.network[2]
    new = (x @ first.new_weight.T + first.new_bias) * masks[:, None]
    assert close(wide(x, masks), network(x) + new @ third.from_new.T)
    assert isinstance(wide.erased("drop", 0.5)[1], nn.LayerNorm)


def test_a_pass_with_new_channels_leaves_the_statistics_of_the_old_path_alone(trained, images):
    expanded = expand(trained).train()
    before = copy.deepcopy(trained.state_dict())
    expanded(images, some_masks(expanded))
    after = copy.deepcopy(expanded).narrow().state_dict()
    statistics = [name for name in before if "running" in name]
    assert len(statistics) == 16
    assert all(torch.equal(after[name], before[name]) for name in statistics)
    expanded(images)
    after = expanded.narrow().state_dict()
    assert not any(torch.equal(after[name], before[name]) for name in statistics)


def test_both_paths_are_evaluated_with_statistics_of_their_own(trained, images):
    expanded = expand(trained)
    masks = some_masks(expanded)
    with torch.no_grad():
        before = expanded(images), expanded(images, masks)
        expanded.train()
        expanded(images, masks)
        expanded.eval()
        assert torch.equal(expanded(images), before[0])
        moved = expanded(images, masks)
        assert not torch.allclose(moved, before[1])
        expanded.train()
        expanded(images)
        expanded.eval()
        assert torch.equal(expanded(images, masks), moved)
        assert not torch.allclose(expanded(images), before[0])


def test_a_state_dict_holds_both_sets_of_statistics(trained, images):
    expanded, other = expand(trained), expand(trained, seed=4)
    masks = some_masks(expanded)
    expanded.train()(images, masks)
    other.load_state_dict(expanded.state_dict())
    assert torch.equal(other.eval()(images, masks), expanded.eval()(images, masks))


def test_estimated_statistics_are_the_mean_over_the_batches(trained, images):
    expanded = expand(trained)
    expanded.estimate_statistics(images.split(3))
    inputs = trained.conv1.conv(images)
    first = expanded.network.conv1.norm.base
    assert torch.allclose(first.running_mean, inputs.mean((0, 2, 3)), atol=1e-5)
    variances = torch.stack([part.var((0, 2, 3)) for part in inputs.split(3)])
    assert torch.allclose(first.running_var, variances.mean(0), atol=1e-5)
    assert first.momentum == 0.1
    assert not any(module.training for module in expanded.modules())


def test_masks_are_those_of_unsigned_splitmix64():
    """Whole numbers of Python, cut to 64 bits; REM's results would change if masks did."""

    def mix(x):
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    assert mix(0) == 0xE220A8397B1DCDAF  # the generator's published first output of seed 0
    ids, seed, density = [SHARED_ID, 0, 1, 49_999, 2**40], 2**62 + 5, 0.3
    expected = [[mix(mix(i % 2**64 ^ seed) ^ mix(c)) >> 11 < density * 2**53 for c in range(200)] for i in ids]
    assert sample_masks(torch.tensor(ids), 200, density, seed).tolist() == expected
    assert sample_masks(torch.arange(1500), 3, density, seed)[1234].tolist() == [
        mix(mix(1234 ^ seed) ^ mix(c)) >> 11 < density * 2**53 for c in range(3)
    ]
