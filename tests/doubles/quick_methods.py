"""Methods at settings that take a second on the tiny study."""

from __future__ import annotations

from rem_study.spec import space
from rem_study.spec.space import load_space
from rem_study.unlearning.run import needed_original

QUICK = {"epochs": 2, "passes": 20, "flush_limit": 4, "batch_size": 64}
"""Cheaper values for hyperparameters of these names, whatever the method."""

QUICK_OF = {
    "acdc": {"steps": 2, "inner": 3},
    "potion": {"steps": 100},
    "sap": {"trusted_samples": 150},  # there are 234 to trust, and more would mean all of them
}

EAGER = {
    "salun": {"lr": 0.1, "epochs": 4},
    "random_relabel": {"epochs": 4},
    "acdc": {"lr_ascent": 0.01, "inner": 8},
    "ssd": {"alpha": 10.0},
    "potion": {"start_share": 0.2, "stop_share": 0.0},
    "msg": {"reset_share": 0.95, "lr": 0.1},
}
"""What it takes to let go of a wrong label in a short run."""


def known_methods():
    """Those that work on any original."""
    return [method for method in space.known_methods() if needed_original(method) is None]


def configuration(method, **changes):
    own = load_space(method)
    quick = {name: value for name, value in QUICK.items() if name in own.parameters}
    return own.defaults | quick | QUICK_OF.get(method, {}) | changes
