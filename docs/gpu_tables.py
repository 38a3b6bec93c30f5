"""Print what gpu_cells.py has measured as Markdown, for docs/results.md: python docs/gpu_tables.py FILE...

Calls and files are put together where study, task, code, device and PyTorch are the same, and kept apart otherwise.
"""

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from cells_file import Line, read_lines
from tables import markdown

from rem_study.errors import InputError
from rem_study.storage.canonical import canonical_json

SAME = ("study", "task", "code", "device", "torch")
IDENTITY = ("what", "state", "corruption", "replicate", "cell", "label", "method", "configuration")
"""What two lines have in common that tell of the same thing, from two files."""


def section(lines: list[Line]) -> str:
    """A heading, where and when it was measured, the originals, then utility × healed by configuration and cell."""
    first, days = lines[0], sorted({line["at"][:10] for line in lines})
    measured = (
        f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, torch {first['torch']}, {first['precision']}, protocol "
        f"{first['protocol']}, code {first['code']}."
    )
    originals = [line for line in lines if line["what"] == "original" and line["state"] == "complete"]
    runs = [line for line in lines if line["what"] == "run"]
    failed = [
        f"- failed: {line.get('label', 'original')}, {line.get('cell', line['corruption'])}, replicate "
        f"{line['replicate']}: {line['error']}"
        for line in lines
        if line.get("state") == "failed"
    ]
    parts = [f"## {first['study']} on one {first['device']}", measured]
    parts += [originals_table(originals)] if originals else []
    parts += [scores_table(runs, originals), "\n".join(described(runs))] if runs else []
    return "\n\n".join(parts + (["\n".join(failed)] if failed else []))


def originals_table(originals: list[Line]) -> str:
    """One row an original."""
    head = ["original", "replicate", "test accuracy", "wrong labels memorised", "measured regularity", "seconds"]
    rows = [
        [
            line["corruption"].replace("_", " "),
            str(line["replicate"]),
            *(_figure(line[name]) for name in ("test_accuracy", "memorised", "regularity")),
            f"{line['seconds']:.0f}" if line["trained"] else "(stored)",
        ]
        for line in originals
    ]
    return markdown([head, *rows])


def scores_table(runs: list[Line], originals: list[Line]) -> str:
    """Means over replicates by configuration and cell; the last row's seconds are those of one run."""
    cells = list(dict.fromkeys((run["corruption"], run["discovery_rate"]) for run in sorted(runs, key=_place(runs))))
    rows = [["original as it is", *_row([_of(originals, "as_it_is_utility_x_healed", c) for c, _ in cells]), ""]]
    for name, mine in _by_configuration(runs).items():
        seconds = [run["seconds"] for run in mine if run["state"] == "complete"]
        values = [_of(mine, "utility_x_healed", *cell) for cell in cells]
        rows.append([name, *_row(values), f"{statistics.fmean(seconds):.1f}" if seconds else ""])
    names = [f"{corruption.replace('_', ' ')} {rate:g}" for corruption, rate in cells]
    return markdown([["utility × healed", *names, "mean", "replicates", "seconds a run"], *rows])


def described(runs: list[Line]) -> list[str]:
    """What each label stands for."""
    return [
        f"- {name}: `{mine[0]['method']}`, "
        + (", ".join(f"`{key}: {value}`" for key, value in mine[0]["set"].items()) or "at the study's default")
        for name, mine in _by_configuration(runs).items()
    ]


def _by_configuration(runs: list[Line]) -> dict[str, list[Line]]:
    """Runs by label, in order of appearance; a label that stood for several configurations is numbered."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for run in runs:
        groups.setdefault((run["label"], canonical_json([run["method"], run["configuration"]])), []).append(run)
    labels = [label for label, _ in groups]
    numbers = [labels[: place + 1].count(label) for place, label in enumerate(labels)]
    return {
        label if labels.count(label) == 1 else f"{label} ({number})": mine
        for label, number, mine in zip(labels, numbers, groups.values(), strict=True)
    }


def _place(runs: list[Line]) -> Callable[[Line], tuple[int, float]]:
    """A key that sorts by corruption, in order of appearance, then by discovery rate."""
    order = list(dict.fromkeys(run["corruption"] for run in runs))
    return lambda run: (order.index(run["corruption"]), run["discovery_rate"])


def _of(lines: list[Line], name: str, corruption: str, rate: float | None = None) -> list[float]:
    """What was measured in a cell, one value a replicate."""
    return [
        line[name]
        for line in lines
        if line["corruption"] == corruption
        and rate in (None, line.get("discovery_rate"))
        and line.get(name) is not None
    ]


def _row(values: list[list[float]]) -> list[str]:
    """Means of each cell, over all cells if all were measured, and how many replicates they are over."""
    means = [statistics.fmean(cell) if cell else None for cell in values]
    whole = [mean for mean in means if mean is not None]
    counts = sorted({len(cell) for cell in values if cell})
    overall = statistics.fmean(whole) if len(whole) == len(means) else None
    replicates = " to ".join(dict.fromkeys(str(count) for count in counts[:1] + counts[-1:]))
    return [*(_figure(mean) for mean in [*means, overall]), replicates]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main(paths: list[Path]) -> None:
    """One section for each study, task, code, device and version of PyTorch."""
    groups: dict[tuple[str, ...], dict[str, Line]] = {}
    for path in paths:
        for line in read_lines(path):
            if line["what"] != "call":
                found = groups.setdefault(tuple(line[name] for name in SAME), {})
                found.setdefault(canonical_json([line.get(name) for name in IDENTITY]), line)
    print("\n\n".join(section(list(lines.values())) for lines in groups.values()))


if __name__ == "__main__":
    try:
        main([Path(argument) for argument in sys.argv[1:]])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
