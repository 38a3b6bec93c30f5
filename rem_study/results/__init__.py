"""From the log's rows to tables, best.yaml and manifest: selection, intervals, health, importances.

It draws nothing and starts nothing: the same rows give the same tables on any machine.
"""

from rem_study.results.study_folder import LOG_FOLDER, artifacts, load_resolved

__all__ = ["LOG_FOLDER", "artifacts", "load_resolved"]
