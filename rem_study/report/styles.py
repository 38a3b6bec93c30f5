"""One colour and one marker a method, the same on the page, in its charts and in the figures for paper."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

COLOURS = (
    *("#4b2df0", "#00c3b4", "#783c87", "#ff4bf0", "#69694b", "#f09678", "#ff4b87", "#873c0f", "#692db4", "#4b78c3"),
    *("#d2a54b", "#a52d69", "#4b964b", "#69a5c3", "#b43cf0", "#b4b400", "#876996", "#9696ff", "#c32db4"),
)
"""Found by a greedy search: the first fifteen and REM's are at least 16 apart (CIE 1976) for normal vision and for each
of the three dichromacies (Machado et al. 2009), and each has a contrast of 2.2 or more on white and on near black."""
SYMBOLS = (  # as Plotly calls it, as matplotlib does
    *(("square", "s"), ("diamond", "D"), ("triangle-up", "^"), ("triangle-down", "v"), ("cross", "P"), ("x", "X")),
    *(("star", "*"), ("pentagon", "p"), ("hexagram", (6, 1, 0)), ("triangle-left", "<"), ("triangle-right", ">")),
    *(("hexagon", "h"), ("octagon", "8"), ("diamond-tall", "d"), ("star-square", (4, 1, 45)), ("hexagon2", "H")),
    *(("star-diamond", (4, 1, 0)), ("star-triangle-up", (3, 1, 0)), ("star-triangle-down", (3, 1, 180))),
)  # fmt: skip
REM_COLOUR = "#d55e00"


@dataclass(frozen=True)
class MethodStyle:
    """How a method is drawn.

    Attributes:
        colour: as `#rrggbb`.
        symbol: Plotly's name of the marker.
        marker: the same marker as matplotlib takes it.
    """

    colour: str
    symbol: str
    marker: Any

    def svg_path(self) -> str:
        """The marker as an SVG path in a box from -10 to 10."""
        from matplotlib.markers import MarkerStyle

        shape = MarkerStyle(self.marker)
        outline = shape.get_path().transformed(shape.get_transform())
        size = 9 / np.abs(np.asarray(outline.vertices)).max()
        rings = [[f"{x * size:.1f} {-y * size:.1f}" for x, y in np.asarray(ring)] for ring in outline.to_polygons()]
        return "".join(f"M{'L'.join(points)}Z" for points in rings)


def method_styles(methods: Iterable[str]) -> dict[str, MethodStyle]:
    """A style by method. By name, so that more trials do not change it; REM's is its own in every study. From the
    twenty-first method on colours begin again, with another marker."""
    others = sorted(set(methods) - {"rem"})
    styles = {
        name: MethodStyle(COLOURS[i % len(COLOURS)], *SYMBOLS[(i + i // len(COLOURS)) % len(SYMBOLS)])
        for i, name in enumerate(others)
    }
    return {name: MethodStyle(REM_COLOUR, "circle", "o") if name == "rem" else styles[name] for name in methods}
