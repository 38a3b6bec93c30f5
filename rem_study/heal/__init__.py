"""Somebody's own network healed with a configuration: from checkpoint, data and ids to checkpoint and report.

It knows no study in progress: of a study it reads best.yaml alone.
"""

from rem_study.heal.healing import Healing, heal, normalised_by

__all__ = ["Healing", "heal", "normalised_by"]
