"""Unlearning: what a method is given and gives back (`task`), how it is found (`run`), and what methods share.

The methods are `methods/<name>.py`, one each. None sees a clean label or a test image.
"""

from rem_study.unlearning.run import needed_original, unlearn
from rem_study.unlearning.task import Predict, Unlearned, UnlearningTask, frozen

__all__ = ["Predict", "Unlearned", "UnlearningTask", "frozen", "needed_original", "unlearn"]
