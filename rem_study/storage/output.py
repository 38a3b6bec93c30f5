"""Where a command's `-o` may write: a regular file or nothing, looked at before any work begins."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from rem_study.errors import InputError


def check_output(path: Path, force: bool, option: str = "--output", keep: Iterable[Path] = ()) -> None:
    """Raise InputError unless a file may be put at `path`: nothing is there, or with `force` a regular file.

    Links are refused, not followed: what they lead to is somebody else's to name. Args: `keep` are files that are never
    written over, those that the command reads.
    """
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"{option}: {path}: {folder} is no folder that can be written to")
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"{option}: {path}: {folder} is no folder that can be written to") from None
        return
    except (OSError, ValueError) as error:
        raise InputError(f"{option}: {path} cannot be written ({getattr(error, 'strerror', None) or error})") from None
    for source in keep:
        if source.exists() and path.exists() and path.samefile(source):
            raise InputError(f"{option}: {path} would overwrite {source}, which is read")
    if stat.S_ISLNK(mode):
        raise InputError(f"{option}: {path} is a link, which is not followed: name the file itself")
    if stat.S_ISDIR(mode):
        raise InputError(f"{option}: {path} is a folder")
    if not stat.S_ISREG(mode):
        raise InputError(f"{option}: {path} is no regular file")
    if not force:
        raise InputError(f"{option}: {path} is there already; --force writes over it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{option}: {path}: {folder} is no folder that can be written to")
