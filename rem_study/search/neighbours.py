"""Which cells of the grid lie beside each other."""

from __future__ import annotations

from collections.abc import Iterator

from rem_study.spec.corruption import RANKS
from rem_study.trial import Cell


def neighbours(cells: dict[str, Cell]) -> dict[str, list[str]]:
    """By cell, the adjacent ones: lower and higher discovery rate, lower and higher regularity, in this order."""
    rates = sorted({cell.discovery_rate for cell in cells.values()})
    known: dict[str, int] = {rank: place for place, rank in enumerate(RANKS)}
    ranks = {c.corruption.name: known.get(c.corruption.regularity_rank or "", len(known)) for c in cells.values()}
    corruptions = sorted(ranks, key=ranks.__getitem__)  # those that nobody can rank come last, as listed
    names = {(cell.corruption.name, cell.discovery_rate): name for name, cell in cells.items()}

    def beside(cell: Cell) -> Iterator[str]:
        row, column = corruptions.index(cell.corruption.name), rates.index(cell.discovery_rate)
        for r, c in ((row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column)):
            if 0 <= r < len(corruptions) and 0 <= c < len(rates):
                yield names[corruptions[r], rates[c]]

    return {name: list(beside(cell)) for name, cell in cells.items()}
