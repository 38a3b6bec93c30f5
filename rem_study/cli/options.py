"""Types of arguments, completion in a shell, and the options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from rem_study.storage import Folder, open_folder

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


def complete_method(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The methods that there are, for a shell that completes."""
    from rem_study.spec.space import known_methods

    return _beginning(incomplete, known_methods())


def study_options(command: Callable[..., None]) -> Callable[..., None]:
    """A study file, and changes to it."""
    command = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY.PATH=VALUE",
        help="Change a field of the study file.",
    )(command)
    return click.argument("study", type=_StudyType())(command)


root_option = click.option(
    "--root",
    type=FOLDER,
    default="runs",
    show_default=True,
    metavar="DIR",
    help="Where studies' folders lie: a path, or s3://BUCKET/PREFIX, gs://...",
)
name_option = click.option("--name", help="Of the study and its folder; default: the study file's.")
