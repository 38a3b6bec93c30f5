"""One trial: what it depends on, what it may not depend on, and the scores in its row."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rem_study.trial.originals
import rem_study.trial.trial
from rem_study.data.corruption import CorruptedTrainingSet
from rem_study.data.dataset import report_half
from rem_study.errors import InputError
from rem_study.spec.resolve import resolve
from rem_study.study.preflight import preflight
from rem_study.trial.cell_cache import CellCaches
from rem_study.trial.originals import OriginalStore, Setting
from rem_study.trial.trial import Cell, Trial, cells_of, evaluate, identity, run_trial
from rem_study.unlearning import importance

REM = {"epochs": 2, "batch_size": 64, "flush_limit": 10}
TEST_COLUMNS = {"utility", "test_accuracy", "utility_x_healed", "score_oracle", "score", "score_utility", "regularity",
                "attack_success"}  # fmt: skip


def trial_of(spec, method="rem", corruption=0, rate=0.5, **changes) -> Trial:
    resolved = resolve(spec.plain() | {"methods": [method]}, "here", Path())
    settings = REM if method == "rem" else {"epochs": 2} if method == "finetune" else {}
    return Trial(Cell(spec.corruptions[corruption], rate), method,
                 resolved.spaces[method].defaults | settings | changes, 0)  # fmt: skip


@pytest.fixture
def healed_networks(monkeypatch):
    """The states of the networks that `run_trial` evaluated, in order."""
    states = []
    real = rem_study.trial.trial.evaluate

    def recording(network, *rest):
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        return real(network, *rest)

    monkeypatch.setattr(rem_study.trial.trial, "evaluate", recording)
    return states


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def without(row, *columns):
    return {name: value for name, value in row.items() if name not in columns}


@pytest.mark.parametrize("method", ["rem", "npo", "finetune"])
@pytest.mark.parametrize("corruption", [0, 1, 2])
def test_the_same_inputs_give_the_same_numbers_bit_for_bit(spec, store, healed_networks, method, corruption):
    trial = trial_of(spec, method, corruption)
    torch.manual_seed(1)
    first = run_trial(spec, trial, store)
    torch.manual_seed(2)
    second = run_trial(spec, trial, store)
    assert first["state"] == "complete"
    assert without(first, "seconds") == without(second, "seconds")
    assert same(*healed_networks)


def test_another_replicate_gives_other_numbers(spec, store, healed_networks):
    for replicate in (0, 1):
        run_trial(spec, replace(trial_of(spec, "npo"), replicate=replicate), store)
    assert not same(*healed_networks)


def test_a_freshly_trained_original_gives_the_same_numbers_as_a_stored_one(spec, store, tmp_path):
    trial = trial_of(spec, "npo")
    rows = [run_trial(spec, trial, originals) for originals in (store, OriginalStore(tmp_path))]
    assert without(rows[0], "seconds") == without(rows[1], "seconds")


@pytest.mark.parametrize("method", ["rem", "finetune"])
def test_test_images_reach_the_scores_but_never_the_healed_network(
    spec, store, tmp_path, healed_networks, monkeypatch, dataset, method
):
    trial = trial_of(spec, method, corruption=2)
    first = run_trial(spec, trial, store)
    garbage = replace(dataset, test_images=torch.zeros_like(dataset.test_images))
    monkeypatch.setattr(rem_study.trial.originals, "load_dataset", lambda *_: garbage)
    second = run_trial(spec, trial, OriginalStore(tmp_path))
    assert same(*healed_networks)
    assert without(first, "seconds", *TEST_COLUMNS) == without(second, "seconds", *TEST_COLUMNS)
    assert first["utility"] > second["utility"]


def test_clean_labels_of_reported_samples_reach_only_the_reported_scores(
    spec, store, tmp_path, healed_networks, monkeypatch, settings, dataset
):
    trial = trial_of(spec)
    corruption = settings["random_label"].draw()
    reported = torch.arange(12) % 2 == 1
    others = [next(c for c in range(10) if c not in pair) for pair in
              zip(corruption.labels.tolist(), corruption.clean_labels.tolist(), strict=True)]  # fmt: skip
    lies = torch.where(reported, torch.tensor(others), corruption.clean_labels)
    assert (lies != corruption.clean_labels).tolist() == reported.tolist()
    train_labels = dataset.train_labels.clone()
    train_labels[corruption.ids] = lies
    first = run_trial(spec, trial, store)
    altered = replace(dataset, train_labels=train_labels)
    monkeypatch.setattr(rem_study.trial.originals, "load_dataset", lambda *_: altered)
    monkeypatch.setattr(Setting, "draw", lambda self: replace(corruption, clean_labels=lies))
    second = run_trial(spec, trial, OriginalStore(tmp_path))
    assert same(*healed_networks)
    reported_columns = {"healed", "healed_discovered", "healed_undiscovered", "utility_x_healed"}
    assert without(first, "seconds", *reported_columns) == without(second, "seconds", *reported_columns)
    assert first["healed"] != second["healed"]


def test_clean_labels_of_selection_samples_reach_the_oracle_score_but_neither_method_nor_deployable_score(
    spec, store, healed_networks, monkeypatch, settings
):
    trial = trial_of(spec)
    first = run_trial(spec, trial, store)
    corruption = settings["random_label"].draw()
    selected = torch.arange(12) % 2 == 0
    lies = torch.where(selected, corruption.labels, corruption.clean_labels)
    monkeypatch.setattr(Setting, "draw", lambda self: replace(corruption, clean_labels=lies))
    second = run_trial(spec, trial, store)
    assert same(*healed_networks)
    oracle_columns = {"score", "score_oracle", "score_healed"}
    assert without(first, "seconds", *oracle_columns) == without(second, "seconds", *oracle_columns)
    assert first["score_oracle"] != second["score_oracle"]


@pytest.mark.parametrize("corruption", [0, 1, 2])
def test_discovered_and_undiscovered_healing_combine_to_healed(spec, store, corruption):
    # of 12 samples 6 are reported; at discovery 0.5 three of those (positions 1, 3, 5) are discovered
    row = run_trial(spec, trial_of(spec, corruption=corruption), store)
    assert row["healed"] == pytest.approx((3 * row["healed_discovered"] + 3 * row["healed_undiscovered"]) / 6)


def test_with_everything_discovered_nothing_undiscovered_is_scored(spec, store):
    row = run_trial(spec, trial_of(spec, "npo", rate=1.0), store)
    assert row["healed_undiscovered"] is row["found_average_precision"] is row["found_recall"] is None
    assert row["healed"] == row["healed_discovered"]


class Guess(nn.Module):
    """A fixed linear classifier that has learnt nothing."""

    def __init__(self, pixels: int):
        super().__init__()
        weights = torch.randn(10, pixels, generator=torch.Generator().manual_seed(3))
        self.register_buffer("weights", weights)

    def forward(self, x):
        return x.flatten(1) @ self.weights.T


def mean(hits) -> float:
    hits = list(hits)
    return sum(hits) / len(hits)


@pytest.mark.parametrize("name", ["random_label", "interclass_confusion", "poison"])
@pytest.mark.parametrize("truth_bias", [False, True])
def test_the_scores_are_those_counted_by_hand(spec, settings, store, name, truth_bias):
    setting = settings[name]
    dataset, corruption = setting.dataset, setting.draw()
    data = CorruptedTrainingSet(dataset, corruption)
    network = Guess(144)
    if truth_bias:  # a network that is mostly right: the original's
        network = setting.fresh_network("x")
        network.load_state_dict(store.obtain(setting).state)
    network.eval()
    row = evaluate(network, spec, Cell(setting.corruption_spec, 0.5), setting, corruption)

    logits = network(data.images(torch.arange(240)))
    train = logits.argmax(1).tolist()
    test = network(dataset.normalise(dataset.test_images)).argmax(1).tolist()
    test_labels = dataset.test_labels.tolist()
    wrong = dict(zip(corruption.ids.tolist(), corruption.labels.tolist(), strict=True))
    given = [wrong.get(i, label) for i, label in enumerate(dataset.train_labels.tolist())]
    order, clean = corruption.ids.tolist(), corruption.clean_labels.tolist()
    forget = order[:6]
    report_test = report_half(120, spec.seed, "test").tolist()
    report_train = report_half(240, spec.seed, "train").tolist()
    spared = {3, 5} if name == "interclass_confusion" else set()

    def healed(chosen):
        return mean(train[i] == c for position, (i, c) in enumerate(zip(order, clean, strict=True))
                    if chosen(position, i))  # fmt: skip

    def right(chosen, spared):
        return mean(p == y for p, y, r in zip(test, test_labels, report_test, strict=True)
                    if r == chosen and y not in spared)  # fmt: skip

    attack = None
    if name == "poison":  # a white square of 3 x 3 at the bottom right; the target is class 0
        stamped = dataset.test_images.clone()
        stamped[:, :, -3:, -3:] = 255
        attacked = network(dataset.normalise(stamped)).argmax(1).tolist()
        attack = [p == 0 for p, y, r in zip(attacked, test_labels, report_test, strict=True) if r and y != 0]
    listed = []  # retained samples of the report split, by how much the given label is doubted
    for i in (i for i in range(240) if i not in forget and report_train[i]):
        own = logits[i, given[i]].item()
        doubt = max(logit for label, logit in enumerate(logits[i].tolist()) if label != given[i]) - own
        listed.append((doubt, i in wrong))
    hits = [hit for _, hit in sorted(listed, key=lambda one: -one[0])]
    precisions = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
    recalls = [sum(hits[: n + 1]) / 3 for n, precision in enumerate(precisions) if precision >= 0.9]
    expected = {
        "found_average_precision": mean(p for p, hit in zip(precisions, hits, strict=True) if hit),
        "found_recall": max(recalls, default=0.0),
        "attack_success": None if attack is None else mean(attack),
        "attack_samples": None if attack is None else len(attack),
        "healed_samples": 6,
        "healed_discovered_samples": 3,
        "utility_samples": sum(r and y not in spared for y, r in zip(test_labels, report_test, strict=True)),
        "healed": healed(lambda _, i: report_train[i]),
        "healed_discovered": healed(lambda position, i: report_train[i] and position < 6),
        "healed_undiscovered": healed(lambda position, i: report_train[i] and position >= 6),
        "utility": right(True, spared),
        "test_accuracy": right(True, set()),
        "utility_x_healed": right(True, spared) * healed(lambda _, i: report_train[i]),
        "forget_accuracy": mean(train[i] == wrong[i] for i in forget),
        "retain_accuracy": mean(train[i] == given[i] for i in range(240) if i not in forget),
        "score_healed": healed(lambda _, i: not report_train[i]),
        "score_utility": right(False, spared),
        "score_oracle": right(False, spared) * healed(lambda _, i: not report_train[i]),
    }
    expected["score"] = expected["score_oracle"]
    expected["score_deployable"] = expected["retain_accuracy"] * (1 - max(expected["forget_accuracy"], 0.1))
    assert row == pytest.approx(expected)


@pytest.mark.parametrize("name", ["random_label", "interclass_confusion"])
def test_by_the_papers_protocol_all_samples_choose_and_all_are_reported(make_spec, settings, name):
    spec = make_spec(protocol="paper")
    setting = replace(settings[name], spec=spec)
    dataset, corruption = setting.dataset, setting.draw()
    network = Guess(144)
    row = evaluate(network, spec, Cell(setting.corruption_spec, 0.5), setting, corruption)
    images = CorruptedTrainingSet(dataset, corruption).images(corruption.ids)
    healed = (network(images).argmax(1) == corruption.clean_labels).tolist()
    right = (network(dataset.normalise(dataset.test_images)).argmax(1) == dataset.test_labels).tolist()
    spared = {3, 5} if name == "interclass_confusion" else set()
    utility = mean(r for r, y in zip(right, dataset.test_labels.tolist(), strict=True) if y not in spared)
    expected = {
        "healed": mean(healed),
        "healed_discovered": mean(healed[:6]),
        "healed_undiscovered": mean(healed[6:]),
        "utility": utility,
        "test_accuracy": mean(right),
        "utility_x_healed": utility * mean(healed),
        "score_oracle": utility * mean(healed),
        "healed_samples": 12,
        "healed_discovered_samples": 6,
        "utility_samples": sum(y not in spared for y in dataset.test_labels.tolist()),
    }
    assert {column: row[column] for column in expected} == pytest.approx(expected)
    honest = evaluate(network, settings[name].spec, Cell(setting.corruption_spec, 0.5), settings[name], corruption)
    assert row.keys() == honest.keys()
    for column in ("forget_accuracy", "retain_accuracy", "score_deployable"):
        assert row[column] == honest[column]


def test_both_protocols_share_their_originals(make_spec, settings):
    paper = replace(settings["poison"], spec=make_spec(protocol="paper"))
    assert paper.key() == settings["poison"].key()


def given_spec(make_spec, dataset, folder, clean: bool, **changes):
    """The tiny digits as a user's own data: twelve labels wrong, their ids in a file."""
    wrong = dataset.train_labels.clone()
    ids = torch.arange(0, 240, 20)
    wrong[ids] = (wrong[ids] + 1) % 10
    np.savez(folder / "own.npz", train_images=dataset.train_images.numpy(), train_labels=wrong.numpy(),
             test_images=dataset.test_images.numpy(), test_labels=dataset.test_labels.numpy())  # fmt: skip
    rows = [f"{i},{dataset.train_labels[i]}" if clean else str(i) for i in ids.tolist()]
    (folder / "ids.csv").write_text("\n".join(["id,clean_label" if clean else "id", *rows]))
    return make_spec(
        data={"name": "npz", "root": str(folder / "own.npz")},
        corruptions=[{"name": "given", "file": str(folder / "ids.csv")}],
        **changes,
    )


def test_given_corruption_with_clean_labels_is_scored_as_any_other(make_spec, dataset, tmp_path):
    spec = given_spec(make_spec, dataset, tmp_path, clean=True)
    row = run_trial(spec, trial_of(spec, "npo"), OriginalStore(tmp_path))
    assert row["state"] == "complete"
    assert row["regularity"] is None and row["regularity_rank"] is None  # nobody knows the process
    assert 0 < row["score_oracle"] <= 1
    assert row["healed"] == pytest.approx((row["healed_discovered"] + row["healed_undiscovered"]) / 2)


def test_without_clean_labels_nothing_that_needs_them_is_scored(make_spec, dataset, tmp_path):
    spec = given_spec(make_spec, dataset, tmp_path, clean=False, objective="score_deployable")
    row = run_trial(spec, trial_of(spec, "npo"), OriginalStore(tmp_path))
    assert row["state"] == "complete"
    unknown = {"healed", "healed_discovered", "healed_undiscovered", "utility_x_healed", "score_oracle",
               "healed_samples", "healed_discovered_samples", "attack_success", "attack_samples"}  # fmt: skip
    assert all(row[column] is None for column in unknown)
    assert row["score"] == row["score_deployable"] > 0 and row["utility"] > 0


def test_the_oracle_objective_without_clean_labels_is_an_input_error(make_spec, dataset, tmp_path):
    for clean, objective in ((False, "score_deployable"), (True, "score_oracle")):
        spec = given_spec(make_spec, dataset, tmp_path, clean, objective=objective)
        preflight(resolve(spec.plain(), "mine.yaml", tmp_path), "mine.yaml")
    spec = given_spec(make_spec, dataset, tmp_path, clean=False)
    with pytest.raises(InputError, match=r"^mine\.yaml: objective: score_oracle needs clean labels") as caught:
        preflight(resolve(spec.plain(), "mine.yaml", tmp_path), "mine.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "corruption",
    [
        {"name": "semantic_contamination", "samples": 8, "clusters": 2},
        {"name": "blended_trigger", "samples": 12},
    ],
)
def test_the_new_rows_of_the_plane_run_as_the_others_do(make_spec, store, corruption):
    spec = make_spec(corruptions=[corruption])
    row = run_trial(spec, trial_of(spec, "npo"), store)
    assert (row["state"], row["regularity_rank"]) == ("complete", "medium_high")
    assert row["forget_accuracy"] < 0.5 < row["utility"]
    assert row["regularity"] > 0.2


def test_a_trigger_opens_the_original_and_hardly_the_network_that_never_saw_it(make_spec, store):
    """Attack success: what the original does with triggered test images, and what is left after unlearning."""
    for corruption in ({"name": "poison", "samples": 12}, {"name": "blended_trigger", "samples": 12}):
        spec = make_spec(corruptions=[corruption], discovery_rates=[1.0])
        setting = Setting(spec, spec.corruptions[0], 0)
        network = setting.fresh_network("x")
        network.load_state_dict(store.obtain(setting).state)
        before = evaluate(network, spec, Cell(spec.corruptions[0], 1.0), setting, setting.draw())
        after = run_trial(spec, trial_of(spec, "retrain", rate=1.0), store)
        assert before["attack_success"] > after["attack_success"] + 0.2
        assert before["attack_samples"] == after["attack_samples"] > 40


def test_another_file_of_ids_is_another_original(make_spec, dataset, tmp_path):
    spec = given_spec(make_spec, dataset, tmp_path, clean=False)
    before = Setting(spec, spec.corruptions[0], 0).key()
    assert Setting(spec, spec.corruptions[0], 0).key() == before
    (tmp_path / "ids.csv").write_text("id\n1\n2\n3\n4\n")
    assert Setting(spec, spec.corruptions[0], 0).key() != before


def test_a_constant_network_scores_at_chance_by_hand(spec, settings):
    """Always class 0: poison is healed nowhere, and all of the forget set keeps its wrong label."""

    class Zero(nn.Module):
        def forward(self, x):
            return torch.eye(10)[[0] * len(x)]

    setting = settings["poison"]
    row = evaluate(Zero(), spec, Cell(setting.corruption_spec, 0.5), setting, setting.draw())
    assert (row["healed"], row["utility_x_healed"], row["forget_accuracy"]) == (0, 0, 1)
    assert row["score_deployable"] == row["score_oracle"] == 0


@pytest.mark.parametrize("objective", ["score_oracle", "score_deployable"])
def test_the_score_is_the_studys_objective(make_spec, store, objective):
    spec = make_spec(objective=objective)
    row = run_trial(spec, trial_of(spec, "npo"), store)
    assert row["score"] == row[objective]


@pytest.mark.parametrize("name", ["poison", "interclass_confusion"])
def test_a_replicate_that_loses_more_utility_than_it_may_scores_nothing(make_spec, settings, store, name):
    place = list(settings).index(name)
    network = settings[name].fresh_network("x")
    network.load_state_dict(store.obtain(settings[name]).state)
    spec = make_spec()
    cell = Cell(spec.corruptions[place], 0.5)
    before = evaluate(network, spec, cell, settings[name], settings[name].draw())["score_utility"]
    free = run_trial(spec, trial_of(spec, "ascent", place, passes=6), store)
    loss = before - free["score_utility"]
    assert loss > 0.01 and free["score"] > 0
    for bound, expected in ((loss + 1e-3, free["score"]), (loss, free["score"]), (loss - 1e-3, 0.0), (0.0, 0.0)):
        bounded = make_spec(max_utility_loss=bound)
        row = run_trial(bounded, trial_of(bounded, "ascent", place, passes=6), store)
        assert row["score"] == expected
        assert without(row, "score", "seconds") == without(free, "score", "seconds")


def test_rem_shows_where_the_corruption_sits_before_the_first_epoch_and_after_each(spec, store):
    row = run_trial(spec, trial_of(spec), store)
    assert set(row["curves"]) == {"old", "both", "shared"}
    assert all(len(curve) == 1 + 2 and all(0 <= share <= 1 for share in curve) for curve in row["curves"].values())


def test_watching_does_not_change_what_is_healed(spec, store, healed_networks, monkeypatch):
    trial = trial_of(spec)
    run_trial(spec, trial, store)
    monkeypatch.setattr(rem_study.trial.trial, "accuracy", lambda *_: 0.0)
    run_trial(spec, trial, store)
    assert same(*healed_networks)


def test_a_method_that_breaks_is_a_failed_row_with_the_reason(spec, store):
    row = run_trial(spec, trial_of(spec, lr=1e38), store)
    assert row["state"] == "failed"
    assert "not finite" in row["error"]
    assert row["seconds"] >= 0 and "healed" not in row


def test_a_trial_leaves_its_original_as_it_was(spec, store, settings):
    key = settings["random_label"].key()
    before = copy.deepcopy(store.obtain(settings["random_label"]).state)
    run_trial(spec, trial_of(spec), store)
    assert same(store.load(key).state, before)


def test_the_grid_is_every_corruption_at_every_rate(spec):
    names = [cell.name for cell in cells_of(spec)]
    assert names == [
        "random_label@0.5",
        "random_label@1",
        "interclass_confusion@0.5",
        "interclass_confusion@1",
        "poison@0.5",
        "poison@1",
    ]


def test_a_row_says_which_trial_it_is_of(spec):
    trial = trial_of(spec, "npo", corruption=2)
    columns = identity(spec, trial, 4, "search", "tpe")
    assert columns == {
        "study": "tiny",
        "dataset": "digits",
        "model": "resnet9",
        "corruption": "poison",
        "discovery_rate": 0.5,
        "cell": "poison@0.5",
        "method": "npo",
        "trial": 4,
        "phase": "search",
        "proposed_by": "tpe",
        "replicate": 0,
        "config": trial.configuration,
    }


def test_a_trial_that_finds_the_cells_importances_gives_the_same_row_as_the_first(spec, store, monkeypatch):
    monkeypatch.setattr(rem_study.trial.trial, "_CELL_CACHES", CellCaches(limit=2**20))
    first, second = (run_trial(spec, trial_of(spec, "ssd"), store) for _ in range(2))
    assert without(first, "seconds") == without(second, "seconds")
    monkeypatch.setattr(importance, "_gradients", lambda *_: pytest.fail("computed again"))
    run_trial(spec, trial_of(spec, "ssd", alpha=1.0), store)


@pytest.mark.parametrize("other", [{"rate": 1.0}, {"corruption": 1}])
def test_another_cell_has_importances_of_its_own(spec, store, healed_networks, monkeypatch, other):
    trial = trial_of(spec, "ssd", alpha=1.0, **other)
    for warm in (True, False):
        monkeypatch.setattr(rem_study.trial.trial, "_CELL_CACHES", CellCaches(limit=2**20))
        if warm:
            run_trial(spec, trial_of(spec, "ssd", alpha=1.0), store)
        run_trial(spec, trial, store)
    assert same(healed_networks[1], healed_networks[2]) and not same(healed_networks[0], healed_networks[1])
