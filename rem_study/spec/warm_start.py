"""Where a search begins that another study has gone before: its nearest cell's configuration and its universal one."""

from __future__ import annotations

from rem_study.errors import InputError, did_you_mean
from rem_study.spec.best import UNIVERSAL, of_cell, read_best, recommend
from rem_study.spec.cell import cell_name
from rem_study.spec.space import Configuration, SearchSpace
from rem_study.spec.study import StartSpec, StudySpec
from rem_study.storage import Folder

Starts = dict[str, dict[str, tuple[StartSpec, ...]]]
"""By method and cell, in the order in which they are tried."""


def starting_points(spec: StudySpec, spaces: dict[str, SearchSpace], folder: Folder) -> Starts:
    """What `spec.warm_start` says, written out and checked.

    Hyperparameters that this study does not search take this study's values; the others must lie in its ranges. A
    corruption that the other study has not is begun with that study's universal configuration only.

    Raises:
        InputError: one line a mistake.
    """
    if isinstance(spec.warm_start, str):
        starts = _from_best(spec, spaces, folder / spec.warm_start)
    else:
        starts = spec.warm_start or {}
    mistakes = []
    cells = [cell_name(corruption.name, rate) for corruption in spec.corruptions for rate in spec.discovery_rates]
    for method, by_cell in starts.items():
        for cell, points in by_cell.items():
            if method not in spaces or cell not in cells:
                meant = did_you_mean(method, spaces) if method not in spaces else did_you_mean(cell, cells)
                mistakes.append(f"{method}.{cell}: this study has no such method and cell{meant}")
                continue
            for point in points:
                try:
                    spaces[method].check_searched(point.config)
                except InputError as error:
                    mistakes.append(f"{method}.{cell} ({point.source}): {error}")
    if mistakes:
        raise InputError("\n".join(mistakes))
    return starts


def _from_best(spec: StudySpec, spaces: dict[str, SearchSpace], path: Folder) -> Starts:
    document = read_best(path)
    known = {cell.corruption for cell in document.cells}
    starts: Starts = {}
    for method in spec.methods:
        starts[method] = {}
        for corruption in spec.corruptions:
            for rate in spec.discovery_rates:
                found = []
                if corruption.name in known and any(method in c.methods for c in document.cells):
                    found.append(recommend(path, corruption=corruption.name, discovery_rate=rate, method=method))
                if method in document.universal:
                    found.append(of_cell(path, UNIVERSAL, method))
                points: list[StartSpec] = []
                for one in found:
                    config = _with_this_studys_values(one.configuration, spaces[method])
                    if config != spaces[method].defaults and all(config != point.config for point in points):
                        points.append(StartSpec(source=one.cell, config=config))
                starts[method][cell_name(corruption.name, rate)] = tuple(points)
    if not any(points for by_cell in starts.values() for points in by_cell.values()):
        raise InputError(f"{path}: has nothing for the methods of this study but their defaults")
    return starts


def _with_this_studys_values(configuration: Configuration, space: SearchSpace) -> Configuration:
    searched = {name for name, parameter in space.parameters.items() if parameter.search}
    return space.defaults | {name: value for name, value in configuration.items() if name in searched}
