"""Colours in one word: what plainly has one is named, what has several is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchgen.colour import COLOURS, colour_of, named
from sketchgen.instance import Mask

PLAIN = {
    "black": (12, 10, 14), "white": (240, 240, 236), "grey": (128, 128, 130), "red": (200, 20, 25),
    "orange": (245, 140, 20), "brown": (110, 65, 30), "yellow": (250, 220, 30), "green": (40, 150, 50),
    "blue": (30, 70, 200), "purple": (120, 40, 160), "pink": (250, 130, 190),
}  # fmt: skip


def square(side: int = 40) -> Mask:
    return Mask(5, 7, np.ones((side, side), np.bool_))


@pytest.mark.parametrize("name", PLAIN)
def test_plain_colours_are_named(name: str) -> None:
    rgb = np.zeros((60, 60, 3), np.uint8)
    rgb[7:47, 5:45] = PLAIN[name]
    assert colour_of(rgb, square()) == name
    noise = np.random.default_rng(0).normal(0, 6, rgb.shape)
    assert colour_of(np.clip(rgb + noise, 0, 255).astype(np.uint8), square()) == name


def test_every_colour_has_an_example() -> None:
    assert set(PLAIN) == set(COLOURS)


def test_what_has_two_colours_has_none() -> None:
    rgb = np.zeros((60, 60, 3), np.uint8)
    rgb[:, :25], rgb[:, 25:] = PLAIN["red"], PLAIN["blue"]
    assert colour_of(rgb, square()) == ""


def test_only_what_the_mask_covers_is_looked_at() -> None:
    rgb = np.full((60, 60, 3), PLAIN["green"], np.uint8)
    bits = np.zeros((40, 40), np.bool_)
    bits[10:30, 10:30] = True
    rgb[17:37, 15:35] = PLAIN["yellow"]
    assert colour_of(rgb, Mask(5, 7, bits)) == "yellow"


def test_what_is_tiny_or_empty_has_none() -> None:
    rgb = np.full((60, 60, 3), PLAIN["green"], np.uint8)
    assert colour_of(rgb, square(4)) == ""
    assert colour_of(rgb, Mask(0, 0, np.zeros((0, 0), np.bool_))) == ""


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), max_size=20))
def test_every_pixel_has_one_of_the_names(pixels: list[tuple[int, int, int]]) -> None:
    found = named(np.array(pixels, np.uint8).reshape(-1, 3))
    assert found.shape == (len(pixels),)
    assert all(0 <= name < len(COLOURS) for name in found)


@given(
    corner=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    size=st.tuples(st.integers(1, 33), st.integers(1, 33)),
    reduced=st.sampled_from([1, 2, 4, 8]),
)
def test_a_smaller_photo_gives_the_same_colours(corner: tuple[int, int], size: tuple[int, int], reduced: int) -> None:
    rgb = np.full((63, 63, 3), PLAIN["blue"], np.uint8)
    mask = Mask(*corner, np.ones(size, np.bool_))
    rgb[mask.y : mask.y + size[0], mask.x : mask.x + size[1]] = PLAIN["red"]
    middle = reduced // 2
    small = np.pad(rgb, ((0, 8), (0, 8), (0, 0)))[middle::reduced, middle::reduced]
    small = small[: -(-63 // reduced), : -(-63 // reduced)]  # as a JPEG is reduced
    assert colour_of(small, mask, reduced) in ("red", "")
    if min(size) >= 6 * reduced:
        assert colour_of(small, mask, reduced) == "red"
