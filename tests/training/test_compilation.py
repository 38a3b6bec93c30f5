"""Compiled steps: one graph each, compiled once whatever the batch and the trial, with the results of plain ones."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from doubles.quick_methods import configuration, known_methods
from torch._dynamo.exc import Unsupported
from torch._dynamo.utils import counters

from rem_study.errors import InputError
from rem_study.models import resnet9
from rem_study.study.extension import differences
from rem_study.training import compilation
from rem_study.training.compilation import compile_seconds, compiled, compiling
from rem_study.trial.originals import OriginalStore, Setting, train_original
from rem_study.trial.trial import Trial, cells_of, run_trial
from rem_study.unlearning.run import unlearn

STEPLESS = {"sap"}
GRAPHS = {"acdc": 2, "scrub": 2, "ssd": 2, "potion": 2, "salun": 2, "msg": 2, "rem": 4}
"""Of a method, where it has more than one step, or one for fewer than 16 images, which PyTorch's CPU convolutions take
otherwise; REM: the flush, and step 3 on batches with no forget sample, one, and more."""

NUMBERS = ("alpha", "beta", "gamma", "temperature", "lr", "stop_accuracy", "max_grad_norm")


@pytest.fixture
def traced(monkeypatch):
    """Steps are traced by the compiler and then run as they are, so that a test waits for no machine code.

    CELU is PyTorch's own throughout, as it is in a graph: what is left is to be equal to the last bit.
    """
    monkeypatch.setattr(resnet9, "celu", partial(F.celu, alpha=resnet9.ALPHA))
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest would have all of it written
    monkeypatch.setitem(compilation.OPTIONS, "default", {"backend": "eager"})
    torch._dynamo.reset()
    counters.clear()
    yield counters
    torch._dynamo.reset()


def other_numbers(chosen):
    """The same configuration, but for everything in it that is no shape."""
    changed = {name: value * 0.9 for name, value in chosen.items() if name in NUMBERS or name.endswith("_weight")}
    return chosen | changed


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], value) for name, value in other.items())


def assert_compiled_once(make_task, method, graphs, traced, chosen):
    plain = unlearn(method, make_task(), chosen)
    own = unlearn(method, make_task(compile="default"), chosen)
    assert traced["stats"]["unique_graphs"] == graphs
    gc.collect()  # another trial's network is another object
    unlearn(method, make_task(compile="default", seed=8), other_numbers(chosen))
    assert traced["stats"]["unique_graphs"] == graphs
    assert not traced["graph_break"]
    assert own.sample_passes == plain.sample_passes
    assert same(own.network.state_dict(), plain.network.state_dict())


@pytest.mark.parametrize("method", [method for method in known_methods() if method not in STEPLESS])
def test_a_method_s_steps_are_compiled_once_for_all_batches_epochs_and_trials(make_task, traced, method):
    assert_compiled_once(make_task, method, GRAPHS.get(method, 1), traced, configuration(method))


MORE = {
    "npo with retained samples": ("npo", 1, {"retain_weight": 0.5}),
    "rem by its equations, fading": (
        "rem",
        4,
        {
            "flush_loss": "npo",
            "mmd_weight": 0.5,
            "small_loss_weight": 0.5,
            "erase_mode": "anneal",
            "epochs": 3,
            "anneal_share": 0.7,
        },
    ),
}


@pytest.mark.parametrize("case", MORE)
def test_what_a_configuration_asks_for_is_compiled_once_too(make_task, traced, case):
    method, graphs, changes = MORE[case]
    assert_compiled_once(make_task, method, graphs, traced, configuration(method, **changes))


@pytest.mark.parametrize("kind", ["standard", "etd", "half_capacity"])
def test_originals_of_all_replicates_and_corruptions_share_one_graph(make_spec, traced, kind):
    recipe = {"kind": kind, "epochs": 2, "batch_size": 64, "lr": 0.05}
    plain, spec = (make_spec(original=recipe, compile=mode) for mode in ("none", "default"))
    expected = train_original(Setting(plain, plain.corruptions[0], 0))
    found = train_original(Setting(spec, spec.corruptions[0], 0))
    train_original(Setting(spec, spec.corruptions[2], 1))
    assert traced["stats"]["unique_graphs"] == 1 and not traced["graph_break"]
    assert same(found.state, expected.state)


def test_what_would_break_a_graph_or_compile_anew_is_noticed(traced):
    """The tests above can fail: a decision by a value is an error, a number in a loss is a graph of its own."""
    x = torch.ones(20)
    with compiling("default"):
        with pytest.raises(Unsupported):
            compiled(lambda x: x.sum() if x.sum() > 0 else x.mean())(x)
        before = traced["stats"]["unique_graphs"]
        for size, factor in ((20, 2.0), (30, 2.0), (30, 3.0)):
            compiled(lambda x, factor=factor: x.sum() * factor)(torch.ones(size))
        assert traced["stats"]["unique_graphs"] == before + 2


def test_without_compile_a_step_is_itself_and_compiling_is_timed(traced):
    def step(x):
        return x.sum()

    assert compiled(step) is step
    before = compile_seconds()
    with compiling("none"):
        assert compiled(step) is step
    with compiling("default"):
        compiled(step)(torch.ones(20))
    assert compile_seconds() > before
    assert compiled(step) is step


def test_a_launch_that_compiles_nothing_does_not_wait_for_the_compiler():
    code = "import sys, rem_study.study.launch, rem_study.search.plan; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_compile_is_no_part_of_a_study_s_identity_nor_of_its_originals(make_spec):
    plain, spec = make_spec(), make_spec(compile="default")
    assert spec.identity() == plain.identity()
    assert not differences(plain, spec).forbidden and not differences(plain, spec).extending
    assert Setting(spec, spec.corruptions[0], 0).key() == Setting(plain, plain.corruptions[0], 0).key()


def test_graphs_need_a_gpu(make_spec):
    with pytest.raises(InputError, match=r"compile: graphs .*resources\.gpus"):
        make_spec(compile="graphs")
    assert make_spec(compile="graphs", resources={"gpus": 0.5}).compile == "graphs"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["finetune", "rem"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_trial_in_machine_code_gives_the_plain_one_s_scores(make_spec, tmp_path, monkeypatch, method, precision):
    """To rounding: one sample in 120 of the training set's accuracies, two in 60 of the test images' half."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "code"))
    torch._dynamo.reset()
    rows = {}
    for mode in ("none", "default"):
        spec = make_spec(compile=mode, precision=precision, original={"epochs": 5, "batch_size": 64, "lr": 0.05})
        trial = Trial(cells_of(spec)[0], method, configuration(method), 0)
        rows[mode] = run_trial(spec, trial, OriginalStore(tmp_path / "originals"))
    assert rows["default"]["state"] == "complete"
    for name in ("healed", "utility", "forget_accuracy", "retain_accuracy"):
        assert rows["default"][name] == pytest.approx(rows["none"][name], abs=2 / 60), name
    assert any((tmp_path / "code").rglob("*"))
