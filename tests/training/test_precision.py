"""Studies in bfloat16: every method runs, weights stay float32, and the same seed gives the same result."""

from __future__ import annotations

import pytest
import torch
from doubles.quick_methods import EAGER, configuration, known_methods

from rem_study.training.evaluation import given_label_accuracy
from rem_study.trial.originals import OriginalStore, Setting, train_original
from rem_study.trial.trial import Trial, cells_of, run_trial
from rem_study.unlearning.run import unlearn


@pytest.mark.parametrize("method", known_methods())
def test_a_method_unlearns_in_bfloat16_with_its_weights_in_float32(make_task, method):
    def healed(precision):
        task = make_task(precision=precision)
        wrong = given_label_accuracy(task.network, task.data, task.forget_ids)
        network = unlearn(method, task, configuration(method, **EAGER.get(method, {}))).network
        return network.state_dict(), wrong - given_label_accuracy(network, task.data, task.forget_ids)

    exact, let_go_exactly = healed("float32")
    state, let_go = healed("bfloat16")
    again, _ = healed("bfloat16")
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}
    assert all(torch.equal(state[name], again[name]) for name in state)
    assert state.keys() == exact.keys() and any(not torch.equal(state[name], exact[name]) for name in state)
    assert abs(let_go - let_go_exactly) <= 0.5  # of a small forget set: no method gives up, or wrecks the network


def test_an_original_in_bfloat16_is_another_one_and_memorises_as_well(make_spec):
    spec, halved = make_spec(), make_spec(precision="bfloat16")
    exact, setting = (Setting(one, one.corruptions[0], 0) for one in (spec, halved))
    assert setting.key() != exact.key()
    original, again, reference = train_original(setting), train_original(setting), train_original(exact)
    assert {value.dtype for value in original.state.values() if value.is_floating_point()} == {torch.float32}
    assert all(torch.equal(original.state[name], again.state[name]) for name in original.state)
    assert any(not torch.equal(original.state[name], reference.state[name]) for name in original.state)
    assert original.facts["memorised"] >= reference.facts["memorised"] - 0.1


def test_a_trial_is_evaluated_in_its_study_s_precision(make_spec, tmp_path, monkeypatch):
    spec = make_spec(precision="bfloat16")
    seen = []
    predictions = "rem_study.trial.trial.test_predictions"
    real = run_trial.__globals__["test_predictions"]
    monkeypatch.setattr(predictions, lambda *a: seen.append(torch.is_autocast_enabled("cpu")) or real(*a))
    trial = Trial(cells_of(spec)[0], "finetune", configuration("finetune"), 0)
    row = run_trial(spec, trial, OriginalStore(tmp_path))
    assert row["state"] == "complete" and row["utility_x_healed"] is not None
    assert seen == [True] and not torch.is_autocast_enabled("cpu")
