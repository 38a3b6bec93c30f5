"""Help and completion: every command says what it takes, with an example that it takes."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from rem_study.cli import main


def example(name: str) -> list[str]:
    text = CliRunner().invoke(main, [name, "--help"], terminal_width=200).output
    found = re.search(r"Example: rem-study (.*?)\n\n", text.replace("\\\n", ""), flags=re.DOTALL)
    assert found, text
    return shlex.split(found.group(1))


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_an_example_that_it_takes(name: str) -> None:
    words = example(name)
    assert words[0] == name
    command = main.commands[name]
    context = click.Context(command, info_name=name)
    command.make_parser(context).parse_args(words[1:])
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert given <= {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_option_is_explained(name: str) -> None:
    options = [one for one in main.commands[name].params if isinstance(one, click.Option)]
    silent = [one.name for one in options if not one.help and one.name not in ("seed", "device", "port", "method")]
    assert silent == []


@pytest.mark.parametrize(
    ("words", "incomplete", "expected"),
    [
        ([], "la", {"launch"}),
        (["show"], "sal", {"salun"}),
        (["launch"], "smo", {"smoke", "smo"}),  # itself: files
        (["register", "runs/x", "--method"], "np", {"npo"}),
        (["init"], "own", {"own-data"}),
    ],
)
def test_the_shell_completes(words: list[str], incomplete: str, expected: set[str]) -> None:
    shell = BashComplete(main, {}, "rem-study", "_REM_STUDY_COMPLETE")
    assert {item.value for item in shell.get_completions(words, incomplete)} == expected
