"""What MLflow is told of a study besides its trials."""

from __future__ import annotations

from collections import Counter

from rem_study.spec import Study
from rem_study.tracking import About
from rem_study.version import __version__

_SHOWN = 3
"""Hyperparameters that MLflow's lists show beside the scores: more push them off the screen."""


def about(study: Study, basis: dict[str, str] | None) -> About:
    """Of `study`; `basis` are the fingerprints that its launches noted, None before the first."""
    shared = Counter(name for space in study.spaces.values() for name, one in space.parameters.items() if one.search)
    return About(
        tags={"rem_study.version": __version__},
        methods=list(study.spaces),
        hyperparameters=[name for name, _ in shared.most_common(_SHOWN)],
        data=study.spec.data.name,
        fingerprint=(basis or {}).get("data", ""),
    )
