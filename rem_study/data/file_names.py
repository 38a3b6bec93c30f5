"""Training images by the names of their files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

TRAIN = "train"


class FileNames:
    """Where each of `files`, relative to the training folder, stands in the training set."""

    def __init__(self, files: Sequence[str]) -> None:
        self.files = files
        self._places = {name: place for place, name in enumerate(files)}
        self._by_name: dict[str, list[int]] = defaultdict(list)
        for name, place in self._places.items():
            path = PurePosixPath(name)
            for known in {path.name, path.stem}:
                self._by_name[known].append(place)

    def __bool__(self) -> bool:
        return bool(self.files)

    def find(self, text: str) -> list[int]:
        """The places of the images that `text` may name: its path below the training folder; a path that leads through
        a folder `train`; or its name alone, with or without its ending."""
        path = PurePosixPath(text.replace("\\", "/"))
        name = path.as_posix()
        if name in self._places:
            return [self._places[name]]
        parts = path.parts
        for cut in range(len(parts) - 1):
            below = "/".join(parts[cut + 1 :])
            if parts[cut] == TRAIN and below in self._places:
                return [self._places[below]]
        return sorted(self._by_name.get(name, [])) if len(parts) == 1 else []
