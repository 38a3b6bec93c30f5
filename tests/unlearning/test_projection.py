"""SAP's projection against its equations worked by hand, and against a loop over patches."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rem_study.data.corruption import CorruptedTrainingSet
from rem_study.data.dataset import Dataset
from rem_study.models.vit import ViT
from rem_study.seeds import generator
from rem_study.spec.original import RecipeSpec
from rem_study.training.precision import computing_in
from rem_study.unlearning.methods import sap
from rem_study.unlearning.methods.sap import compute_spectra, input_rows, project, select_trusted
from rem_study.unlearning.run import unlearn
from rem_study.unlearning.task import UnlearningTask

COUNT, SEED = 21, 5
FORGET = torch.tensor([2, 3, 11, 17, 20])


class Grouped(nn.Sequential):
    """Convolutions of every shape that a patch can have, then tokens, then a head."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2, bias=False),
            nn.Tanh(),
            nn.Conv2d(6, 6, 3, padding="same", dilation=2, groups=6, padding_mode="circular"),
            nn.Flatten(2),
            nn.Linear(12, 5),
            nn.Flatten(),
            nn.Linear(30, 3),
        )


def make(network: nn.Module, size: int = 5) -> UnlearningTask:
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (COUNT, 1, size, size), generator=rng).to(torch.uint8)
    labels = torch.randint(0, 3, (COUNT,), generator=rng)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    retain = torch.tensor([i for i in range(COUNT) if i not in FORGET.tolist()])
    data = CorruptedTrainingSet(Dataset("toy", images, labels, images[:1], labels[:1], 3, None), None)
    return UnlearningTask(network.train(), data, FORGET, retain, RecipeSpec(), SEED, lambda: copy.deepcopy(network))


def naive_rows(layer: nn.Module, inputs: torch.Tensor) -> list[list[torch.Tensor]]:
    """For each group, the inputs of each output position, one after the other."""
    if isinstance(layer, nn.Linear):
        return [list(inputs.reshape(-1, inputs.shape[-1]))]
    assert isinstance(layer, nn.Conv2d)
    per_group = layer.in_channels // layer.groups
    rows: list[list[torch.Tensor]] = [[] for _ in range(layer.groups)]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(inputs, layer._reversed_padding_repeated_twice, mode)
    (high, wide), (down, right), (tall, broad) = layer.kernel_size, layer.stride, layer.dilation
    for image in padded:
        for y in range(0, image.shape[1] - tall * (high - 1), down):
            for x in range(0, image.shape[2] - broad * (wide - 1), right):
                patch = image[:, y : y + tall * (high - 1) + 1 : tall, x : x + broad * (wide - 1) + 1 : broad]
                for group in range(layer.groups):
                    rows[group].append(patch[group * per_group : (group + 1) * per_group].flatten())
    return rows


def inputs_of(task: UnlearningTask, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """What comes into each layer of a sequence, in evaluation mode."""
    seen, x = {}, task.data.images(ids)
    network = copy.deepcopy(task.network).eval()
    for name, module in network.named_children():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            seen[name] = x
        x = module(x)
    return {name: value.detach() for name, value in seen.items()}


def test_a_projection_in_two_dimensions_is_the_one_worked_by_hand() -> None:
    """Inputs (3, 0), (0, 4), (4, 0): shares 25/41 and 16/41. At alpha 3, lambda is 75/91 and 48/73."""
    rows = torch.tensor([[3.0, 0.0], [0.0, 4.0], [4.0, 0.0]])
    spectrum = sap._spectrum((rows.mT @ rows).double()[None])
    assert sorted(spectrum["shares"][0].tolist()) == pytest.approx([16 / 41, 25 / 41])
    weight = torch.tensor([[1.0, 1.0], [-2.0, 5.0]])
    projected = project(weight, spectrum, alpha=3.0)
    assert projected.flatten().tolist() == pytest.approx([75 / 91, 48 / 73, -2 * 75 / 91, 5 * 48 / 73])
    # turned, inputs keep their shares, and weights that are turned with them their factors
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    turned = sap._spectrum(((rows @ turn).mT @ (rows @ turn)).double()[None])
    assert torch.allclose(project(weight @ turn, turned, 3.0), projected @ turn, atol=1e-6)


def test_alpha_1_leaves_the_shares_a_large_alpha_the_weights_and_what_is_never_seen_goes() -> None:
    rows = torch.tensor([[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    spectrum, weight = sap._spectrum((rows.mT @ rows).double()[None]), torch.ones(1, 3)
    assert project(weight, spectrum, 1.0).flatten().tolist() == pytest.approx([0.9, 0.1, 0.0])
    assert project(weight, spectrum, 1e9).flatten().tolist() == pytest.approx([1.0, 1.0, 0.0])


def test_inputs_are_those_of_a_loop_over_patches_groups_and_tokens() -> None:
    task = make(Grouped())
    for name, inputs in inputs_of(task, task.retain_ids).items():
        layer = task.network.get_submodule(name)
        rows = input_rows(layer, inputs, generator("any"))
        naive = torch.stack([torch.stack(group) for group in naive_rows(layer, inputs)], dim=1)
        assert rows.shape == naive.shape, name
        moments, expected = rows.transpose(0, 1).mT @ rows.transpose(0, 1), torch.einsum("ngd,nge->gde", naive, naive)
        assert torch.allclose(moments, expected, rtol=1e-4, atol=1e-4), name
        matrix = layer.weight.flatten(1).unflatten(0, (rows.shape[1], -1))
        outputs = torch.einsum("ngd,god->ngo", rows, matrix).flatten(1)  # what the rows are for
        plain = copy.deepcopy(layer)
        plain.bias = None
        assert sorted(outputs.flatten().tolist()) == pytest.approx(sorted(plain(inputs).flatten().tolist()), abs=1e-4)


@pytest.mark.parametrize("alpha", [1.0, 30.0])
def test_sap_is_its_steps_written_out(alpha: float) -> None:
    task = make(Grouped())
    before = copy.deepcopy(task.network).eval()
    with torch.no_grad():
        logits = before(task.data.images(task.retain_ids))
    pairs = zip(logits, task.retain_ids.tolist(), strict=True)
    losses = [(F.cross_entropy(row, task.data.labels[i]).item(), i) for row, i in pairs]
    trusted = [i for _, i in sorted(losses)[:7]]
    assert select_trusted(task, 7).tolist() == trusted

    expected = {}
    for name, inputs in inputs_of(task, torch.tensor(trusted)).items():
        layer = before.get_submodule(name)
        blocks = layer.weight.detach().double().flatten(1).chunk(len(naive_rows(layer, inputs)))
        parts = []
        for block, rows in zip(blocks, naive_rows(layer, inputs), strict=True):
            _, sigma, right = torch.linalg.svd(torch.stack(rows).double(), full_matrices=True)
            total = sum(s**2 for s in sigma.tolist())
            projection = torch.zeros(len(right), len(right), dtype=torch.float64)
            for i, s in enumerate(sigma.tolist()):
                p = s**2 / total
                projection += alpha * p / ((alpha - 1) * p + 1) * torch.outer(right[i], right[i])
            parts.append(block @ projection.T)
        expected[name] = torch.cat(parts).view_as(layer.weight).float()

    healed = unlearn("sap", task, {"alpha": alpha, "trusted_samples": 7}).network
    for name, weight in expected.items():
        assert torch.allclose(healed.get_submodule(name).weight, weight, atol=1e-5), name
    others = {name: p for name, p in before.named_parameters() if name.removesuffix(".weight") not in expected}
    assert others and all(torch.equal(healed.get_parameter(name), p) for name, p in others.items())


def test_sap_with_a_large_alpha_leaves_the_weights_nearly_as_they_were(make_task) -> None:
    task = make_task()
    before = {name: p.detach().clone() for name, p in task.network.named_parameters()}
    spectra = compute_spectra(task, task.all_ids)

    def change(alpha: float) -> float:
        changes = [
            (project(before[f"{name}.weight"], spectrum, alpha) - before[f"{name}.weight"]).square().sum()
            for name, spectrum in spectra.items()
        ]
        return (sum(changes) / sum(before[f"{name}.weight"].square().sum() for name in spectra)).item()

    changes = [change(alpha) for alpha in (1.0, 1e2, 1e4, 1e6, 1e12)]
    assert changes == sorted(changes, reverse=True)
    assert changes[0] > 0.5 and changes[-1] < 1e-3


def test_sap_trusts_no_known_sample_and_looks_at_all_retained_ones_where_there_are_fewer(make_task) -> None:
    task = make_task()
    assert sorted(select_trusted(task, 10_000).tolist()) == task.retain_ids.tolist()
    assert torch.equal(select_trusted(task, 50), select_trusted(task, 100)[:50])


def test_saps_decomposition_is_computed_once_a_cell_for_each_number_of_trusted_samples(make_task, monkeypatch) -> None:
    calls = []
    real = sap.compute_spectra
    monkeypatch.setattr(sap, "compute_spectra", lambda task, ids: calls.append(len(ids)) or real(task, ids))
    cache: dict[object, object] = {}
    first, other, again = (
        unlearn("sap", make_task(cell_cache=cache), {"alpha": alpha, "trusted_samples": count}).network.state_dict()
        for alpha, count in ((300.0, 150), (50.0, 160), (300.0, 150))
    )
    assert calls == [150, 160]
    assert all(torch.equal(first[name], value) for name, value in again.items())
    assert not all(torch.equal(first[name], value) for name, value in other.items())


def test_saps_spectra_are_as_exact_in_mixed_precision() -> None:
    """The network computes in bfloat16; what is made of its inputs does not."""
    task = make(nn.Sequential(nn.Flatten(), nn.Linear(25, 4), nn.Linear(4, 3)))
    exact = compute_spectra(task, task.all_ids)
    with computing_in("bfloat16", torch.device("cpu")):
        mixed = compute_spectra(task, task.all_ids)
        weight = torch.randn(6, 25, generator=torch.Generator().manual_seed(1))
        assert torch.equal(project(weight, mixed["1"], 30.0), project(weight, exact["1"], 30.0))
    assert torch.equal(mixed["1"]["shares"], exact["1"]["shares"])  # the images themselves
    assert torch.allclose(mixed["2"]["shares"], exact["2"]["shares"], atol=1e-2)


def test_every_layer_of_a_vit_is_projected_token_by_token() -> None:
    task = make(ViT(1, 8, 3, width=0.05, depth=1, patch_size=4), size=8)
    layers = {name for name, module in task.network.named_modules() if isinstance(module, nn.Linear)}
    assert set(compute_spectra(task, task.all_ids)) == layers
    before = {name: task.network.get_submodule(name).weight.detach().clone() for name in layers}
    healed = unlearn("sap", task, {"alpha": 30.0, "trusted_samples": 10}).network
    assert not any(torch.equal(healed.get_submodule(name).weight, weight) for name, weight in before.items())


def test_a_layer_that_is_not_called_stays() -> None:
    """torchvision's attention uses the weights of its output layer without calling it."""
    attention = nn.MultiheadAttention(5, 1, batch_first=True)

    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = attention, nn.Linear(25, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x[:, 0]
            return self.head(self.attention(x, x, x)[0].flatten(1))

    assert set(compute_spectra(make(Attending()), FORGET)) == {"head"}
