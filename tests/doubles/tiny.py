"""A study so small that its originals train in a second: 240 digits, 12 corrupted, layers of 4 to 16 channels."""

from __future__ import annotations

from typing import Any

TINY: dict[str, Any] = {
    "name": "tiny",
    "data": {"image_size": 12, "train_samples": 240, "test_samples": 120},
    "model": {"width": 0.0625},
    "original": {"epochs": 30, "batch_size": 32, "lr": 0.05},
    "corruptions": [
        {"name": "random_label", "samples": 12},
        {"name": "interclass_confusion", "samples": 12},
        {"name": "poison", "samples": 12},
    ],
    "discovery_rates": [0.5, 1.0],
    "methods": ["finetune"],
}
