"""What the trials of one cell share, kept in the process that runs them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, MutableMapping

from torch import Tensor

Cache = MutableMapping[Hashable, object]


class CellCaches:
    """One cache a cell and replicate; those used longest ago are dropped where their tensors exceed `limit` bytes.

    Dropping costs time and changes no result. The cache handed out last is never dropped.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._caches: OrderedDict[Hashable, Cache] = OrderedDict()

    def of(self, key: Hashable) -> Cache:
        """The cache under `key`, which must say all that its contents depend on besides their own keys."""
        cache = self._caches.setdefault(key, {})
        self._caches.move_to_end(key)
        while len(self._caches) > 1 and sum(map(_size, self._caches.values())) > self._limit:
            self._caches.popitem(last=False)
        return cache


def _size(cache: Cache) -> int:
    return sum(tensor.nbytes for value in cache.values() for tensor in _tensors(value))


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
