"""Scenes of shapeworld: the same for ever, exact masks, and fair: nothing but the sketch tells what is asked."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchgen.checks import mask_box
from sketchgen.shapeworld import CLASSES, LOOKALIKES, WorldConfig, check_world, contents, lay_out, make_scene
from sketchgen.shapeworld.dice import Dice
from sketchgen.shapeworld.layout import MIN_SIDE, SIZES, VISIBLE_SHARE, count_sets, cut_out, place
from tests.sketchgen import shapeworld_golden

WORLDS = st.builds(
    WorldConfig,
    side=st.sampled_from([64, 128, 256]),
    seed=st.integers(0, 2**40),
    split=st.sampled_from(["train", "val"]),
)
INDICES = st.integers(0, 10**7)


def test_golden_values() -> None:
    """If this fails on purpose: raise VERSION, and run `python -m tests.sketchgen.shapeworld_golden`."""
    assert shapeworld_golden.golden() == json.loads(shapeworld_golden.FILE.read_text())


def test_the_classes_and_their_lookalikes() -> None:
    assert 24 <= len(CLASSES) == len(set(CLASSES)) <= 28
    assert LOOKALIKES.keys() == set(CLASSES)
    for name, twins in LOOKALIKES.items():
        assert 2 <= len(twins) <= 4
        assert name not in twins
        assert all(name in LOOKALIKES[twin] for twin in twins)


def test_a_scene_depends_on_its_settings_and_index_only() -> None:
    config = WorldConfig()
    first = make_scene(config, 3)
    make_scene(config, 4)
    assert np.array_equal(make_scene(config, 3).rgb, first.rgb)
    assert np.array_equal(make_scene(WorldConfig(num_scenes=7), 3).rgb, first.rgb)
    others = [WorldConfig(seed=1), WorldConfig(split="val")]
    for other in [make_scene(o, 3) for o in others] + [make_scene(config, 4)]:
        assert not np.array_equal(other.rgb, first.rgb)
        assert [o.box for o in other.objects] != [o.box for o in first.objects]


@settings(max_examples=25, deadline=None)
@given(config=WORLDS, index=INDICES)
def test_masks_are_exact(config: WorldConfig, index: int) -> None:
    """Inside the scene, of one object each, large enough, and the boxes are theirs."""
    objects = lay_out(config, index)
    owned = np.zeros((config.side, config.side), int)
    for one in objects:
        assert one.box == mask_box(one.mask)
        x1, y1, x2, y2 = (int(value) for value in one.box)
        assert 0 <= x1 < x2 <= config.side and 0 <= y1 < y2 <= config.side
        assert min(x2 - x1, y2 - y1) >= MIN_SIDE * config.side
        assert one.mask.bits.shape == (y2 - y1, x2 - x1)
        owned[y1:y2, x1:x2] += one.mask.bits
    assert owned.max() == 1
    for placed, one in zip(place(config, index), objects, strict=True):
        assert one.mask.area >= VISIBLE_SHARE * placed.area


@settings(max_examples=10, deadline=None)
@given(config=WORLDS, index=INDICES)
def test_a_layout_is_what_the_scene_shows(config: WorldConfig, index: int) -> None:
    scene, objects = make_scene(config, index), lay_out(config, index)
    assert scene.rgb.shape == (config.side, config.side, 3)
    assert scene.rgb.dtype == np.uint8
    assert [o.category for o in scene.objects] == [o.category for o in objects]
    for painted, planned in zip(scene.objects, objects, strict=True):
        assert painted.box == planned.box
        assert np.array_equal(painted.mask.bits, planned.mask.bits)
    assert Counter(o.category for o in objects) == Counter(contents(config, index)[1])


def test_objects_are_painted_where_their_masks_are() -> None:
    """Without its objects the same ground shows: masked pixels differ from it, the others but by shadows."""
    config = WorldConfig(kinds=(0, 0, 1))
    for index in range(5):
        scene = make_scene(config, index)
        inside = np.zeros(scene.rgb.shape[:2], bool)
        for one in scene.objects:
            rows, cols = one.mask.bits.shape
            inside[one.mask.y : one.mask.y + rows, one.mask.x : one.mask.x + cols] |= one.mask.bits
        edges = np.abs(np.diff(scene.rgb.astype(int), axis=1)).sum(axis=2)
        border = inside[:, 1:] != inside[:, :-1]
        assert edges[border].mean() > 2 * edges[~border].mean()


def test_counts_are_fair_over_2000_scenes() -> None:
    """The table that docs/shapeworld.py prints, within three standard deviations or so."""
    config = WorldConfig()
    kinds: Counter[str] = Counter()
    numbers: Counter[int] = Counter()
    classes: Counter[str] = Counter()
    for index in range(2000):
        kind, categories = contents(config, index)
        kinds[kind] += 1
        counted = Counter(categories)
        classes.update(counted.keys())
        assert sum(counted.values()) <= 9
        if kind == "counts":
            assert len(counted) in (2, 3)
            assert len(set(counted.values())) == len(counted)  # who does not see the sketch has one chance in 2 or 3
            numbers.update(counted.values())
        else:
            assert set(counted.values()) == {1}
            assert len(counted) in (range(4, 8) if kind == "singles" else range(1, 4))
    assert [round(kinds[kind] / 2000, 1) for kind in ("counts", "singles", "simple")] == [0.5, 0.4, 0.1]
    assert set(numbers) == {1, 2, 3, 4, 5}
    assert max(abs(n / numbers.total() - 0.2) for n in numbers.values()) < 0.025
    mean = classes.total() / len(CLASSES)
    assert max(abs(n - mean) for n in classes.values()) < 4 * mean**0.5


def test_the_sets_of_counts_make_every_count_equally_likely() -> None:
    sets = count_sets()
    assert sum(p for _, p in sets) == pytest.approx(1, abs=1e-3)
    often = [sum(p for s, p in sets if n in s) for n in range(1, 6)]
    assert max(often) - min(often) < 1e-3
    assert sum(p for s, p in sets if len(s) == 2) == pytest.approx(0.2, abs=1e-3)
    assert all(p > 0 for _, p in sets)


@pytest.mark.parametrize(("most", "highest"), [(4, 2), (4, 3), (6, 3), (7, 5), (9, 4)])
def test_smaller_worlds_keep_to_their_limits(most: int, highest: int) -> None:
    config = WorldConfig(max_instances=most, max_count=highest)
    check_world(config)
    for index in range(300):
        kind, categories = contents(config, index)
        assert len(categories) <= most
        assert max(Counter(categories).values()) <= highest
        assert kind != "counts" or len(set(Counter(categories).values())) > 1


def test_every_class_has_the_same_sizes() -> None:
    """Size is drawn before the class matters: the box of a class at rest has the area that was asked for."""
    for category in CLASSES:
        for seed in range(5):
            one = cut_out(category, 60, Dice(seed))
            height, width = one.alpha.shape
            assert (height - 2) * (width - 2) == pytest.approx(60 * 60, rel=0.06)
    assert [low for _, low, _ in SIZES] == sorted((low for _, low, _ in SIZES), reverse=True)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (WorldConfig(side=32), "side is 32, must be from 64 to 512"),
        (WorldConfig(num_scenes=0), "num_scenes is 0"),
        (WorldConfig(max_instances=12), "max_instances is 12"),
        (WorldConfig(max_count=1), "max_count is 1"),
        (WorldConfig(split="test"), "split is 'test', must be train or val"),  # type: ignore[arg-type]
        (WorldConfig(kinds=(0, 0, 0)), "kinds"),
        (WorldConfig(kinds=(1, -1, 0)), "kinds"),
        (WorldConfig(kinds=(float("nan"), 1, 0)), "kinds"),
    ],
)
def test_settings_that_mean_no_world(config: WorldConfig, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_world(config)
