"""Where studies lie: a folder of a disk or mount, or a prefix of an object store; files appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar
from urllib.parse import unquote, urlsplit

from rem_study.errors import InputError, StorageError

Result = TypeVar("Result")

CHECKSUMS = "SHA256SUMS"
"""The file of the tables' checksums in a study's folder, as coreutils' `sha256sum -c` reads it."""

CLIENTS = {"s3": "s3fs", "gs": "gcsfs", "memory": "fsspec"}
"""The object stores that a URL may name, and the package that speaks to each. `memory` is one process's own."""


class ObjectPath:
    """An object of a store that fsspec speaks to, or the prefix of some; what is used here of `pathlib.Path`.

    There are no folders to make, and an object is read and written whole. Whatever the store's client raises comes
    out as an OSError that names the object: clients have no common base for it.
    """

    def __init__(self, filesystem: Any, path: str, scheme: str) -> None:
        self.scheme = scheme
        self._filesystem = filesystem
        self._path = path

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self._filesystem, f"{self._path.rstrip('/')}/{name}", self.scheme)

    def __str__(self) -> str:
        return f"{self.scheme}://{self._path.lstrip('/')}"

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(self._path).name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return PurePosixPath(self._path).stem

    @property
    def parent(self) -> ObjectPath:
        """The prefix without the last part."""
        return ObjectPath(self._filesystem, self._path.rpartition("/")[0], self.scheme)

    def exists(self) -> bool:
        """Whether there is an object of this name, or any below it."""
        return self._kind() is not None

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether there are objects below this name."""
        return self._kind() == "directory"

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a prefix is there once an object below it is."""

    def iterdir(self) -> Iterator[ObjectPath]:
        """Objects and prefixes right below this name, in no order; none where there is nothing."""
        try:
            paths = self._ask(lambda: self._filesystem.ls(self._path, detail=False))
        except FileNotFoundError:
            return
        for path in paths:
            yield ObjectPath(self._filesystem, path.rstrip("/"), self.scheme)

    def read_bytes(self) -> bytes:
        """The object. Raises FileNotFoundError, OSError."""
        return bytes(self._ask(lambda: self._filesystem.cat_file(self._path)))

    def read_text(self, encoding: str | None = None) -> str:
        """The object as text, UTF-8 unless said otherwise."""
        return self.read_bytes().decode(encoding or "utf-8")

    def write_bytes(self, content: bytes) -> None:
        """Put the object, whole or not at all, in place of what stands there. Raises OSError."""
        self._ask(lambda: self._filesystem.pipe_file(self._path, content))

    def create(self, content: bytes) -> None:
        """Put the object if there is none of this name, as one step. Raises FileExistsError, OSError."""
        self._ask(lambda: self._filesystem.pipe_file(self._path, content, mode="create"))

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object. Raises FileNotFoundError, OSError."""
        try:
            self._ask(lambda: self._filesystem.rm_file(self._path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def _kind(self) -> str | None:
        try:
            return str(self._ask(lambda: self._filesystem.info(self._path))["type"])
        except FileNotFoundError:
            return None

    def _ask(self, call: Callable[[], Result]) -> Result:
        try:
            return call()
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self)) from None
        except FileExistsError:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self)) from None
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise OSError(getattr(error, "errno", None) or errno.EIO, reason, str(self)) from None


Folder = Path | ObjectPath
"""A study's folder, the root that holds several, or a file in one."""


def open_folder(place: str | Path) -> Folder:
    """What a path or a URL (`s3://`, `gs://`, `file://`) names; nothing is read. Raises InputError."""
    text = str(place)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text)
    if scheme == "file":
        if not rest.startswith("/"):
            raise InputError(f"{text}: must be file:/// and an absolute path")
        if "?" in rest or "#" in rest:
            raise InputError(f"{text}: ? and # must be written as %3F and %23 in a URL")
        return Path(unquote(urlsplit(text).path))
    if scheme not in CLIENTS:
        raise InputError(f"{text}: must be a path, or a URL that begins with s3://, gs:// or file://")
    if not rest.strip("/"):
        raise InputError(f"{text}: names no bucket")
    from fsspec.core import url_to_fs  # tenths of a second, which a path does not need

    try:
        # Without a cache of listings, which would hide what other processes write.
        filesystem, path = url_to_fs(text, use_listings_cache=False)
    except ImportError:
        raise InputError(f"{text}: needs the package {CLIENTS[scheme]}: pip install {CLIENTS[scheme]}") from None
    return ObjectPath(filesystem, path, scheme)


def address(folder: Folder) -> str:
    """What names `folder` in every process: its URL, or its absolute path."""
    return str(folder.resolve()) if isinstance(folder, Path) else str(folder)


def write_atomically(path: Folder, content: bytes | str) -> None:
    """Put `content` at `path`, whole or not at all, whenever the process or the machine stops."""
    data = content.encode() if isinstance(content, str) else content
    if isinstance(path, ObjectPath):
        path.write_bytes(data)
        return
    try:
        require_regular(path)
        with exclusive(path) as (partial, file):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, path)
    except OSError as error:
        error.filename = str(path)
        raise


def require_regular(path: Path) -> None:
    """Raise OSError where a file must not be put: a device or a pipe would be replaced by it. A link would, too, which
    is as it should be: what it leads to stays as it is."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))


def require_plain(folder: Folder, within: tuple[str, ...] = ("log",)) -> None:
    """Raise InputError where something in a study's folder, or in what is named `within` it, is neither a regular file
    nor a folder: what is written there must stay there, and a pipe or a device may be read without end."""
    if not isinstance(folder, Path):
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise InputError(f"{folder / entry.name}: is a link; nothing in a study's folder may be one")
            if not entry.is_file() and not entry.is_dir():
                raise InputError(f"{folder / entry.name}: is a pipe, a socket or a device; no study's folder has one")
            if entry.name in within and entry.is_dir():
                require_plain(folder / entry.name, ())


def read_regular(path: Folder) -> bytes:
    """The content of a file, which a pipe or a device is not: those may have no end. Raises OSError."""
    if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return path.read_bytes()


@contextmanager
def exclusive(beside: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new file beside `beside`, of a name that nobody can know before, never one that is there, never through a link;
    removed at the end unless it has been moved. Its permissions are those of any new file, or of the file `beside` if
    that is there. Raises OSError."""
    partial = beside.with_name(f".{beside.name[:100]}.{secrets.token_hex(8)}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        with open(descriptor, "wb") as file:
            with contextlib.suppress(OSError):
                there = os.lstat(beside).st_mode
                if stat.S_ISREG(there):
                    os.fchmod(descriptor, there & 0o777)
            yield partial, file
    finally:
        partial.unlink(missing_ok=True)


def remove_partial(folder: Path) -> None:
    """Remove what `exclusive` has left in `folder` where a launch was killed in it."""
    for name in os.listdir(folder):
        if re.fullmatch(r"\..+\.[0-9a-f]{16}\.partial", name):
            (folder / name).unlink(missing_ok=True)


def is_damaged(path: Folder) -> bool:
    """Whether the checksum of the file at `path` is another than the one its folder has for it, if any."""
    sums = path.parent / CHECKSUMS
    lines = sums.read_text().splitlines() if sums.is_file() else []
    known = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    return path.name in known and known[path.name] != hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def storage(folder: Folder) -> Iterator[None]:
    """Turn what the system says of a disk or a share into one line, which names the file or else `folder`.

    Raises:
        StorageError: for an OSError inside that has an error number and is none of a connection.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, ConnectionError):
            raise
        raise StorageError(f"{error.filename or folder}: {error.strerror or error}") from error


def make_writable(folder: Folder) -> None:
    """Create `folder` if need be and check that files can be written there. Raises InputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(folder, ObjectPath):
            probe = folder / f".writable.{secrets.token_hex(8)}"
            probe.write_bytes(b"")
            probe.unlink()
        else:
            with exclusive(folder / "writable"):
                pass
    except OSError as error:
        raise InputError(f"--root: {folder} cannot be written ({error.strerror or error})") from None


def copy_tree(source: Folder, destination: Folder) -> None:
    """Copy a file, or a folder with all below it; nothing where there is none."""
    if source.is_file():
        destination.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(destination, source.read_bytes())
    elif source.is_dir():
        children: Iterable[Folder] = source.iterdir()
        for child in children:
            copy_tree(child, destination / child.name)
