"""The same from Python: a study's folder opened, one trial or one cell run in this process.

What it hands to users is listed in `rem_study.__all__`; the command line has its own way to all of it.
"""
