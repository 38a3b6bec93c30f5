"""What holds for every classifier: shapes, seeds, blocks, and that it can be widened and narrowed again."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from torch import nn

from rem_study.data.corruption import CorruptedTrainingSet, split_ids
from rem_study.errors import InputError
from rem_study.models.build import build_model
from rem_study.models.redirect import ExpandedNetwork
from rem_study.models.site import select_sites
from rem_study.models.torchvision_model import chain_sites
from rem_study.models.vit import LocalityAttention, PatchTokens, ViT
from rem_study.spec.model import ModelSpec
from rem_study.spec.resolve import resolve
from rem_study.spec.space import load_space
from rem_study.spec.study import Study
from rem_study.spec.yaml_file import load_yaml
from rem_study.study.preflight import preflight
from rem_study.training.evaluation import given_label_accuracy
from rem_study.trial.originals import Setting
from rem_study.trial.trial import Trial, cells_of, run_trial
from rem_study.unlearning.run import unlearn
from rem_study.unlearning.task import UnlearningTask

MODELS = {
    "resnet9": {"name": "resnet9", "width": 0.0625},
    "vit": {"name": "vit", "width": 0.0625, "depth": 2, "patch_size": 4},
    "resnet18": {"name": "torchvision/resnet18"},
}
SHAPE = (1, 12, 12)


def spec_of(model):
    return TypeAdapter(ModelSpec).validate_python(model)


def build(name, seed=0, shape=SHAPE, classes=10):
    return build_model(spec_of(MODELS[name]), shape, classes, seed)


@pytest.fixture(scope="module")
def images():
    return torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=MODELS)
def network(request):
    """A network whose batch norms, if any, have seen data, in evaluation mode."""
    network = build(request.param)
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        network(torch.randn(16, *SHAPE, generator=generator))
    return network.eval()


def expand(network, initialisation="random", position="all", width=0.5):
    network = copy.deepcopy(network)
    return ExpandedNetwork(network, select_sites(network.sites(), position), width, initialisation, 3).eval()


def close(a, b):
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("shape", "classes"), [((1, 16, 16), 10), ((3, 12, 12), 4)])
def test_images_become_logits(name, shape, classes):
    assert build(name, 0, shape, classes)(torch.randn(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build(name, 1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = build(name, 1).state_dict(), build(name, 2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_the_blocks_hold_every_parameter_once_from_the_input_to_the_head(network, images):
    names = network.blocks()
    held = [id(p) for name in names for p in network.get_submodule(name).parameters()]
    assert sorted(held) == sorted(id(p) for p in network.parameters())
    met = []
    handles = [network.get_submodule(n).register_forward_pre_hook(lambda *_, n=n: met.append(n)) for n in names]
    logits = []
    handles.append(network.get_submodule(names[-1]).register_forward_hook(lambda _, __, out: logits.append(out)))
    output = network(images)
    for handle in handles:
        handle.remove()
    assert tuple(met) == names and torch.equal(logits[0], output)


def test_zero_outgoing_weights_leave_the_function_unchanged(network, images):
    for site in ("all", *(site.name for site in network.sites())):
        expanded = expand(network, "zero", site)
        assert close(expanded(images, torch.ones(6, expanded.total_channels)), network(images)), site


def test_new_channels_of_every_site_matter_and_masks_of_zeros_silence_them(network, images):
    for site in network.sites():
        expanded = expand(network, position=site.name)
        with torch.no_grad():
            for parameter in expanded.new_parameters():
                parameter += 0.1
        ones = torch.ones(6, expanded.total_channels)
        assert not torch.allclose(expanded(images, ones), network(images), atol=1e-3), site.name
        assert close(expanded(images, 0 * ones), network(images)), site.name


def test_without_masks_the_network_is_the_original(network, images):
    assert torch.equal(expand(network)(images), network(images))


def test_each_sample_meets_its_own_mask_only(network, images):
    expanded = expand(network)
    masks = (torch.rand(6, expanded.total_channels, generator=torch.Generator().manual_seed(3)) < 0.5).float()
    together = expanded(images, masks)
    for i in range(6):
        assert close(expanded(images[i : i + 1], masks[i : i + 1]), together[i : i + 1])


def test_every_new_weight_learns(network, images):
    expanded = expand(network).train()
    F.cross_entropy(expanded(images, torch.ones(6, expanded.total_channels)), torch.arange(6)).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in expanded.new_parameters() if p.ndim > 1)


def test_dropping_gives_back_exactly_the_original_architecture(network, images):
    dropped = expand(network).erased("drop", 0.2)
    state = network.state_dict()
    assert [(k, v.shape) for k, v in dropped.state_dict().items()] == [(k, v.shape) for k, v in state.items()]
    assert [type(m) for m in dropped.modules()] == [type(m) for m in network.modules()]
    assert torch.equal(dropped(images), network(images))


def test_a_site_read_twice_is_measured_once(network, images):
    expanded = expand(network)
    masks = torch.ones(6, expanded.total_channels)
    means = expanded.mean_activations([(images, masks)])
    assert [len(mean) for mean in means] == list(expanded.channels)
    read: dict[str, torch.Tensor] = {}

    def hook(name):
        def note(module, inputs):
            old = module.base.weight.shape[1]
            channels = inputs[0].movedim(1, -1) if inputs[0].ndim == 4 else inputs[0]
            read[name] = channels[..., old:].reshape(-1, channels.shape[-1] - old).mean(0)

        return note

    sites = network.sites()
    for name in {name for site in sites for name in site.consumers}:
        expanded.network.get_submodule(name).register_forward_pre_hook(hook(name))
    expanded(images, masks)
    for site, mean in zip(sites, means, strict=True):
        assert torch.allclose(mean, read[site.consumers[0]], atol=1e-5), site.name


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{name: resnet8}", "model: must be a mapping whose name is resnet9, vit, torchvision/NAME or timm/NAME"),
        ("vit", "model: must be a mapping whose name is resnet9, vit, torchvision/NAME or timm/NAME"),
        ("{name: vit, depht: 2}", "model.depht: unknown key"),
        ("{name: vit, depth: 0}", "model.depth: "),
        ("{name: torchvision/resnet18, width: 1}", "model.width: unknown key"),
        ("{name: torchvision/}", "model.name: "),
    ],
)
def test_a_wrong_model_is_one_line_that_names_the_field(model, message):
    document = {"name": "t", "corruptions": ["poison"], "discovery_rates": [1], "methods": ["rem"]}
    with pytest.raises(InputError, match=f"^s.yaml: {message}") as error:
        resolve(document | {"model": load_yaml(model, "model")}, "s.yaml", Path())
    assert "\n" not in str(error.value)


def test_only_a_method_that_widens_a_network_needs_sites(make_spec):
    model = {"name": "torchvision/resnext50_32x4d"}
    finetune, rem = ({method: load_space(method)} for method in ("finetune", "rem"))
    preflight(Study(spec=make_spec(model=model), spaces=finetune), "s.yaml")
    with pytest.raises(InputError, match=r"^s\.yaml: .*model\.name: this network has no place"):
        preflight(Study(spec=make_spec(model=model, methods=["rem"]), spaces=rem), "s.yaml")


class Dropout(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return F.dropout(self.network(x), 0.5, self.training)


def test_a_networks_dropout_follows_the_tasks_seed(make_task):
    """And not torch's global state, which stays as it was."""

    def logits(seed):
        task = make_task(seed=seed)
        task.network = Dropout(task.network)
        settings = load_space("finetune").defaults | {"epochs": 2, "batch_size": 1000, "lr": 1e-3}
        return unlearn("finetune", task, settings).network.eval()(task.data.images(torch.arange(9)))

    torch.manual_seed(1)
    first = logits(7)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(first, logits(7)) and torch.equal(torch.get_rng_state(), state)
    assert not close(first, logits(8))


# ViT


def test_the_papers_vit_has_eleven_million_weights():
    assert 10.5e6 < sum(p.numel() for p in ViT(3, 32, 10).parameters()) < 11.5e6


@pytest.mark.parametrize("depth", [1, 3])
def test_a_vit_has_two_sites_a_block(depth):
    names = [site.name for site in ViT(1, 8, 10, 0.0625, depth, 4).sites()]
    assert names == list(itertools.chain(*((f"mlp{i}", f"block{i}") for i in range(1, depth + 1))))


def test_images_that_do_not_divide_into_patches_are_an_input_error():
    with pytest.raises(InputError, match=r"^model\.patch_size: 5 does not divide the images' 12 pixels$"):
        build_model(spec_of({"name": "vit", "patch_size": 5}), SHAPE, 10, 0)


def test_a_patch_holds_its_neighbourhood_along_the_diagonals():
    """The pixel two up and two left of a patch of 4 reaches its token; those three up, or four left, do not."""
    tokens = PatchTokens(1, 12, 4, 8)

    def reaches(row, column):
        image = torch.zeros(1, 1, 12, 12)
        image[0, 0, row, column] = 1
        middle = 1 + 4  # the class token, then nine patches
        return not torch.equal(tokens(image)[0, middle], tokens(torch.zeros(1, 1, 12, 12))[0, middle])

    assert reaches(5, 5) and reaches(2, 2) and reaches(9, 9) and reaches(2, 9)
    assert not reaches(1, 5) and not reaches(5, 0) and not reaches(10, 10)


def test_no_token_attends_to_itself():
    attention = LocalityAttention(8, 2)
    x = torch.randn(1, 3, 8)
    changed = x.clone()
    changed[0, 1] += 1
    with torch.no_grad():
        attention.to_qkv.weight[:128] = 0  # queries: attention is even, so only values tell
    before, after = attention(x), attention(changed)
    assert torch.equal(before[0, 1], after[0, 1])
    assert not torch.equal(before[0, 0], after[0, 0])


def test_new_features_do_not_disturb_the_old_ones_norm(images):
    """Even huge ones: a layer norm over both would shrink the old features."""
    network = build("vit").eval()
    for position in ("block1", "block2"):
        expanded = expand(network, "zero", position)
        with torch.no_grad():
            expanded.network.layers[int(position[-1]) - 1].mlp.down.new_bias += 1e4
        masks = torch.ones(6, expanded.total_channels)
        assert torch.allclose(expanded(images, masks), network(images), atol=1e-4)


def test_rem_heals_a_vit(make_spec, store):
    spec = make_spec(
        model=MODELS["vit"],
        original={"optimizer": "adam", "lr": 2e-3, "epochs": 15, "batch_size": 32},
        corruptions=[{"name": "poison", "samples": 12}],
    )
    original = store.obtain(Setting(spec, spec.corruptions[0], 0))
    assert original.facts["memorised"] == 1.0
    configuration = load_space("rem").complete({"epochs": 4, "lr": 3e-3})
    row = run_trial(spec, Trial(cells_of(spec)[0], "rem", configuration, 0), store)
    assert row["forget_accuracy"] == 0.0 and row["healed_discovered"] > 0.4 and row["utility"] > 0.6


# torchvision


def test_a_resnets_sites_are_the_inner_channels_of_its_residual_blocks():
    sites = build("resnet18").sites()
    assert [site.name for site in sites] == [f"layer{i}.{j}.conv1" for i in range(1, 5) for j in range(2)]
    prefix = "network.layer3.1."
    assert (sites[5].producer, sites[5].norm, sites[5].consumers) == (
        prefix + "conv1",
        prefix + "bn1",
        (prefix + "conv2",),
    )


@pytest.mark.parametrize(("small_input", "kernel", "pixels"), [(None, 3, 32), (True, 3, 32), (False, 7, 8)])
def test_a_resnets_stem_suits_small_images_unless_asked_otherwise(small_input, kernel, pixels):
    spec = spec_of({"name": "torchvision/resnet18", "small_input": small_input})
    network = build_model(spec, (1, 32, 32), 10, 0).network
    assert network.conv1.kernel_size == (kernel, kernel) and network.conv1.in_channels == 1
    assert network.maxpool(network.conv1(torch.zeros(2, 1, 32, 32))).shape[2:] == (pixels, pixels)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"name": "torchvision/resnet17"},
            "model.name: torchvision has no classifier 'resnet17' \\(did you mean resnet18\\?\\)",
        ),
        (
            {"name": "torchvision/fcn_resnet50"},
            "model.name: torchvision has no classifier 'fcn_resnet50' \\(did you mean resnet50\\?\\)",
        ),
        (
            {"name": "torchvision/squeezenet1_0", "small_input": True},
            "model.small_input: squeezenet1_0 is no ResNet and has no stem for small images",
        ),
        (
            {"name": "torchvision/squeezenet1_0"},
            r"model.name: squeezenet1_0 cannot take images of 1 x 12 x 12 pixels: [^\n]+",
        ),
    ],
)
def test_what_torchvision_cannot_do_is_one_line_that_names_the_field(model, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        build_model(spec_of(model), SHAPE, 10, 0)


def test_a_network_without_a_place_for_new_channels_is_an_input_error():
    network = build("resnet18")
    network.network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(400, 10))
    with pytest.raises(InputError, match=r"^model\.name: .*no place for new channels[^\n]*$"):
        network.sites()


class Branches(nn.Module):
    """Only `a` -> `b` and `d` -> `e` are chains: c is read twice, b by an addition, f is grouped, e by a flattening."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (nn.Conv2d(2, 2, 3, padding=1) for _ in range(5))
        self.f = nn.Conv2d(2, 2, 1, groups=2)
        self.norm, self.pool, self.head = nn.BatchNorm2d(2), nn.MaxPool2d(3, 1, 1), nn.Linear(8, 3)

    def forward(self, x):
        c = self.c(self.b(F.relu(self.pool(self.norm(self.a(x))))) + x)
        return self.head(self.e(F.gelu(self.d(c + self.f(c)))).flatten(1))


def test_sites_are_found_by_structure():
    found = chain_sites(Branches(), (2, 2, 2))
    assert [(s.producer, s.norm, s.consumers) for s in found] == [("a", "norm", ("b",)), ("d", None, ("e",))]


class Untraceable(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_a_graph_that_cannot_be_traced_has_no_sites():
    assert chain_sites(Untraceable(), SHAPE) == ()


def test_rem_runs_on_a_resnet18(make_spec):
    """Full width, so a few steps from scratch must do: what is retained is learned, in the original architecture."""
    spec = make_spec(
        data={"image_size": 12, "train_samples": 72, "test_samples": 60},
        model=MODELS["resnet18"] | {"small_input": False},
        corruptions=[{"name": "poison", "samples": 12}],
    )
    setting = Setting(spec, spec.corruptions[0], 0)
    corruption = setting.draw()
    data = CorruptedTrainingSet(setting.dataset, corruption)
    forget_ids, retain_ids = split_ids(corruption, 0.5, len(data))
    network = setting.fresh_network("original")
    before = copy.deepcopy(network)
    task = UnlearningTask(network.train(), data, forget_ids, retain_ids, spec.original, 7, lambda: network)
    settings = {"epochs": 2, "flush_limit": 1, "redirect_width": 0.125, "batch_size": 24, "lr": 0.03}
    healed = unlearn("rem", task, load_space("rem").complete(settings)).network
    assert given_label_accuracy(healed, data, retain_ids) > given_label_accuracy(before, data, retain_ids)
    before.load_state_dict(healed.state_dict())
