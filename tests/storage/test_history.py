"""The log put together: each replicate once, what was trained, given up, and stood on."""

from rem_study.storage.history import read_history
from rem_study.storage.log import StudyLog, segments


def replicate(number: int, trial: int = 0, **more: object) -> dict[str, object]:
    place = {"cell": "poison@0.5", "method": "rem", "phase": "search"}
    return {
        "kind": "replicate",
        "state": "complete",
        "end_time": 2,
        **place,
        "trial": trial,
        "replicate": number,
        **more,
    }


def test_of_equal_replicates_the_first_counts_and_the_order_is_kept(tmp_path):
    log = StudyLog(tmp_path)
    for record in (replicate(1, score=0.1), replicate(0, score=0.2), replicate(1, score=0.3), replicate(0, trial=1)):
        log.append(record)
    rows = read_history(tmp_path).rows
    assert [(row["trial"], row["replicate"], row.get("score")) for row in rows] == [
        (0, 1, 0.1),
        (0, 0, 0.2),
        (1, 0, None),
    ]
    assert all("kind" not in row for row in rows)


def test_originals_given_up_trials_and_the_basis_are_told_apart(tmp_path):
    log = StudyLog(tmp_path)
    log.append({"kind": "basis", "content": {"data": "a"}})
    log.append({"kind": "original", "corruption": "poison", "replicate": 0})
    log.append(replicate(0))
    log.append({"kind": "pruned", "cell": "poison@0.5", "method": "rem", "phase": "search", "trial": 3})
    log.append({"kind": "basis", "content": {"data": "b"}})
    history = read_history(tmp_path)
    assert history.basis == {"data": "a"}  # what the first launch stood on
    assert [record["corruption"] for record in history.originals] == ["poison"]
    assert history.pruned == {("poison@0.5", "rem", "search", 3)}
    assert (len(history.rows), history.damaged) == (1, [])


def test_before_the_first_launch_there_is_nothing(tmp_path):
    history = read_history(tmp_path / "log")
    assert (history.rows, history.originals, history.basis, history.damaged) == ([], [], None, [])


def test_a_damaged_record_is_named_and_the_others_count(tmp_path):
    log = StudyLog(tmp_path)
    for number in range(3):
        log.append(replicate(number))
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes().replace(b'"replicate":1', b'"replicate":7'))
    history = read_history(tmp_path)
    assert [row["replicate"] for row in history.rows] == [0, 2]
    (line,) = history.damaged
    assert line.startswith(f"{segment}: line 2 is damaged")


def test_what_records_share_is_kept_once(tmp_path):
    """Of 100,000 rows it is a sixth of the memory."""
    log = StudyLog(tmp_path)
    for number in range(2):
        scores = {"score": 0.123, "score_oracle": 0.123, "utility_x_healed": 0.123, "healed": 0.5, "score_healed": 0.6}
        log.append(replicate(number, config={"erase_mode": "drop"}, **scores))
    one, other = read_history(tmp_path).rows
    assert one["config"]["erase_mode"] is other["config"]["erase_mode"] and one["cell"] is other["cell"]
    assert one["score"] is one["score_oracle"] is one["utility_x_healed"]
    assert (one["healed"], one["score_healed"]) == (0.5, 0.6)
