"""Text on its way to a terminal or a spreadsheet, where some characters are commands."""

from __future__ import annotations


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
