"""Boundary F-score and its classical rivals."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sketchgen.training.boundary import best_rival, canny, f_score, interval, match, thin, xdog
from sketchgen.training.openmoji import Pair, ink_lines


def row(position: int, side: int = 64) -> np.ndarray:
    lines = np.zeros((side, side), np.bool_)
    lines[position, 4:-4] = True
    return lines


def test_identical_lines_score_one() -> None:
    assert f_score(match(row(30), row(30))[None]) == pytest.approx(1.0)


@pytest.mark.parametrize(("shift", "wanted"), [(1, 1.0), (2, 1.0), (3, 0.0)])
def test_tolerance_is_two_pixels(shift: int, wanted: float) -> None:
    assert f_score(match(row(30), row(30 + shift))[None]) == pytest.approx(wanted)


def test_precision_and_recall_by_hand() -> None:
    drawn, truth = row(10) | row(40), row(10) | row(20) | row(30)
    right, total, found, true = match(drawn, truth)
    assert (right, total, found, true) == (56, 112, 56, 168)
    assert f_score(match(drawn, truth)[None]) == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))


def test_counts_are_pooled_over_pictures() -> None:
    counts = np.array([[10, 10, 10, 10], [0, 30, 0, 30]])
    assert f_score(counts) == pytest.approx(0.25)


@pytest.mark.parametrize(("drawn", "truth"), [(False, True), (True, False), (False, False)])
def test_blank_drawings_score_zero(drawn: bool, truth: bool) -> None:
    counts = match(row(10) & drawn, row(10) & truth)
    assert f_score(counts[None]) == 0.0


def test_thin_gives_back_the_lines_that_were_drawn() -> None:
    drawn = thin(ink_lines(row(30), width=4))
    assert drawn.sum() <= 64
    assert f_score(match(drawn, row(30))[None]) > 0.97


def test_interval_contains_the_mean_and_shrinks_with_more_pictures() -> None:
    values = np.random.default_rng(1).normal(5, 1, 400)
    low, high = interval(lambda picks: values[picks].mean(axis=1), 400)
    few_low, few_high = interval(lambda picks: values[picks % 25].mean(axis=1), 25)
    assert low < values.mean() < high
    assert high - low == pytest.approx(4 * 1 / 20, rel=0.2)
    assert few_high - few_low > 2 * (high - low)


def disc_pair() -> Pair:
    mask = np.zeros((96, 96), np.uint8)
    cv2.circle(mask, (48, 48), 30, 1, -1)
    rgb = np.where(mask[..., None] > 0, np.uint8(60), np.uint8(255)) * np.ones(3, np.uint8)
    lines = np.zeros((96, 96), np.uint8)
    cv2.circle(lines, (48, 48), 30, 1, 1)
    return Pair("disc", rgb, mask > 0, ink_lines(lines > 0, 2.4))


def test_rivals_find_the_border_of_a_disc() -> None:
    pair = disc_pair()
    for drawn in (canny(pair.rgb, 1.5, 120), xdog(pair.rgb, 0.8, 60, -0.5)):
        assert f_score(match(drawn, thin(pair.target))[None]) > 0.95


def test_best_rival_is_the_best_of_its_settings() -> None:
    settings = [
        ("blind", lambda rgb: np.zeros(rgb.shape[:2], np.bool_)),
        ("good", lambda rgb: canny(rgb, 1.5, 120)),
        ("all", lambda rgb: np.ones(rgb.shape[:2], np.bool_)),
    ]
    assert best_rival("Canny", settings, [disc_pair()]).name == "Canny (good)"
