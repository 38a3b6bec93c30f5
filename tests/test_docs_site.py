"""The docs as a site, built strictly, and the executed notebook in it. Needs the extra `docs`."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from doubles.docs import ROOT, script


def test_links_are_led_to_where_things_are_in_the_site() -> None:
    site = script("site")

    def place(path: Path) -> str:
        return f"<{path.relative_to(ROOT).as_posix()}>"

    text = "[a](docs/heal.md#try) [b](https://x.org/y) [c](#here)\n```\n[d](docs/heal.md)\n```\n![e](docs/report.png)"
    expected = (
        "[a](<docs/heal.md>#try) [b](https://x.org/y) [c](#here)\n```\n[d](docs/heal.md)\n```\n![e](<docs/report.png>)"
    )
    assert site.relinked(text, ROOT / "README.md", place) == expected
    assert site.relinked("[a](../README.md)", ROOT / "docs" / "heal.md", place) == "[a](<README.md>)"


def test_every_link_of_a_page_leads_to_what_is_laid_out(tmp_path: Path) -> None:
    site = script("site")
    site.stage(tmp_path / "source")
    lost: list[str] = []

    def place(path: Path) -> str:
        lost.extend([] if path.exists() else [f"{page.name}: {path}"])
        return str(path)

    for page in (tmp_path / "source").glob("*.md"):
        site.relinked(page.read_text(encoding="utf-8"), page, place)
    assert not lost


def test_every_page_is_in_a_list() -> None:
    site = script("site")
    listed = {name for names in site.PAGES.values() for name in names}
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= listed


def test_no_page_is_called_as_one_that_sphinx_writes_itself() -> None:
    """It would be written over: search.html is the page that searches."""
    assert not {page.stem for page in (ROOT / "docs").glob("*.md")} & {"search", "genindex", "modindex"}


def test_the_notebook_is_executed_and_is_what_its_script_says() -> None:
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    made = script("make_notebook")
    book = nbformat.read(made.PAGE, 4)
    assert [cell.source for cell in book.cells] == [cell.source for cell in made.notebook().cells]
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.outputs and cell.execution_count for cell in code)
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert made.PAGE.stat().st_size < 300_000 and "/tmp/" not in made.PAGE.read_text()


class _Links(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("href", "src") and value]
        self.anchors |= {value for name, value in attrs if name == "id" and value}


@pytest.mark.slow
def test_the_site_is_built_strictly_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_nb")
    assert script("site").build(tmp_path / "site") == 0
    pages = sorted((tmp_path / "site").glob("*.html"))
    assert {"index", "heal", "reference", "notebook", "command-line", "contributing"} <= {page.stem for page in pages}
    read = {page.name: _Links(page) for page in pages}
    lost = []
    for name, links in read.items():
        for link in links.found:
            path, _, anchor = re.sub(r"[?].*", "", link).partition("#")
            if "://" in link or link.startswith(("mailto:", "data:")):
                continue
            there = not path or (tmp_path / "site" / path).exists()
            target = read.get(path or name)
            if not there or (anchor and target is not None and anchor not in target.anchors):
                lost.append(f"{name}: {link}")
    assert not lost
