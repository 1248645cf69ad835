"""Metrics against those of others, and intervals that are the same every time."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from torchvision.ops import box_iou

from sketchlm.metrics import Figure, balanced_accuracy, bootstrap, iou, mean

side = st.floats(0.01, 1)
boxes = st.tuples(st.floats(0, 1), st.floats(0, 1), side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


@given(boxes, boxes)
def test_iou_is_torchvisions(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    theirs = float(box_iou(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)))
    assert iou(a, b) == pytest.approx(theirs, abs=1e-12)
    assert iou(a, b) == pytest.approx(iou(b, a)) and iou(a, a) == pytest.approx(1)


@given(st.lists(st.floats(-2, 2), min_size=8, max_size=8))
def test_iou_takes_any_box(numbers: list[float]) -> None:
    assert 0 <= iou(numbers[:4], numbers[4:]) <= 1 + 1e-9


def test_iou_of_boxes_without_area() -> None:
    assert iou((0, 0, 0, 0), (0, 0, 1, 1)) == 0
    assert iou((0, 0, 1e-200, 1e-200), (0, 0, 1e-200, 1e-200)) == 0


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_balanced_accuracy_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, said = [t for t, _ in pairs], [s for _, s in pairs]
    rows = np.array([[float(s == t), float(t)] for t, s in pairs])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn mentions classes that were said and never true
        assert balanced_accuracy(rows) == pytest.approx(balanced_accuracy_score(truth, said))


def test_an_interval_is_the_same_every_time_and_holds_the_value() -> None:
    rng = np.random.default_rng(0)
    rows = [[float(value)] for value in rng.integers(0, 2, 300)]
    groups = [str(n // 3) for n in range(300)]
    figure = bootstrap(rows, mean, groups)
    assert figure == bootstrap(rows, mean, groups) != bootstrap(rows, mean, groups, seed=1)
    assert figure.low < figure.value < figure.high and figure.n == 300
    # of independent halves: 1.96 * sqrt(0.25 / 300) = 0.057 to each side
    assert (figure.high - figure.low) / 2 == pytest.approx(0.057, abs=0.01)
    assert str(Figure(0.5, 0.4, 0.61, 9)) == "0.500 (0.400-0.610)"


def test_questions_on_one_image_are_drawn_together() -> None:
    rows = [[float(n // 10 % 2)] for n in range(100)]  # ten images of ten equal questions
    together = bootstrap(rows, mean, [str(n // 10) for n in range(100)])
    apart = bootstrap(rows, mean, [str(n) for n in range(100)])
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_nothing_measured_is_no_number() -> None:
    figure = bootstrap([], mean, [])
    assert figure.n == 0 and math.isnan(figure.value)
