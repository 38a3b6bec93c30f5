"""The docs agree with the code."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.docs import PAGES, ROOT, script


def test_the_reference_is_what_the_code_says() -> None:
    reference = script("reference")
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run: python docs/reference.py"


def test_every_column_is_explained_and_no_other() -> None:
    from rem_study.results.columns import CELLS_SCHEMA, TRIALS_SCHEMA

    reference = script("reference")
    assert set(reference.COLUMNS) == set(TRIALS_SCHEMA.names)
    assert set(reference.CELL_COLUMNS) <= set(CELLS_SCHEMA.names)


def test_every_method_has_its_line_and_readme_counts_them() -> None:
    from rem_study.spec.space import known_methods

    table = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").partition("\n\n`rem-study methods`")[0]
    told = [
        name for row in re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(told) == sorted(known_methods())
    assert f"REM and its {len(told) - 1} rivals" in (ROOT / "README.md").read_text(encoding="utf-8")


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


PATH = re.compile(r"(?<![\w/.{}-])(?:rem_study|tests|docs|studies|search_spaces|benchmarks)/[\w./-]*\w")
DOTTED = re.compile(r"(?<![\w/.\"'@{}-])rem_study(?:\.[A-Za-z_]\w*)+")
TEST = re.compile(r"(?<![\w/.-])(?:\w+/)*test_\w+\.py\b(?:::test_\w+)?")
TO_BE_WRITTEN = ("rem_study/unlearning/methods/", "search_spaces/")
"""Where a reader who follows a recipe puts files of their own: shrink.py, NAME.yaml."""


def named_in(text: str) -> Iterator[str]:
    """The paths, the tests, and the modules, classes or functions of this repository that a text names."""
    yield from PATH.findall(text)
    yield from DOTTED.findall(text)
    yield from TEST.findall(text)


def is_there(name: str) -> bool:
    """Whether a path (its ending may be left out), a test (cut short, perhaps) or a dotted name leads somewhere."""
    if TEST.fullmatch(name):
        file, _, function = name.removeprefix("tests/").partition("::")
        return any(f"def {function}" in path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob(file))
    if "/" in name:
        name = re.sub(r"^rem_study/(?=search_spaces/|studies/)", "", name)  # where a wheel has them
        return any((ROOT / f"{name}{ending}").exists() for ending in ("", ".py", ".md", ".yaml"))
    module, *attributes = name.split(".")
    thing = importlib.import_module(module)
    for attribute in attributes:
        module = f"{module}.{attribute}"
        if hasattr(thing, attribute):
            thing = getattr(thing, attribute)
            continue
        try:
            thing = importlib.import_module(module)
        except ModuleNotFoundError:
            return False
    return True


def texts() -> list[Path]:
    """All that people read: pages, code, study files, search spaces. CHANGELOG tells of what was."""
    single = ("CONTRIBUTING.md", "pyproject.toml", "Makefile", "setup.py", "Dockerfile")
    code = [path for folder in ("rem_study", "tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")]
    files = [path for folder in ("studies", "search_spaces") for path in (ROOT / folder).glob("*.yaml")]
    return [*PAGES, *(ROOT / name for name in single), *code, *files]


def test_every_path_and_name_of_the_code_that_a_text_gives_is_there() -> None:
    lost = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in texts()
        if path != Path(__file__)
        for name in named_in(path.read_text(encoding="utf-8"))
        if not re.fullmatch(rf"({'|'.join(TO_BE_WRITTEN)})(shrink|NAME)(\.py|\.yaml)?", name) and not is_there(name)
    }
    assert not lost


def test_what_the_pages_import_is_there() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    lines = {line for text in texts for line in re.findall(r"from (rem_study[\w.]*) import (\w[\w, ]*)", text)}
    assert len(lines) > 4
    assert not [(module, n) for module, names in lines for n in names.split(", ") if not is_there(f"{module}.{n}")]


def test_a_name_that_leads_nowhere_is_noticed() -> None:
    text = (
        "see `rem_study/spec.py`, docs/extend.md, rem_study.spec.study.Study and rem_study.spec.study.Studie; "
        "`test_docs.py::test_a_name...`, `study/test_kills.py`, `test_none.py`, `test_docs.py::test_an_old_one`"
    )
    assert [name for name in named_in(text) if not is_there(name)] == [
        "rem_study/spec.py",
        "rem_study.spec.study.Studie",
        "test_none.py",
        "test_docs.py::test_an_old_one",
    ]
