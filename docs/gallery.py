"""Run the code of docs/gallery.md on a study and write its pictures again: python docs/gallery.py runs/quickstart"""

import os
import re
import sys
import tempfile
from pathlib import Path

PAGE = Path(__file__).with_name("gallery.md")


def blocks() -> list[str]:
    """The page's Python, in order."""
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def main(folder: Path, pictures: Path) -> None:
    """Run the blocks with `runs/quickstart` being `folder` and `docs/gallery` being `pictures`."""
    folder, pictures = folder.resolve(), pictures.resolve()
    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        (place / "runs").mkdir()
        (place / "docs").mkdir()
        (place / "runs" / "quickstart").symlink_to(folder)
        (place / "runs" / "originals").symlink_to(folder.parent / "originals")
        (place / "docs" / "gallery").symlink_to(pictures)
        here = Path.cwd()
        os.chdir(place)
        try:
            names: dict[str, object] = {}
            for block in blocks():
                exec(compile(block, str(PAGE), "exec"), names)
        finally:
            os.chdir(here)


if __name__ == "__main__":
    main(Path(sys.argv[1]), PAGE.parent / "gallery")
