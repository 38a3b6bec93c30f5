"""A study's folder: status, watch, report, compare, export, ui, sync, register."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rem_study.cli.group import main
from rem_study.cli.options import FOLDER, PATH, complete_method
from rem_study.cli.terminal import say
from rem_study.storage import Folder


@main.command()
@click.argument("folder", type=FOLDER)
def status(folder: Folder) -> None:
    """Say how far the study in FOLDER is. Reads files only; works while the study runs.

    Example: rem-study status runs/quickstart
    """
    import gc

    from rem_study.study.status import describe

    gc.disable()  # as in `read_history`; this process ends right after
    say(describe(folder))


@main.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=5050, show_default=True, help="On loopback; 0: a free one."
)
def watch(folder: Folder, port: int) -> None:
    """Show the study in FOLDER in a browser while it runs: the grid, each cell's history, failures, time left.

    Served on loopback from the log, refreshed in place; ends with the study. Ctrl-C ends it, not the study.

    Example: rem-study watch runs/quickstart
    """
    from rem_study.study.watch import watch as serve

    serve(folder, port)
    say(f"report:  {folder / 'report.html'}")


@main.command()
@click.argument("folder", type=FOLDER)
def report(folder: Folder) -> None:
    """Write FOLDER/report.html and FOLDER/figures/ from the tables, or of a study that runs from what its log has.

    Example: rem-study report runs/quickstart
    """
    import gc

    from rem_study.report.page import write_report

    gc.disable()  # this process ends right after
    say(write_report(folder))


@main.command()
@click.argument("folders", type=FOLDER, nargs=-1, required=True, metavar="DIR DIR...")
def compare(folders: tuple[Folder, ...]) -> None:
    """Put several studies side by side: what their files say otherwise, and how their scores differ, with intervals.

    Differences are from the first DIR: in the cells they share, by method.

    Example: rem-study compare runs/quickstart runs/longer
    """
    from rem_study.study.compare import describe

    say(describe(folders))


@main.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--format",
    "form",
    type=click.Choice(["yaml", "json", "csv", "parquet", "latex", "optuna"]),
    default="yaml",
    show_default=True,
    help="yaml, json: best.yaml; csv, parquet: cells; latex: a paper's tables; optuna: all trials, for its tools.",
)
@click.option("-o", "--output", type=PATH, help="A file; default: the terminal (not for parquet and optuna).")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def export(folder: Folder, form: str, output: Path | None, force: bool) -> None:
    """Write the best configuration of each cell, the tables of a paper (latex), or all trials for Optuna's tools.

    Example: rem-study export runs/quickstart --format csv -o cells.csv
    """
    from rem_study.report.export import export as write

    text = write(folder, form, output, force)
    if sys.stdout.isatty():
        say(str(text), nl=output is not None)
    else:  # a file gets every byte
        click.echo(text, nl=output is not None)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(folder: Folder, port: int) -> None:
    """Open MLflow's UI on the study in FOLDER, on loopback.

    Example: rem-study ui runs/quickstart --port 5001
    """
    from rem_study.tracking.ui import serve

    sys.exit(serve(folder, port))


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--force", is_flag=True, help="Even where the tables have trials that the log lacks.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="Give MLflow up after so long in all (after 120 s without an answer in any case); the next sync goes on.",
)
def sync(folder: Folder, force: bool, timeout: float) -> None:
    """Bring MLflow, the tables and the report level with the log of the study in FOLDER.

    Example: rem-study sync runs/quickstart
    """
    from rem_study.study.sync import sync as bring_level
    from rem_study.tracking.client import quicken_sqlite

    quicken_sqlite()
    say(f"{bring_level(folder, force, timeout)} replicates were missing in MLflow and are there now")


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--cell", "cells", multiple=True, metavar="CELL", help="poison@0.5, say; several times; default: all.")
@click.option("--method", default="rem", show_default=True, shell_complete=complete_method)
@click.option("--alias", default="champion", show_default=True, help="models:/NAME@ALIAS is this version then.")
@click.option("--originals", type=FOLDER, help="Folder of the originals; default: the one beside FOLDER.")
@click.option("--device", default="cpu", show_default=True)
def register(
    folder: Folder, cells: tuple[str, ...], method: str, alias: str, originals: Folder | None, device: str
) -> None:
    """Put the selected, healed network of each cell of the study in FOLDER into MLflow's model registry.

    It is made again from its seeds (the original too, if it is not there any more) and saved as a graph that takes
    images in [0, 1], without pickle.

    Example: rem-study register runs/quickstart --cell poison@0.5 --method rem
    """
    from rem_study.study.register import register as put

    for model in put(folder, cells, method, alias, originals, device):
        state = "registered" if model.new else "there already"
        say(f"{state}: models:/{model.name}@{alias}, version {model.version}")
        if not model.repeated:
            say(
                f"warning: {model.name}: utility x healed is {model.utility_x_healed}, the study had {model.recorded}: "
                "another machine, or other versions",
                err=True,
            )
