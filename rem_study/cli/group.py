"""The command that has all others, and what becomes of their errors."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

import click

from rem_study.cli.terminal import say
from rem_study.errors import ClusterError, InputError, StorageError, TrackingError, UnlearningError
from rem_study.version import __version__


class Commands(click.Group):
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
                say(f"error: {line}", err=True)
            ctx.exit(2)
        except (ClusterError, StorageError, TrackingError, UnlearningError) as error:
            say(f"error: {error}", err=True)
            ctx.exit(1)
        except BrokenPipeError as error:
            if not _reader_is_gone():
                click.echo(f"error: {error.filename or 'rem-study'}: {error.strerror or error}", err=True)
                ctx.exit(1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to write, nobody reads
            ctx.exit(0)
        except OSError as error:  # a full disk, a share or an object store out of reach
            say(f"error: {error.filename or 'rem-study'}: {error.strerror or error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            say("interrupted", err=True)
            ctx.exit(1)


def _reader_is_gone() -> bool:
    """Whether what this prints goes into a pipe that nobody reads any more (`rem-study methods | head -1`)."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):
        return False


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rem-study")
def main() -> None:
    """Hyperparameter studies of REM and its rivals over the plane of corrupted-data unlearning tasks."""
