"""One launch that steps all parameters, as on a GPU: PyTorch's CPU has the same kernels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from doubles.quick_methods import configuration, known_methods

from rem_study.training import loop
from rem_study.unlearning.run import unlearn

OTHERWISE = {"acdc", "potion", "sap", "ssd"}  # methods whose steps are their own, or that take none
CASES = [(method, {}) for method in known_methods() if method not in OTHERWISE]
CASES += [("rem", {"optimizer": "adam"}), ("rem", {"momentum": 0.0})]


@pytest.mark.parametrize(("method", "recipe"), CASES)
def test_every_method_takes_its_steps_in_one_launch(make_task, monkeypatch, method, recipe):
    def run():
        task = make_task()
        task = replace(task, recipe=task.recipe.model_copy(update=recipe))
        return unlearn(method, task, configuration(method)).network.state_dict()

    plain, launches = run(), []
    monkeypatch.setattr(loop, "_one_launch", lambda parameters: launches.append(len(parameters)) or True)
    fused = run()
    assert launches
    for name, value in plain.items():
        assert torch.allclose(fused[name].float(), value.float(), rtol=1e-2, atol=1e-2), name
