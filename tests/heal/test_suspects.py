"""The list of suspects, from what healed networks say; and what samples are called."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from rem_study.data import Dataset
from rem_study.errors import InputError
from rem_study.heal.names import Names, read_known, read_names
from rem_study.heal.suspects import COLUMNS, Witness, find_suspects, suspects_csv
from rem_study.spec.data import OwnDataSpec

LABELS = torch.zeros(6, dtype=torch.int64)


def witness(doubts: list[float], *forgot: int) -> Witness:
    """A network of three classes that doubts label 0 so much, each time for class 2."""
    logits = torch.zeros(len(doubts), 3)
    logits[:, 1], logits[:, 2] = -9.0, torch.tensor(doubts)
    return Witness(logits, torch.tensor(forgot, dtype=torch.int64))


def test_samples_stand_in_the_order_of_falling_doubt_with_the_likeliest_other_class():
    found = find_suspects([witness([-3, 5, -1, 2, -2, 7], 5)], LABELS, torch.tensor([5]))
    assert found.ids.tolist() == [5, 1, 3, 2, 4, 0]
    assert found.score.tolist() == [7, 5, 2, -1, -2, -3]
    assert found.proposed.tolist() == [2] * 6
    assert found.known.tolist() == [True] + [False] * 5
    assert found.suspect.tolist() == [False, True, True, False, False, False]
    assert (found.estimate, found.judged) == (2, 0)


def test_retained_samples_are_judged_by_the_best_informed_and_known_ones_by_who_was_not_told_of_them():
    full = [witness([9, 9, 1, -2, -4, -6], 0, 1), witness([9, 9, 3, -4, -4, -6], 0, 1)]
    halves = [witness([9, 4, -50, 50, 0, 0], 0), witness([-4, 9, -50, 50, 0, 0], 1)]
    found = find_suspects([*full, *halves], LABELS, torch.tensor([0, 1]))
    scores = dict(zip(found.ids.tolist(), found.score.tolist(), strict=True))
    assert scores == {0: -4, 1: 4, 2: 2, 3: -3, 4: -4, 5: -6}
    assert (found.judged, found.confirmed, found.estimate) == (2, 1, 1)


def test_the_range_of_the_estimate_holds_what_single_networks_say():
    found = find_suspects([witness([1] * 6), witness([-3] * 6)], LABELS, torch.tensor([], dtype=torch.int64))
    assert (found.estimate, found.low, found.high) == (0, 0, 6)


def test_the_list_as_csv_has_names_where_there_are_any():
    found = find_suspects([witness([-3, 5, -1, 2, -2, 7], 5)], LABELS, torch.tensor([5]))
    rows = list(csv.DictReader(io.StringIO(suspects_csv(found, Names()).decode())))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0] == dict(zip(COLUMNS, ["1", "5", "", "0", "2", "7.0000", "yes", "no", ""], strict=True))
    names = Names(tuple(f"cat/{i}.png" for i in range(6)), ("cat", "dog", "emu"))
    rows = list(csv.DictReader(io.StringIO(suspects_csv(found, names).decode())))
    assert (rows[1]["file"], rows[1]["given_label"], rows[1]["proposed_label"]) == ("cat/1.png", "cat", "emu")
    assert rows[1]["suspect"] == "yes"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "train" / name / f"{name[0]}{number}.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "train" / "dog" / "c0.png")
    return tmp_path


LABELS_OF_FOLDER = torch.tensor([0] * 4 + [1] * 5)
IMAGES = torch.zeros(9, 1, 4, 4, dtype=torch.uint8)
DATASET = Dataset("folder", IMAGES, LABELS_OF_FOLDER, IMAGES[:0], LABELS_OF_FOLDER[:0], 2, None)


def test_known_samples_may_be_given_by_file_name(folder):
    names = read_names(OwnDataSpec(name="folder", root=str(folder)))
    known = folder / "known.csv"
    known.write_text("file,clean_label\ncat/c0.png,dog\nc1.png,dog\ntrain/dog/d0.png,cat\ndog/c0.png,cat\n")
    ids, clean = read_known(known, DATASET, names)
    assert (ids.tolist(), clean.tolist()) == ([0, 1, 5, 4], [1, 1, 0, 0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file\nc0.png\nc1.png\nc2.png\nc3.png\n", "row 1: file 'c0.png' stands for 2 images; write CLASS/NAME"),
        ("file\nc1.png\nx.png\nc2.png\nc3.png\n", "row 2: file 'x.png' is no training image"),
        ("file\nc1.png\ncat/c1.png\nc2.png\nc3.png\n", "row 2: file 'cat/c1.png' stands twice"),
        ("file\nc1.png\n", "1 files are too few"),
        ("file,clean_label\nc1.png,emu\nc2.png,dog\nc3.png,dog\nd0.png,cat\n", "row 1: clean_label 'emu' is no class"),
        ("file,clean_label\nc1.png,cat\nc2.png,dog\nc3.png,dog\nd0.png,cat\n", "row 1: clean_label is the label"),
    ],
)
def test_a_wrong_file_name_is_said_with_its_row(text, expected, folder):
    (folder / "known.csv").write_text(text)
    with pytest.raises(InputError, match=r"--ids: .*known\.csv") as told:
        read_known(folder / "known.csv", DATASET, read_names(OwnDataSpec(name="folder", root=str(folder))))
    assert expected in str(told.value)


def test_data_without_file_names_need_ids(tmp_path):
    (tmp_path / "known.csv").write_text("file\na.png\n")
    with pytest.raises(InputError, match="these data have none; give a column id"):
        read_known(tmp_path / "known.csv", DATASET, Names())


def test_names_of_parquet_are_the_paths_of_its_images(tmp_path):
    images = [{"bytes": b"", "path": f"{i}.png"} for i in range(3)]
    pq.write_table(pa.table({"image": images, "label": [0, 1, 0]}), tmp_path / "train.parquet")
    spec = OwnDataSpec(name="parquet", root=str(tmp_path))
    assert read_names(spec) == Names(("0.png", "1.png", "2.png"))
    pq.write_table(pa.table({"image": [b"", b""], "label": [0, 1]}), tmp_path / "train.parquet")
    assert read_names(spec) == Names()
