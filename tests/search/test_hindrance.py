"""What holds trials up is told once it does, and taken back once it does not."""

from __future__ import annotations

from rem_study.search.hindrance import PAUSE, Hindrances


def test_trials_that_get_little_of_the_processor_are_told_of_once_there_are_a_few_and_taken_back():
    told: list[list[str]] = []
    now = [0.0]
    hindrances = Hindrances(told.append, lambda: now[0])
    for share in (0.31, 0.29, None, 0.30, 0.9):
        hindrances.finished(share)
    assert told == []  # too few
    hindrances.finished(0.32)
    assert len(told) == 1 and told[0][0].startswith("trials get 31% of a processor while they run (the last 5, median)")
    for _ in range(20):
        hindrances.finished(0.97)
    assert len(told) == 1  # looked at once a minute
    now[0] += PAUSE
    hindrances.finished(0.97)
    assert told[1:] == [[]]


def test_a_wait_for_room_is_told_beside_it_when_it_changes():
    told: list[list[str]] = []
    hindrances = Hindrances(told.append, lambda: 0.0)
    for _ in range(5):
        hindrances.finished(0.1)
    for why in ("no node", "no node", ""):
        hindrances.waits(why)
    assert [len(lines) for lines in told] == [1, 2, 1] and told[1][0] == "no node"
