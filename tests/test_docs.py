"""The docs agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doubles.docs import PAGES, script


def test_the_reference_is_what_the_code_says() -> None:
    reference = script("reference")
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run: python docs/reference.py"


def test_every_column_is_explained_and_no_other() -> None:
    from rem_study.results.columns import CELLS_SCHEMA, TRIALS_SCHEMA

    reference = script("reference")
    assert set(reference.COLUMNS) == set(TRIALS_SCHEMA.names)
    assert set(reference.CELL_COLUMNS) <= set(CELLS_SCHEMA.names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name}: {target}"
        if anchor and place.suffix == ".md":
            heads = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in anchors, f"{page.name}: {target}"
