"""What to run next (`plan`, `suggest`: Optuna) and where (`run`, `worker`: Ray Tune).

It writes nothing down: each result is handed to whoever called.
"""
