"""Counting: cases worked by hand, and scikit-learn."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, mean_absolute_error

from sketchlm.metrics import COUNTING, CountRow, count_row, figures

counts = st.tuples(st.integers(-1, 12), st.integers(0, 12))


def counted(pairs: list[tuple[int, int]]) -> dict[str, tuple[float, int]]:
    """Value and n of each figure, of pairs (said, truth)."""
    found = figures([count_row(*pair) for pair in pairs], COUNTING, [str(n) for n in range(len(pairs))], 10)
    return {name: (figure.value, figure.n) for name, figure in found.items()}


def test_by_hand() -> None:
    found = counted([(3, 3), (4, 3), (7, 3), (-1, 0), (0, 0)])
    assert found == {
        "exact": (pytest.approx(2 / 5), 5),
        "exact, present": (pytest.approx(1 / 3), 3),
        "within 1": (pytest.approx(3 / 5), 5),
        "MAE": (pytest.approx(5 / 4), 4),
        "unreadable": (pytest.approx(1 / 5), 5),
    }


def test_what_cannot_be_read_is_wrong_and_not_near_zero() -> None:
    assert count_row(-1, 0) == CountRow(exact=0, near=0, off=0, read=0, unread=1, present=0)
    assert count_row(0, 0) == CountRow(exact=1, near=1, off=0, read=1, unread=0, present=0)
    assert math.isnan(counted([(-1, 2)])["MAE"][0])


@given(st.lists(counts, min_size=1, max_size=30))
def test_scikit_learn_counts_the_same(pairs: list[tuple[int, int]]) -> None:
    found = counted(pairs)
    assert found["exact"][0] == pytest.approx(accuracy_score([t for _, t in pairs], [s for s, _ in pairs]))
    assert found["exact"][0] <= found["within 1"][0] <= 1 - found["unreadable"][0] + 1e-12
    read = [(said, truth) for said, truth in pairs if said >= 0]
    assert found["MAE"][1] == len(read)
    if read:
        assert found["MAE"][0] == pytest.approx(mean_absolute_error([t for _, t in read], [s for s, _ in read]))


def test_a_count_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="true count is -1"):
        count_row(3, -1)
