"""The line that says how far something long is."""

from __future__ import annotations

import sys

import pytest

from rem_study import shown
from rem_study.shown import LiveLine


@pytest.mark.parametrize("terminal", [True, False])
def test_what_takes_longer_than_two_seconds_is_shown_with_its_pace(capsys, monkeypatch, terminal):
    now = [100.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    line = LiveLine("preparing images", 1000)
    for _ in range(10):
        line.count(10)  # ten a second, after the first
        now[0] += 1
    line.close()
    told = capsys.readouterr().err
    assert "preparing images: 30 of 1,000 · 10/s · about 97 s left" in told
    assert told.endswith("preparing images: 100 of 1,000 in 10 s\n")
    assert ("\r" in told, told.count("left")) == ((True, 8) if terminal else (False, 1))


def test_what_is_quick_is_not(capsys):
    line = LiveLine("preparing images", 10)
    line.count(10)
    line.close()
    assert capsys.readouterr().err == ""
