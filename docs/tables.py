"""Print a study's tables as Markdown, as they stand in docs/results.md: python docs/tables.py runs/STUDY"""

import sys
from pathlib import Path

from rem_study.report.html import over_cells, over_replicates
from rem_study.results.plane import corruption_order, methods_frame
from rem_study.results.read import read_tables


def markdown(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


def main(folder: Path) -> None:
    """Methods over all cells, then utility x healed of each in each cell."""
    trials, cells = read_tables(folder)
    methods = methods_frame(cells, trials)
    head = ["method", "utility × healed", "95 % interval over replicates", "healed", "utility"]
    head += ["cells won", "level", "default", "sample passes", "minutes"]
    body = [
        [
            f"`{row['method']}`",
            over_cells(row),
            over_replicates(row),
            *(over_cells(row, score) for score in ("healed", "utility")),
            str(row["cells_won"]),
            str(row["cells_level"]),
            f"{row['default_utility_x_healed']:.3f}",
            f"{row['sample_passes'] / 1000.0:.0f} k",
            f"{row['seconds'] / 60:.1f}",
        ]
        for _, row in methods.iterrows()
    ]
    print(markdown([head, *body]), "\n")
    order = [(c, r) for c in corruption_order(cells) for r in sorted(cells["discovery_rate"].unique())]
    table = cells.pivot_table(index="method", columns=["corruption", "discovery_rate"], values="utility_x_healed")
    rows = [[f"`{m}`", *(f"{table.loc[m, key]:.2f}" for key in order)] for m in methods["method"]]
    print(markdown([["method", *(f"{c} {r:g}" for c, r in order)], *rows]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
