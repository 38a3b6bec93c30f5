"""What a command prints, as a picture of a terminal. Needs Chromium.

python docs/terminal_picture.py docs/compare.png rem-study compare runs/quickstart-defaults runs/quickstart
"""

from __future__ import annotations

import html
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from doubles.browser import chromium

PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #1e1e1e }}
pre {{ display: inline-block; margin: 0; padding: 16px 20px; color: #e6e6e6; font: 14px/1.35 monospace }}
b {{ color: #8ab4f8; font-weight: normal }}
</style><pre><b>$ {command}</b>
{output}</pre>"""


def main(picture: Path, command: list[str]) -> None:
    """Run `command` and write the picture of it."""
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as place, chromium(Path(place) / "profile") as browser:
        page = Path(place) / "page.html"
        page.write_text(
            PAGE.format(command=html.escape(" ".join(command)), output=html.escape(output.rstrip())), encoding="utf-8"
        )
        browser.get(page.as_uri())
        box = browser.find_element("tag name", "pre")
        browser.set_window_size(box.size["width"] + 40, box.size["height"] + 200)
        box.screenshot(str(picture))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
