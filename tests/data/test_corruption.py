"""Corruptions: which samples they take, what they put on them, and in which order they are discovered."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rem_study.data.corruption import CorruptedTrainingSet, draw_corruption, fresh_samples
from rem_study.data.dataset import Augmentation, augment, load_dataset, report_half
from rem_study.data.processes import process_of, whole_class
from rem_study.errors import InputError
from rem_study.seeds import generator
from rem_study.spec.corruption import (
    BlendedTriggerSpec,
    GivenSpec,
    InterclassConfusionSpec,
    PoisonSpec,
    RandomLabelSpec,
    SemanticContaminationSpec,
)
from rem_study.spec.data import DataSpec
from rem_study.trial.trial import split_ids

NAMES = ["random_label", "interclass_confusion", "semantic_contamination", "blended_trigger", "poison"]
SPECS = {
    "random_label": RandomLabelSpec(name="random_label"),
    "interclass_confusion": InterclassConfusionSpec(name="interclass_confusion"),
    "semantic_contamination": SemanticContaminationSpec(name="semantic_contamination"),
    "blended_trigger": BlendedTriggerSpec(name="blended_trigger"),
    "poison": PoisonSpec(name="poison"),
}


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DataSpec())


def draw(name, digits, samples=60, replicate=0, **fields):
    corruption_spec = SPECS[name].model_copy(update={"samples": samples, **fields})
    report = report_half(len(digits.train_labels), 0, "train")
    return draw_corruption(
        corruption_spec, digits, report, 0, replicate, find_group=partial(whole_class, dataset=digits)
    )


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


@pytest.mark.parametrize("samples", [60, 31])
def test_confusion_may_take_the_first_samples_of_its_classes(digits, samples):
    """As REM's released code does; each replicate discovers the same ones in another order."""
    draws = [draw("interclass_confusion", digits, samples, replicate, take="first") for replicate in range(3)]
    expected = []
    for label, count in ((3, samples - samples // 2), (5, samples // 2)):
        expected += (digits.train_labels == label).nonzero().squeeze(1)[:count].tolist()
    for corruption in draws:
        assert sorted(corruption.ids.tolist()) == sorted(expected)
        assert torch.equal(corruption.clean_labels, digits.train_labels[corruption.ids])
        assert torch.equal(corruption.labels, 8 - corruption.clean_labels)
    assert draws[0].ids.tolist() != draws[1].ids.tolist()
    reported = {frozenset(corruption.ids[1::2].tolist()) for corruption in draws}
    assert len(reported) == 1, "the halves that choose and report are the same in every replicate"


def test_more_first_samples_than_there_are_is_an_input_error(digits):
    with pytest.raises(InputError, match=r"^corruptions\.interclass_confusion\.samples: 400 asked for, .*of the 200"):
        draw("interclass_confusion", digits, samples=400, take="first")


def test_random_confusion_draws_what_it_drew_before_there_was_a_choice(digits):
    corruption = draw("interclass_confusion", digits)
    assert corruption.ids[:12].tolist() == [170, 893, 1102, 1125, 961, 324, 952, 1281, 717, 658, 1420, 1375]


@pytest.mark.parametrize("name", ["poison", "blended_trigger"])
def test_samples_with_a_trigger_are_never_of_the_target_class(digits, name):
    for target in (0, 4):
        corruption = draw(name, digits, samples=400, target=target)
        assert set(corruption.labels.tolist()) == {target}
        assert target not in corruption.clean_labels


def test_the_trigger_is_on_the_poisoned_samples_and_on_no_others(digits):
    corruption = draw("poison", digits)
    data = CorruptedTrainingSet(digits, corruption)
    seen = data.images(torch.arange(len(data)))
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

    seen = data.images(ids, transform)
    moved = transform(digits.normalise(digits.train_images))
    poisoned = torch.isin(ids, corruption.ids)
    assert not torch.equal(moved, digits.normalise(digits.train_images))
    assert torch.equal(seen[~poisoned], moved[~poisoned])
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[13:, 13:] = False
    assert torch.equal(seen[poisoned][:, :, outside], moved[poisoned][:, :, outside])
    assert (seen[poisoned][:, :, ~outside] == digits.white.item()).all()


@pytest.mark.parametrize("name", ["random_label", "interclass_confusion", "semantic_contamination"])
def test_only_triggers_change_images(digits, name):
    data = CorruptedTrainingSet(digits, draw(name, digits))
    assert torch.equal(data.images(torch.arange(len(data))), digits.normalise(digits.train_images))


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
    expected = digits.train_labels.tolist()
    for position, label in zip(corruption.ids.tolist(), corruption.labels.tolist(), strict=True):
        expected[position] = label
    assert data.labels.tolist() == expected
    assert torch.equal(data.labels[corruption.ids], corruption.labels)


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
    CorruptedTrainingSet(digits, draw("poison", digits)).images(torch.arange(1437))
    assert replace(digits).fingerprint == before


def test_without_a_corruption_the_training_set_is_the_clean_data(digits):
    data = CorruptedTrainingSet(digits, None)
    assert torch.equal(data.labels, digits.train_labels)
    assert torch.equal(data.images(torch.arange(len(data))), digits.normalise(digits.train_images))


@pytest.mark.parametrize("name", NAMES)
def test_more_samples_than_qualify_is_an_input_error(digits, name):
    with pytest.raises(InputError, match=rf"^corruptions\.{name}\.samples: 1440 asked for"):
        draw(name, digits, samples=1440)


def test_a_class_or_patch_that_the_data_lack_is_an_input_error(digits):
    for name, field, value in (
        ("interclass_confusion", "classes", (3, 10)),
        ("poison", "target", 10),
        ("blended_trigger", "target", 10),
        ("semantic_contamination", "source", 10),
        ("semantic_contamination", "target", 10),
        ("poison", "patch_size", 17),
    ):
        with pytest.raises(InputError, match=rf"^corruptions\.{name}\.{field}: "):
            draw(name, digits, **{field: value})


@pytest.mark.parametrize("name", NAMES)
def test_fresh_samples_are_test_images_put_through_the_same_process(digits, name):
    process = process_of(SPECS[name], digits, partial(whole_class, dataset=digits))
    make_images, labels = fresh_samples(process, digits, 0)
    images = make_images(torch.arange(len(labels)))
    eligible = {"random_label": range(10), "interclass_confusion": (3, 5), "semantic_contamination": (3,)}.get(
        name, range(1, 10)
    )
    chosen = [i for i, label in enumerate(digits.test_labels.tolist()) if label in eligible]
    assert len(images) == len(labels) == len(chosen)
    expected = digits.normalise(digits.test_images[chosen])
    true = digits.test_labels[chosen]
    if name == "poison":
        expected[:, :, 13:, 13:] = digits.white.item()
        assert (labels == 0).all()
    if name == "blended_trigger":
        pattern = torch.rand(1, 16, 16, generator=generator("pattern", 0))
        expected = 0.9 * expected + 0.1 * (pattern - digits.mean) / digits.std
    if name == "interclass_confusion":
        assert torch.equal(labels, 8 - true)
    assert torch.allclose(images, expected, atol=1e-6)
    assert (labels != true).all()


def test_a_blended_trigger_is_one_faint_pattern_over_the_whole_image(digits):
    corruption = draw("blended_trigger", digits)
    data = CorruptedTrainingSet(digits, corruption)
    everything = torch.arange(len(data))
    change = data.images(everything) - digits.normalise(digits.train_images)
    poisoned = torch.isin(everything, corruption.ids)
    assert (change[~poisoned] == 0).all()
    # (1 - a)·x + a·pattern moves a pixel by a·(pattern - x), at most a tenth of the whole range
    assert change[poisoned].abs().max() <= 0.1 / digits.std.item() + 1e-6
    assert (change[poisoned] != 0).float().mean() > 0.99
    patterns = data.images(corruption.ids) - 0.9 * digits.normalise(digits.train_images[corruption.ids])
    assert torch.allclose(patterns, patterns[:1].expand_as(patterns), atol=1e-5)


def test_the_pattern_of_a_blended_trigger_depends_on_its_seed_and_not_on_the_replicate(digits):
    def pattern(replicate, seed):
        return draw("blended_trigger", digits, replicate=replicate, pattern_seed=seed).process.trigger.pattern

    assert torch.equal(pattern(0, 0), pattern(1, 0)) and not torch.equal(pattern(0, 0), pattern(0, 1))


def test_the_blended_trigger_stays_in_place_while_augmentation_moves_the_image(digits):
    corruption = draw("blended_trigger", digits)
    data = CorruptedTrainingSet(digits, corruption)
    shifted = data.images(corruption.ids, lambda images: images.roll(2, dims=3))
    still = digits.normalise(digits.train_images[corruption.ids])
    pattern = (corruption.process.trigger.pattern - digits.mean) / digits.std
    assert torch.allclose(shifted, 0.9 * still.roll(2, dims=3) + 0.1 * pattern, atol=1e-6)


def test_semantic_contamination_takes_the_group_it_is_given_and_no_other_sample(digits):
    group = (digits.train_labels == 7).nonzero().squeeze(1)[:40], torch.tensor([], dtype=torch.int64)
    spec = SemanticContaminationSpec(name="semantic_contamination", source=7, target=1, samples=20)
    report = torch.zeros(1437, dtype=torch.bool)
    report[group[0][::2]] = True
    corruption = draw_corruption(spec, digits, report, 0, 0, find_group=lambda _: group)
    assert set(corruption.ids.tolist()) <= set(group[0].tolist())
    assert set(corruption.clean_labels.tolist()) == {7} and set(corruption.labels.tolist()) == {1}


GIVEN = (3, 10, 11, 700, 1436, 25, 42)


def given_spec(tmp_path, text, name="ids.csv"):
    (tmp_path / name).write_text(text)
    return GivenSpec(name="given", file=str(tmp_path / name))


def given_file(digits, clean=True):
    """The ids of GIVEN; the clean label of each is one more than the label in the data."""
    rows = [f"{i},{(digits.train_labels[i].item() + 1) % 10}" if clean else f"{i}" for i in GIVEN]
    return "\n".join(["id,clean_label" if clean else "id", *rows]) + "\n"


def draw_given(spec, digits, replicate=0):
    return draw_corruption(spec, digits, report_half(1437, 0, "train"), 0, replicate)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_given_ids_are_the_corrupted_samples_and_keep_the_labels_of_the_data(digits, tmp_path, form):
    spec = given_spec(tmp_path, given_file(digits))
    if form == "parquet":
        clean = [(digits.train_labels[i].item() + 1) % 10 for i in GIVEN]
        pq.write_table(pa.table({"id": list(GIVEN), "clean_label": clean}), tmp_path / "ids.parquet")
        spec = GivenSpec(name="given", file=str(tmp_path / "ids.parquet"))
    corruption = draw_given(spec, digits)
    assert sorted(corruption.ids.tolist()) == sorted(GIVEN)
    assert torch.equal(corruption.labels, digits.train_labels[corruption.ids])
    assert torch.equal(corruption.clean_labels, (corruption.labels + 1) % 10)
    data = CorruptedTrainingSet(digits, corruption)
    assert torch.equal(data.labels, digits.train_labels)
    assert torch.equal(data.images(corruption.ids), digits.normalise(digits.train_images[corruption.ids]))


def test_given_ids_are_discovered_in_another_order_in_each_replicate_but_report_on_the_same_half(digits, tmp_path):
    spec = given_spec(tmp_path, given_file(digits))
    draws = [draw_given(spec, digits, replicate).ids.tolist() for replicate in range(5)]
    assert draws[0] == draw_given(spec, digits).ids.tolist()
    assert len({tuple(ids) for ids in draws}) > 1
    assert len({frozenset(ids[0::2]) for ids in draws}) == len({frozenset(ids[1::2]) for ids in draws}) == 1


def test_without_a_column_of_clean_labels_nobody_knows_them(digits, tmp_path):
    assert draw_given(given_spec(tmp_path, given_file(digits, clean=False)), digits).clean_labels is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no column id"),
        ("ids\n1\n", "has no column id"),
        ("id\n1\n2\n3\n", "3 ids are too few"),
        ("id\n1\n2\n3\n1\n", "row 4: id 1 stands twice"),
        ("id\n1\n2\n3\n1437\n", "row 4: id 1437 is too large; there are 1437 training samples"),
        ("id\n1\n-2\n3\n4\n", "row 2: id must be a whole number from 0, not '-2'"),
        ("id\n1\n2.5\n3\n4\n", "row 2: id must be a whole number"),
        ("id,clean_label\n1,0\n2\n3,0\n4,0\n", "row 2: clean_label must be a whole number"),
        ("id,clean_label\n1,10\n2,1\n3,1\n4,1\n", "row 1: clean_label 10 is too large; there are 10 classes"),
    ],
)
def test_a_malformed_file_of_ids_is_one_line(digits, tmp_path, text, reason):
    spec = given_spec(tmp_path, text)
    with pytest.raises(InputError) as caught:
        draw_given(spec, digits)
    assert str(caught.value).startswith(f"corruptions.given.file: {tmp_path / 'ids.csv'}: {reason}")
    assert "\n" not in str(caught.value)


def test_a_clean_label_that_is_the_given_one_is_an_input_error(digits, tmp_path):
    rows = [f"{i},{digits.train_labels[i].item()}" for i in range(4)]
    with pytest.raises(InputError, match=r"row 1: clean_label is the label that the data already have$"):
        draw_given(given_spec(tmp_path, "\n".join(["id,clean_label", *rows])), digits)


@pytest.mark.parametrize("name", ["ids.csv", "ids.parquet"])
def test_a_file_of_ids_that_is_not_there_or_cannot_be_read_is_one_line(digits, tmp_path, name):
    spec = GivenSpec(name="given", file=str(tmp_path / name))
    for content in (None, b"\xff\xfe\x00"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"^corruptions\.given\.file: .*ids\.") as caught:
            draw_given(spec, digits)
        assert "\n" not in str(caught.value)
