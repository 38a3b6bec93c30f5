"""Labels that would make a network of any size are refused by name."""

import numpy as np
import pytest

from rem_study.data.labels import MOST_CLASSES, NoLabels, as_classes


@pytest.mark.parametrize(
    ("highest", "said"),
    [
        (np.int64(2**40), "row 1 has 1099511627776"),
        (np.uint64(2**63 + 1), "row 1 has 9223372036854775809"),
        (1e300, "row 1 has 1e"),
        ("9" * 5000, "a number of 5000 digits"),
        ("9" * 30, "a number of 30 digits"),
        ("100000", "row 1 has 100000"),
    ],
)
def test_a_class_without_end_is_named(highest, said):
    low = "0" if isinstance(highest, str) else type(highest)(0)
    with pytest.raises(NoLabels, match=said):
        as_classes(np.array([low, highest]))


def test_as_many_classes_as_anybody_has_are_taken():
    assert as_classes(np.array([0, MOST_CLASSES - 1])).classes.max() == MOST_CLASSES - 1
