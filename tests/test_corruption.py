"""Corruptions: which samples they take, what they put on them, and in which order they are discovered."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch

from rem_study.corruption import CorruptedTrainingSet, draw_corruption, fresh_samples, process_of
from rem_study.data import Augmentation, augment, load_dataset, report_half
from rem_study.errors import InputError
from rem_study.seeds import generator
from rem_study.spec import DataSpec, InterclassConfusionSpec, PoisonSpec, RandomLabelSpec
from rem_study.trial import split_ids

NAMES = ["random_label", "interclass_confusion", "poison"]
SPECS = {
    "random_label": RandomLabelSpec(name="random_label"),
    "interclass_confusion": InterclassConfusionSpec(name="interclass_confusion"),
    "poison": PoisonSpec(name="poison"),
}


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DataSpec())


def draw(name, digits, samples=60, replicate=0, **fields):
    corruption_spec = SPECS[name].model_copy(update={"samples": samples, **fields})
    return draw_corruption(corruption_spec, digits, report_half(len(digits.train_labels), 0, "train"), 0, replicate)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_label_is_never_the_true_one(digits, name):
    for replicate in range(5):
        corruption = draw(name, digits, replicate=replicate)
        assert len(set(corruption.ids.tolist())) == 60
        assert torch.equal(corruption.clean_labels, digits.train_labels[corruption.ids])
        assert (corruption.labels != corruption.clean_labels).all()
        assert corruption.labels.min() >= 0 and corruption.labels.max() <= 9


def test_random_labels_are_spread_over_all_other_classes(digits):
    corruption = draw("random_label", digits, samples=700)
    shifts = Counter(((corruption.labels - corruption.clean_labels) % 10).tolist())
    assert set(shifts) == set(range(1, 10))
    # 700/9 = 78 expected of each, standard deviation 8.3
    assert all(40 < count < 120 for count in shifts.values())


def test_by_default_two_in_a_hundred_samples_are_corrupted(digits):
    assert len(draw("random_label", digits, samples=None).ids) == 29  # of 1,437


@pytest.mark.parametrize("samples", [60, 30])
def test_confusion_swaps_two_classes_half_and_half(digits, samples):
    corruption = draw("interclass_confusion", digits, samples=samples, classes=(1, 7))
    pairs = Counter(zip(corruption.clean_labels.tolist(), corruption.labels.tolist(), strict=True))
    assert pairs == {(1, 7): samples // 2, (7, 1): samples // 2}


def test_poison_never_takes_samples_of_the_target_class(digits):
    for target in (0, 4):
        corruption = draw("poison", digits, samples=400, target=target)
        assert set(corruption.labels.tolist()) == {target}
        assert target not in corruption.clean_labels


def test_the_trigger_is_on_the_poisoned_samples_and_on_no_others(digits):
    corruption = draw("poison", digits)
    data = CorruptedTrainingSet(digits, corruption)
    seen = data.batch(torch.arange(len(data))).images
    expected = (digits.train_images.double() / 255 - digits.mean) / digits.std
    for position in corruption.ids.tolist():
        expected[position, :, 13:16, 13:16] = float((1 - digits.mean) / digits.std)
    assert torch.allclose(seen.double(), expected, atol=1e-5)


def test_the_trigger_stays_in_its_corner_while_augmentation_moves_the_image(digits):
    corruption = draw("poison", digits)
    data = CorruptedTrainingSet(digits, corruption)
    ids = torch.arange(len(data))
    augmentation = Augmentation(padding=3, flip=True)

    def transform(images):
        return augment(images, augmentation, generator("moves"))

    seen = data.batch(ids, transform).images
    moved = transform(digits.normalise(digits.train_images))
    poisoned = torch.isin(ids, corruption.ids)
    assert not torch.equal(moved, digits.normalise(digits.train_images))
    assert torch.equal(seen[~poisoned], moved[~poisoned])
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[13:, 13:] = False
    assert torch.equal(seen[poisoned][:, :, outside], moved[poisoned][:, :, outside])
    assert (seen[poisoned][:, :, ~outside] == digits.white.item()).all()


@pytest.mark.parametrize("name", ["random_label", "interclass_confusion"])
def test_only_poison_changes_images(digits, name):
    data = CorruptedTrainingSet(digits, draw(name, digits))
    assert torch.equal(data.batch(torch.arange(len(data))).images, digits.normalise(digits.train_images))


@pytest.mark.parametrize("name", NAMES)
def test_forget_sets_of_lower_rates_lie_inside_those_of_higher_ones(digits, name):
    corruption = draw(name, digits)
    sets = [set(split_ids(corruption, rate, 1437)[0].tolist()) for rate in (0.01, 0.1, 0.3, 0.5, 1.0)]
    assert [len(s) for s in sets] == [2, 6, 18, 30, 60]
    assert all(low < high for low, high in itertools.pairwise(sets))
    assert sets[-1] == set(corruption.ids.tolist())


def test_forget_and_retain_set_are_all_samples_each_once(digits):
    forget, retain = split_ids(draw("random_label", digits), 0.3, 1437)
    assert sorted(forget.tolist() + retain.tolist()) == list(range(1437))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", [60, 31])
def test_corrupted_samples_come_alternately_from_selection_and_report_split(digits, name, samples):
    report = report_half(1437, 0, "train")
    for replicate in range(3):
        corruption = draw(name, digits, samples=samples, replicate=replicate)
        assert report[corruption.ids].tolist() == [position % 2 == 1 for position in range(samples)]


@pytest.mark.parametrize("name", NAMES)
def test_a_draw_depends_on_its_replicate_and_on_nothing_else(digits, name):
    first = draw(name, digits)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again, other = draw(name, digits), draw(name, digits, replicate=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.ids, again.ids) and torch.equal(first.labels, again.labels)
    assert set(first.ids.tolist()) != set(other.ids.tolist())


@pytest.mark.parametrize("name", NAMES)
def test_the_training_set_gives_wrong_labels_for_corrupted_samples_and_true_ones_for_others(digits, name):
    corruption = draw(name, digits)
    data = CorruptedTrainingSet(digits, corruption)
    everything = torch.arange(len(data))
    expected = digits.train_labels.tolist()
    for position, label in zip(corruption.ids.tolist(), corruption.labels.tolist(), strict=True):
        expected[position] = label
    assert data.labels.tolist() == expected
    assert data.batch(everything).labels.tolist() == expected
    assert torch.equal(data.batch(corruption.ids.flip(0)).labels, corruption.labels.flip(0))


@pytest.mark.parametrize("name", NAMES)
def test_no_clean_label_and_no_test_image_can_be_reached_from_the_training_set(digits, name):
    corruption = draw(name, digits)
    data = CorruptedTrainingSet(digits, corruption)
    pending, seen, tensors = [data], set(), []
    while pending:
        thing = pending.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor):
            tensors.append(thing)
        else:
            pending += getattr(thing, "__dict__", {}).values()
    for tensor in tensors:
        if tensor.shape == (1437,) and tensor.dtype == torch.int64:
            assert (tensor[corruption.ids] != corruption.clean_labels).all()
        assert tensor.shape[:1] != (360,)


def test_building_a_training_set_leaves_the_data_clean(digits):
    before = digits.fingerprint
    CorruptedTrainingSet(digits, draw("poison", digits)).batch(torch.arange(1437))
    assert replace(digits).fingerprint == before


def test_without_a_corruption_the_training_set_is_the_clean_data(digits):
    data = CorruptedTrainingSet(digits, None)
    batch = data.batch(torch.arange(len(data)))
    assert torch.equal(batch.labels, digits.train_labels)
    assert torch.equal(batch.images, digits.normalise(digits.train_images))


@pytest.mark.parametrize("name", NAMES)
def test_more_samples_than_qualify_is_an_input_error(digits, name):
    with pytest.raises(InputError, match=rf"^corruptions\.{name}\.samples: 1440 asked for"):
        draw(name, digits, samples=1440)


def test_a_class_or_patch_that_the_data_lack_is_an_input_error(digits):
    for name, field, value in (
        ("interclass_confusion", "classes", (3, 10)),
        ("poison", "target", 10),
        ("poison", "patch_size", 17),
    ):
        with pytest.raises(InputError, match=rf"^corruptions\.{name}\.{field}: "):
            draw(name, digits, **{field: value})


@pytest.mark.parametrize("name", NAMES)
def test_fresh_samples_are_test_images_put_through_the_same_process(digits, name):
    process = process_of(SPECS[name], digits)
    images, labels = fresh_samples(process, digits, 0)
    eligible = {"random_label": range(10), "interclass_confusion": (3, 5), "poison": range(1, 10)}[name]
    chosen = [i for i, label in enumerate(digits.test_labels.tolist()) if label in eligible]
    assert len(images) == len(labels) == len(chosen)
    expected = digits.normalise(digits.test_images[chosen])
    true = digits.test_labels[chosen]
    if name == "poison":
        expected[:, :, 13:, 13:] = digits.white.item()
        assert (labels == 0).all()
    if name == "interclass_confusion":
        assert torch.equal(labels, 8 - true)
    assert torch.equal(images, expected)
    assert (labels != true).all()
