"""Text on its way to a terminal or a spreadsheet, where some characters are commands."""

from __future__ import annotations

import sys
import time


def shown(text: str, keep: str = "\n") -> str:
    """`text` with each character that a terminal does not print (but those to `keep`) written as Python writes it."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in keep else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )


def in_a_cell(text: str) -> str:
    """`text` for a cell of a spreadsheet, which is to show it and not to compute: `'=1+1`."""
    text = shown(text, keep="")
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@") else text


def duration(seconds: float) -> str:
    """A time for people: `40 s`, `5 min`, `3.2 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class LiveLine:
    """Says on stderr how many of `total` are done, once that takes longer than two seconds: one line that is written
    over on a terminal, a plain one every half minute elsewhere."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._live = sys.stderr.isatty()
        self._began = time.monotonic()
        self._first: tuple[float, int] | None = None  # when the first were done, and how many: the pace from then on
        self._next = self._began + 2
        self._shown = False

    def count(self, more: int) -> None:
        """So many more are done."""
        self._done += more
        now = time.monotonic()
        if self._first is None:
            self._first, self._next = (now, more), now + 2
        if now < self._next:
            return
        self._next, self._shown = now + (0.2 if self._live else 30), True
        rate = (self._done - self._first[1]) / (now - self._first[0])
        left = duration((self._total - self._done) / rate)
        line = f"{self._what}: {self._done:,} of {self._total:,} · {rate:.0f}/s · about {left} left"
        self._write(f"\r\x1b[2K{line}" if self._live else f"{line}\n")

    def close(self) -> None:
        """End the line, and say how long it took if it was shown."""
        if self._shown:
            took = duration(time.monotonic() - self._began)
            start = "\r\x1b[2K" if self._live else ""
            self._write(f"{start}{self._what}: {self._done:,} of {self._total:,} in {took}\n")

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()
