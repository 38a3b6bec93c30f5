"""What the commands print."""

from __future__ import annotations

import shlex
import shutil
import sys

import click

from rem_study.shown import shown
from rem_study.storage.credentials import redact


def say(text: object, err: bool = False, nl: bool = True, keep: str = "\n") -> None:
    """Print what may come from a file or a server: no character of it moves the cursor or renames the window."""
    click.echo(shown(str(text), keep), err=err, nl=nl)


def show_progress(line: str) -> None:
    """On a terminal, one line that is written over; nothing where output is kept."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}", err=True, nl=False)


def command_line() -> str:
    """What was typed, to be typed again, without passwords: a job's log keeps it."""
    return redact(shlex.join(["rem-study", *sys.argv[1:]]))
