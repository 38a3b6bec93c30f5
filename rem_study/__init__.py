"""A distributed hyperparameter study of REM and its rivals over the plane of corrupted-data unlearning tasks."""

__version__ = "0.1.0"
