"""What a worker is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from rem_study.spec import Configuration
from rem_study.storage import TrialKey


@dataclass(frozen=True)
class OriginalJob:
    """Train the original of one corruption and replicate."""

    corruption: str
    replicate: int


@dataclass(frozen=True)
class TrialJob:
    """Run one configuration in one cell on one replicate.

    Attributes:
        proposed_by: where the configuration comes from: `default`, a sampler's name, `poison@0.5` for a neighbour,
            `warm start: poison@0.5`; `selected` or `default` in the confirm phase; in the transfer phase the cell that
            it won.
    """

    cell: str
    method: str
    phase: str
    trial: int
    replicate: int
    configuration: Configuration = field(hash=False, compare=False)
    proposed_by: str = field(hash=False, compare=False)

    @property
    def trial_key(self) -> TrialKey:
        """The trial that this replicate belongs to."""
        return self.cell, self.method, self.phase, self.trial


Job = OriginalJob | TrialJob
