"""Suspects that a person confirmed become known."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from doubles.corrupted import corrupted_digits

from rem_study.cli import main
from rem_study.errors import InputError, UnlearningError
from rem_study.heal import request
from rem_study.heal.again import joined, read_confirmed, surest
from rem_study.heal.kinds import in_common
from rem_study.heal.names import Names
from rem_study.heal.suspects import COLUMNS, Suspects, suspects_csv

TEN = Names().places(10)


def listed() -> Suspects:
    """Samples 9, 8, ..., 0 by falling doubt: 9 known, 8 to 4 suspects, the others believed."""
    score = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.5, -1.0, -2.0, -3.0, -4.0])
    known = torch.arange(10) == 0
    nobody = torch.zeros(10, dtype=torch.bool)
    given, proposed = torch.zeros(10, dtype=torch.int64), torch.ones(10, dtype=torch.int64)
    common = in_common(given, proposed, known, score > 0)
    return Suspects(torch.arange(9, -1, -1), given, proposed, score, score > 0, known, nobody, common, 5, 3, 7)


@pytest.fixture
def suspects(tmp_path: Path) -> Path:
    (tmp_path / "suspects.csv").write_bytes(suspects_csv(listed(), Names()))
    return tmp_path / "suspects.csv"


def confirm(path: Path, *ids: int) -> None:
    rows = list(csv.DictReader(path.open()))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(row | {"confirmed": "Yes" if int(row["id"]) in ids else ""} for row in rows)


def test_confirmed_rows_and_the_top_of_the_suspects_become_known(suspects):
    confirm(suspects, 5, 0)
    assert read_confirmed(suspects, None, TEN).tolist() == [0, 5]
    assert read_confirmed(suspects, 2, TEN).tolist() == [0, 5, 7, 8]
    assert joined(torch.tensor([9, 5]), torch.tensor([0, 5])).tolist() == [9, 5, 0]


def test_a_further_round_takes_as_many_suspects_as_the_estimate_is_sure_of_and_the_share_that_is_asked_for():
    some = listed()
    suspects = some.ids[some.suspect].tolist()
    assert surest(some).tolist() == [8, 7, 6]
    assert surest(replace(some, low=0)).tolist() == [] and surest(replace(some, low=0), 0.5).tolist() == suspects[:3]
    assert len(suspects) == 5
    assert surest(replace(some, low=len(suspects))).tolist() == suspects


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "confirms nothing"),
        ("id\n3\n", "has no column suspect"),
        ("id,suspect,confirmed\n12,no,yes\n", "row 1: id '12' is no training sample; there are 10"),
    ],
)
def test_a_list_that_cannot_be_used_is_said_in_one_line(text, expected, suspects):
    if text is not None:
        suspects.write_text(text)
    with pytest.raises(InputError, match=r"--again: .*suspects\.csv: ") as told:
        read_confirmed(suspects, None, TEN)
    assert expected in str(told.value) and "\n" not in str(told.value)
    with pytest.raises(InputError, match="--again"):
        read_confirmed(suspects.with_name("no.csv"), None, TEN)


@pytest.mark.slow
def test_again_and_rounds_start_from_the_original_with_more_known(tmp_path):
    case = corrupted_digits("random_label")
    given = case.write(tmp_path, case.wrong[:5])
    quick = ["--no-diagnosis", "--erasures", "1", "--set", "epochs=3"]
    report, listing = tmp_path / "model.healed.report.json", tmp_path / "model.healed.suspects.csv"
    assert CliRunner().invoke(main, ["heal", *given, *quick, "--rounds", "2"]).exit_code == 0
    told = json.loads(report.read_text())
    assert told["rounds"] == 2 and told["told"] == 5 < told["samples"]["forget"]
    assert sum(row["known"] == "yes" for row in csv.DictReader(listing.open())) == 5
    page = (tmp_path / "model.healed.report.html").read_text()
    taken = told["samples"]["forget"] - 5
    assert f"5 of 1,200 training samples were said to have wrong labels, and {taken} suspects were taken" in page
    mine = tmp_path / "mine.csv"
    mine.write_bytes(listing.read_bytes())
    confirm(mine, *case.wrong[5:15].tolist())
    result = CliRunner().invoke(main, ["heal", *given, *quick, "--again", str(mine), "--force", "--rounds", "1"])
    assert result.exit_code == 0, result.output
    assert json.loads(report.read_text())["samples"]["forget"] == 15
    known = {int(row["id"]) for row in csv.DictReader(listing.open()) if row["known"] == "yes"}
    assert known == set(case.wrong[:15].tolist())


@pytest.mark.slow
def test_a_second_round_that_breaks_leaves_what_the_first_has_healed(tmp_path, monkeypatch):
    case = corrupted_digits("random_label")
    heal = request.heal

    def breaks_in_round_two(*given, **named):
        if len(given[2]) > 5:
            raise UnlearningError("the loss is not finite")
        return heal(*given, **named)

    given = [*case.write(tmp_path, case.wrong[:5]), "--no-diagnosis", "--erasures", "1", "--set", "epochs=3"]
    assert CliRunner().invoke(main, ["heal", *given, "--rounds", "1"]).exit_code == 0
    once = torch.load(tmp_path / "model.healed.pt", weights_only=True)
    monkeypatch.setattr(request, "heal", breaks_in_round_two)
    result = CliRunner().invoke(main, ["heal", *given, "--force"])
    assert result.exit_code == 0, result.output
    assert "warning: round 2 broke (the loss is not finite): what is kept is of those before it" in result.stderr
    assert json.loads((tmp_path / "model.healed.report.json").read_text())["rounds"] == 1
    kept = torch.load(tmp_path / "model.healed.pt", weights_only=True)
    assert all(torch.equal(kept[name], once[name]) for name in once)
