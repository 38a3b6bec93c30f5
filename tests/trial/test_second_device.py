"""Trials on a second device (see second_device.py): the CPU's results, and steps that wait for nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.utils import backend_registration

from rem_study.spec.space import known_methods

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this PyTorch cannot be taught a device in Python",
)

SHORT = {"epochs": 2, "batch_size": 32, "lr": 0.05}
AUGMENTED = {"data": {"image_size": 12, "train_samples": 120, "test_samples": 60, "augment": True}}


def case(method: str, corruption: dict[str, Any] | None = None, study: Any = None, **configuration: Any) -> Any:
    corruption = corruption or {"name": "random_label"}
    study = AUGMENTED | {"original": SHORT, "corruptions": [{"samples": 12} | corruption]} | (study or {})
    return {"method": method, "study": study, "configuration": configuration}


def original(kind: str) -> Any:
    return {"original": SHORT | {"kind": kind}}


FEW = {"data": AUGMENTED["data"] | {"train_samples": 60, "test_samples": 20}, "original": SHORT | {"epochs": 1}}
PLAIN = {"data": AUGMENTED["data"] | {"augment": False}}
CASES = {method: case(method) for method in known_methods() if method != "etd_drop"} | {
    "acdc": case("acdc", steps=2),
    "potion": case("potion", steps=20),
    "etd_drop": case("etd_drop", study=original("etd")),
    **{f"rem {mode}": case("rem", {"name": "poison"}, erase_mode=mode, epochs=2)
       for mode in ("drop", "deactivate", "attenuate", "mean", "anneal")},
    "rem without augmentation": case("rem", study=PLAIN, epochs=2),
    "rem with everything": case("rem", {"name": "blended_trigger"}, epochs=2, mmd_weight=0.5, small_loss_weight=0.5,
                                max_grad_norm=1.0, final_lr=0.5, forget_mask="ideal", flush_loss="ascent",
                                trainable="new_and_norm"),
    "rem with own masks": case("rem", {"name": "interclass_confusion"}, epochs=2, forget_mask="own",
                               initialisation="random"),
    "rem on a network with example-tied dropout": case("rem", study=original("etd"), epochs=2, erase_mode="mean"),
    "rem on half the capacity": case("rem", study=original("half_capacity"), epochs=2),
    "rem on a ViT": case("rem", study={"model": {"name": "vit", "width": 0.1, "depth": 2, "patch_size": 4}}, epochs=2),
    "rem on a ResNet-18": case("rem", study={"model": {"name": "torchvision/resnet18"}, **FEW}, epochs=1),
    "semantic contamination": case("finetune", {"name": "semantic_contamination", "samples": 4, "clusters": 2},
                                  study={"data": AUGMENTED["data"] | {"train_samples": 240}}, epochs=1),
    "sap on a ViT": case("sap", study=PLAIN | {"model": {"name": "vit", "width": 0.1, "depth": 2, "patch_size": 4}}),
    "cuts on half the capacity": case("cuts", study=original("half_capacity"), epochs=2),
    "msg with Adam": case("msg", study={"original": SHORT | {"optimizer": "adam"}}, epochs=2),
    "Adam": case("finetune", study={"original": SHORT | {"optimizer": "adam"}}, epochs=1),
}  # fmt: skip
LITTLE = {"memory": 1000}
CASES |= {
    "images stay on the CPU: npo": case("npo") | LITTLE,
    "images stay on the CPU: rem with everything": CASES["rem with everything"] | LITTLE,
    "images stay on the CPU: sap": case("sap", {"name": "poison"}, study=PLAIN) | LITTLE,
    "images stay on the CPU: semantic contamination": CASES["semantic contamination"] | LITTLE,
}


DOUBLES = Path(__file__).parents[1] / "doubles"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cases = tmp_path_factory.mktemp("second device") / "cases.json"
    cases.write_text(json.dumps(CASES))
    script = DOUBLES / "second_device.py"
    done = subprocess.run([sys.executable, str(script), str(cases)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_a_trial_on_another_device_gives_the_results_of_the_cpu(outcomes, name):
    outcome = outcomes[name]
    assert "error" not in outcome, outcome["error"]
    assert outcome["cpu"]["state"] == "complete"
    assert outcome["second"] == outcome["cpu"]


@pytest.mark.parametrize("name", CASES)
def test_images_are_on_the_device_unless_they_take_more_than_their_share_of_its_memory(outcomes, name):
    assert outcomes[name]["images_on"] == ("cpu" if "memory" in CASES[name] else "second")


@pytest.mark.parametrize("name", CASES)
def test_no_step_waits_for_the_device(outcomes, name):
    """Waits are for decisions between epochs: whether losses are finite, what has been forgotten."""
    waits = outcomes[name]["waits"]
    assert any("loop.py:_require_finite" in wait for wait in waits)
    in_steps = [w for w in waits if "loop.py:train_epoch" in w and "loop.py:_require_finite" not in w]
    assert not in_steps


def test_waiting_in_a_step_is_noticed(tmp_path):
    """The two tests above can fail: mixed devices are an error, and what reads a value back is noted."""
    code = """
import torch, second_device as s
s._setup_privateuseone_for_python_backend("second")
def count(work):
    s.MACHINE.waits.clear()
    work()
    return len(s.MACHINE.waits)
with s.MACHINE:
    x, y = torch.arange(4.0).to("second"), torch.arange(4.0)
    assert x.device.type == "second" and torch.equal((x + 1).cpu(), y + 1)
    for work in (lambda: x.sum().item(), lambda: x.nonzero(), lambda: x[x > 1], lambda: y.to("second"),
                 lambda: x[torch.tensor([1])], lambda: x.cpu(), lambda: y.to("second", non_blocking=True)):
        assert count(work) == 1, work.__code__.co_firstlineno
    for work in (lambda: x * 2, lambda: x[1:], lambda: y.pin_memory().to("second", non_blocking=True)):
        assert count(work) == 0
    try:
        x + y
    except RuntimeError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=DOUBLES, capture_output=True, text=True)
    assert "on tensors of two devices" in done.stdout, done.stderr
