"""What MLflow is told of a study besides its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_DIGEST = 12  # MLflow takes 36 characters, and shows them all


@dataclass(frozen=True)
class About:
    """What MLflow is told of a study besides its trials.

    Attributes:
        tags: of the study's run.
        methods: those that it compares.
        hyperparameters: those that the views show beside the scores.
        data: the data set's name; empty where it is not known.
        fingerprint: of the data set's content, in hex; empty where it is not known.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    methods: Sequence[str] = ()
    hyperparameters: Sequence[str] = ()
    data: str = ""
    fingerprint: str = ""

    @property
    def digest(self) -> str:
        """The data set's version, as MLflow shows it beside its name."""
        return self.fingerprint[:_DIGEST]
