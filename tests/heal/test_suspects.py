"""The list of suspects, from what healed networks say; and what samples are called."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from rem_study.data import load_dataset
from rem_study.heal.again import surest
from rem_study.heal.names import Names, read_names
from rem_study.heal.suspects import COLUMNS, Witness, find_suspects, suspects_csv
from rem_study.spec.data import OwnDataSpec

LABELS = torch.zeros(6, dtype=torch.int64)
BEFORE = torch.zeros(6)


def witness(doubts: list[float], *forgot: int) -> Witness:
    """A network of three classes that doubts label 0 so much, each time for class 2."""
    logits = torch.zeros(len(doubts), 3)
    logits[:, 1], logits[:, 2] = -9.0, torch.tensor(doubts)
    return Witness(logits, torch.tensor(forgot, dtype=torch.int64))


def test_samples_stand_in_the_order_of_falling_doubt_with_the_likeliest_other_class():
    found = find_suspects([witness([-3, 5, -1, 2, -2, 7], 5)], LABELS, torch.tensor([5]), BEFORE)
    assert found.ids.tolist() == [5, 1, 3, 2, 4, 0]
    assert found.score.tolist() == [7, 5, 2, -1, -2, -3]
    assert found.proposed.tolist() == [2] * 6
    assert found.known.tolist() == [True] + [False] * 5
    assert found.suspect.tolist() == [False, True, True, False, False, False]
    assert (found.estimate, found.judged) == (2, 0)


def test_retained_samples_are_judged_by_the_best_informed_and_known_ones_by_who_was_not_told_of_them():
    full = [witness([9, 9, 1, -2, -4, -6], 0, 1), witness([9, 9, 3, -4, -4, -6], 0, 1)]
    halves = [witness([9, 4, -50, 50, 0, 0], 0), witness([-4, 9, -50, 50, 0, 0], 1)]
    found = find_suspects([*full, *halves], LABELS, torch.tensor([0, 1]), BEFORE)
    scores = dict(zip(found.ids.tolist(), found.score.tolist(), strict=True))
    assert scores == {0: -4, 1: 4, 2: 2, 3: -3, 4: -4, 5: -6}
    assert (found.judged, found.confirmed, found.estimate) == (2, 1, 1)


def test_the_network_given_has_a_say_as_far_as_it_rejects_the_known_samples_itself():
    """Of the two known ones it rejects one: it counts half. So sample 3, which it doubts as well, comes before 1."""
    before = torch.tensor([-2.0, -6.0, -2.0, 4.0, 3.0, -1.0])
    found = find_suspects([witness([-3, 5, -1, 2, 4, 4], 4, 5)], LABELS, torch.tensor([4, 5]), before)
    assert found.ids.tolist() == [4, 3, 5, 1, 2, 0]
    assert found.score.tolist() == pytest.approx([5.5 / 1.5, 4 / 1.5, 3.5 / 1.5, 2 / 1.5, -2 / 1.5, -4 / 1.5])
    assert found.estimate == 2  # what the healed network rejects


def poisoned(doubts: list[float]) -> Witness:
    """Of twelve known samples and four others, all labelled 0: known ones look like any of classes 1 to 4."""
    logits = torch.zeros(16, 5)
    logits[range(16), [1 + place % 4 for place in range(16)]] = torch.tensor(12 * [6.0] + doubts)
    logits[:, 1:][logits[:, 1:] == 0] = -9.0
    return Witness(logits, torch.arange(12))


def test_of_a_poison_as_many_are_suspects_as_are_rejected_those_that_moved_the_most():
    """Sample 14 is hard: the network never was sure of it. A trigger made it sure of the others, of 15 the most."""
    before = torch.tensor(12 * [-9.0] + [-9.0, -8.0, -0.5, -20.0])
    labels, known = torch.zeros(16, dtype=torch.int64), torch.arange(12)
    found = find_suspects([poisoned([2.0, 1.0, 3.0, -1.0])], labels, known, before)
    assert found.common.kind == "poison" and found.estimate == 3
    assert found.ids[found.suspect].tolist() == [15, 12, 13]
    assert found.score[found.suspect].tolist() == [19, 11, 9]
    assert found.ids[-1] == 14 and found.rejected[-1]


def test_what_is_doubted_under_a_label_that_the_known_ones_do_not_have_is_no_suspect():
    """Samples 12 and 14 have the poison's label; 13, which is doubted more, has another."""
    labels = torch.zeros(16, dtype=torch.int64)
    labels[13] = 3
    found = find_suspects([poisoned([2.0, 7.0, 1.0, -1.0])], labels, torch.arange(12), torch.full((16,), -9.0))
    assert found.ids[12:].tolist() == [12, 14, 15, 13]
    assert found.ids[found.suspect].tolist() == surest(replace(found, low=9)).tolist() == [12, 14]


def test_where_the_known_labels_name_no_kind_whatever_is_doubted_is_a_suspect():
    """Half of the known samples have label 3."""
    labels = torch.zeros(16, dtype=torch.int64)
    labels[1:14:2] = 3
    found = find_suspects([poisoned([2.0, 7.0, 1.0, -1.0])], labels, torch.arange(12), torch.full((16,), -9.0))
    assert found.common.kind is None
    assert found.ids[found.suspect].tolist() == surest(replace(found, low=9)).tolist() == [13, 12, 14]


def test_the_range_of_the_estimate_holds_what_single_networks_say():
    found = find_suspects([witness([1] * 6), witness([-3] * 6)], LABELS, torch.tensor([], dtype=torch.int64), BEFORE)
    assert (found.estimate, found.low, found.high) == (0, 0, 6)


def test_the_list_as_csv_has_names_where_there_are_any():
    found = find_suspects([witness([-3, 5, -1, 2, -2, 7], 5)], LABELS, torch.tensor([5]), BEFORE)
    rows = list(csv.DictReader(io.StringIO(suspects_csv(found, Names()).decode())))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0] == dict(zip(COLUMNS, ["1", "5", "", "0", "2", "7.0000", "yes", "no", ""], strict=True))
    names = Names(tuple(f"cat/{i}.png" for i in range(6)), ("cat", "dog", "emu"))
    rows = list(csv.DictReader(io.StringIO(suspects_csv(found, names).decode())))
    assert (rows[1]["file"], rows[1]["given_label"], rows[1]["proposed_label"]) == ("cat/1.png", "cat", "emu")
    assert rows[1]["suspect"] == "yes"


def test_samples_are_called_as_people_count_and_name_them(tmp_path):
    """A file that was left out counts, as for ImageFolder, so that a list made elsewhere means the same samples."""
    for name in ("cat", "dog"):
        for part in ("train", "test"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(2):
                Image.fromarray(np.zeros((12, 12), np.uint8)).save(tmp_path / part / name / f"{name[0]}{number}.png")
    (tmp_path / "train" / "cat" / "._c0.png").write_bytes(b"\0\5\x16\7")
    names = read_names(load_dataset(OwnDataSpec(name="folder", root=str(tmp_path)), "cpu"))
    assert names.files == ("cat/c0.png", "cat/c1.png", "dog/d0.png", "dog/d1.png")
    assert names.classes == ("cat", "dog")
    assert [names.number(place) for place in range(4)] == [1, 2, 3, 4]
    assert names.places(4) == {1: 0, 2: 1, 3: 2, 4: 3}
    found = find_suspects([witness([0, 9, 0, 0], 0)], torch.tensor([0, 0, 1, 1]), torch.tensor([0]), torch.zeros(4))
    rows = list(csv.DictReader(io.StringIO(suspects_csv(found, names).decode())))
    assert [row["file"] for row in rows] == [names.files[int(row["id"]) - 1] for row in rows]


def test_data_without_names_are_numbered():
    assert Names().number(3) == 3 and Names().of_class(2) == "2"


def test_a_name_that_a_spreadsheet_would_compute_is_shown_as_it_is():
    found = find_suspects([witness([9, 0], 0)], torch.zeros(2, dtype=torch.int64), torch.tensor([0]), torch.zeros(2))
    rows = list(csv.DictReader(io.StringIO(suspects_csv(found, Names(("=1+1.png", "b.png"), ("-x", "y"))).decode())))
    assert {row["file"] for row in rows} == {"'=1+1.png", "b.png"} and rows[0]["given_label"] == "'-x"
