"""Methods and their hyperparameters: methods, show."""

from __future__ import annotations

import click

from rem_study.cli.group import main
from rem_study.cli.options import complete_method
from rem_study.cli.terminal import say


@main.command()
def methods() -> None:
    """List the methods.

    Example: rem-study methods
    """
    from rem_study.spec import load_space
    from rem_study.spec.space import known_methods

    for name in known_methods():
        say(f"{name:16} {load_space(name).summary}")


@main.command()
@click.argument("method", shell_complete=complete_method)
def show(method: str) -> None:
    """Show a method's search space, defaults and sources.

    Example: rem-study show rem
    """
    from rem_study.spec import load_space

    space = load_space(method)
    say(f"{space.method}: {space.summary}\n{space.reference}\n")
    for name, parameter in space.parameters.items():
        fields = parameter.model_dump(exclude={"source", "type", "default", "search"}, exclude_defaults=True)
        told = ", ".join(f"{key} {value}" for key, value in fields.items())
        searched = "" if parameter.search else " (held at its default unless a study fixes it)"
        say(f"{name}: {parameter.type}, default {parameter.default}{searched}\n    {told}\n    {parameter.source}")
