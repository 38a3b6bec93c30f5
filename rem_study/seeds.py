"""Seeds derived from names, so that no two uses of randomness share a stream by accident."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive_seed(*parts: object) -> int:
    """A non-negative 63-bit seed that depends on every part (by its `repr`) and on their order."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*parts: object) -> torch.Generator:
    """A CPU generator seeded by `derive_seed(*parts)`; torch's global state is not touched."""
    return torch.Generator().manual_seed(derive_seed(*parts))


@contextmanager
def seeded(device: torch.device, *parts: object) -> Iterator[None]:
    """Seed torch's global state by `derive_seed(*parts)` and put it back afterwards: for what offers no generator
    of its own, a network's dropout."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(derive_seed(*parts))
        yield
