"""What a person types: options in, lines and an exit status out.

Each command is a few lines here, and its work lies below. Heavy imports stay inside the commands that need them.
"""

from rem_study.cli import folders, healing, methods, studies  # noqa: F401  each brings its commands to `main`
from rem_study.cli.group import main

__all__ = ["main"]
