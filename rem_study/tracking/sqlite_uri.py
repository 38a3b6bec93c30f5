"""A SQLite file as the URI that SQLAlchemy and MLflow take, whatever characters its path has.

They take what stands behind a `?` for options, and some parts of MLflow undo quotes where others do not. So a path with
such a character goes by another name: a link to its folder, in a temporary folder.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "sqlite:///"
_PLAIN = re.compile(r"[\w./@ ,+=~-]+")


@contextmanager
def plainly_named(database: Path) -> Iterator[Path]:
    """The database under a path of plain characters, which names it until this ends. Raises OSError."""
    if _PLAIN.fullmatch(str(database)):
        yield database
        return
    directory = None if _PLAIN.fullmatch(tempfile.gettempdir()) else "/tmp"
    with tempfile.TemporaryDirectory(prefix="rem-study-mlflow-", dir=directory) as place:
        link = Path(place) / "folder"
        link.symlink_to(database.parent, target_is_directory=True)
        yield link / database.name


def sqlite_uri(database: Path) -> str:
    """The URI of a database that is plainly named."""
    return _PREFIX + str(database)


def sqlite_file(uri: str) -> Path | None:
    """The database that a URI names, by its real path; None if it is no SQLite file's."""
    return Path(uri.removeprefix(_PREFIX).partition("?")[0]).resolve() if uri.startswith(_PREFIX) else None
