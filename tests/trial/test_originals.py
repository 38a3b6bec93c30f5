"""Originals: trained once, kept under a hash of all they depend on, checked when they are read."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import replace

import pytest
import torch

import rem_study.trial.originals
from rem_study.data.corruption import CorruptedTrainingSet
from rem_study.errors import InputError
from rem_study.seeds import generator
from rem_study.spec.corruption import BlendedTriggerSpec, PoisonSpec, SemanticContaminationSpec
from rem_study.training.loop import BatchLoader, train_classifier
from rem_study.trial.originals import Original, OriginalStore, Setting, train_original

RECIPE = {"epochs": 2, "batch_size": 64, "lr": 0.05}


@pytest.fixture
def quick(make_spec):
    """A setting whose original takes two epochs."""
    spec = make_spec(original=RECIPE)
    return Setting(spec, spec.corruptions[0], 0)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_an_original_is_trained_once_and_then_read(quick, tmp_path):
    store = OriginalStore(tmp_path / "originals")
    assert not store.has(quick.key()) and store.load(quick.key()) is None
    trained = store.obtain(quick)
    assert store.has(quick.key())
    marked = replace(trained, facts=trained.facts | {"regularity": 0.125})  # what comes back is what is stored
    OriginalStore(tmp_path / "originals").save(quick.key(), marked)
    read = OriginalStore(tmp_path / "originals").obtain(quick)
    assert store.obtain(quick) is trained  # a worker keeps what it has read
    assert read.facts["regularity"] == 0.125
    assert same(read.state, trained.state)


def test_training_an_original_twice_gives_the_same_weights_bit_for_bit(quick):
    torch.manual_seed(1)
    first = train_original(quick)
    torch.manual_seed(2)
    second = train_original(quick)
    assert same(first.state, second.state) and first.facts == second.facts


def test_a_flipped_byte_is_noticed_logged_and_trained_again(quick, tmp_path, caplog):
    store = OriginalStore(tmp_path)
    trained = store.obtain(quick)
    weights = tmp_path / f"{quick.key()}.pt"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with caplog.at_level(logging.WARNING, logger="rem_study"):
        assert store.load(quick.key()) is None
    assert quick.key() in caplog.text and "checksum" in caplog.text and "trained again" in caplog.text
    again = OriginalStore(tmp_path).obtain(quick)
    assert same(again.state, trained.state) and again.facts == trained.facts
    assert store.load(quick.key()) is not None


@pytest.mark.parametrize("broken", ["{", "[]", "{}", '{"sha256": 3}', "", "[" * 100_000])
def test_an_unreadable_record_is_trained_again(quick, tmp_path, broken):
    store = OriginalStore(tmp_path)
    trained = store.obtain(quick)
    (tmp_path / f"{quick.key()}.json").write_text(broken)
    assert store.load(quick.key()) is None
    assert same(OriginalStore(tmp_path).obtain(quick).state, trained.state)


def test_a_record_of_bytes_that_are_no_text_is_trained_again(quick, tmp_path):
    store = OriginalStore(tmp_path)
    store.obtain(quick)
    (tmp_path / f"{quick.key()}.json").write_bytes(b"\xff\xfe")
    assert store.load(quick.key()) is None


@pytest.mark.parametrize("files", [("pt", "json"), ("pt",), ("json",)])
def test_an_original_of_another_key_is_not_taken_however_it_came_there(tmp_path, caplog, files):
    store = OriginalStore(tmp_path)
    for number, key in enumerate(("a" * 32, "b" * 32)):
        store.save(key, Original({"w": torch.full((3,), float(number))}, {"regularity": number}))
    for suffix in files:
        (tmp_path / f"{'b' * 32}.{suffix}").write_bytes((tmp_path / f"{'a' * 32}.{suffix}").read_bytes())
    assert store.load("b" * 32) is None and not store.has("b" * 32)
    assert "will be trained again" in caplog.text
    assert store.load("a" * 32).facts == {"regularity": 0}


def test_a_key_that_is_written_over_does_not_fit_the_checksum_and_one_without_is_trained_again(tmp_path, caplog):
    store = OriginalStore(tmp_path)
    store.save("a" * 32, Original({"w": torch.zeros(3)}, {}))
    record = json.loads((tmp_path / f"{'a' * 32}.json").read_text())
    (tmp_path / f"{'b' * 32}.pt").write_bytes((tmp_path / f"{'a' * 32}.pt").read_bytes())
    (tmp_path / f"{'b' * 32}.json").write_text(json.dumps(record | {"key": "b" * 32}))
    assert store.load("b" * 32) is None and "checksum is wrong" in caplog.text
    del record["key"]
    (tmp_path / f"{'a' * 32}.json").write_text(json.dumps(record))
    assert store.load("a" * 32) is None and "earlier version" in caplog.text


@pytest.mark.parametrize("suffix", ["pt", "json"])
@pytest.mark.parametrize("plant", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_a_pipe_a_folder_or_a_device_in_its_place_holds_nobody_up(tmp_path, suffix, plant):
    store = OriginalStore(tmp_path)
    store.save("a" * 32, Original({"w": torch.zeros(3)}, {}))
    path = tmp_path / f"{'a' * 32}.{suffix}"
    path.unlink()
    plant(path)
    with pytest.raises(OSError, match="is no regular file") as told:
        store.load("a" * 32)
    assert told.value.filename == str(path)


def test_truncated_weights_are_noticed(quick, tmp_path):
    store = OriginalStore(tmp_path)
    store.obtain(quick)
    weights = tmp_path / f"{quick.key()}.pt"
    weights.write_bytes(weights.read_bytes()[:100])
    assert store.load(quick.key()) is None


def test_the_weights_are_readable_without_running_code(quick, tmp_path):
    trained = OriginalStore(tmp_path).obtain(quick)
    state = torch.load(tmp_path / f"{quick.key()}.pt", weights_only=True)
    assert same(state, trained.state)
    quick.fresh_network("original").load_state_dict(state)


def test_nothing_partial_is_left_in_the_folder(quick, tmp_path):
    OriginalStore(tmp_path).obtain(quick)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{quick.key()}.json", f"{quick.key()}.pt"]


@pytest.mark.parametrize(
    "sections",
    [
        {"seed": 1},
        {"original": RECIPE | {"lr": 0.06}},
        {"original": RECIPE | {"epochs": 3}},
        {"model": {"width": 0.125}},
        {"data": {"image_size": 12, "train_samples": 241, "test_samples": 120}},
        {"data": {"image_size": 13, "train_samples": 240, "test_samples": 120}},
        {"data": {"image_size": 12, "train_samples": 240, "test_samples": 120, "augment": True}},
        {"corruptions": [{"name": "random_label", "samples": 14}]},
    ],
)
def test_whatever_changes_an_original_changes_its_key(make_spec, quick, sections):
    other = make_spec(**({"original": RECIPE} | sections))
    assert Setting(other, other.corruptions[0], 0).key() != quick.key()


def test_each_corruption_and_replicate_has_an_original_of_its_own(quick):
    others = [
        replace(quick, replicate=1),
        replace(quick, corruption_spec=PoisonSpec(name="poison", samples=12)),
        replace(quick, corruption_spec=PoisonSpec(name="poison", samples=12, target=1)),
    ]
    assert len({setting.key() for setting in [quick, *others]}) == 4


@pytest.mark.parametrize(
    "sections",
    [
        {"discovery_rates": [0.1]},
        {"methods": ["rem", "npo"]},
        {"name": "other"},
        {"budget": {"trials": 3, "replicates": 5}},
        {"objective": "score_deployable"},
        {"resources": {"cpus": 2}},
        {"corruptions": [{"name": "random_label", "samples": 12}]},
    ],
)
def test_what_does_not_change_an_original_leaves_its_key(make_spec, quick, sections):
    other = make_spec(**({"original": RECIPE} | sections))
    assert Setting(other, other.corruptions[0], 0).key() == quick.key()


@pytest.mark.parametrize("name", ["random_label", "interclass_confusion", "poison"])
def test_a_small_task_is_memorised(settings, store, name):
    setting = settings[name]
    original = store.obtain(setting)
    assert original.facts["memorised"] >= 0.9
    assert original.facts["test_accuracy"] > 0.7
    # measured again by hand
    corruption = setting.draw()
    network = setting.fresh_network("other")
    network.load_state_dict(original.state)
    images = CorruptedTrainingSet(setting.dataset, corruption).images(corruption.ids)
    given = network.eval()(images).argmax(1).tolist()
    share = sum(a == b for a, b in zip(given, corruption.labels.tolist(), strict=True)) / len(given)
    assert original.facts["memorised"] == pytest.approx(share)


def test_measured_regularity_is_low_for_random_labels_and_high_for_poison(settings, store):
    low, high = (store.obtain(settings[name]).facts["regularity"] for name in ("random_label", "poison"))
    assert low < 0.2 < 0.6 < high


SEMANTIC = SemanticContaminationSpec(name="semantic_contamination", source=3, target=5, clusters=2, samples=8)


@pytest.fixture(scope="module")
def semantic(spec, store):
    return Setting(spec, SEMANTIC, 0, originals=store)


def test_a_contaminated_group_looks_more_alike_to_the_clean_network_than_its_class(semantic):
    group, tests = semantic.draw().process.groups[0], semantic.draw().process.fresh
    labels = semantic.dataset.train_labels
    members = (labels == 3).nonzero().squeeze(1)
    assert set(group.tolist()) < set(members.tolist()) and len(group) >= len(members) / 2
    assert set(tests.tolist()) <= set((semantic.dataset.test_labels == 3).nonzero().squeeze(1).tolist())
    network = semantic.fresh_network("clean")
    training_set = CorruptedTrainingSet(semantic.dataset, None)
    loader = BatchLoader(training_set, torch.arange(240), 32, generator("clean", 0, 0))
    train_classifier(network, loader, semantic.spec.original)
    # the features by hand: ResNet-9's largest activation of each channel, before the head
    network.eval()
    images = semantic.dataset.normalise(semantic.dataset.train_images[members])
    with torch.no_grad():
        x = network.conv3(network.res1(network.conv2(network.conv1(images))))
        features = network.conv4(network.res2(x)).amax(dim=(2, 3))
    inside = torch.isin(members, group)

    def spread(part):
        return (part - part.mean(0)).square().sum(1).mean()

    assert spread(features[inside]) < 0.9 * spread(features)
    # k-means: no member of the group is nearer to the centre of the others
    centres = torch.stack([features[~inside].mean(0), features[inside].mean(0)])
    assert torch.equal(torch.cdist(features, centres).argmin(1) == 1, inside)


def test_a_group_is_found_once_kept_and_the_same_in_every_replicate(semantic, tmp_path):
    own = replace(semantic, originals=OriginalStore(tmp_path))
    first = own.draw()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert len(files) == 2
    other = replace(own, replicate=1).draw()
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    assert torch.equal(first.process.groups[0], other.process.groups[0])
    assert torch.equal(first.ids, semantic.draw().ids)  # found anew, and read: the same samples
    larger = replace(own, corruption_spec=SEMANTIC.model_copy(update={"samples": 4})).draw()
    assert torch.equal(larger.process.groups[0], first.process.groups[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_checking_a_setting_trains_nothing(semantic, tmp_path, monkeypatch):
    monkeypatch.setattr(rem_study.trial.originals, "train_classifier", None)
    setting = replace(semantic, originals=OriginalStore(tmp_path / "none"))
    assert len(setting.check().ids) == 8
    with pytest.raises(InputError, match=r"^corruptions\.semantic_contamination\.samples: 100 asked for"):
        replace(setting, corruption_spec=SEMANTIC.model_copy(update={"samples": 100})).check()
    assert not (tmp_path / "none").exists()


def test_more_clusters_than_images_is_an_input_error(semantic):
    many = replace(semantic, corruption_spec=SEMANTIC.model_copy(update={"clusters": 200}))
    with pytest.raises(InputError, match=r"^corruptions\.semantic_contamination\.clusters: 200 asked for"):
        many.draw()


def test_the_new_rows_are_measurably_more_regular_than_random_labels(settings, store, semantic):
    random = store.obtain(settings["random_label"]).facts["regularity"]
    blended = BlendedTriggerSpec(name="blended_trigger", samples=12)
    for setting in (semantic, replace(semantic, corruption_spec=blended)):
        facts = store.obtain(setting).facts
        assert facts["memorised"] >= 0.9
        assert facts["regularity"] > random + 0.2


def test_the_sample_passes_are_epochs_times_samples(quick):
    assert train_original(quick).facts["sample_passes"] == 2 * 240


@pytest.mark.slow
def test_an_original_says_how_far_its_corruption_carries_over(make_spec):
    """A trigger explains all corrupted samples at once; random labels share nothing."""
    spec = make_spec(original=RECIPE | {"epochs": 15})
    carried = {one.name: train_original(Setting(spec, one, 0)).facts["carry_over"] for one in spec.corruptions}
    assert carried["poison"] > 0.6 > 0.5 > carried["random_label"]
