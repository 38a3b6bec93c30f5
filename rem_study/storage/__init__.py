"""Where studies lie: folders, object stores, and the append-only log that is the truth.

It knows records and bytes, and nothing of what they mean: no study file, no network, no Ray, no MLflow.
"""

from rem_study.storage.folder import Folder, ObjectPath, open_folder, write_atomically
from rem_study.storage.history import History, read_history
from rem_study.storage.log import StudyLog, locked
from rem_study.storage.rows import ResultKey, Row, TrialKey, trial_key

__all__ = [
    "Folder",
    "History",
    "ObjectPath",
    "ResultKey",
    "Row",
    "StudyLog",
    "TrialKey",
    "locked",
    "open_folder",
    "read_history",
    "trial_key",
    "write_atomically",
]
