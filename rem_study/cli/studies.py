"""Studies, from a file to a run: init, schema, doctor, check, launch, submit."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import click

from rem_study.cli.group import main
from rem_study.cli.options import PATH, name_option, root_option, study_options
from rem_study.cli.terminal import command_line, say
from rem_study.errors import ClusterError, InputError, NotStartedError, StorageError
from rem_study.storage import Folder


@main.command()
@study_options
@root_option
@name_option
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
        say(f"error: {reason}. What is finished is kept; to go on, launch again: {command_line()}", err=True)

    try:
        outcome = run(study, root, name, address, overrides, lost=failed)
    except NotStartedError:
        raise
    except KeyboardInterrupt:
        say(f"interrupted. What is finished is kept; to go on, launch again: {command_line()}", err=True)
        sys.exit(1)
    except (ClusterError, StorageError) as error:
        failed(error)
        sys.exit(1)
    if not outcome.done:
        say(f"stopped: {outcome.summary}. To go on, launch again: {command_line()}", err=True)
        sys.exit(1)
    say(f"done: {outcome.summary}")
    for line in outcome.verdict:
        say(line)
    say(f"report:  {outcome.folder / 'report.html'} (open it in a browser)")
    say(f"best:    {outcome.folder / 'best.yaml'}")
    say(f"runs:    rem-study ui {outcome.folder} (MLflow, on loopback)")
    for view, link in outcome.views.items():
        say(f"         {view}: {link}")


@main.command()
@study_options
@click.option("--address", required=True, metavar="http://HEAD:8265", help="Of the cluster's dashboard.")
@click.option(
    "--root",
    default="/shared/runs",
    show_default=True,
    metavar="DIR",
    help="Where studies' folders lie on the cluster; every node must see it. A path or a URL.",
)
@name_option
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
        raise InputError(f"{study}: the study is running already, as job {job}. Follow it: {command_line()} --follow")
    try:  # from here on the job is there, whenever Ctrl-C comes
        say(f"{'submitted' if submitted.new else 'running already'}: job {job} on {cluster.address}", err=True)
        if not follow:
            say(f"to look:     {commands}", err=True)
            return
        failure = cluster.follow(job, lambda text: say(text, nl=False, keep="\n\r\t"))
    except KeyboardInterrupt:
        say(f"\nno longer followed; the job goes on.\nto look:     {commands}", err=True)
        sys.exit(1)
    if failure:
        say(f"error: job {job} {failure}", err=True)
        sys.exit(1)


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
        say(line)


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
        say(text)
        return
    check_output(output, force)
    output.write_text(text + "\n", encoding="utf-8")
    say(output)


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
        say(finding)
    if wrong:
        say(f"{wrong} of these would stop a launch", err=True)
        sys.exit(1)


@main.command()
@study_options
@root_option
@name_option
@click.option("--measure", is_flag=True, help="Time 5 seconds of training, compiled as the study asks, not half a one.")
def check(study: Path, overrides: tuple[str, ...], root: Folder, name: str | None, measure: bool) -> None:
    """Validate the study file STUDY; print its cells, trials, originals and a cost estimate, and what a launch would
    find in its folder. Nothing is written.

    Example: rem-study check quickstart --set budget.trials=20
    """
    from rem_study.study.check import describe

    say(describe(study, overrides, root, name, measure))
