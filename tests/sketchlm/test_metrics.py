"""Figures and their intervals: those of drawing images one by one, the same every time, right as often as they say."""

from __future__ import annotations

import math
import random
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from sketchlm.metrics import (
    Figure,
    Measure,
    Values,
    average,
    balanced_accuracy,
    bootstrap,
    difference,
    differences,
    figures,
    mean,
    ratio,
)

FIELDS = ("right", "small", "hits", "found")
MEASURES = {
    "right": average(FIELDS, "right"),
    "right of small": average(FIELDS, "right", "small"),
    "precision": ratio(FIELDS, "hits", "found"),
    "balanced": balanced_accuracy,
}


def random_rows(seed: int, count: int, images: int) -> tuple[Values, list[str]]:
    """Rows of FIELDS, and the image of each."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 4, count)
    rows = np.stack([rng.integers(0, 2, count), rng.integers(0, 2, count), rng.binomial(found, 0.5), found], 1)
    return rows.astype(np.float64), [f"image {n}" for n in rng.integers(0, images, count)]


def drawn_plainly(rows: Values, measure: Callable[[Values], float], groups: list[str], rounds: int) -> Figure:
    """As the definition has it: the rows of the drawn images one after the other, measured anew."""
    rng = np.random.default_rng(0)
    names = sorted(set(groups))
    members = [[place for place, group in enumerate(groups) if group == name] for name in names]
    drawn = []
    for _ in range(rounds):
        places = [place for image in rng.integers(0, len(names), len(names)) for place in members[image]]
        drawn.append(measure(rows[places]))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Figure(measure(rows), float(low), float(high), len(rows))


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40))
def test_balanced_accuracy_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    truth, said = [t for t, _ in pairs], [s for _, s in pairs]
    rows = np.array([[float(s == t), float(t)] for t, s in pairs])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn mentions classes that were said and never true
        assert balanced_accuracy(rows) == pytest.approx(balanced_accuracy_score(truth, said))


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("images", [1, 12, 200])
def test_intervals_are_those_of_drawing_images_one_by_one(name: str, images: int) -> None:
    rows, groups = random_rows(images, 150, images)
    plain = drawn_plainly(rows, MEASURES[name], groups, 200)
    for measure in (MEASURES[name], lambda some: MEASURES[name](some)):  # as sums, and as any function of rows
        found = bootstrap(rows, measure, groups, 200)
        assert (found.value, found.low, found.high) == pytest.approx((plain.value, plain.low, plain.high), abs=1e-12)


def test_figures_together_are_those_alone() -> None:
    rows, groups = random_rows(0, 120, 30)
    together = figures(rows, MEASURES, groups)
    assert together == {name: bootstrap(rows, measure, groups) for name, measure in MEASURES.items()}
    assert figures(rows, MEASURES, groups, seed=1) != together
    assert figures(rows, {}, groups) == {}


@given(st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_the_order_of_questions_is_nothing(shuffle: random.Random) -> None:
    rows, groups = random_rows(1, 60, 15)
    order = list(range(60))
    shuffle.shuffle(order)
    moved = figures(rows[order], MEASURES, [groups[place] for place in order], 50)
    for name, figure in figures(rows, MEASURES, groups, 50).items():
        assert (moved[name].value, moved[name].low, moved[name].high, moved[name].n) == pytest.approx(
            (figure.value, figure.low, figure.high, figure.n), abs=1e-12
        )


def test_n_counts_the_questions_that_enter() -> None:
    rows = [[1, 1, 0, 0], [0, 1, 2, 3], [1, 0, 0, 1], [1, 0, 0, 0]]
    found = figures(rows, MEASURES, ["a", "b", "c", "d"])
    assert [(figure.value, figure.n) for figure in found.values()] == [(0.75, 4), (0.5, 2), (0.5, 2), (0.75, 4)]


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


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of questions that are alike on an image: 95 % of intervals over images, and far fewer over questions."""
    rng = np.random.default_rng(0)
    over_images = over_questions = 0
    for _ in range(200):
        easy = rng.beta(1, 1, 60).repeat(5)  # half are answered, on average
        rows = (rng.random(300) < easy).astype(np.float64)[:, None]
        images = bootstrap(rows, mean, [str(n // 5) for n in range(300)], 300)
        questions = bootstrap(rows, mean, [str(n) for n in range(300)], 300)
        over_images += images.low <= 0.5 <= images.high
        over_questions += questions.low <= 0.5 <= questions.high
    assert 0.90 <= over_images / 200 <= 0.985
    assert over_questions / 200 < 0.90


def test_differences_of_pairs_are_narrower() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(400)
    groups = [str(n // 4) for n in range(400)]
    mine, theirs = [[float(h > 0.3)] for h in hard], [[float(h > 0.35)] for h in hard]
    one, gap = bootstrap(mine, mean, groups), differences(mine, theirs, {"": mean}, groups)[""]
    assert gap.value == pytest.approx(one.value - bootstrap(theirs, mean, groups).value)
    assert 0 < gap.low < gap.value < gap.high and gap.n == 400
    assert gap.high - gap.low < 0.7 * (one.high - one.low)
    rows = np.concatenate([mine, theirs], 1)
    assert gap == bootstrap(rows, difference(mean, 1), groups)
    plain = bootstrap(rows, lambda both: mean(both[:, :1]) - mean(both[:, 1:]), groups)
    assert (gap.low, gap.high) == pytest.approx((plain.low, plain.high), abs=1e-12)


@pytest.mark.parametrize("name", MEASURES)
def test_nothing_differs_from_itself(name: str) -> None:
    rows, groups = random_rows(2, 90, 20)
    gap = differences(rows, rows, {name: MEASURES[name]}, groups)[name]
    assert (gap.value, gap.low, gap.high) == (0, 0, 0)
    other, _ = random_rows(3, 90, 20)
    there, back = (differences(a, b, MEASURES, groups)[name] for a, b in ((rows, other), (other, rows)))
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low), abs=1e-12)


@pytest.mark.parametrize("measure", [mean, lambda rows: float(np.median(rows))])
def test_nothing_measured_is_no_number(measure: Measure) -> None:
    figure = bootstrap([], measure, [])
    assert figure.n == 0 and math.isnan(figure.value)


def test_a_measure_that_nothing_enters_is_no_number() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = figures([[1, 0, 0, 0]] * 3, MEASURES, ["a", "b", "c"])
    assert found["right"] == Figure(1, 1, 1, 3)
    for name in ("right of small", "precision"):
        assert found[name].n == 0 and math.isnan(found[name].value) and math.isnan(found[name].low)
    assert math.isnan(differences([[1, 0, 0, 0]], [[1, 1, 0, 0]], MEASURES, ["a"])["right of small"].value)


def test_draws_without_a_small_object_are_left_out() -> None:
    found = figures([[1, 1, 0, 0], *[[0, 0, 0, 0]] * 9], MEASURES, [str(n) for n in range(10)])["right of small"]
    assert found == Figure(1, 1, 1, 1)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rows and 1 groups: name the image of each row"):
        bootstrap([[1.0], [0.0]], mean, ["a"])
    with pytest.raises(ValueError, match=r"row 1 is \[nan\]: where a score does not apply, leave the row out"):
        bootstrap([[1.0], [math.nan]], mean, ["a", "b"])
    with pytest.raises(ValueError, match=r"rows are of shape \(2,\), must be \[n, k\]"):
        bootstrap([1.0, 0.0], mean, ["a", "b"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"rows are \(1, 1\) and \(1, 2\): compare two models on one task"):
        differences([[1.0]], [[1.0, 0.0]], {"": mean}, ["a"])
    with pytest.raises(ValueError, match="2 rows and 1 groups"):
        differences([[1.0]], [[1.0], [0.0]], {"": mean}, ["a"])


def test_importing_metrics_loads_nothing_heavy() -> None:
    code = "import sys, sketchlm.metrics; print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "numpy" in done.stdout.split()
    assert not set(done.stdout.split()) & {"torch", "torchvision", "ray", "transformers", "sklearn", "pycocotools"}
