"""The sites at which a trained network can be widened."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rem_study.errors import InputError


@dataclass(frozen=True)
class Site:
    """A place where new channels can be added, by the names of the modules around it.

    Attributes:
        name: what users call it, `conv1` say.
        producer: the convolution or linear layer that computes the channels.
        norm: the batch norm behind it, if any.
        consumers: the layers that read the channels.
        bypassed: layer norms between producer and consumers. They see the old channels only, which new ones would
            rescale otherwise; the new ones pass them untouched.
        gate: the module whose output the site's own channels are, where they can be switched one by one; None for a
            residual stream under layer norms, whose channels all depend on each other.
    """

    name: str
    producer: str
    norm: str | None
    consumers: tuple[str, ...]
    bypassed: tuple[str, ...] = ()
    gate: str | None = None


_THIRDS = {"early": (0, 1), "middle": (1, 2), "late": (2, 3), "early_middle": (0, 2), "middle_late": (1, 3)}


def select_sites(sites: tuple[Site, ...], position: str) -> tuple[Site, ...]:
    """The sites that a layer position names, from the input to the head.

    Args:
        position: `all`; a third or two of the depth (`early`, `middle`, `late`, `early_middle`, `middle_late`);
            a contiguous range by number from 1 (`2-4`, or `3` alone); or names joined by `+` (`conv1+res2`).

    Raises:
        InputError: nothing of the kind, or no such site.
    """
    count = len(sites)
    if position == "all":
        return sites
    if position in _THIRDS:
        first, last = _THIRDS[position]
        return sites[round(first * count / 3) : max(round(last * count / 3), round(first * count / 3) + 1)]
    if numbers := re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", position):
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if 1 <= first <= last <= count:
            return sites[first - 1 : last]
    else:
        wanted = set(position.split("+"))
        if wanted <= {site.name for site in sites}:
            return tuple(site for site in sites if site.name in wanted)
    names = ", ".join(site.name for site in sites)
    raise InputError(f"layer_position: {position!r} names no sites of this network; they are {names}")
