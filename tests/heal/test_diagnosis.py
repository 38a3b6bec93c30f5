"""Where a case lies, from the samples that somebody knows: the rules by hand, and cases trained in plain torch."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner
from doubles.corrupted import CORRUPTED, MODEL, TRAIN, Corrupted, corrupted_digits

from rem_study.cli import main
from rem_study.errors import UnlearningError
from rem_study.heal import diagnosis, request
from rem_study.heal.choice import FOR_A_TRIGGER, Choice, diagnosed_attempts
from rem_study.heal.diagnosis import FEW, ROUNDS, Diagnosis, Examined, conclude
from rem_study.heal.healing import Healing, Quality
from rem_study.heal.inputs import Case, data_spec, read_case
from rem_study.heal.kinds import in_common
from rem_study.heal.request import HealRequest
from rem_study.heal.suspects import Suspects, Witness
from rem_study.spec import load_space


def suspects(pairs: list[tuple[int, int]], known: int, confirmed: int, clean: int = 50) -> Suspects:
    """`pairs` are given and proposed labels of corrupted samples, the first `known` of them known, `confirmed` of these
    rejected by who was not told of them; `clean` samples more that nobody doubts."""
    count = len(pairs) + clean
    score = torch.full((count,), -5.0)
    score[: len(pairs)] = 5.0
    score[confirmed:known] = -5.0
    given, proposed = torch.tensor(pairs + [(0, 1)] * clean).unbind(1)
    is_known = torch.arange(count) < known
    common = in_common(given, proposed, is_known, score > 0)
    listed = Suspects(torch.arange(count), given, proposed, score, score > 0, is_known, is_known, common, 0, 0, 0)
    estimate = int((~is_known & listed.rejected & common.has(given, proposed)).sum())
    return replace(listed, estimate=estimate, low=estimate // 2, high=2 * estimate)


POISON = [(0, other) for other in (1, 2, 3, 4, 5, 6, 7, 8)] * 5
CONFUSION = [(3, 5), (5, 3)] * 20
RANDOM = [(a, (a + b) % 10) for a in range(10) for b in (1, 3, 6, 8)]
MIXED = [pair for a in range(20) for pair in ((0, 1 + a % 5), (1 + a % 9, 9 - a % 8))]


def found(pairs, known=10, confirmed=10, classes=10, base=0.0, kept=1.0, carried=(0.1,)) -> Diagnosis:
    return conclude(suspects(pairs, known, confirmed), known, classes, base, kept, carried)


@pytest.mark.parametrize(
    ("pairs", "kind"), [(POISON, "poison"), (CONFUSION, "interclass_confusion"), (RANDOM, "random_label")]
)
def test_what_labels_have_in_common_names_the_kind_and_suspects_the_rate(pairs, kind):
    told = found(pairs)
    assert (told.kind, told.unclear, told.little_to_heal) == (kind, (), False)
    assert (told.discovery_rate, told.rate_low, told.rate_high) == pytest.approx((0.25, 10 / 70, 10 / 25))


def test_a_mixture_has_a_rate_but_no_kind():
    told = found(MIXED)
    assert told.kind is None and told.discovery_rate == 0.25
    assert any("too little to name it" in line for line in told.lines())


def test_suspects_that_the_kind_does_not_explain_change_neither_kind_nor_rate():
    """A network that healing has hurt doubts many others: the known labels are certain, and a trigger has one."""
    hurt = RANDOM[4:] * 2
    told = found(POISON + hurt)
    assert told.kind == "poison" and told.suspects.estimate == 30
    assert told.discovery_rate == pytest.approx(10 / (10 + 30), abs=0.001)
    told = found(CONFUSION + [pair for pair in hurt if set(pair) != {3, 5}])
    assert told.kind == "interclass_confusion" and told.discovery_rate == pytest.approx(0.25, abs=0.001)


def test_labels_that_share_nothing_of_samples_that_do_are_no_random_labels():
    told = found(RANDOM, carried=(1.2, 1.1))
    assert told.kind is None and told.discovery_rate == 0.25 and "share something (1.15)" in told.unclear[0]


def test_with_two_classes_there_is_no_kind():
    told = found([(0, 1), (1, 0)] * 20, classes=2)
    assert told.kind is None and told.discovery_rate == 0.25 and "two classes" in told.unclear[0]


def test_known_samples_that_the_rest_does_not_confirm_are_little_to_heal():
    told = found(RANDOM, confirmed=2)
    assert told.little_to_heal and told.discovery_rate is None and told.kind is None
    assert any("little to heal" in line for line in told.lines())


def test_samples_that_share_something_are_not_little_to_heal_though_none_confirms_another():
    """Of 5 poisoned digits a half is two: healing from them reaches none of the others."""
    told = found(POISON, confirmed=0, carried=(1.4, 1.6))
    assert not told.little_to_heal and told.discovery_rate is None and told.kind == "poison"
    assert "only 0 of" in told.unclear[0]
    assert found(POISON, confirmed=0, carried=(0.5, -0.3)).little_to_heal
    assert not found(POISON, confirmed=0, carried=()).little_to_heal


def test_what_networks_reject_of_everything_confirms_nothing():
    assert found(RANDOM, confirmed=5, base=0.0).discovery_rate is not None
    assert found(RANDOM, confirmed=5, base=0.45).little_to_heal


@pytest.mark.parametrize(("confirmed", "kept", "why"), [(3, 1.0, "only 3 of 10"), (10, 0.5, "keeps only 50%")])
def test_it_says_when_it_cannot_tell(confirmed, kept, why):
    told = found(RANDOM, confirmed=confirmed, kept=kept)
    assert told.discovery_rate is None and told.kind is None and why in told.unclear[0]


def test_without_a_half_that_can_be_heard_it_cannot_tell():
    listed = suspects(RANDOM, 10, 10)
    told = conclude(replace(listed, left_out=torch.zeros_like(listed.known)), 10, 10, 0.0, 1.0, ())
    assert told.unclear == ("no network healed from a half of the known samples keeps the rest",)
    assert not told.wrecked


def test_where_every_healing_wrecks_the_network_it_says_so():
    listed = suspects(RANDOM, 10, 10)
    nobody_judges = replace(listed, left_out=torch.zeros_like(listed.known))
    told = conclude(nobody_judges, 10, 10, 0.0, 0.4, ())
    assert told.wrecked and not told.little_to_heal and told.discovery_rate is None
    assert told.facts()["wrecked"] and told.lines() == [
        "every healing by REM wrecks the network: it can't give up what was reported without the rest"
    ]
    assert not found(RANDOM, kept=0.4).wrecked  # a half kept it


def test_the_nearest_cell_of_a_best_yaml_serves_a_diagnosis(tmp_path):
    best = tmp_path / "best.yaml"
    methods = {"rem": {"config": {"epochs": 3}}}
    cells = [
        {"corruption": name, "discovery_rate": rate, "regularity": regularity, "methods": methods}
        for name, regularity in (("poison", 0.99), ("flips", 0.1))
        for rate in (0.2, 0.8)
    ]
    best.write_text(yaml.safe_dump({"format": 1, "universal": {}, "cells": cells}))
    choice = Choice(best=best)
    for pairs, cell in ((POISON, "poison@0.2"), (CONFUSION, "flips@0.2")):  # no confusion there: by regularity
        source, configuration = diagnosed_attempts(choice, found(pairs), "sgd")[0]
        assert source is not None and source.cell == cell and configuration["epochs"] == 3
    source, _ = diagnosed_attempts(choice, found(POISON, confirmed=0, carried=(1.4,)), "sgd")[0]
    assert source is not None and source.cell == "poison@0.2"  # the rest could not be counted
    for known, cell in ((5, "poison@0.2"), (10, "poison@0.8")):  # of a handful the rate, 0.83, is an upper bound
        told = found(POISON[: known + 1], known=known, confirmed=known)
        assert ("may not reach" in "\n".join(told.lines())) == (known == 5)
        source, _ = diagnosed_attempts(choice, told, "sgd")[0]
        assert source is not None and source.cell == cell
    assert diagnosed_attempts(choice, found(MIXED), "sgd") == []


def test_without_a_best_yaml_rem_has_a_configuration_of_its_own_for_a_trigger(tmp_path):
    [(source, configuration)] = diagnosed_attempts(Choice(overrides=("epochs=3",)), found(POISON), "sgd")
    assert str(source) == "rem's own for poison"
    assert configuration == load_space("rem").defaults | FOR_A_TRIGGER | {"epochs": 3}
    [(_, changed)] = diagnosed_attempts(Choice(overrides=("mmd_weight=0",)), found(POISON), "sgd")
    assert changed["mmd_weight"] == 0 and changed["flush_limit"] == FOR_A_TRIGGER["flush_limit"]
    own = tmp_path / "space.yaml"  # a person's own space says where to start, too
    for choice, pairs, optimizer in (
        (Choice(), CONFUSION, "sgd"),
        (Choice(), RANDOM, "sgd"),
        (Choice(), POISON, "adam"),  # it was measured with SGD alone
        (Choice(method="scrub"), POISON, "sgd"),
        (Choice(space=own), POISON, "sgd"),
    ):
        assert diagnosed_attempts(choice, found(pairs), optimizer) == []


def run(command: str, folder: Path, case, known, *options: str):
    result = CliRunner().invoke(main, [command, *case.write(folder, known), *options])
    assert result.exit_code == 0, result.output
    return result


def test_a_trigger_whose_samples_look_alike_is_no_confusion():
    """Confusion goes both ways; five poisoned samples that all look like one class have one given label besides."""
    assert found([(0, 4)] * 6 + [(0, 7)] * 4 + POISON).kind == "poison"
    assert found([(3, 5)] * 6 + [(5, 3)] * 4 + CONFUSION).kind == "interclass_confusion"
    assert found([(3, 5)] * 20).kind == "interclass_confusion"  # one way alone: nothing tells them apart


def case_of(folder: Path, corruption: str, known, seed: int = 0) -> Case:
    network = corrupted_digits(corruption, seed)
    network.write(folder, known)
    files = (folder / "model.pt", MODEL, str(folder / "data.npz"), folder / "known.csv")
    asked = HealRequest(*files, mean=(0.5,), std=(0.5,))
    return read_case(asked, data_spec(asked.data))


@pytest.fixture
def healed_from(monkeypatch):
    """Healing as the rules see it: what was healed from how many, and networks that reject the labels of as many more
    (`reach`) of 40 corrupted samples as they were told of; of the halves, none."""
    calls: list[list[int]] = []
    reach = {"of": 2.0}

    def heal(network, dataset, ids, configuration=None, **rest):
        ids = torch.as_tensor(ids).tolist()
        calls.append(ids)
        kept = Quality(1.0, 0.0, None, None)
        return Healing(network, kept, kept, {}, 0, 0, 0.0, 1.0)

    def witness(healing, case, forgot):
        told = set(forgot.tolist())
        logits = torch.nn.functional.one_hot(case.dataset.train_labels, 10).float().cpu()
        reached = [one for one in range(40) if one not in told][: int(reach["of"] * len(told)) if len(told) > 3 else 0]
        wrong = [*told, *reached]
        logits[wrong] = logits[wrong].roll(1, 1)
        return Witness(logits, forgot.cpu())

    monkeypatch.setattr(diagnosis, "heal", heal)
    monkeypatch.setattr(diagnosis, "witness", witness)
    monkeypatch.setattr(diagnosis, "carry_over", lambda task, splits: [1.0])
    return calls, reach


def test_a_handful_reaches_the_rest_through_its_suspects(tmp_path, healed_from):
    """Each round is told of more, and judges what the next one takes; the known are judged by who was told of suspects
    alone."""
    calls, _ = healed_from
    told = diagnosis.diagnose(case_of(tmp_path, "random_label", range(4)))
    known = set(range(4))
    assert [len(one) for one in calls[:3]] == [4, 2, 2]
    further, judge = calls[3:-1], calls[-1]
    assert len(further) == ROUNDS and all(known < set(one) for one in further)
    assert [len(one) for one in further] == sorted({len(one) for one in further})
    assert not known & set(judge) and set(judge) | known == set(further[-1])
    assert told.diagnosis.suspects.estimate == 36 and told.diagnosis.discovery_rate == pytest.approx(0.1)
    assert (told.diagnosis.confirmed, told.diagnosis.judged) == (4, 4)


def test_no_further_round_where_none_is_suspected_nor_where_many_are_known(tmp_path, healed_from):
    calls, reach = healed_from
    diagnosis.diagnose(case_of(tmp_path, "random_label", range(FEW)))
    assert len(calls) == 3
    reach["of"] = 0.0
    calls.clear()
    told = diagnosis.diagnose(case_of(tmp_path, "random_label", range(4)))
    assert len(calls) == 3 and told.diagnosis.unclear[0].startswith("only 0 of 4 known samples are confirmed")


@pytest.mark.parametrize(
    ("pairs", "known", "confirmed", "begun"),
    [
        (POISON[:25], 5, 5, 15),  # 20 others, 10 at least
        (POISON[:25], 5, 0, 5),  # of a kind by what they share, but nobody could count the others
        (POISON[:6], 5, 5, 5),  # none is sure
        (POISON[:30], 10, 10, 10),  # no handful
        (RANDOM[:25], 5, 5, 5),
    ],
)
def test_of_a_handful_with_a_trigger_the_first_round_is_told_of_those_found_beside(
    pairs, known, confirmed, begun, tmp_path
):
    case = case_of(tmp_path, "random_label", range(known))
    told = found(pairs, known=known, confirmed=confirmed, carried=(0.5,))
    first = request.begun(case, Examined(told, cast(Healing, None), ()), lambda line: None)
    assert first.ids.tolist() == list(range(begun)) and case.ids.tolist() == list(range(known))


@pytest.mark.parametrize(("known", "little"), [(range(4), False), (range(100, 104), True)])
def test_samples_that_share_nothing_are_little_to_heal_only_if_the_suspects_do_not_confirm_them(
    known, little, tmp_path, healed_from, monkeypatch
):
    """Halves of four reach none. Of the corrupted ones a network told of the suspects rejects the known; of clean ones
    that were reported not."""
    monkeypatch.setattr(diagnosis, "carry_over", lambda task, splits: [-0.1])
    calls, _ = healed_from
    told = diagnosis.diagnose(case_of(tmp_path, "random_label", known))
    assert len(calls) > 3 and told.diagnosis.little_to_heal == little
    assert len(told.witnesses) == 3 if little else told.diagnosis.discovery_rate == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("pairs", "confirmed", "nothing"),
    [(RANDOM, 4, True), (RANDOM, 3, False), (POISON, 5, False), (CONFUSION, 5, False)],
)
def test_only_what_most_of_the_known_are_confirmed_of_shares_nothing(pairs, confirmed, nothing):
    assert found(pairs, known=5, confirmed=confirmed).is_of_what_shares_nothing == nothing


@pytest.mark.parametrize(("confirmed", "base", "nothing"), [(6, 0.0, True), (6, 0.15, False), (7, 0.15, True)])
def test_what_a_network_confirms_that_rejects_much_of_the_rest_counts_less(confirmed, base, nothing):
    told = found(RANDOM, known=8, confirmed=confirmed, base=base)
    assert told.share == pytest.approx((confirmed / 8 - base) / (1 - base))
    assert told.is_of_what_shares_nothing == nothing


def test_ten_known_samples_of_which_halves_confirm_none_are_little_to_heal(tmp_path, healed_from, monkeypatch):
    monkeypatch.setattr(diagnosis, "carry_over", lambda task, splits: [-0.1])
    calls, _ = healed_from
    told = diagnosis.diagnose(case_of(tmp_path, "random_label", range(100, 110)))
    assert len(calls) == 3 and told.diagnosis.little_to_heal


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_five_random_labels_are_found_to_be_some_of_many(seed, tmp_path):
    """Of these networks two or three of the five confirm none or one of the others."""
    known = corrupted_digits("random_label", seed).wrong[:5]
    told = diagnosis.diagnose(case_of(tmp_path, "random_label", known, seed)).diagnosis
    assert told.kind == "random_label" and told.discovery_rate is not None
    assert 5 / CORRUPTED / 1.5 < told.discovery_rate < 5 / CORRUPTED * 1.5


@pytest.mark.slow
@pytest.mark.parametrize("corruption", ["poison", "random_label", "interclass_confusion"])
def test_five_known_samples_tell_the_kind_and_how_many_others_there_are(corruption, tmp_path):
    told = diagnosis.diagnose(case_of(tmp_path, corruption, corrupted_digits(corruption).wrong[:5])).diagnosis
    assert told.kind == corruption and told.discovery_rate is not None
    assert 5 / CORRUPTED / 1.5 < told.discovery_rate < 5 / CORRUPTED * 1.5


@pytest.mark.slow
@pytest.mark.parametrize("corruption", ["poison", "random_label", "interclass_confusion"])
def test_from_a_few_known_samples_to_the_list_of_the_rest(corruption, tmp_path):
    """14 of 48 corrupted samples are known. The list holds most of the others, and few besides."""
    case = corrupted_digits(corruption)
    run("heal", tmp_path, case, case.wrong[:14])
    report = json.loads((tmp_path / "model.healed.report.json").read_text())
    assert report["diagnosis"]["kind"] == corruption
    assert 14 / CORRUPTED / 1.5 < report["diagnosis"]["discovery_rate"] < 14 / CORRUPTED * 1.5
    rows = list(csv.DictReader((tmp_path / "model.healed.suspects.csv").open()))
    assert len(rows) == len(case.clean)
    assert {int(row["id"]) for row in rows if row["known"] == "yes"} == set(case.wrong[:14].tolist())
    listed = [row for row in rows if row["suspect"] == "yes"]
    assert listed == [row for row in rows if row["known"] == "no"][: len(listed)]
    for part in (listed, rows) if corruption == "random_label" else (listed,):
        scores = [float(row["score"]) for row in part]
        assert scores == sorted(scores, reverse=True)
    right = [row for row in listed if int(row["id"]) in set(case.wrong[14:].tolist())]
    assert len(right) >= 0.8 * (CORRUPTED - 14) and len(right) >= 0.8 * len(listed)
    proposed = [int(row["proposed_label"]) == case.clean[int(row["id"])] for row in right]
    assert sum(proposed) >= 0.8 * len(right)


@pytest.mark.slow
def test_where_rems_own_configuration_for_a_trigger_breaks_the_defaults_heal_and_it_is_said(tmp_path, monkeypatch):
    case, ran = corrupted_digits("poison"), []
    heal = request.heal

    def breaks_for_a_trigger(*given, **named):
        ran.append(given[3]["flush_limit"])
        if given[3]["flush_limit"] == FOR_A_TRIGGER["flush_limit"]:
            raise UnlearningError("the loss is not finite")
        return heal(*given, **named)

    monkeypatch.setattr(request, "heal", breaks_for_a_trigger)
    told = run("heal", tmp_path, case, case.wrong[:14], "--erasures", "1")
    assert "warning: rem's own for poison broke (the loss is not finite): healed by the defaults" in told.stderr
    report = json.loads((tmp_path / "model.healed.report.json").read_text())
    assert report["configuration"] == load_space("rem").defaults and report["recommendation"] is None
    assert ran[0] == FOR_A_TRIGGER["flush_limit"] and FOR_A_TRIGGER["flush_limit"] not in ran[1:]
    assert report["forget_accuracy"]["after"] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 4])
def test_of_a_handful_with_a_trigger_heal_finds_the_rest(seed, tmp_path):
    """Of these two networks REM as it diagnoses may reach a fifth of the corruption from five samples, and so may one
    healing by a study's configuration."""
    case = corrupted_digits("poison", seed)
    best = Path(__file__).parents[2] / "docs" / "results" / "digits-best.yaml"
    for options in ((), ("--best", str(best), "--erasures", "1", "--force")):
        run("heal", tmp_path, case, case.wrong[:5], *options)
        rows = list(csv.DictReader((tmp_path / "model.healed.suspects.csv").open()))
        listed = {int(row["id"]) for row in rows if row["suspect"] == "yes"}
        right = listed & set(case.wrong[5:].tolist())
        assert len(right) >= 0.9 * (CORRUPTED - 5) and len(right) >= 0.9 * len(listed)
    report = json.loads((tmp_path / "model.healed.report.json").read_text())
    assert report["recommendation"]["cell"] == "poison@0.1"


@pytest.mark.slow
def test_where_nothing_is_wrong_there_is_little_to_heal_and_nothing_is_harmed(tmp_path):
    case = corrupted_digits("none")
    told = run("heal", tmp_path, case, range(100, 120))
    assert "little to heal" in told.stdout
    report = json.loads((tmp_path / "model.healed.report.json").read_text())
    assert report["diagnosis"]["little_to_heal"] and report["left_alone"]
    assert report["test_accuracy"]["after"] == report["test_accuracy"]["before"]
    before, after = (torch.load(tmp_path / name, weights_only=True) for name in ("model.pt", "model.healed.pt"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    told = run("diagnose", tmp_path, case, range(100, 120))
    assert "little to heal" in told.stdout


def test_a_network_that_every_healing_wrecks_is_given_back_as_it_was(tmp_path):
    """120 clean samples of a network with nothing wrong: by the defaults its held-out accuracy falls by half."""
    case = corrupted_digits("none")
    told = run("heal", tmp_path, case, range(100, 220))
    assert "every healing by REM wrecks the network" in told.stdout and "nothing was unlearned" in told.stdout
    assert "others likely corrupted" not in told.stdout
    report = json.loads((tmp_path / "model.healed.report.json").read_text())
    assert report["left_alone"] and report["diagnosis"]["wrecked"]
    assert report["retain_accuracy"]["after"] == report["retain_accuracy"]["before"]
    before, after = (torch.load(tmp_path / name, weights_only=True) for name in ("model.pt", "model.healed.pt"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    page = (tmp_path / "model.healed.report.html").read_text()
    assert "every healing wrecks it, and nothing was changed" in page and "the list no guide" in page


@pytest.mark.parametrize(
    ("given", "default"),
    [
        ({}, True),
        ({"method": "npo"}, False),
        ({"overrides": ("lr=0.001",)}, False),
        ({"best": Path("best.yaml")}, False),
        ({"config": Path("mine.yaml")}, False),
        ({"space": Path("space.yaml")}, False),
    ],
)
def test_what_wrecks_a_network_by_rems_defaults_may_not_by_what_is_asked_for(given, default):
    assert Choice(**given).is_default == default


def test_a_method_that_is_asked_for_runs_though_rem_wrecks_the_network(tmp_path):
    case = corrupted_digits("none")
    quick = ("--set", "passes=1", "--erasures", "1", "--rounds", "1")
    told = run("heal", tmp_path, case, range(100, 220), "--method", "ascent", *quick)
    report = json.loads((tmp_path / "model.healed.report.json").read_text())
    assert "every healing by REM wrecks the network" in told.stdout and not report["left_alone"]
    assert "nothing was unlearned" not in told.stdout and report["sample_passes"] > 0


def test_half_of_all_labels_wrong_is_no_damage_where_held_out_images_say_so(tmp_path):
    """600 of 1,200 random labels, 200 known: healing gives up a third of the retained samples' labels, rightly."""
    case = corrupted_digits("random_label", count=600)
    told = run("heal", tmp_path, case, case.wrong[:200], "--erasures", "1", "--rounds", "1")
    report = json.loads((tmp_path / "model.healed.report.json").read_text())
    assert report["retain_accuracy"]["after"] < 0.7 * report["retain_accuracy"]["before"]
    assert report["test_accuracy"]["after"] > 1.3 * report["test_accuracy"]["before"]
    assert 0.28 <= report["diagnosis"]["discovery_rate"] <= 0.40
    assert report["suspects"]["estimate"] > 300 and "the list no guide" not in told.output


def test_a_round_takes_no_more_for_known_than_heal_unlearns(tmp_path):
    """560 of 1,200 are known, some 80 more are suspects: together more than half."""
    case = corrupted_digits("random_label", count=640)
    run("heal", tmp_path, case, case.wrong[:560], "--no-diagnosis", "--erasures", "1")
    report = json.loads((tmp_path / "model.healed.report.json").read_text())
    assert report["rounds"] == 2 and report["suspects"]["estimate"] > TRAIN // 2 - 560


def test_what_is_kept_of_the_accuracy():
    before = Quality(1.0, 1.0, None, 0.5)
    healing = Healing(None, before, Quality(0.6, 0.0, None, 0.45), {}, 0, 0, 0.0, 1.0)
    assert (healing.kept, healing.kept_held_out) == (pytest.approx(0.9), pytest.approx(0.9))
    assert replace(healing, after=Quality(0.95, 0.0, None, 0.45)).kept == pytest.approx(0.95)
    without = replace(healing, before=replace(before, test_accuracy=None), after=Quality(0.6, 0.0, None, None))
    assert (without.kept, without.kept_held_out) == (pytest.approx(0.6), 0.0)


def test_a_network_that_has_not_learnt_its_labels_cannot_be_diagnosed(tmp_path):
    from rem_study.models.resnet9 import ResNet9

    labels = np.arange(40) % 10
    files = {"train_images": np.zeros((40, 12, 12), np.uint8), "train_labels": labels}
    case = Corrupted(ResNet9(1, 10, 0.125).state_dict(), files, labels[:0], labels)
    result = CliRunner().invoke(main, ["diagnose", *case.write(tmp_path, np.arange(8))])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "checkpoint: it gives only 10% of the training samples their labels" in result.stderr
    result = CliRunner().invoke(main, ["heal", *case.write(tmp_path, np.arange(8)), "--set", "epochs=2"])
    assert result.exit_code == 0 and "no diagnosis: checkpoint: it gives only 10%" in result.stderr
