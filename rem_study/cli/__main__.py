"""`python -m rem_study.cli`, where the command is not on the path."""

from rem_study.cli import main

main()
