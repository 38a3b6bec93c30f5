"""Build the docs as a site: python docs/site.py [FOLDER], or `make docs`; default: build/docs. Needs the extra `docs`.

Sphinx with MyST reads the pages as they lie here, README as the first one. A warning is an error: a link that leads
nowhere, a page that no list has.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages that lie outside docs/, and what they are called in the site."""
PAGES = {
    "Use it": (
        "study-file",
        "study-folder",
        "report",
        "mlflow",
        "heal",
        "inputs",
        "command-line",
        "gallery",
        "notebook",
    ),
    "Run it": ("cluster", "reliability", "security"),
    "What was found": ("results", "heal-measured", "rem", "benchmarks"),
    "Look it up": (
        "command-line",
        "methods",
        "searching",
        "reference",
        "design",
        "extend",
        "contributing",
        "changelog",
    ),
}
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def stage(source: Path) -> None:
    """Lay out in `source` what Sphinx reads: the pages, with links that hold there, and the files that they lead to."""
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("*.md", "*.py", "__pycache__"))
    for page in [ROOT / name for name in TOP] + sorted(DOCS.glob("*.md")):
        name = TOP.get(page.name, page.name) if page.parent == ROOT else page.name
        text = page.read_text(encoding="utf-8")
        (source / name).write_text(relinked(text, page, _placing(source)), encoding="utf-8")
    with open(source / "index.md", "a", encoding="utf-8") as index:
        index.write("".join(_toctree(head, names) for head, names in _listed().items()))


def _listed() -> dict[str, tuple[str, ...]]:
    """PAGES, and at the end those that it does not have yet."""
    known = {name for names in PAGES.values() for name in names}
    others = tuple(page.stem for page in sorted(DOCS.glob("*.md")) if page.stem not in known)
    return {**PAGES, "More": others} if others else PAGES


def _toctree(head: str, names: tuple[str, ...]) -> str:
    return "\n```{{toctree}}\n:hidden:\n:caption: {}\n\n{}\n```\n".format(head, "\n".join(names))


def relinked(text: str, page: Path, place: Callable[[Path], str]) -> str:
    """`text` with each link to a file led to where `place` says that it is in the site; code is left alone."""

    def moved(match: re.Match[str]) -> str:
        target, anchor = re.fullmatch(r"([^#]*)(#.*)?", match.group(2)).groups()  # type: ignore[union-attr]
        if not target or "://" in target or target.startswith("mailto:"):
            return match.group(0)
        return f"{match.group(1)}{place((page.parent / target).resolve())}{anchor or ''}{match.group(3)}"

    parts = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


def _placing(source: Path) -> Callable[[Path], str]:
    def place(path: Path) -> str:
        """Where a file of the checkout is in the site; one that is no page is put there."""
        if path.parent == ROOT and path.name in TOP:
            return TOP[path.name]
        if path.is_relative_to(DOCS) and path.suffix != ".py":
            return path.relative_to(DOCS).as_posix()
        inner = path.relative_to(ROOT)
        if not path.is_file():
            raise SystemExit(f"{inner}: a page links to it, and it is no file")
        copy = source / "files" / inner.with_name(f"{inner.name}.txt" if inner.suffix == ".md" else inner.name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        return copy.relative_to(source).as_posix()

    return place


SETTINGS = {
    "project": "rem-study",
    "extensions": "myst_nb",
    "html_theme": "furo",
    "html_show_copyright": "0",
    "myst_heading_anchors": "4",
    "nb_execution_mode": "off",
    "exclude_patterns": "files/**,results/**",
    # `text` blocks with a shell's prompt, levels of heads that GitHub takes too
    "suppress_warnings": "misc.highlighting_failure,myst.header",
}


def build(site: Path) -> int:
    """Write the site; Sphinx's exit status, not 0 where anything was wrong."""
    from sphinx.cmd.build import main

    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "source"
        stage(source)
        options = [part for name, value in SETTINGS.items() for part in ("-D", f"{name}={value}")]
        return main(["-C", "-W", "--keep-going", "-q", "-b", "html", *options, str(source), str(site)])


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"
    if status := build(folder):
        sys.exit(status)
    print(folder / "index.html")
