"""The command line. Heavy imports stay inside the commands that need them."""

from __future__ import annotations

import io
import json
import os
import select
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from rem_study.errors import ClusterError, InputError, NotStartedError, StorageError, TrackingError, UnlearningError
from rem_study.shown import shown
from rem_study.storage import Folder, open_folder
from rem_study.storage.credentials import redact
from rem_study.version import __version__


def _say(text: object, err: bool = False, nl: bool = True, keep: str = "\n") -> None:
    """Print what may come from a file or a server: no character of it moves the cursor or renames the window."""
    click.echo(shown(str(text), keep), err=err, nl=nl)


PATH = click.Path(path_type=Path)


class _FolderType(click.ParamType):
    """A path, or the URL of an object store."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Folder:
        return open_folder(value) if isinstance(value, str) else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Folders."""
        return [CompletionItem(incomplete, type="dir")]


FOLDER = _FolderType()


class _StudyType(click.ParamType):
    """A study file, or the name of a study that comes with rem-study."""

    name = "study"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from rem_study.spec.shipped import find_study

        return find_study(Path(value))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The studies that come along, and files."""
        from rem_study.spec.shipped import shipped_names

        return [*_beginning(incomplete, shipped_names("studies")), CompletionItem(incomplete, type="file")]


def _beginning(incomplete: str, names: list[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The methods that there are, for a shell that completes."""
    from rem_study.spec.space import known_methods

    return _beginning(incomplete, known_methods())


class _Commands(click.Group):
    """Turns an InputError into its lines and exit status 2, and Ctrl-C into one line and status 1."""

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):  # a path that is not UTF-8 is written as it is
            utf_8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
            sys.stdout.reconfigure(errors="surrogateescape" if utf_8 else "backslashreplace")
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except InputError as error:
            for line in str(error).splitlines():
                _say(f"error: {line}", err=True)
            ctx.exit(2)
        except (ClusterError, StorageError, TrackingError, UnlearningError) as error:
            _say(f"error: {error}", err=True)
            ctx.exit(1)
        except BrokenPipeError as error:
            if not _reader_is_gone():
                click.echo(f"error: {error.filename or 'rem-study'}: {error.strerror or error}", err=True)
                ctx.exit(1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to write, nobody reads
            ctx.exit(0)
        except OSError as error:  # a full disk, a share or an object store out of reach
            _say(f"error: {error.filename or 'rem-study'}: {error.strerror or error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            _say("interrupted", err=True)
            ctx.exit(1)


def _reader_is_gone() -> bool:
    """Whether what this prints goes into a pipe that nobody reads any more (`rem-study methods | head -1`)."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):
        return False


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rem-study")
def main() -> None:
    """Hyperparameter studies of REM and its rivals over the plane of corrupted-data unlearning tasks."""


_prepared_option = click.option(
    "--root",
    type=FOLDER,
    default="runs",
    show_default=True,
    metavar="DIR",
    help="As of `launch`: own images that are prepared lie there, under data/.",
)


def _study_options(command: Callable[..., None]) -> Callable[..., None]:
    command = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY.PATH=VALUE",
        help="Change a field of the study file.",
    )(command)
    return click.argument("study", type=_StudyType())(command)


_root_option = click.option(
    "--root",
    type=FOLDER,
    default="runs",
    show_default=True,
    metavar="DIR",
    help="Where studies' folders lie: a path, or s3://BUCKET/PREFIX, gs://...",
)
_name_option = click.option("--name", help="Of the study and its folder; default: the study file's.")


@main.command()
@_study_options
@_root_option
@_name_option
@click.option("--address", help="Of a Ray cluster; default: a local one for this launch.")
@click.option("--warm-start", type=PATH, metavar="BEST.yaml", help="Begin with what another study found.")
def launch(
    study: Path,
    overrides: tuple[str, ...],
    root: Folder,
    name: str | None,
    address: str | None,
    warm_start: Path | None,
) -> None:
    """Run the study file STUDY, or go on with it where it was left. STUDY may also name one that comes along: smoke.

    Example: rem-study launch smoke --name first --set budget.trials=4
    """
    from rem_study.study.launch import launch as run

    if warm_start is not None:
        overrides = (*overrides, f"warm_start={json.dumps(str(warm_start.resolve()))}")
    for number in (signal.SIGTERM, signal.SIGHUP):  # the latter from a terminal that is closed
        if signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` has it
            signal.signal(number, lambda number, frame: signal.raise_signal(signal.SIGINT))

    def failed(reason: object) -> None:
        _say(f"error: {reason}. What is finished is kept; to go on, launch again: {_again()}", err=True)

    try:
        outcome = run(study, root, name, address, overrides, lost=failed)
    except NotStartedError:
        raise
    except KeyboardInterrupt:
        _say(f"interrupted. What is finished is kept; to go on, launch again: {_again()}", err=True)
        sys.exit(1)
    except (ClusterError, StorageError) as error:
        failed(error)
        sys.exit(1)
    if not outcome.done:
        _say(f"stopped: {outcome.summary}. To go on, launch again: {_again()}", err=True)
        sys.exit(1)
    _say(f"done: {outcome.summary}")
    for line in outcome.verdict:
        _say(line)
    _say(f"report:  {outcome.folder / 'report.html'} (open it in a browser)")
    _say(f"best:    {outcome.folder / 'best.yaml'}")
    _say(f"runs:    rem-study ui {outcome.folder} (MLflow, on loopback)")
    for view, link in outcome.views.items():
        _say(f"         {view}: {link}")


@main.command()
@_study_options
@click.option("--address", required=True, metavar="http://HEAD:8265", help="Of the cluster's dashboard.")
@click.option(
    "--root",
    default="/shared/runs",
    show_default=True,
    metavar="DIR",
    help="Where studies' folders lie on the cluster; every node must see it. A path or a URL.",
)
@_name_option
@click.option("--follow", is_flag=True, help="Show the job's log until it ends; exit status 0 if it succeeds.")
@click.option("--installed", is_flag=True, help="The cluster has rem-study's packages; install none for the job.")
def submit(
    study: Path,
    overrides: tuple[str, ...],
    address: str,
    root: str,
    name: str | None,
    follow: bool,
    installed: bool,
) -> None:
    """Run the study file STUDY as a job on a Ray cluster, which goes on when this machine is switched off.

    Example: rem-study submit quickstart --address http://localhost:8265 --follow
    """
    from rem_study.study.submit import submit as run

    cluster, submitted = run(study, address, root, name, overrides, installed)
    job = submitted.job
    commands = f"ray job logs {job} --follow --address {cluster.address}\n"
    commands += f"to stop it:  ray job stop {job} --address {cluster.address}"
    if not submitted.new and not follow:
        raise InputError(f"{study}: the study is running already, as job {job}. Follow it: {_again()} --follow")
    try:  # from here on the job is there, whenever Ctrl-C comes
        _say(f"{'submitted' if submitted.new else 'running already'}: job {job} on {cluster.address}", err=True)
        if not follow:
            _say(f"to look:     {commands}", err=True)
            return
        failure = cluster.follow(job, lambda text: _say(text, nl=False, keep="\n\r\t"))
    except KeyboardInterrupt:
        _say(f"\nno longer followed; the job goes on.\nto look:     {commands}", err=True)
        sys.exit(1)
    if failure:
        _say(f"error: job {job} {failure}", err=True)
        sys.exit(1)


def _again() -> str:
    import shlex

    return redact(shlex.join(["rem-study", *sys.argv[1:]]))  # a job's log keeps this line


@main.command()
@click.argument("kind", type=click.Choice(["quickstart", "own-data", "paper"]), default="quickstart")
@click.option("-o", "--output", type=PATH, metavar="FILE", help="The study file; default: KIND.yaml.")
@click.option("--data", type=PATH, help="own-data's images: a folder, an .npz or a Parquet file; default: data.")
def init(kind: str, output: Path | None, data: Path | None) -> None:
    """Write a study file to begin with, every section explained, and the schema that editors use for it.

    quickstart: on data that come along. own-data: on your images. paper: the paper's grid on CIFAR-10. Nothing is
    written over.

    Example: rem-study init own-data --data pictures -o pictures.yaml
    """
    from rem_study.study.starter import write_starter

    for line in write_starter(kind, output, data):
        _say(line)


@main.command()
@click.option("-o", "--output", type=PATH, metavar="FILE", help="Default: the terminal.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def schema(output: Path | None, force: bool) -> None:
    """Print the JSON Schema of study files, by which editors complete and check them.

    Example: rem-study schema -o rem-study.schema.json
    """
    from rem_study.spec.schema import study_schema
    from rem_study.storage.output import check_output

    text = json.dumps(study_schema(), indent=1)
    if output is None:
        _say(text)
        return
    check_output(output, force)
    output.write_text(text + "\n", encoding="utf-8")
    _say(output)


@main.command()
@click.option("--root", type=PATH, default="runs", show_default=True, metavar="DIR", help="Where studies are to lie.")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Of `rem-study ui`.")
def doctor(root: Path, port: int) -> None:
    """Say whether this machine has what a launch needs: packages, GPU, Ray, MLflow, ports, disk, shared memory.

    Ray is really started and MLflow really written to, so it takes some seconds. Exit status 1 where something would
    stop a launch.

    Example: rem-study doctor --root /scratch/runs
    """
    from rem_study.study.doctor import findings

    wrong = 0
    for finding in findings(root, port):
        wrong += finding.state == "wrong"
        _say(finding)
    if wrong:
        _say(f"{wrong} of these would stop a launch", err=True)
        sys.exit(1)


@main.command()
@_study_options
@_root_option
@_name_option
@click.option("--measure", is_flag=True, help="Time 5 seconds of training, compiled as the study asks, not half a one.")
def check(study: Path, overrides: tuple[str, ...], root: Folder, name: str | None, measure: bool) -> None:
    """Validate the study file STUDY; print its cells, trials, originals and a cost estimate, and what a launch would
    find in its folder. Nothing is written.

    Example: rem-study check quickstart --set budget.trials=20
    """
    from rem_study.study.check import describe

    _say(describe(study, overrides, root, name, measure))


@main.command()
@click.argument("folder", type=FOLDER)
def status(folder: Folder) -> None:
    """Say how far the study in FOLDER is. Reads files only; works while the study runs.

    Example: rem-study status runs/quickstart
    """
    import gc

    from rem_study.study.status import describe

    gc.disable()  # as in `read_history`; this process ends right after
    _say(describe(folder))


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
    _say(f"report:  {folder / 'report.html'}")


@main.command()
@click.argument("folder", type=FOLDER)
def report(folder: Folder) -> None:
    """Write FOLDER/report.html and FOLDER/figures/ from the tables, or of a study that runs from what its log has.

    Example: rem-study report runs/quickstart
    """
    import gc

    from rem_study.report.page import write_report

    gc.disable()  # this process ends right after
    _say(write_report(folder))


@main.command()
@click.argument("folders", type=FOLDER, nargs=-1, required=True, metavar="DIR DIR...")
def compare(folders: tuple[Folder, ...]) -> None:
    """Put several studies side by side: what their files say otherwise, and how their scores differ, with intervals.

    Differences are from the first DIR: in the cells they share, by method.

    Example: rem-study compare runs/quickstart runs/longer
    """
    from rem_study.study.compare import describe

    _say(describe(folders))


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
        _say(str(text), nl=output is not None)
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
    _say(f"{bring_level(folder, force, timeout)} replicates were missing in MLflow and are there now")


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--cell", "cells", multiple=True, metavar="CELL", help="poison@0.5, say; several times; default: all.")
@click.option("--method", default="rem", show_default=True, shell_complete=_methods)
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
        _say(f"{state}: models:/{model.name}@{alias}, version {model.version}")
        if not model.repeated:
            _say(
                f"warning: {model.name}: utility x healed is {model.utility_x_healed}, the study had {model.recorded}: "
                "another machine, or other versions",
                err=True,
            )


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
            _prepared_option,
        )
    ):
        command = option(command)
    return command


@main.command()
@_case_options
@click.option("-o", "--output", type=PATH, help="The healed checkpoint; default: CHECKPOINT with .healed in its name.")
@click.option("--force", is_flag=True, help="Write over a healed checkpoint and what lies beside it.")
@click.option("--method", default="rem", show_default=True, shell_complete=_methods, help="See `rem-study methods`.")
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

    outcome = heal_checkpoint(HealRequest(**options), _progress)
    _progress("")
    for line in outcome.notes:
        _say(f"note: {line}", err=True)
    for line in outcome.warnings:
        _say(f"warning: {line}", err=True)
    for line in outcome.lines:
        _say(line)
    _say(f"healed: {outcome.output}")
    _say(f"report: {outcome.report}")
    _say(f"page: {outcome.page}")
    _say(f"suspects: {outcome.suspects}")


@main.command()
@_case_options
@click.option(
    "--method", default="rem", show_default=True, shell_complete=_methods, help="Whose configuration of best.yaml."
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

    lines = diagnose_checkpoint(DiagnoseRequest(**options), _progress)
    _progress("")
    for line in lines:
        _say(line)


def _progress(line: str) -> None:
    """On a terminal, one line that is written over; nothing where output is kept."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}", err=True, nl=False)


@main.command()
def methods() -> None:
    """List the methods.

    Example: rem-study methods
    """
    from rem_study.spec import load_space
    from rem_study.spec.space import known_methods

    for name in known_methods():
        _say(f"{name:16} {load_space(name).summary}")


@main.command()
@click.argument("method", shell_complete=_methods)
def show(method: str) -> None:
    """Show a method's search space, defaults and sources.

    Example: rem-study show rem
    """
    from rem_study.spec import load_space

    space = load_space(method)
    _say(f"{space.method}: {space.summary}\n{space.reference}\n")
    for name, parameter in space.parameters.items():
        fields = parameter.model_dump(exclude={"source", "type", "default", "search"}, exclude_defaults=True)
        told = ", ".join(f"{key} {value}" for key, value in fields.items())
        searched = "" if parameter.search else " (held at its default unless a study fixes it)"
        _say(f"{name}: {parameter.type}, default {parameter.default}{searched}\n    {told}\n    {parameter.source}")


if __name__ == "__main__":
    main()
