"""A folder of images, a folder a class, as torchvision's `ImageFolder` has it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rem_study.data.decode import decoded
from rem_study.data.images import (
    AT_ONCE,
    HELD_OUT,
    Job,
    Listing,
    StoredPart,
    broken,
    checked_classes,
    held_out,
    reason,
)
from rem_study.spec import DataSpec
from rem_study.spec.yaml_file import one_line

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Those of torchvision, which takes seconds to be imported."""


@dataclass(frozen=True)
class _Found:
    """What a part's folder holds.

    Attributes:
        files: of images, in the order of `ImageFolder`.
        class_of: the class that each stands in.
        numbers: the place of each in `ImageFolder`, which counts what is left out here.
        empty: classes without an image.
        notes: what was left out.
    """

    files: list[Path]
    class_of: list[str]
    numbers: list[int]
    empty: list[str]
    notes: list[str]


def list_folder(root: Path, spec: DataSpec) -> Listing:
    """`root`/train/CLASS/ and a held-out part beside it (test, else val, ...).

    What an operating system or an editor left (`._0000.png`, `__MACOSX/`, `.ipynb_checkpoints/`) is no image. Ids count
    as `ImageFolder` does, which counts such a file too if its name ends like an image's.

    Raises:
        InputError: a folder or file is missing or broken.
    """
    if not (root / "train").is_dir():
        if (root / "train").exists():
            raise broken(root / "train", "is not a folder")
        there = sorted(entry.name for entry in root.iterdir() if entry.is_dir())[:8] if root.is_dir() else []
        told = f"; {root.name} has {', '.join(map(one_line, there))}" if there else ""
        raise broken(root / "train", f"is not a folder{told}")
    beside, notes = held_out(_held_out_folders(root), "the folder {}/")
    if (beside is None and not spec.as_is) or (root / "test").is_file():
        raise broken(root / "test", "is not a folder")
    train = _find(root / "train")
    notes = train.notes + notes
    if train.empty:
        raise broken(root / "train" / train.empty[0], "is a class without an image")
    classes = {name: index for index, name in enumerate(sorted(set(train.class_of)))}
    if not classes:
        raise broken(root / "train", "has no class folder with images: train/CLASS/*.png")
    train_part = _part(train, classes, spec)
    test_part = None
    if beside is not None:
        test = _find(root / beside)
        unknown = sorted({*test.class_of} - set(classes))
        if unknown:
            raise broken(root / beside / unknown[0], "is a class without training images")
        notes += test.notes
        if test.empty:
            notes.append(f"{beside}/ has no image of class {', '.join(map(one_line, test.empty))}")
        test_part = _part(test, classes, spec)
    shifted = train.numbers != list(range(len(train.numbers)))
    if shifted:
        notes.append("ids count as ImageFolder does, the files left out of train/ too")
    return Listing(
        train_part,
        test_part,
        checked_classes(train_part, test_part, spec, len(classes)),
        notes=tuple(notes),
        class_names=tuple(classes),
        train_files=tuple(path.relative_to(root / "train").as_posix() for path in train.files),
        train_numbers=tuple(train.numbers) if shifted else (),
    )


def folder_files(root: Path) -> list[Path]:
    """All that `list_folder` looks at: files, and folders, since a class may be empty. Raises OSError."""
    seen = []
    for name in ("train", *sorted(_held_out_folders(root))):
        for place, _, names in sorted(os.walk(root / name, followlinks=True)):
            seen += [Path(place), *(Path(place, file) for file in sorted(names))]
    return seen


def _held_out_folders(root: Path) -> set[str]:
    return {name for name in HELD_OUT if (root / name).is_dir()}


def _part(found: _Found, classes: dict[str, int], spec: DataSpec) -> StoredPart:
    def content(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise broken(path, error.strerror or reason(error)) from None

    def job(files: list[Path]) -> Job:
        return lambda: decoded(((str(path), content(path)) for path in files), spec)

    def jobs(files: list[Path]) -> Iterator[Job]:
        return (job(files[start : start + AT_ONCE]) for start in range(0, len(files), AT_ONCE))

    return StoredPart(
        labels=np.array([classes[name] for name in found.class_of], dtype=np.int64),
        count=len(found.files),
        jobs=lambda: jobs(found.files),
        sample=lambda count: jobs(found.files[:: max(1, len(found.files) // count)]),
    )


def _find(folder: Path) -> _Found:
    """As `ImageFolder` walks: classes by name, below each all folders by name, files by name; links are followed."""
    found = _Found([], [], [], [], [])
    left: Counter[str] = Counter()
    examples: dict[str, str] = {}
    number = 0

    def leave(what: str, name: str) -> None:
        left[what] += 1
        examples.setdefault(what, name)

    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        for entry in entries:
            if not entry.is_dir():
                leave("no image of a class", f"{folder.name}/{entry.name}")
                continue
            before = len(found.files)
            if _is_debris(entry.name):
                leave("the system's or an editor's", f"{folder.name}/{entry.name}/")
            for place, _, names in sorted(os.walk(entry.path, followlinks=True)):
                inner = Path(place).relative_to(folder)
                for name in sorted(names):
                    is_image = name.lower().endswith(IMAGE_ENDINGS)
                    if any(map(_is_debris, inner.parts)):
                        pass  # said of its folder
                    elif _is_debris(name):
                        leave("the system's or an editor's", f"{folder.name}/{inner}/{name}")
                    elif not is_image:
                        leave("no image by its ending", f"{folder.name}/{inner}/{name}")
                    else:
                        found.files.append(Path(place, name))
                        found.class_of.append(entry.name)
                        found.numbers.append(number)
                    number += is_image
            if len(found.files) == before and not _is_debris(entry.name):
                found.empty.append(entry.name)
    except OSError as error:
        raise broken(error.filename or folder, error.strerror or reason(error)) from None
    for what, count in left.items():
        more = f" and {count - 1} more" if count > 1 else ""
        found.notes.append(f"left out: {one_line(examples[what])}{more} ({what})")
    return found


def _is_debris(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "Thumbs.db", "desktop.ini")
