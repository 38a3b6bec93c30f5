"""Originals whose own channels are split: example-tied dropout, half capacity, and REM on them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from rem_study.data.corruption import CorruptedTrainingSet
from rem_study.errors import InputError, UnlearningError
from rem_study.models.masks import sample_masks
from rem_study.models.resnet9 import ResNet9
from rem_study.models.split import SplitNetwork
from rem_study.spec.resolve import resolve
from rem_study.spec.space import known_methods, load_space
from rem_study.spec.study import Study
from rem_study.study.preflight import preflight
from rem_study.trial.originals import Setting, train_original
from rem_study.trial.trial import Trial, cells_of, run_trial, split_ids
from rem_study.unlearning.run import needed_original, unlearn
from rem_study.unlearning.task import UnlearningTask

RECIPE = {"epochs": 30, "batch_size": 32, "lr": 0.05}
ETD = RECIPE | {"kind": "etd", "p_gen": 0.25, "p_mem": 0.4}
HALF = RECIPE | {"kind": "half_capacity"}
POISON = {"name": "poison", "samples": 12}
SITES = ["conv1", "conv2", "res1", "conv3", "res2", "conv4"]


@pytest.fixture(scope="module")
def images():
    return torch.randn(6, 1, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network():
    """A ResNet-9 with normalisation statistics of its own, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResNet9(1, 10, 0.0625)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
        for _ in range(5):
            network(torch.randn(16, 1, 12, 12))
    return network.eval()


def split(network, own_share=0.5, rest=0.0, density=0.0, seed=None) -> SplitNetwork:
    return SplitNetwork(copy.deepcopy(network), own_share, rest, density, seed).eval()


def close(a, b):
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def outputs_of_sites(network, run):
    """What leaves each site, by name, while `run` runs."""
    seen = {}
    handles = [
        network.network.get_submodule(name).register_forward_hook(lambda _, __, out, key=name: seen.update({key: out}))
        for name in SITES
    ]
    run()
    for handle in handles:
        handle.remove()
    return seen


@pytest.fixture(scope="module")
def prepare(make_spec, store):
    """A function from an `original` section to a fresh task on its (poisoned) original."""

    def prepare(original, **changes) -> UnlearningTask:
        spec = make_spec(model={"width": 0.125}, original=original, corruptions=[POISON])
        setting = Setting(spec, spec.corruptions[0], 0)
        corruption = setting.draw()
        data = CorruptedTrainingSet(setting.dataset, corruption)
        network = setting.fresh_network("original")
        network.load_state_dict(store.obtain(setting).state)
        forget_ids, retain_ids = split_ids(corruption, 0.5, len(data))
        fresh = lambda: setting.fresh_network("retrain")  # noqa: E731
        parts = {"seed": 7, "fresh_network": fresh, "recipe": spec.original} | changes
        return UnlearningTask(network=network.train(), data=data, forget_ids=forget_ids, retain_ids=retain_ids, **parts)

    return prepare


def test_masks_switch_the_memorisation_channels_of_each_site_and_no_other(network, images):
    etd = split(network, 0.25, 0.4, 0.4, seed=9)
    assert etd.channels == (3, 6, 6, 12, 12, 6)
    masks = etd.draw_masks(torch.arange(6), 0.4, 0).float()
    seen = outputs_of_sites(etd, lambda: etd(images, masks))
    for (name, out), mask in zip(seen.items(), masks.split(etd.channels, dim=1), strict=True):
        own = out.shape[1] - mask.shape[1]
        on = out.flatten(2).abs().sum(2) > 0
        assert on[:, :own].all(), name
        assert torch.equal(on[:, own:], mask.bool()), name


def test_the_plain_form_scales_memorisation_channels_and_is_that_of_constant_masks(network, images):
    etd = split(network, 0.25, 0.4, 0.4, seed=9)
    plain = etd(images)
    assert close(plain, etd(images, torch.full((6, etd.total_channels), 0.4)))
    assert not close(plain, network(images))
    assert torch.equal(split(network, 0.25, 1.0)(images), network(images))


def test_a_samples_mask_is_fixed_by_its_id(network, images):
    etd = split(network, 0.25, 0.4, 0.4, seed=9)
    ids = torch.tensor([3, 17, 4, 99, 0, 5])
    together = etd(images, etd.training_masks(ids))
    for i in range(6):
        assert close(etd(images[i : i + 1], etd.training_masks(ids[i : i + 1])), together[i : i + 1])
    assert not close(etd(images, etd.training_masks(ids.flip(0))), together)
    many = etd.draw_masks(torch.arange(2000), 0.4, 0).double()
    assert abs(many.mean() - 0.4) < 0.01
    assert torch.equal(etd.draw_masks(ids, 0.4, 1), sample_masks(ids, etd.total_channels, 0.4, 9))


def test_a_half_silent_network_is_the_network_of_half_the_width(network, images):
    """Copied channel by channel into a smaller one."""
    half = split(network)
    with torch.random.fork_rng():
        small = ResNet9(1, 10, 0.03125).eval()
    # inside the residual blocks nothing is split: only what they read and write shrinks
    inner = {"res1.block1": 8, "res2.block1": 16}
    state = network.state_dict()
    for block, width in inner.items():
        module = small.get_submodule(block)
        module.conv = nn.Conv2d(width // 2, width, 3, padding=1)
        module.norm = nn.BatchNorm2d(width)
        follower = small.get_submodule(block.replace("block1", "block2"))
        follower.conv = nn.Conv2d(width, width // 2, 3, padding=1)
    small.load_state_dict({k: state[k][tuple(slice(n) for n in v.shape)] for k, v in small.state_dict().items()})
    assert close(half(images), small.eval()(images))


def test_silent_channels_learn_nothing(make_spec):
    """Without weight decay what reads them stays as it was initialised."""
    spec = make_spec(original=HALF | {"weight_decay": 0, "epochs": 1})
    setting = Setting(spec, spec.corruptions[0], 0)
    before = setting.fresh_network("original").state_dict()
    after = train_original(setting).state
    assert torch.equal(before["network.head.weight"][:, 4:], after["network.head.weight"][:, 4:])
    assert not torch.equal(before["network.head.weight"][:, :4], after["network.head.weight"][:, :4])
    conv = "network.conv4.conv.weight"
    assert torch.equal(before[conv][:, 8:], after[conv][:, 8:]) and torch.equal(before[conv][4:], after[conv][4:])


def test_a_copy_has_gates_of_its_own(network, images):
    etd = split(network, 0.25, 0.4, 0.4, seed=9)
    before = etd(images)
    copied = copy.deepcopy(etd)
    copied.wake("all")
    assert torch.equal(etd(images), before) and not close(copied(images), before)


def test_sites_that_are_not_woken_stay_in_their_plain_form(network, images):
    etd = split(network, 0.25, 0.4, 0.4, seed=9)
    full = etd.draw_masks(torch.arange(6), 0.3, 0)
    etd.wake("conv2+conv4")
    assert etd.channels == (6, 6) and etd.total_channels == 12
    chosen = etd.draw_masks(torch.arange(6), 0.3, 0)
    assert torch.equal(chosen, torch.cat([full[:, 3:9], full[:, 39:45]], dim=1))
    seen = outputs_of_sites(etd, lambda: etd(images))
    assert [name for name, out in seen.items() if out[:, -1].abs().max() == 0] == ["conv2", "conv4"]


def test_waking_silent_channels_with_zero_outgoing_weights_changes_nothing(network, images):
    half = split(network)
    before = half(images)
    half.wake("all")
    ones = torch.ones(6, half.total_channels)
    assert not close(half(images, ones), before)
    half.clear_outgoing()
    assert close(half(images, ones), before) and torch.equal(half(images), before)


@pytest.mark.parametrize("position", ["all", "late"])
def test_dropping_leaves_the_architecture_and_nothing_in_the_dropped_channels(network, images, position):
    half = split(network)
    keys = [(k, v.shape) for k, v in half.state_dict().items()]
    half.wake(position)
    without = half(images)
    dropped = half.erased("drop", 0.2)
    assert [(k, v.shape) for k, v in dropped.state_dict().items()] == keys
    assert close(dropped(images), without)
    assert close(dropped(images, torch.ones(6, half.total_channels)), without)
    assert dropped.network.head.weight[:, 4:].abs().max() == 0


@pytest.mark.parametrize("mode", ["deactivate", "attenuate", "mean"])
def test_kept_channels_are_scaled_or_held_at_their_means(network, images, mode):
    etd = split(network, 0.25, 0.4, 0.4, seed=9)
    etd.wake("all")
    masks = etd.draw_masks(torch.arange(6), 0.5, 0).float()
    means = etd.mean_activations([(images[:4], masks[:4]), (images[4:], masks[4:])])
    seen = outputs_of_sites(etd, lambda: etd(images, masks))
    for mean, out in zip(means, seen.values(), strict=True):
        assert close(mean, out[:, -len(mean) :].mean((0, 2, 3)))
    erased = etd.erased(mode, 0.3, means)
    if mode == "mean":
        seen = outputs_of_sites(etd, lambda: erased(images))
        for mean, out in zip(means, seen.values(), strict=True):
            assert close(out[:, -len(mean) :], mean[:, None, None].expand_as(out[:, -len(mean) :]))
    else:
        expected = torch.full((6, etd.total_channels), 0.3 if mode == "attenuate" else 0.0)
        assert torch.equal(erased(images), etd(images, expected))


@pytest.mark.parametrize("original", [ETD, HALF], ids=["etd", "half_capacity"])
def test_the_original_is_trained_once_and_its_state_says_what_it_is(prepare, original):
    first, second = prepare(original).network, prepare(original).network
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    scale = first.state_dict()["gates.0.scale"].tolist()
    assert scale == pytest.approx([1] * 2 + [0.4] * 6 if original is ETD else [1] * 4 + [0] * 4)
    assert [site.name for site in first.sites()] == SITES


@pytest.mark.parametrize("original", [ETD, HALF], ids=["etd", "half_capacity"])
@pytest.mark.parametrize("method", [m for m in known_methods() if needed_original(m) is None])
def test_every_method_runs_on_it(prepare, method, original):
    task = prepare(original)
    before = copy.deepcopy(task.network).eval()
    settings = load_space(method).defaults
    quick = {"epochs": 2, "passes": 5, "flush_limit": 3, "batch_size": 64}
    healed = unlearn(method, task, settings | {k: v for k, v in quick.items() if k in settings}).network.eval()
    images = task.data.images(torch.arange(20))
    assert not torch.allclose(healed(images), before(images), atol=1e-3)
    before.load_state_dict(healed.state_dict())
    assert close(before(images), healed(images))


@pytest.mark.parametrize("original", [ETD, HALF], ids=["etd", "half_capacity"])
def test_rem_uses_the_channels_that_are_there(prepare, original):
    """So its redirect width means nothing, and every other hyperparameter something."""
    quick = {"epochs": 2, "flush_limit": 3, "batch_size": 64, "lr": 0.02}

    def logits(**changes):
        task = prepare(original)
        healed = unlearn("rem", task, load_space("rem").defaults | quick | changes).network
        return healed.eval()(task.data.images(torch.arange(20)))

    base = logits()
    assert torch.equal(base, logits(redirect_width=1.0))
    for change in ({"mask_density": 0.7}, {"layer_position": "late"}, {"erase_mode": "attenuate"}):
        assert not torch.equal(base, logits(**change)), change
    assert torch.equal(base, logits(initialisation="zero")) == (original is ETD)
    with pytest.raises(UnlearningError, match=r"trainable: .*new_and_norm"):
        logits(trainable="new_and_norm")


def test_rem_heals_a_network_trained_at_half_capacity(make_spec, store):
    spec = make_spec(model={"width": 0.125}, original=HALF, corruptions=[POISON])
    original = store.obtain(Setting(spec, spec.corruptions[0], 0))
    assert original.facts["memorised"] > 0.9
    row = run_trial(spec, Trial(cells_of(spec)[0], "rem", load_space("rem").defaults, 0), store)
    assert row["forget_accuracy"] <= 0.2 and row["healed"] >= 0.5 and row["utility"] > 0.7


@pytest.mark.parametrize(("rescale", "factor"), [(True, (0.25 + 0.4) / 0.25), (False, 1.0)])
def test_etd_drop_drops_memorisation_channels_and_rescales_the_others(prepare, rescale, factor):
    task = prepare(ETD)
    images = task.data.images(torch.arange(6))
    weights = {name: value.clone() for name, value in task.network.named_parameters()}
    network = unlearn("etd_drop", task, {"rescale": rescale}).network.eval()
    assert all(torch.equal(weights[name], value) for name, value in network.named_parameters())
    seen = outputs_of_sites(network, lambda: network(images))
    by_hand = network.network.conv1.norm(network.network.conv1.conv(images))[:, :2]
    by_hand = nn.functional.celu(by_hand, 0.075) * factor
    assert close(seen["conv1"][:, :2], by_hand)
    assert all(out[:, -1].abs().max() == 0 for out in seen.values())


@pytest.mark.parametrize("original", [RECIPE, HALF], ids=["standard", "half_capacity"])
def test_etd_drop_needs_example_tied_dropout(make_task, prepare, make_spec, original):
    task = make_task() if original is RECIPE else prepare(original)
    with pytest.raises(UnlearningError, match="needs an original trained with example-tied dropout"):
        unlearn("etd_drop", task, {"rescale": True})
    spec = make_spec(original=original, methods=["etd_drop"])
    with pytest.raises(InputError, match=r"^s\.yaml: methods\.etd_drop: needs original\.kind: etd$"):
        preflight(Study(spec=spec, spaces={"etd_drop": load_space("etd_drop")}), "s.yaml")
    spec = make_spec(original=ETD, methods=["etd_drop"])
    preflight(Study(spec=spec, spaces={"etd_drop": load_space("etd_drop")}), "s.yaml")


def test_each_kind_and_share_is_another_original(make_spec):
    originals = [RECIPE, HALF, ETD, ETD | {"p_mem": 0.3}, ETD | {"p_gen": 0.5}]
    specs = [make_spec(original=original) for original in originals]
    assert len({Setting(spec, spec.corruptions[0], 0).key() for spec in specs}) == len(originals)


@pytest.mark.parametrize(
    ("original", "message"),
    [
        ({"kind": "dropout"}, "original: must be a mapping whose kind is standard, etd or half_capacity"),
        ({"p_mem": 0.2}, "original.p_mem: unknown key"),
        ({"kind": "half_capacity", "p_gen": 0.2}, "original.p_gen: unknown key"),
        ({"kind": "etd", "p_mem": 1.0}, "original.p_mem: "),
    ],
)
def test_a_wrong_kind_of_original_is_one_line_that_names_the_field(original, message):
    document = {"name": "t", "corruptions": ["poison"], "discovery_rates": [1], "methods": ["rem"]}
    with pytest.raises(InputError, match=f"^s.yaml: {message}") as error:
        resolve(document | {"original": original}, "s.yaml", None)
    assert "\n" not in str(error.value)


def test_a_network_of_single_channels_cannot_be_split():
    with pytest.raises(InputError, match=r"^original\.kind: conv1 has a single channel"):
        SplitNetwork(ResNet9(1, 10, 0.01), 0.5, 0.0, 0.0, None)


@pytest.mark.parametrize("model", [{"name": "vit", "width": 0.0625, "depth": 1, "patch_size": 4}])
def test_a_vits_hidden_units_are_split_and_its_residual_stream_is_not(make_spec, model):
    setting = Setting(make_spec(model=model, original=ETD), make_spec().corruptions[0], 0)
    network = setting.fresh_network("original").eval()
    assert [site.name for site in network.sites()] == ["mlp1"]
    images = torch.randn(4, 1, 12, 12)
    masks = network.draw_masks(torch.arange(4), 0.4, 0).float()
    together = network(images, masks)
    assert close(together[:1], network(images[:1], masks[:1])) and not close(together, network(images, 1 - masks))


def test_waking_gives_the_woken_path_statistics_of_its_own_until_it_is_erased(network, images):
    half = split(network, 0.5, 0.0, 0.0, seed=None)
    keys = list(half.state_dict())
    half.wake("all")
    before = copy.deepcopy(half.network.conv1.norm.running_mean)
    half.train()(images, torch.ones(6, half.total_channels))
    assert torch.equal(half.network.conv1.norm.running_mean, before)
    half.estimate_statistics([images])
    assert torch.allclose(half.network.conv1.norm.running_mean, half.network.conv1.conv(images).mean((0, 2, 3)))
    assert list(half.erased("drop", 0.2).state_dict()) == keys
