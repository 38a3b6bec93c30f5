"""MLflow as a view of a study: the writer beside the driver, `sync` from the log, the UI, the model registry.

It is told what was selected and which files to attach, and never reads a study's tables itself.
"""

from rem_study.tracking.about import About
from rem_study.tracking.entries import outline
from rem_study.tracking.place import TrackingPlace, tracking_place
from rem_study.tracking.process import TrackingProcess
from rem_study.tracking.selections import Selection

__all__ = ["About", "Selection", "TrackingPlace", "TrackingProcess", "outline", "tracking_place"]
