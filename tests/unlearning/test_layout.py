"""Weights laid out channels-last, as they are on a GPU: every method works on them, with the results of others."""

from __future__ import annotations

import pytest
import torch
from doubles.quick_methods import configuration, known_methods

from rem_study.training.evaluation import predict_training
from rem_study.unlearning.run import unlearn


@pytest.mark.parametrize("method", known_methods())
def test_a_method_takes_weights_laid_out_channels_last(make_task, method):
    """To rounding, which training multiplies: at most one prediction in fifty differs."""
    healed = []
    for layout in (torch.contiguous_format, torch.channels_last):
        task = make_task()
        fresh = task.fresh_network
        task.network.to(memory_format=layout)
        task.fresh_network = lambda fresh=fresh, layout=layout: fresh().to(memory_format=layout)
        unlearned = unlearn(method, task, configuration(method, **({"epochs": 1} if method == "rem" else {})))
        healed.append(predict_training(unlearned.network, task.data, task.all_ids))
    assert (healed[0] == healed[1]).double().mean() >= 0.98
