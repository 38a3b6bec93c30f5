"""Optuna and Ray Tune: which configuration is tried next, and where it runs."""
