"""Somebody's own network: heal, diagnose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from rem_study.cli.group import main
from rem_study.cli.options import FOLDER, PATH, complete_method
from rem_study.cli.terminal import say, show_progress


def _numbers(context: click.Context, option: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not one number, or one a channel with commas between") from None


def _case_options(command: Callable[..., None]) -> Callable[..., None]:
    """A model, what it was trained on, and what is known of its corruption."""
    for option in reversed(
        (
            click.argument("checkpoint", type=PATH),
            click.option(
                "--model",
                required=True,
                help="resnet9, vit, torchvision/NAME, timm/NAME or a mapping as in a study file ('{name: resnet9, "
                "width: 0.5}'); or package.module:factory, which is called without arguments.",
            ),
            click.option(
                "--data",
                required=True,
                help="What the model was trained on: an .npz file, a folder of images or of Parquet files, a data set "
                "by name, or a mapping as in a study file. The test part, if any, is the held-out set.",
            ),
            click.option(
                "--ids",
                type=PATH,
                required=True,
                help="CSV, Parquet or .npy: id or file of each sample known to be corrupted, a mask, or cleanlab's "
                "frame.",
            ),
            click.option("--id-column", metavar="NAME", help="Of --ids, where it is not called id."),
            click.option("--weights", metavar="KEY", help="Of the checkpoint, where it holds several state dicts."),
            click.option(
                "--mean",
                callback=_numbers,
                help="Training's, of pixels in [0, 1], 0.49,0.48,0.45 say; default: the data's.",
            ),
            click.option("--std", callback=_numbers, help="The same for the standard deviation."),
            click.option(
                "--classes", type=click.IntRange(2, 100_000), help="Of the model, if more than the data have."
            ),
            click.option("--rgb", is_flag=True, help="Repeat the channel of grey images three times."),
            click.option(
                "--original", help="How it was trained, as in a study file: '{optimizer: adam, weight_decay: 0}'."
            ),
            click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
            click.option("--device", help="cpu, cuda, ...; default: cuda if there is one."),
            click.option(
                "--max-size",
                type=click.FloatRange(min=0, min_open=True),
                default=4.0,
                show_default=True,
                help="GiB that the checkpoint, and the data file, may unpack to.",
            ),
            click.option(
                "--root",
                type=FOLDER,
                default="runs",
                show_default=True,
                metavar="DIR",
                help="As of `launch`: own images that are prepared lie there, under data/.",
            ),
        )
    ):
        command = option(command)
    return command


@main.command()
@_case_options
@click.option("-o", "--output", type=PATH, help="The healed checkpoint; default: CHECKPOINT with .healed in its name.")
@click.option("--force", is_flag=True, help="Write over a healed checkpoint and what lies beside it.")
@click.option(
    "--method", default="rem", show_default=True, shell_complete=complete_method, help="See `rem-study methods`."
)
@click.option("--config", type=PATH, help="YAML: hyperparameters; default: the method's own defaults.")
@click.option("--best", type=PATH, help="A study's best.yaml; alone: what serves the case as it is diagnosed.")
@click.option("--cell", help="Of best.yaml, exactly: poison@0.5, say; universal: the one for the whole grid.")
@click.option("--corruption", help="With --discovery-rate: the nearest cell. A name in best.yaml, or a regularity.")
@click.option("--discovery-rate", type=float, help="Share of the corrupted samples that --ids holds; a guess will do.")
@click.option(
    "--tries",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="With --corruption and --discovery-rate: run the configurations of so many of the nearest cells, "
    "the universal one last; the network with the best retain accuracy x (1 - forget accuracy) is kept.",
)
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="Change a hyperparameter.")
@click.option("--space", type=PATH, help="Another search space for the method, to check against.")
@click.option(
    "--diagnosis/--no-diagnosis",
    default=True,
    help="Where nothing says what the case is (--cell, --corruption, --config): find it out first, by healing from all "
    "and from each half of the known samples; with --best, the nearest cell's configuration is used then, without it, "
    "for a poison, one that REM has for triggers.",
)
@click.option(
    "--erasures",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Healed networks a round, differing in their seed: the list of suspects is what they say together, and the "
    "one that is nearest to it is kept.",
)
@click.option(
    "--again",
    type=PATH,
    metavar="SUSPECTS.csv",
    help="The list of an earlier healing: rows with yes in its column confirmed are known too, from the original anew.",
)
@click.option(
    "--top", type=click.IntRange(min=1), help="With --again: the list's first so many suspects count as confirmed."
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Heal so often, from the original each time, the surest suspects of each round taken for known in the next.",
)
def heal(**options: Any) -> None:
    """Heal the model in CHECKPOINT: unlearn the training samples known to be corrupted.

    CHECKPOINT is a state dict (.pt, opened with weights_only) or a safetensors file, and is never changed. The healed
    one has the same parameters, by name and shape. Beside it come a report and a list of all training samples; those
    likely to be corrupted too are at its top.

    \b
    Example: rem-study heal model.pt --model torchvision/resnet18 \\
                 --data data.npz --ids known.csv --best runs/quickstart/best.yaml
    """
    from rem_study.heal.request import HealRequest, heal_checkpoint

    outcome = heal_checkpoint(HealRequest(**options), show_progress)
    show_progress("")
    for line in outcome.notes:
        say(f"note: {line}", err=True)
    for line in outcome.warnings:
        say(f"warning: {line}", err=True)
    for line in outcome.lines:
        say(line)
    say(f"healed: {outcome.output}")
    say(f"report: {outcome.report}")
    say(f"page: {outcome.page}")
    say(f"suspects: {outcome.suspects}")


@main.command()
@_case_options
@click.option(
    "--method",
    default="rem",
    show_default=True,
    shell_complete=complete_method,
    help="Whose configuration of best.yaml.",
)
@click.option("--best", type=PATH, help="A study's best.yaml: which of its cells serves the case.")
def diagnose(**options: Any) -> None:
    """Say where the case of the model in CHECKPOINT lies: what kind of corruption, how much of it is known.

    It heals copies by REM, gently, from all known samples and from each half of them; no file is written but the
    prepared images (--root).

    \b
    Example: rem-study diagnose model.pt --model torchvision/resnet18 \\
                 --data data.npz --ids known.csv
    """
    from rem_study.heal.consultation import DiagnoseRequest, diagnose_checkpoint

    lines = diagnose_checkpoint(DiagnoseRequest(**options), show_progress)
    show_progress("")
    for line in lines:
        say(line)
