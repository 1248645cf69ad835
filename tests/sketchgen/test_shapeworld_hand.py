"""Sketches of shapeworld as by hand: the same for ever, apart between splits, the held-out style only by name."""

from __future__ import annotations

import numpy as np
import pytest

from sketchgen.bank import SketchBank
from sketchgen.checks import ink_of
from sketchgen.shapeworld import CLASSES, HELD_OUT_STYLE, LOOKALIKES, TRAINING_STYLES, VERSION, HandBank
from sketchgen.shapeworld.dice import Dice
from sketchgen.shapeworld.hand import draw_by_hand
from sketchgen.shapeworld.outline import outline
from sketchgen.shapeworld.shapes import Part, rectangle, solid

STYLES = (*TRAINING_STYLES, HELD_OUT_STYLE)


def test_it_serves_the_protocol() -> None:
    bank: SketchBank = HandBank()
    assert bank.categories == CLASSES
    assert bank.lookalikes("dog") == LOOKALIKES["dog"]
    assert bank.lookalikes("nothing of this world") == ()
    drawing = bank.draw("dog", 123)
    assert drawing.sketch_id == "shapeworld-hand/train/dog/123"
    assert (drawing.category, drawing.source) == ("dog", "shapeworld-hand")
    assert drawing.generator == f"shapeworld-{VERSION}"
    assert drawing.image.shape == (256, 256)
    assert drawing.image.dtype == np.uint8


def test_a_sketch_depends_on_its_id_only() -> None:
    bank = HandBank()
    first = bank.draw("cup", 5)
    assert np.array_equal(HandBank("train").draw("cup", 5).image, first.image)
    for other in (bank.draw("cup", 6), HandBank("val").draw("cup", 5), bank.draw("vase", 5)):
        assert not np.array_equal(other.image, first.image)
        assert other.sketch_id != first.sketch_id


def test_no_sketch_of_one_split_is_in_the_other() -> None:
    drawn = [
        {HandBank(split).draw(category, seed).image.tobytes() for category in CLASSES[::4] for seed in range(40)}
        for split in ("train", "val")
    ]
    assert len(drawn[0]) == len(drawn[1]) == 40 * len(CLASSES[::4])
    assert not drawn[0] & drawn[1]


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_held_out_style_is_drawn_only_by_name(split: str) -> None:
    bank = HandBank(split)  # type: ignore[arg-type]
    assert {bank.draw("fish", seed).style for seed in range(200)} == set(TRAINING_STYLES)
    held_out = HandBank(split, (HELD_OUT_STYLE,))  # type: ignore[arg-type]
    assert {held_out.draw("fish", seed).style for seed in range(20)} == {HELD_OUT_STYLE}
    assert held_out.draw("fish", 1).sketch_id != bank.draw("fish", 1).sketch_id


@pytest.mark.parametrize("style", STYLES)
def test_ink_of_every_class_and_level(style: str) -> None:
    for category in CLASSES:
        for level in range(3):
            image = draw_by_hand(category, style, level, Dice("ink", level))
            assert 0.01 < ink_of(image) < 0.25, (category, level)
            assert image.min() < 64
            frame = np.concatenate([image[:4].ravel(), image[-4:].ravel(), image[:, :4].ravel(), image[:, -4:].ravel()])
            assert (frame == 255).all(), (category, level)


def test_each_level_adds_strokes() -> None:
    for category in CLASSES:
        ink = [
            np.mean([ink_of(draw_by_hand(category, "neat", level, Dice(n))) for n in range(6)]) for level in range(3)
        ]
        assert ink[0] < ink[2] * 1.1, category


def test_hidden_lines_are_left_out() -> None:
    def strokes(*parts: Part) -> int:
        return len(outline(parts, 0))

    below, above = rectangle(0, 0, 2, 2), rectangle(1, 1, 3, 3)
    assert strokes(solid(below)) == 1
    across = outline([solid(below), solid(above)], 0)
    assert [stroke.closed for stroke in across] == [False, True]  # the corner under the other square is not drawn
    merged = outline([solid(below, group=1), solid(above, group=1)], 0)
    assert [stroke.closed for stroke in merged] == [False, False]  # flowing together, neither shows inside
    assert strokes(solid(rectangle(1, 1, 2, 2)), solid(rectangle(0, 0, 3, 3))) == 1
    inside = np.concatenate([stroke.points for stroke in merged])
    assert not ((np.abs(inside) < 0.12).all(axis=1)).any()


def test_what_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="no class 'dragon'; it has apple, pear"):
        HandBank().draw("dragon", 0)
    with pytest.raises(ValueError, match="split is 'test'"):
        HandBank("test")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be some of"):
        HandBank(styles=("scribble",))
    with pytest.raises(ValueError, match="must be some of"):
        HandBank(styles=())
