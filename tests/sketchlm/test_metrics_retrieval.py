"""Rankings: scikit-learn's average precision, cases worked by hand, and ties that nobody profits from."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from sketchlm.metrics import RETRIEVAL, RetrievalRow, average_precision, figures, retrieval_row

graded = st.lists(
    st.tuples(st.integers(0, 10**6), st.integers(0, 2)), min_size=1, max_size=40, unique_by=lambda g: g[0]
)
tied = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=6)


def row_of(gallery: list[tuple[int, int]], least: int = 1) -> RetrievalRow:
    return retrieval_row([float(score) for score, _ in gallery], [grade for _, grade in gallery], least)


def ranking(text: str) -> np.ndarray:
    """`10` is: the first is relevant, the second not."""
    return np.array([letter == "1" for letter in text])


def test_by_hand() -> None:
    row = row_of([(9, 0), (8, 1), (7, 1), (6, 0), (5, 0), (4, 1)])
    assert (row.hit_1, row.hit_5, row.hit_10) == (0, 1, 1)
    assert (row.precision_1, row.precision_5, row.precision_10) == (0, 0.4, 0.3)
    assert row.average_precision == row.average_precision_200 == pytest.approx((1 / 2 + 2 / 3 + 3 / 6) / 3)
    assert (row.tied, row.asked, row.empty) == (0, 1, 0)


@pytest.mark.parametrize(
    ("ranked", "k", "value"),
    [
        ("0110", 0, (1 / 2 + 2 / 3) / 2),
        ("0110", 2, (1 / 2) / 2),  # two could have been there
        ("0111", 2, (1 / 2) / 2),
        ("0111", 1, 0),
        ("1000", 3, 1),
        ("1011", 2, 1 / 2),
        ("1111", 2, 1),
        ("1111", 9, 1),
    ],
)
def test_average_precision_of_the_first_by_hand(ranked: str, k: int, value: float) -> None:
    assert average_precision(ranking(ranked), k) == pytest.approx(value)


@given(graded.filter(lambda gallery: any(grade for _, grade in gallery)))
def test_average_precision_is_scikit_learns(gallery: list[tuple[int, int]]) -> None:
    theirs = average_precision_score([grade >= 1 for _, grade in gallery], [score for score, _ in gallery])
    assert row_of(gallery).average_precision == pytest.approx(theirs)


@given(st.one_of(graded, tied), st.data())
def test_the_order_of_the_gallery_is_nothing(gallery: list[tuple[int, int]], data: st.DataObject) -> None:
    assert row_of(data.draw(st.permutations(gallery))) == row_of(gallery)


@given(st.one_of(graded, tied))
def test_only_the_order_of_scores_counts(gallery: list[tuple[int, int]]) -> None:
    row = row_of(gallery)
    assert row == row_of([(3 * score - 7, grade) for score, grade in gallery])
    assert all(0 <= value <= 1 for value in row)
    assert row.hit_1 <= row.hit_5 <= row.hit_10 and row.precision_1 == row.hit_1


@given(tied.filter(lambda gallery: any(grade for _, grade in gallery)))
def test_ties_are_broken_for_the_worst(gallery: list[tuple[int, int]]) -> None:
    """Of all orders that the scores allow none is worse."""
    orders = [
        [grade == 1 for _, grade in order]
        for order in permutations(gallery)
        if all(a[0] >= b[0] for a, b in pairwise(order))
    ]
    row = row_of(gallery)
    assert row.average_precision == min(average_precision(np.array(order)) for order in orders)
    assert row.hit_1 == min(order[0] for order in orders)
    relevant = [score for score, grade in gallery if grade]
    wrong = {score for score, grade in gallery if not grade}
    assert row.tied == pytest.approx(sum(score in wrong for score in relevant) / len(relevant))


def test_who_says_the_same_to_all_is_not_first() -> None:
    row = row_of([(1, 1), (1, 1), (1, 0)])
    assert (row.hit_1, row.hit_5, row.tied) == (0, 1, 1)


@given(st.integers(10, 30), st.integers(0, 30))
def test_the_best_order_reaches_one(right: int, wrong: int) -> None:
    row = row_of([(1000 - n, int(n < right)) for n in range(right + wrong)])
    assert row[:8] == (1,) * 8


def test_a_grade_says_how_near_is_near_enough() -> None:
    gallery = [(9, 1), (8, 2), (7, 0)]
    assert (row_of(gallery).hit_1, row_of(gallery, least=2).hit_1) == (1, 0)
    assert row_of(gallery, least=2).average_precision == 0.5


def test_queries_without_anything_relevant_are_counted_and_left_out() -> None:
    rows = [row_of([(2, 1), (1, 0)]), row_of([(2, 0), (1, 0)]), row_of([(2, 0), (1, 1)])]
    found = figures(rows, RETRIEVAL, ["a", "b", "c"])
    assert (found["hit@1"].value, found["hit@1"].n) == (0.5, 2)
    assert (found["mAP"].value, found["mAP"].n) == (0.75, 2)
    assert (found["excluded"].value, found["excluded"].n) == (pytest.approx(1 / 3), 3)
    assert row_of([(2, 1)], least=2) == rows[1]
    with pytest.raises(ValueError, match="nothing in the gallery is relevant"):
        average_precision(ranking("000"))


def test_200_is_counted_from_the_top() -> None:
    late = row_of([(1000 - n, int(n in (0, 250))) for n in range(300)])
    assert late.average_precision_200 == 0.5
    assert late.average_precision == pytest.approx((1 + 2 / 251) / 2)


def test_galleries_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="the gallery is empty"):
        retrieval_row([], [])
    with pytest.raises(ValueError, match=r"scores are \[0.5\]: 2 numbers are needed"):
        retrieval_row([0.5], [1, 0])
    with pytest.raises(ValueError, match="scores are"):
        retrieval_row([0.5, float("nan")], [1, 0])
