"""What becomes of people's own inputs, in the shapes that they have; docs/inputs.md is written from the same cases."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from doubles.docs import ROOT
from inputs import checkpoint_cases, data_cases, ids_cases, model_cases, path_cases
from inputs.case import Case, heal, parts, row

from rem_study.data import load_dataset
from rem_study.data.given import read_known
from rem_study.heal.inputs import data_spec
from rem_study.spec.corruption import GivenSpec

PAGE = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
UNSTABLE = ("no Parquet file", "half an image", "a name that timm does not have")
"""Inputs whose message is another library's, in the words of its version."""
CASES = [
    *ids_cases.CASES,
    *checkpoint_cases.CASES,
    *model_cases.CASES,
    *data_cases.CASES,
    *path_cases.CASES,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_input_is_taken_or_refused_in_one_line(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if case.needs == "no timm":
        monkeypatch.setitem(sys.modules, "timm", None)
    elif case.needs:
        pytest.importorskip(case.needs)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mymodels", raising=False)
    result, given = heal(case, tmp_path)
    if case.what not in UNSTABLE:
        assert row(case, result, tmp_path) in PAGE.splitlines(), "run: python docs/inputs_table.py"
    if case.says is not None:
        assert result.exit_code == 2, result.output
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert case.says in result.stderr
        assert not (tmp_path / "healed.pt").exists()
        return
    assert result.exit_code == 0, result.output
    for note in case.notes:
        assert note in result.stderr
    notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
    assert bool(notes) == bool(case.notes), notes
    if "keys" in case.extra:
        healed = torch.load(tmp_path / "healed.pt", weights_only=True)
        for key in case.extra["keys"]:
            assert list(healed) == [key]
            healed = healed[key]
        assert list(healed) == checkpoint_cases.expected_names(case, tmp_path)
    if case.kind in data_cases.KINDS and case.what != "bool images":
        dataset = load_dataset(data_spec(str(given["data"])))
        pairs = zip(parts()["train_images"], parts()["train_labels"], strict=True)
        expected = {(int(label), image.tobytes()) for image, label in pairs}
        read = zip(dataset.train_images[:, 0].numpy(), dataset.train_labels.tolist(), strict=True)
        found = {(label, image.tobytes()) for image, label in read}
        assert expected <= found and len(found) - len(expected) <= 1
    if case.ids is not None:
        spec = GivenSpec(name="given", file=str(given["ids"]), id_column=given.get("id-column"))
        known = read_known(spec, load_dataset(data_spec(str(given["data"]))))
        assert sorted(known.ids.tolist()) == sorted(case.ids)


def test_the_page_has_a_line_for_each_case_and_no_other() -> None:
    lines = [line.split(" | ")[0].removeprefix("| ") for line in PAGE.splitlines() if line.startswith("| ")]
    assert [line for line in lines if line != "input"] == [case.what for case in CASES]
    assert len({case.name for case in CASES}) == len(CASES)
