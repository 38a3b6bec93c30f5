"""Making a prepared set, once, whoever asks for it: written aside, then renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rem_study.data.gather import InMemory, PixelFile, Target, gather
from rem_study.data.images import Images, Listing, Part, StoredPart, Taken, as_images, check_shapes, kept
from rem_study.data.prepared import Damaged, Known, open_prepared, seal
from rem_study.shown import LiveLine
from rem_study.spec import DataSpec

Shape = tuple[int, ...]


def read_now(spec: DataSpec, listing: Listing) -> Images:
    """The images of `listing` in this process's own memory. Raises InputError."""
    targets = InMemory(), InMemory()
    _, fields = _gather(spec, listing, targets)
    images = targets[0].array()
    train = Part(images, labels_of(spec, "train", listing.train))
    test = Part(images[:0], np.empty(0, np.int64))
    if listing.test is not None:
        test = Part(targets[1].array(), labels_of(spec, "test", listing.test))
    return Images(**vars(as_images(train, test, None, listing.num_classes)) | fields)


def obtain(
    spec: DataSpec, place: Path, make_listing: Callable[[], Listing], thorough: bool = False
) -> tuple[Images, Known]:
    """The prepared set in the folder `place`; made now where it is not there, or damaged. Whoever asks for it meanwhile
    waits.

    Args:
        thorough: see `open_prepared`.

    Raises:
        InputError: see `Listing` and `gather`; or the set that is there does not do for a study.
        OSError: it cannot be written.
        Damaged: it is as soon as it is made.
    """
    with contextlib.suppress(Damaged):
        if found := open_prepared(place, spec, thorough):
            return found
    place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place):
        try:
            if found := open_prepared(place, spec, thorough):  # it has been made meanwhile
                return found
        except Damaged as damage:
            print(f"warning: {place}: is damaged and is made again ({damage})", file=sys.stderr, flush=True)
            _remove(place)
        _make(spec, place, make_listing())
        found = open_prepared(place, spec)
    if found is None:
        raise OSError(errno.ENOENT, "was removed as soon as it was made", str(place))
    return found


def _make(spec: DataSpec, place: Path, listing: Listing) -> None:
    aside = _beside(place)
    aside.mkdir()
    try:
        seal(aside, spec, _write(spec, aside, listing))
        with _another_was_faster():
            os.rename(aside, place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _remove(place: Path) -> None:
    """Take a damaged set away, before another is made: what is there afterwards is somebody's whole one, and stays."""
    aside = _beside(place)
    with contextlib.suppress(FileNotFoundError):  # another has done so
        os.rename(place, aside)
    shutil.rmtree(aside, ignore_errors=True)


def _beside(place: Path) -> Path:
    return place.with_name(f".{place.name}.{secrets.token_hex(8)}")


@contextmanager
def _another_was_faster() -> Iterator[None]:
    """Where a share knows no locks, two may make the same set; the first one to be renamed stays."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _write(spec: DataSpec, folder: Path, listing: Listing) -> dict[str, Any]:
    """Write the arrays; the fields of `Images` that are none."""
    labels = {"train": labels_of(spec, "train", listing.train), "test": np.empty(0, np.int64)}
    if listing.test is not None:
        labels["test"] = labels_of(spec, "test", listing.test)
    targets = [PixelFile(folder / f"{name}_images.npy", len(those)) for name, those in labels.items()]
    line = LiveLine("preparing images", listing.train.count + (listing.test.count if listing.test else 0))
    try:
        shape, fields = _gather(spec, listing, targets, line)
    finally:
        for target in targets:
            target.close()
        line.close()
    if listing.test is None:
        np.save(folder / "test_images.npy", np.empty((0, *shape), np.uint8))
    for name, those in labels.items():
        np.save(folder / f"{name}_labels.npy", those)
    return fields


def _gather(
    spec: DataSpec, listing: Listing, targets: Sequence[Target], line: LiveLine | None = None
) -> tuple[Shape, dict[str, Any]]:
    """Put both parts' images where they belong; the shape of a training image, and what `described` gives."""
    train = listing.train
    check_shapes(next(train.jobs())().images.shape[1:], None, spec)  # rather than after all are decoded
    shape, taken = gather(train, kept(spec, "train", train.count), targets[0], line)
    test_shape = None
    if (test := listing.test) is not None:
        test_shape, more = gather(test, kept(spec, "test", test.count), targets[1], line)
        taken.add(more)
    check_shapes(shape, test_shape, spec)
    return shape, described(spec, listing, taken, shape)


def described(spec: DataSpec, listing: Listing, taken: Taken, shape: Shape) -> dict[str, Any]:
    """The fields of `Images` that are no arrays, where training images have `shape` (C, H, W)."""
    places = kept(spec, "train", listing.train.count)
    files, numbers = (
        (those if places is None else [those[place] for place in places.tolist()] if those else ())
        for those in (listing.train_files, listing.train_numbers)
    )
    return {
        "num_classes": listing.num_classes,
        "notes": (*listing.notes, *taken.notes(shape[0])),
        "class_names": listing.class_names,
        "train_files": tuple(files),
        "train_numbers": tuple(numbers),
    }


def labels_of(spec: DataSpec, name: str, part: StoredPart) -> np.ndarray:
    """The labels of the images of the part `name` that the study takes, int64 (N,). Raises InputError."""
    places = kept(spec, name, part.count)
    return part.labels if places is None else part.labels[places.numpy()]


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """While this holds, no other process makes a set beside `place`; where the share has no locks, none is waited for.

    What killed processes have left of this set is removed.
    """
    descriptor = os.open(place.with_name(".prepare.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting: another process prepares images in {place.parent}", file=sys.stderr, flush=True)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left in place.parent.glob(f".{place.name}.*"):
                shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)
