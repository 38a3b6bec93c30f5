"""A replicate as it is sent to MLflow."""

STUDY = "grid"
CELL = "random_label@0.3"


def row(trial=0, replicate=0, *, cell=CELL, state="complete", phase="search", **more):
    return {
        "study": STUDY,
        "dataset": "digits",
        "model": "resnet9",
        "corruption": cell.split("@")[0],
        "regularity": "low",
        "discovery_rate": float(cell.split("@")[1]),
        "cell": cell,
        "method": "rem",
        "trial": trial,
        "phase": phase,
        "replicate": replicate,
        "state": state,
        "config": {"lr": 0.01, "erase_mode": "drop", "sites": ["block1", "head"]},
        "healed": 0.8 + replicate / 100,
        "utility": 0.9,
        "score": float("nan"),
        "seconds": 3,
        "diverged": False,
        "mlflow_run_id": None,
        "error": None,
        "start_time": 1_000 + 100 * trial + 10 * replicate,
        "end_time": 1_009 + 100 * trial + 10 * replicate,
        **more,
    }
