"""`check --measure`: hours from a few seconds of training."""

from __future__ import annotations

import re

import pytest
import torch
import yaml
from doubles.tiny import TINY

from rem_study.errors import InputError
from rem_study.study import measure
from rem_study.study.check import describe


@pytest.fixture
def told(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "SECONDS", 0.2)

    def tell(measured=True, **changes):
        file = tmp_path / "tiny.yaml"
        file.write_text(yaml.safe_dump(TINY | changes))
        return describe(file, measure=measured)

    return tell


def test_hours_are_what_the_passes_take_at_the_measured_rate(told):
    found = told(methods=["rem"])
    passes = float(re.search(r"cost +(?:at most|about) (\d+) passes", found)[1])
    of_originals = 3 * 30 * float(re.search(r"originals +(?:at most )?(\d+)", found)[1]) / 3
    rate, low, high = map(float, re.search(r"measured +(\d+) images/s.*: (\S+) to (\S+) h", found).groups())
    per_pass = 240 / rate / 3600
    assert low == pytest.approx((of_originals + 2 * (passes - of_originals)) * per_pass, rel=0.1)
    assert high == pytest.approx((of_originals + 4 * (passes - of_originals)) * per_pass, rel=0.1)
    assert "measured" not in told(measured=False, methods=["rem"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_study_for_a_gpu_is_not_measured_without_one(told):
    with pytest.raises(InputError, match=r"tiny\.yaml: resources\.gpus: --measure needs"):
        told(resources={"gpus": 1})
