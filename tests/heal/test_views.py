"""Views of an image that a network is asked about, and which suit it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from doubles.corrupted import Corrupted, digits_files
from torch import Tensor, nn

from rem_study.data import CorruptedTrainingSet, Dataset
from rem_study.data.sources import Augmentation
from rem_study.heal import inputs
from rem_study.heal.inputs import Given, data_spec, read_case
from rem_study.heal.views import AS_THEY_ARE, OFFERED, View, Views, suiting
from rem_study.models.resnet9 import ResNet9
from rem_study.unlearning.suspicion import average_precision, doubt, training_logits

MIRRORED, MOVED, MOVED_AND_MIRRORED = OFFERED[1:]


def test_a_view_moves_with_its_edges_repeated_and_mirrors():
    image = torch.arange(9.0).view(1, 1, 3, 3)
    assert View()(image).equal(image)
    assert View(down=1)(image)[0, 0].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert View(right=-1)(image)[0, 0].tolist() == [[1, 2, 2], [4, 5, 5], [7, 8, 8]]
    assert View(mirrored=True)(image)[0, 0].tolist() == [[2, 1, 0], [5, 4, 3], [8, 7, 6]]
    assert View(right=1, mirrored=True)(image)[0, 0].tolist() == [[2, 2, 1], [5, 5, 4], [8, 8, 7]]


def test_a_large_image_moves_further():
    image = torch.arange(64.0).expand(1, 3, 64, 64)
    assert View(right=1)(image)[0, 0, 0, :4].tolist() == [0, 0, 0, 1]


def test_every_view_is_there_once():
    assert [len(views) for views in OFFERED] == [1, 2, 5, 10]
    assert all(len(set(views)) == len(views) and set(views) <= set(OFFERED[-1]) for views in OFFERED)


def set_of(images: np.ndarray, labels: np.ndarray) -> CorruptedTrainingSet:
    pixels, given = torch.from_numpy(images)[:, None], torch.from_numpy(labels)
    return CorruptedTrainingSet(Dataset("digits", pixels, given, pixels[:0], given[:0], 10, None), None)


@dataclass(frozen=True)
class Taught:
    """A small network that plain PyTorch taught digits, some with `wrong` labels."""

    network: nn.Module
    data: CorruptedTrainingSet
    wrong: Tensor


def taught(kind: str, epochs: int = 6) -> Taught:
    """On images `as they are`, `moved`, or `moved and mirrored`, each batch in another way."""
    files, wrong, _ = digits_files("random_label", 0)
    data = set_of(files["train_images"], files["train_labels"])
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 9, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for ids in torch.randperm(len(data), generator=rng).split(64):
            images = data.images(ids)
            if kind != "as they are":
                down, right = torch.randint(-1, 2, (2,), generator=rng).tolist()
                images = View(down, right, kind == "moved and mirrored" and bool(torch.rand((), generator=rng) < 0.5))(
                    images
                )
            optimizer.zero_grad()
            F.cross_entropy(network(images), data.labels[ids]).backward()
            optimizer.step()
    return Taught(network.eval(), data, torch.from_numpy(wrong))


@pytest.mark.parametrize(
    ("kind", "views"),
    [("as they are", AS_THEY_ARE), ("moved", MOVED), ("moved and mirrored", MOVED_AND_MIRRORED)],
)
def test_the_views_that_suit_a_network_are_those_it_was_taught(kind, views):
    one = taught(kind)
    everything = torch.arange(len(one.data))
    assert suiting(one.network, one.data, everything) == views
    wrong = torch.isin(everything, one.wrong)

    def found(views: Views) -> float:
        return average_precision(
            doubt(training_logits(one.network, one.data, everything, views), one.data.labels), wrong
        )

    assert views == AS_THEY_ARE or found(views) > found(AS_THEY_ARE)


def test_logits_are_the_mean_over_the_views():
    one = taught("moved", epochs=1)
    ids = torch.tensor([5, 0, 7])
    singly = [one.network(view(one.data.images(ids))) for view in MOVED]
    torch.testing.assert_close(training_logits(one.network, one.data, ids, MOVED), torch.stack(singly).mean(0))
    assert training_logits(one.network, one.data, ids).equal(training_logits(one.network, one.data, ids, AS_THEY_ARE))


@pytest.fixture
def given(tmp_path) -> Given:
    """A network that has learnt nothing, and 100 digits."""
    torch.manual_seed(0)
    files, wrong, clean = digits_files("random_label", 0, train=100)
    network = Corrupted(ResNet9(1, 10, 0.125).state_dict(), files, wrong, clean)
    network.write(tmp_path, wrong[:5])
    named = (tmp_path / "model.pt", network.model, str(tmp_path / "data.npz"), tmp_path / "known.csv")
    return Given(*named, mean=(0.5,), std=(0.5,))


def test_a_network_that_has_not_learnt_its_labels_is_asked_about_images_as_they_are(given):
    case = read_case(given, data_spec(given.data))
    assert case.views == AS_THEY_ARE and case.dataset.augmentation is None and not case.notes


def test_a_case_asks_its_networks_about_the_views_that_suit_the_one_given(given):
    case = replace(read_case(given, data_spec(given.data)), views=MOVED)
    network, data = case.architecture.network, CorruptedTrainingSet(case.dataset, None)
    asked = training_logits(network, data, torch.arange(100), MOVED)
    assert case.logits_of(network).equal(asked) and case.doubt_before.equal(doubt(asked, data.labels))


@pytest.mark.parametrize(
    ("augment", "views", "augmentation", "noted"),
    [
        ("null", AS_THEY_ARE, None, None),
        ("null", MIRRORED, Augmentation(0, True), "healing takes images flipped at random"),
        ("null", MOVED, Augmentation(1, False), "healing takes images cropped at random"),
        ("null", MOVED_AND_MIRRORED, Augmentation(1, True), "healing takes images cropped and flipped at random"),
        ("true", AS_THEY_ARE, Augmentation(1, False), None),
        ("true", MOVED, Augmentation(1, False), None),
        ("true", MOVED_AND_MIRRORED, Augmentation(1, True), "healing takes images cropped and flipped at random"),
        ("false", MOVED_AND_MIRRORED, None, None),
    ],
)
def test_healing_augments_as_training_seems_to_have_unless_told(
    given, monkeypatch, augment, views, augmentation, noted
):
    asked: list[int] = []

    def suit(network, data, retained):
        asked.extend(retained.tolist())
        return views

    monkeypatch.setattr(inputs, "suiting", suit)
    case = read_case(given, data_spec(f"{{name: npz, root: {given.data}, augment: {augment}}}"))
    assert (case.views, case.dataset.augmentation) == (views, augmentation)
    assert case.dataset.mean.item() == case.dataset.std.item() == 0.5
    assert sorted([*asked, *case.ids.tolist()]) == list(range(100))
    assert [noted in note for note in case.notes] == ([True] if noted else [])
