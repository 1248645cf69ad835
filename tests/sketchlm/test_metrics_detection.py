"""Boxes: torchvision's overlap and suppression, COCO's matching, and cases worked by hand."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from sketchlm.metrics import BOX, BOXES, BoxesRow, box_row, boxes_row, figures, iou, match, overlaps, suppress

Corners = tuple[float, float, float, float]
Found = list[tuple[Corners, float]]

side = st.floats(0.01, 1)
boxes = st.tuples(st.floats(0, 1), st.floats(0, 1), side, side).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))
small_int = st.integers(0, 12)
length = st.integers(1, 12)
pixels = st.tuples(small_int, small_int, length, length).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
found_boxes = st.lists(st.tuples(pixels, st.integers(0, 5).map(float)), max_size=8)
"""On a coarse grid and with few scores: overlaps of exactly 0.5 and ties are common."""
scenes = st.tuples(found_boxes, st.lists(pixels, max_size=5))


def row_of(found: Found, truth: list[Corners]) -> BoxesRow:
    return boxes_row([box for box, _ in found], [score for _, score in found], truth)


def values(rows: list[Any], measures: Any) -> dict[str, float]:
    return {n: f.value for n, f in figures(rows, measures, [str(k) for k in range(len(rows))], 2).items()}


@given(boxes, boxes)
def test_iou_is_torchvisions(a: Corners, b: Corners) -> None:
    theirs = float(box_iou(torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)))
    assert iou(a, b) == pytest.approx(theirs, abs=1e-12)
    assert iou(a, b) == pytest.approx(iou(b, a)) and iou(a, a) == pytest.approx(1)


@given(st.lists(st.floats(-2, 2), min_size=8, max_size=8))
def test_iou_takes_any_box(numbers: list[float]) -> None:
    assert 0 <= iou(numbers[:4], numbers[4:]) <= 1 + 1e-9


def test_iou_of_boxes_without_area() -> None:
    assert iou((0, 0, 0, 0), (0, 0, 1, 1)) == 0
    assert iou((0, 0, 1e-200, 1e-200), (0, 0, 1e-200, 1e-200)) == 0


@given(st.lists(st.lists(st.floats(-2, 2), min_size=4, max_size=4), max_size=4), st.lists(boxes, max_size=4))
def test_overlaps_are_those_of_each_pair(some: list[list[float]], others: list[Corners]) -> None:
    found = overlaps(some, others)
    assert found.shape == (len(some), len(others))
    assert found.tolist() == [[iou(a, b) for b in others] for a in some]


def test_one_box_by_hand() -> None:
    """Two of 100 x 100 side by side; the answer lies 20 px off the first: 8000 / 12000 = 0.667."""
    truth = [(0.0, 0.0, 100.0, 100.0), (300.0, 0.0, 400.0, 100.0)]
    row = box_row((20, 0, 120, 100), truth, own=1)
    assert (row.iou, row.acc, row.half) == (pytest.approx(2 / 3), 0.4, 1)  # 0.50, 0.55, 0.60, 0.65 of ten
    assert (row.own_iou, row.own_acc, row.own_half, row.own) == (0, 0, 0, 1)
    assert (row.small, row.medium, row.large, row.unread) == (0, 0, 1, 0)
    assert box_row((20, 0, 120, 100), truth, own=0).own_acc == 0.4
    unknown = box_row((20, 0, 120, 100), truth)
    assert (unknown.acc, unknown.own_acc, unknown.own) == (0.4, 0, 0)
    nothing = box_row(None, truth, own=0)
    assert (nothing.acc, nothing.half, nothing.own_half, nothing.unread) == (0, 0, 0, 1)


def test_half_is_enough() -> None:
    row = box_row((0, 0, 10, 5), [(0, 0, 10, 10)])
    assert (row.iou, row.half, row.acc) == (0.5, 1, 0.1)


@pytest.mark.parametrize(
    ("height", "size"), [(31, "small"), (32, "medium"), (287, "medium"), (288, "large"), (400, "large")]
)
def test_sizes_are_split_at_32_and_96_squared(height: int, size: str) -> None:
    row = box_row(None, [(0, 0, 32, height)])._asdict()
    assert [name for name in ("small", "medium", "large") if row[name]] == [size]


def test_the_size_is_that_of_the_sketchs_own_box_else_of_the_largest() -> None:
    truth = [(0, 0, 10, 10), (0, 0, 200, 200)]
    assert box_row((0, 0, 200, 200), truth, own=0).small == 1
    assert box_row((0, 0, 10, 10), truth).large == box_row(None, truth).large == 1


@given(pixels, st.lists(pixels, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_one_box_is_scored_whatever_the_order(found: Corners, truth: list[Corners], shuffle: Any) -> None:
    order = list(range(len(truth)))
    shuffle.shuffle(order)
    row, moved = box_row(found, truth, own=0), box_row(found, [truth[p] for p in order], own=order.index(0))
    assert row == moved
    assert 0 <= row.own_iou <= row.iou <= 1 and row.own_acc <= row.acc <= row.half <= 1
    assert row.acc == pytest.approx(np.mean([row.iou >= (50 + 5 * n) / 100 for n in range(10)]))
    assert row.small + row.medium + row.large == 1
    perfect = box_row(truth[0], truth, own=0)
    assert perfect.acc == perfect.half == perfect.own_acc == perfect.own_half == 1


def test_figures_of_one_box_are_of_the_questions_that_they_are_about() -> None:
    small, large = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 200.0, 200.0)
    rows = [box_row(small, [small], own=0), box_row(None, [small, small]), box_row(large, [large, small], own=1)]
    found = figures(rows, BOX, ["a", "b", "c"])
    shown = {name: (figure.value, figure.n) for name, figure in found.items()}
    assert shown["Acc"] == (pytest.approx(2 / 3), 3) and shown["Acc@0.5"] == (pytest.approx(2 / 3), 3)
    assert shown["Acc-S"] == (pytest.approx(2 / 3), 3)  # the third is asked about a small one
    assert shown["Acc-M"][1] == shown["Acc-L"][1] == 0
    assert shown["own Acc"] == shown["own Acc@0.5"] == shown["own Acc-S"] == (0.5, 2)
    assert shown["unreadable"] == (pytest.approx(1 / 3), 3)


def test_questions_without_a_true_box_are_refused() -> None:
    with pytest.raises(ValueError, match="own is -1 of 0 true boxes"):
        box_row((0, 0, 1, 1), [])
    for own in (1, -2):
        with pytest.raises(ValueError, match=f"own is {own} of 1 true boxes"):
            box_row((0, 0, 1, 1), [(0, 0, 1, 1)], own=own)


def coco_says(images: list[tuple[Found, list[Corners]]]) -> COCOeval:
    """COCO's evaluation of one class at IoU 0.5, quietly."""

    def entry(number: int, image: int, box: Corners) -> dict[str, Any]:
        x1, y1, x2, y2 = box
        area = (x2 - x1) * (y2 - y1)
        return {"id": number, "image_id": image, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area}

    truth = [(image, box) for image, (_, boxes) in enumerate(images) for box in boxes]
    found = [(image, box, score) for image, (some, _) in enumerate(images) for box, score in some]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(len(images))],
            "categories": [{"id": 1, "name": "thing"}],
            "annotations": [entry(n, image, box) | {"iscrowd": 0} for n, (image, box) in enumerate(truth, 1)],
        }
        coco.createIndex()
        results = [entry(0, image, box) | {"score": score} for image, box, score in found]
        judged = COCOeval(coco, coco.loadRes(results), "bbox")
        judged.params.iouThrs = np.array([0.5])
        judged.evaluate()
        judged.accumulate()
    return judged


@given(found_boxes.filter(len), st.lists(pixels, max_size=5))
@settings(max_examples=200)
def test_matches_are_cocos(found: Found, truth: list[Corners]) -> None:
    judged = next(entry for entry in coco_says([(found, truth)]).evalImgs if entry)  # all sizes come first
    theirs = {int(d) - 1: int(g) - 1 for d, g in zip(judged["dtIds"], judged["dtMatches"][0], strict=True)}
    mine = match([box for box, _ in found], [score for _, score in found], truth)
    assert dict(enumerate(mine.taken.tolist())) == theirs


@given(
    st.lists(scenes, min_size=1, max_size=5).filter(lambda some: any(f for f, _ in some) and any(t for _, t in some))
)
@settings(max_examples=50)
def test_precision_and_recall_are_cocos(images: list[tuple[Found, list[Corners]]]) -> None:
    judged = coco_says(images)
    every = judged.params.areaRng[0]
    matches = [entry["dtMatches"][0] for entry in judged.evalImgs if entry and entry["aRng"] == every]
    mine = values([row_of(*image) for image in images], BOXES)
    assert mine["precision"] == pytest.approx(np.mean(np.concatenate(matches) > 0))
    assert mine["recall"] == pytest.approx(judged.eval["recall"][0, 0, 0, -1])


def test_of_equal_scores_the_earlier_box_is_first() -> None:
    """Of many: short lists are sorted in order whatever the way."""
    truth: Corners = (0, 0, 10, 10)
    found = match([truth] * 100, [float(n % 3 == 1) for n in range(100)], [truth])
    assert found.taken.tolist() == [-1, 0] + [-1] * 98


def test_equal_overlaps_take_the_last_as_coco_does() -> None:
    assert match([(0, 0, 10, 10)], [1], [(0, 0, 10, 5), (0, 5, 10, 10)]).taken.tolist() == [1]


CROWD: list[Corners] = [(0, 0, 100, 100), (200, 0, 300, 100), (400, 0, 500, 100)]


def test_several_boxes_by_hand() -> None:
    found: Found = [
        ((0, 0, 100, 90), 0.9),  # a hit
        ((0, 0, 100, 100), 0.8),  # it again, and better: still the second
        ((200, 40, 300, 140), 0.7),  # 60 / 140 = 0.43: loose
        ((600, 0, 700, 100), 0.6),  # nothing there
        ((0, 10, 100, 100), 0.5),  # the first once more
        ((410, 0, 510, 100), 0.4),  # 90 / 110: a hit
    ]
    row = row_of(found, CROWD)
    assert (row.true, row.found, row.hits, row.duplicates, row.hallucinated) == (3, 6, 2, 2, 1)
    # both copies overlap the first by more than 0.5 and go
    assert (row.kept, row.kept_hits, row.kept_duplicates, row.kept_hallucinated) == (4, 2, 0, 1)
    mine = values([row], BOXES)
    assert mine["precision"] == pytest.approx(2 / 6) and mine["recall"] == pytest.approx(2 / 3)
    assert mine["F1"] == pytest.approx(2 * (1 / 3) * (2 / 3) / (1 / 3 + 2 / 3))
    assert mine["duplicates"] == pytest.approx(2 / 6) and mine["hallucinated"] == pytest.approx(1 / 6)
    assert mine["loose"] == pytest.approx(1 / 6) and mine["loose, suppressed"] == pytest.approx(1 / 4)
    assert mine["precision, suppressed"] == pytest.approx(2 / 4) and mine["duplicates, suppressed"] == 0
    assert mine["F1, suppressed"] == pytest.approx(2 * 2 / (4 + 3))


def test_suppression_costs_what_really_overlaps() -> None:
    """Two true boxes that overlap by 2 / 3: both are found, one is suppressed."""
    truth: list[Corners] = [(0, 0, 100, 100), (20, 0, 120, 100)]
    row = row_of([(truth[0], 2), (truth[1], 1)], truth)
    assert (row.hits, row.kept, row.kept_hits, row.duplicates) == (2, 1, 1, 0)
    mine = values([row], BOXES)
    assert (mine["precision"], mine["recall"], mine["F1"]) == (1, 1, 1)
    assert (mine["precision, suppressed"], mine["recall, suppressed"]) == (1, 0.5)
    assert boxes_row(truth, [2, 1], truth, threshold=0.7).kept_hits == 2


def test_a_class_that_is_absent_is_found_nowhere() -> None:
    assert row_of([(CROWD[0], 1)], []) == BoxesRow(0, 1, 0, 0, 1, 0.5, 1, 0, 0, 1, 0.5)
    assert row_of([], []) == BoxesRow(*[0] * 11)
    found = figures([row_of([(CROWD[0], 1)], []), row_of([], CROWD)], BOXES, ["a", "b"])
    assert (found["precision"].value, found["precision"].n, found["recall"].value, found["recall"].n) == (0, 1, 0, 1)


@given(scenes)
def test_figures_of_several_boxes_are_shares(scene: tuple[Found, list[Corners]]) -> None:
    row = row_of(*scene)
    assert row.hits <= min(row.true, row.found) and row.hits + row.duplicates + row.hallucinated <= row.found
    assert row.kept <= row.found and row.kept_hits <= min(row.true, row.kept)
    assert all(0 <= value <= 1 for value in values([row], BOXES).values() if not np.isnan(value))


@given(st.lists(st.tuples(pixels, st.integers(0, 10**6).map(float)), max_size=7, unique_by=lambda f: f[1]), st.data())
def test_several_boxes_are_scored_whatever_the_order(found: Found, data: st.DataObject) -> None:
    truth = data.draw(st.lists(pixels, max_size=4))
    assert row_of(data.draw(st.permutations(found)), truth) == row_of(found, truth)


@given(st.lists(pixels, min_size=1, max_size=6))
def test_who_names_every_box_finds_all(truth: list[Corners]) -> None:
    row = row_of([(box, 1.0) for box in truth], truth)
    assert row.hits == row.true == row.found and row.duplicates == row.hallucinated == 0


@given(found_boxes.filter(len), st.integers(1, 6), st.data())
def test_a_duplicate_never_raises_precision(found: Found, columns: int, data: st.DataObject) -> None:
    """Of true boxes that are apart: one box cannot be two of them. Suppression takes the copy away again."""
    truth: list[Corners] = [(30.0 * n, 0, 30.0 * n + 12, 12) for n in range(columns)]
    box, score = data.draw(st.sampled_from(found))
    before, after = row_of(found, truth), row_of([*found, (box, score)], truth)
    assert after.hits == before.hits and after.found == before.found + 1
    assert after.duplicates >= before.duplicates
    assert values([after], BOXES)["precision"] <= values([before], BOXES)["precision"]
    assert after[-5:] == before[-5:]


def suppressed_plainly(boxes: list[Corners], scores: list[float], threshold: float) -> list[int]:
    kept: list[int] = []
    for place in sorted(range(len(boxes)), key=lambda p: -scores[p]):
        if all(iou(boxes[place], boxes[other]) <= threshold for other in kept):
            kept.append(place)
    return kept


@given(found_boxes, st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_suppression_is_the_plain_one(found: Found, threshold: float) -> None:
    boxes, scores = [box for box, _ in found], [score for _, score in found]
    assert suppress(boxes, scores, threshold) == suppressed_plainly(boxes, scores, threshold)


def test_what_are_no_boxes_is_refused() -> None:
    for bad in ([(0, 0, 1)], [(0, 0, float("nan"), 1)], [(0, 0, float("inf"), 1)], (0, 0, 1, 1)):
        with pytest.raises(ValueError, match="each needs four numbers, x1, y1, x2, y2"):
            match(bad, [1], [(0, 0, 1, 1)])
        with pytest.raises(ValueError, match="each needs four numbers"):
            boxes_row(CROWD, [1, 2, 3], bad)
    for scores in ([], [1, 2], [float("nan")]):
        with pytest.raises(ValueError, match="1 numbers are needed, one for each"):
            suppress([(0, 0, 1, 1)], scores)
        with pytest.raises(ValueError, match="1 numbers are needed"):
            match([(0, 0, 1, 1)], scores, [])
