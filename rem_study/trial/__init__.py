"""One configuration in one cell, a pure function of its inputs; and the originals that trials share.

It runs in a notebook, on a bare GPU machine or in a worker alike: no Ray, no Optuna, no MLflow.
"""

from rem_study.trial.originals import Original, OriginalStore, Setting
from rem_study.trial.trial import Cell, Trial, cells_of, evaluate, identity, pose, run_trial

__all__ = [
    "Cell",
    "Original",
    "OriginalStore",
    "Setting",
    "Trial",
    "cells_of",
    "evaluate",
    "identity",
    "pose",
    "run_trial",
]
