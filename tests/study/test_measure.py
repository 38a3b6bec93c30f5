"""What `check` says of a study's cost, from some training."""

from __future__ import annotations

import re

import pytest
import torch
import yaml
from doubles.tiny import TINY

from rem_study.errors import InputError
from rem_study.study import cost
from rem_study.study.check import describe


@pytest.fixture
def told(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "MEASURED", 0.3)

    def tell(measured=True, **changes):
        file = tmp_path / "tiny.yaml"
        file.write_text(yaml.safe_dump(TINY | changes))
        return describe(file, measure=measured)

    return tell


@pytest.mark.parametrize(("measured", "seconds"), [(True, 0.3), (False, cost.GLIMPSED)])
def test_the_cost_is_what_the_passes_take_at_the_measured_rate(told, monkeypatch, measured, seconds):
    monkeypatch.setattr(
        cost, "images_per_second", lambda setting, asked, batch_size, compile="none": 1000.0 * asked / seconds
    )
    found = re.search(r"cost .* (\S+) (s|min|h) here, (\d+) trial.* (\d+) passes .* ([\d,]+) images/s", told(measured))
    assert found is not None
    time, unit, slots, passes, rate = found.groups()
    assert rate == "1,000"
    expected = cost.START + int(passes) * 240 / 1000 / int(slots)
    assert float(time) * {"s": 1, "min": 60, "h": 3600}[unit] == pytest.approx(expected, rel=0.1, abs=1)


def test_training_is_measured(told):
    assert float(re.search(r"the ([\d,]+) images/s of 0.3 s", told())[1].replace(",", "")) > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_study_for_a_gpu_is_not_measured_without_one(told):
    with pytest.raises(InputError, match=r"tiny\.yaml: resources\.gpus: --measure needs"):
        told(resources={"gpus": 1})
