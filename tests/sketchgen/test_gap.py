"""The gap: traits of shapes that are known, distances of samples that are known, pools of every kind of folder."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_manifests.strokes import draw_lines, rasterise
from sketchgen.banks import BankConfig, build_bank
from sketchgen.gap import TRAITS, Drawn, Measured, Pool, draw_both, measure, open_bank, open_folder, shared_classes
from sketchgen.gap.distance import Rows, differences, kernel_distance, told_apart
from sketchgen.gap.traits import skeleton, traits_of
from sketchgen.instructions import run_instructions
from sketchgen.run import run
from tests.datasets import write_lines
from tests.sketchgen.test_instructions import world
from tests.sketchgen.test_quickdraw import row
from tests.sketchgen.test_run import config, quiet

NAMES = [trait.name for trait in TRAITS]


def traits(*lines: np.ndarray, width: float = 3) -> dict[str, float]:
    return dict(zip(NAMES, traits_of(draw_lines([line.astype(float) for line in lines], 256, width)), strict=True))


def ray(degrees: float, half: float = 80, centre: tuple[float, float] = (128, 128)) -> np.ndarray:
    along = half * np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
    return np.stack([np.array(centre) - along, np.array(centre) + along])


def circle(radius: float, centre: tuple[float, float] = (128, 128)) -> np.ndarray:
    angles = np.linspace(0, 2 * math.pi, 400)
    return np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)


# --- traits


@pytest.mark.parametrize("degrees", [0, 10, 22.5, 30, 45, 77, 90])
@pytest.mark.parametrize("width", [3, 5, 8])
def test_a_line_has_its_width_its_length_two_ends_and_no_curvature(degrees: float, width: int) -> None:
    found = traits(ray(degrees), width=width)
    assert found["stroke width"] == pytest.approx(width, abs=1)
    assert found["stroke length"] == pytest.approx(160 / 256, rel=0.07)
    assert found["ink"] == pytest.approx(width * 160 / 256**2, rel=0.25)
    assert found["curvature"] < 0.7  # the stair of its pixels
    assert (found["components"], found["ends"], found["junctions"]) == (1, 2, 0)
    longer = max(abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees))))
    assert found["extent"] == pytest.approx((160 * longer + width) / 256, abs=0.02)


@pytest.mark.parametrize("radius", [20, 40, 80, 100])
def test_a_circle_turns_by_its_radius_and_has_no_end(radius: float) -> None:
    found = traits(circle(radius))
    assert found["curvature"] == pytest.approx(256 / radius, rel=0.06)
    assert found["stroke length"] == pytest.approx(2 * math.pi * radius / 256, rel=0.02)
    assert found["stroke width"] == pytest.approx(3, abs=0.4)
    assert (found["components"], found["ends"], found["junctions"]) == (1, 0, 0)


def test_a_square_turns_by_its_four_corners() -> None:
    corners = np.array([[50, 50], [200, 50], [200, 200], [50, 200], [50, 50]])
    assert traits(corners)["curvature"] == pytest.approx(2 * math.pi / (600 / 256), rel=0.05)


def test_strokes_apart_are_components_and_strokes_across_a_junction() -> None:
    apart = traits(ray(0, centre=(128, 60)), ray(0, centre=(128, 190)))
    assert (apart["components"], apart["ends"], apart["junctions"]) == (2, 4, 0)
    across = traits(ray(45), ray(135))
    assert (across["components"], across["ends"], across["junctions"]) == (1, 4, 1)
    for both in (apart, across):
        assert both["stroke length"] == pytest.approx(2 * 160 / 256, rel=0.07)
    assert across["curvature"] < 0.5  # two straight strokes, whatever lies at their crossing


def test_dust_is_no_component_and_a_dot_has_no_curvature() -> None:
    page = draw_lines([ray(0)], 256, 3)
    page[10, 10] = 0
    assert dict(zip(NAMES, traits_of(page), strict=True))["components"] == 1
    dot = np.full((256, 256), 255, np.uint8)
    cv2.circle(dot, (128, 128), 2, 0, -1)
    found = dict(zip(NAMES, traits_of(dot), strict=True))
    assert found["curvature"] == 0 and found["components"] == 1


@pytest.mark.parametrize("paper", [255, 200])
def test_a_blank_page_is_refused_with_what_was_seen(paper: int) -> None:
    with pytest.raises(ValueError, match=f"blank: its darkest pixel is {paper}, ink is darker than 128"):
        traits_of(np.full((256, 256), paper, np.uint8))


strokes = st.lists(
    st.lists(st.tuples(st.integers(0, 119), st.integers(0, 119)), min_size=2, max_size=6), min_size=1, max_size=4
)


@given(strokes, st.integers(0, 120), st.integers(0, 120), st.integers(1, 9))
@settings(max_examples=40)
def test_traits_do_not_depend_on_the_place(drawn: list, right: int, down: int, width: int) -> None:
    page = draw_lines([np.array(stroke, float) + 8 for stroke in drawn], 256, width)
    moved = np.full_like(page, 255)
    moved[down:, right:] = page[: 256 - down, : 256 - right]
    assert traits_of(moved) == pytest.approx(traits_of(page))


@given(strokes, st.integers(1, 12))
@settings(max_examples=40)
def test_traits_are_finite_and_the_skeleton_hangs_together_as_the_ink_does(drawn: list, width: int) -> None:
    page = draw_lines([np.array(stroke, float) + 60 for stroke in drawn], 256, width)
    found = traits_of(page)
    assert np.isfinite(found).all() and (found >= 0).all()
    ink = page < 128
    lines = skeleton(ink)
    assert not (lines & ~ink).any()
    # every piece keeps a pixel at least, and none falls apart
    pieces, labels = cv2.connectedComponents(ink.astype(np.uint8), connectivity=8)
    assert cv2.connectedComponents(lines.astype(np.uint8), connectivity=8)[0] == pieces
    assert set(np.unique(labels[lines])) == set(range(1, pieces))


# --- distances


def samples(seed: int, n: int = 200, shift: float = 0.0, width: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, width))


def rows(values: np.ndarray, classes: int = 1) -> Rows:
    return Rows(values, np.sort(np.arange(len(values)) % classes))


def test_a_shift_of_normal_samples_is_found_within_the_intervals() -> None:
    found, whole = differences(samples(1, 2000), samples(2, 2000, 0.8))
    for one in found:
        for estimate, true in ((one.mean_a, 0.0), (one.mean_b, 0.8), (one.d, 0.8), (one.wasserstein, 0.8)):
            assert estimate.low <= estimate.value <= estimate.high
            assert estimate.value == pytest.approx(true, abs=0.1)
        assert one.d.high - one.d.low == pytest.approx(2 * 1.96 * math.sqrt(2 / 2000), rel=0.25)
    assert whole.value == pytest.approx(np.mean([one.wasserstein.value for one in found]))


@given(st.integers(0, 1000), st.integers(20, 60), st.integers(20, 60))
@settings(max_examples=10)
def test_distances_are_symmetric_and_a_sample_is_at_none_from_itself(seed: int, n: int, m: int) -> None:
    a, b = samples(seed, n), samples(seed + 1, m, 0.5) ** 2
    there, back = differences(a, b)[0], differences(b, a)[0]
    for one, other in zip(there, back, strict=True):
        assert one.d.value == pytest.approx(-other.d.value)
        assert one.wasserstein.value == pytest.approx(other.wasserstein.value)
        assert one.mean_a.value == pytest.approx(other.mean_b.value)
    assert kernel_distance(rows(a), rows(b)).value == pytest.approx(kernel_distance(rows(b), rows(a)).value)
    assert told_apart(rows(a), rows(b)).value == pytest.approx(told_apart(rows(b), rows(a)).value)
    assert all(abs(one.d.value) < 1e-9 and one.wasserstein.value < 1e-9 for one in differences(a, a.copy())[0])


@given(st.integers(0, 100), st.floats(-20, 20), st.floats(0.1, 50))
@settings(max_examples=10)
def test_distances_in_spreads_do_not_depend_on_the_unit(seed: int, offset: float, scale: float) -> None:
    a, b = samples(seed, 40), samples(seed + 1, 40, 0.5)
    for one, other in zip(differences(a, b)[0], differences(a * scale + offset, b * scale + offset)[0], strict=True):
        assert other.d.value == pytest.approx(one.d.value, rel=1e-6, abs=1e-9)
        assert other.wasserstein.value == pytest.approx(one.wasserstein.value, rel=1e-6, abs=1e-9)


def test_what_never_varies_has_a_difference_without_a_spread_or_none() -> None:
    a, b = np.full((30, 1), 0.1), np.full((30, 1), 0.2)
    apart, same = differences(a, b)[0][0], differences(a, a.copy())[0][0]
    assert (
        apart.d.value == math.inf and apart.wasserstein.value == math.inf and apart.mean_b.value == pytest.approx(0.2)
    )
    assert same.d.value == 0 and same.wasserstein.value == 0


def test_the_wasserstein_distance_is_that_of_the_sorted_values() -> None:
    a, b = samples(5, 50, width=1), samples(6, 50, 0.3, width=1) ** 3
    spread = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    expected = np.abs(np.sort(a[:, 0]) - np.sort(b[:, 0])).mean() / spread
    assert differences(a, b)[0][0].wasserstein.value == pytest.approx(expected)


def test_the_kernel_distance_is_the_sum_over_pairs() -> None:
    a, b = samples(7, 12), samples(8, 9, 0.5)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / 3 + 1) ** 3

    inside = sum(np.mean([kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]) for x in (a, b))
    across = np.mean([kernel(x, y) for x in a for y in b])
    assert kernel_distance(rows(a), rows(b)).value == pytest.approx(inside - 2 * across)


def test_the_kernel_distance_is_unbiased_where_classes_differ_more_than_sides() -> None:
    """Of classes that are far apart, both sides alike: on average none, though each has only four of a class."""
    values = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        centres = np.repeat(rng.normal(0, 1, (10, 16)), 4, axis=0)
        a, b = (centres + rng.normal(0, 0.3, centres.shape) for _ in range(2))
        values.append(kernel_distance(Rows(a, np.repeat(np.arange(10), 4)), Rows(b, np.repeat(np.arange(10), 4))).value)
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(len(values))


def test_a_class_that_is_met_once_says_nothing() -> None:
    a, b = samples(1, 21), samples(2, 21, 0.5)
    classes = np.array([0] * 20 + [1])
    without = kernel_distance(rows(a[:20]), rows(b[:20])).value
    assert kernel_distance(Rows(a, classes), Rows(b, classes)).value == pytest.approx(without)
    assert math.isnan(kernel_distance(Rows(a[:2], np.array([0, 1])), Rows(b[:2], np.array([0, 1]))).value)


def test_a_probe_tells_what_can_be_told_and_no_more() -> None:
    alike = told_apart(rows(samples(1, 300)), rows(samples(2, 300)))
    assert alike.low - 0.02 < 0.5 < alike.high + 0.02
    far = told_apart(rows(samples(1, 300)), rows(samples(2, 300, 5.0)))
    assert far.value == 1.0
    some = told_apart(rows(samples(1, 2000, width=1)), rows(samples(2, 2000, 1.0, width=1)))
    assert some.value == pytest.approx(0.5 * (1 + math.erf(0.5 / math.sqrt(2))), abs=0.02)  # normal: d = 1


def test_a_probe_sees_a_style_through_classes_that_differ_more() -> None:
    rng = np.random.default_rng(3)
    classes = np.repeat(np.arange(10), 20)
    centres = rng.normal(0, 10, (10, 8))[classes]
    a, b = (centres + rng.normal(shift, 1, centres.shape) for shift in (0.0, 1.0))
    assert told_apart(Rows(a, classes), Rows(b, classes)).value > 0.85


def test_numbers_that_are_not_finite_are_refused() -> None:
    side = Measured(samples(1, 30, width=len(TRAITS)), ["cat"] * 30)
    broken = side.traits.copy()
    broken[3, 2] = np.nan
    with pytest.raises(ValueError, match="29 of 30 sketches have finite numbers"):
        measure(side, replace(side, traits=broken))


# --- pools


def hand(style: str, split: str = "val") -> Pool:
    return open_bank(f"shapeworld-{style}", BankConfig(split=split, styles=(style,)))  # type: ignore[arg-type]


def hand_drawn(a: Pool, b: Pool, number: int = 60, classes: tuple[str, ...] = ()) -> tuple[Drawn, Drawn]:
    return draw_both(a, b, shared_classes(a, b, classes, False), number, classes, 0)


def numbers(drawn: Drawn) -> Measured:
    return Measured(np.stack([traits_of(image) for image in drawn.images]), drawn.categories)


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    points = np.random.default_rng(seed).uniform(0, 100, (5, 2)).astype(np.float32)
    Image.fromarray(rasterise([points])).save(path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two classes of fifteen pictures."""
    for name in ("Dogs", "cup"):
        for number in range(15):
            picture(tmp_path / "pictures" / name / f"{number:02d}.png", number)
    return tmp_path / "pictures"


def test_styles_of_a_hand_are_apart_and_one_style_is_not_from_itself() -> None:
    apart = measure(*map(numbers, hand_drawn(hand("neat"), hand("marker"), 120)))
    assert (
        apart.apart.traits["stroke width"].wasserstein.low
        > 2
        > 1
        > apart.noise.traits["stroke width"].wasserstein.value
    )
    assert apart.apart.traits["stroke width"].d.low > 2 and apart.apart.shape_told.low > 0.9
    same = measure(*map(numbers, hand_drawn(hand("neat"), hand("neat"), 120)))
    assert same.apart.shape.value < 0.25 and same.apart.shape_told.value < 0.65
    assert all(abs(one.d.value) < 0.45 for one in same.apart.traits.values())


def test_both_sides_have_as_many_of_each_class_and_the_same_seed_the_same_sketches() -> None:
    a, b = hand_drawn(hand("neat"), hand("brush"), 61)
    assert a.counts() == b.counts() and sum(a.counts().values()) == 61
    assert set(a.counts().values()) == {4, 5} and len(a.counts()) == 15  # four of a class at least, so fewer classes
    again, _ = hand_drawn(hand("neat"), hand("brush"), 61)
    assert all((one == other).all() for one, other in zip(a.images, again.images, strict=True))
    one, other = hand_drawn(hand("neat"), hand("neat"))
    assert not any((x == y).all() for x, y in zip(one.images, other.images, strict=True))


def test_a_folder_of_pictures_is_read_by_class_whole_and_under_our_names(pictures: Path) -> None:
    pool = open_folder(str(pictures))
    assert set(pool.classes) == {"dog", "cup"}
    drawn, other = hand_drawn(pool, hand("neat"))
    assert drawn.counts() == other.counts() == {"cup": 15, "dog": 15} and not drawn.broken
    assert len({image.tobytes() for image in drawn.images[:15]}) == 15


def test_white_on_black_is_turned_and_counted(pictures: Path) -> None:
    for path in (pictures / "cup").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    drawn, _ = hand_drawn(open_folder(str(pictures)), hand("neat"))
    assert drawn.notes == {"the sketch is light on dark": 15}
    cups = [image for image, name in zip(drawn.images, drawn.categories, strict=True) if name == "cup"]
    assert all((image < 128).mean() < 0.2 for image in cups)


def test_what_cannot_be_read_or_draws_nothing_is_named_and_the_rest_is_taken(pictures: Path) -> None:
    (pictures / "cup" / "00.png").write_bytes(b"\x89PNG no")
    Image.new("L", (256, 256), 255).save(pictures / "cup" / "01.png")
    Image.new("L", (256, 256), 250).save(pictures / "Dogs" / "03.png")
    drawn, _ = hand_drawn(open_folder(str(pictures)), hand("neat"))
    assert drawn.counts() == {"cup": 13, "dog": 14}
    for name, what in (("cup/00.png", "no drawing that can be read"), ("cup/01.png", "draws nothing"), ("03", "blank")):
        assert sum(name in reason and what in reason for reason in drawn.broken) == 1
    assert len(drawn.broken) == 3


def test_pictures_without_classes_are_compared_as_they_are(tmp_path: Path) -> None:
    for number in range(25):
        picture(tmp_path / "loose" / f"{number}.png", number)
    pool = open_folder(str(tmp_path / "loose"))
    assert shared_classes(pool, hand("neat"), (), False) == []
    drawn, other = hand_drawn(pool, hand("neat"), 30)
    assert drawn.counts() == {"": 25} and len(other.images) == 30


def test_quick_draw_files_are_read_whatever_their_split(tmp_path: Path) -> None:
    write_lines(tmp_path / "dog.ndjson", [row(str(number)) for number in range(60)])
    drawn, other = hand_drawn(open_folder(str(tmp_path)), hand("neat"), 60)
    assert drawn.counts() == other.counts() and drawn.counts()["dog"] >= 55  # a seed may mean a line again
    kept = {BankConfig("quickdraw", root=str(tmp_path), split=split) for split in ("train", "val")}  # type: ignore[arg-type]
    assert all(build_bank(one).categories == ("dog",) for one in kept)


def test_shards_of_sketches_and_of_questions_are_read(coco_folder, tmp_path: Path) -> None:
    assert run(config(coco_folder(24), tmp_path / "sketches"), quiet()) == 0
    sketches = open_folder(str(tmp_path / "sketches"))
    one, other = draw_both(sketches, hand("neat"), [], 30, (), 0)
    assert one.counts() == {"ball": 24} and len(other.images) == 30  # of both splits, each once
    run_instructions(world(tmp_path / "questions"), quiet())
    drawn, other = hand_drawn(open_folder(str(tmp_path / "questions")), hand("neat"), 40)
    assert drawn.counts() == other.counts() and len(drawn.images) >= 20
    assert not drawn.broken
    with pytest.raises(ValueError, match="no output of `make sketches`"):  # no bank to train with
        build_bank(BankConfig("sketchvcl", root=str(tmp_path / "questions")))


def test_a_damaged_shard_is_named(coco_folder, tmp_path: Path) -> None:
    assert run(config(coco_folder(24), tmp_path / "out"), quiet()) == 0
    with (tmp_path / "out" / "000000.tar").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"000000\.tar is not as it was made"):
        open_folder(str(tmp_path / "out"))


def test_folders_that_hold_nothing_of_use_are_refused_with_what_is_expected(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty holds no sketches: shards .*, Quick, Draw! files .* or pictures"):
        open_folder(str(tmp_path / "empty"))
    (tmp_path / "empty" / "mixture.yaml").write_text("name: x")
    with pytest.raises(ValueError, match="is a mixture: name one of the folders in it"):
        open_folder(str(tmp_path / "empty"))
    shutil.copy(pictures / "cup" / "00.png", pictures)
    with pytest.raises(ValueError, match="1 pictures beside the folders of 2 classes"):
        open_folder(str(pictures))


def test_no_class_in_common_unknown_classes_and_too_few_sketches_are_refused(pictures: Path) -> None:
    shutil.rmtree(pictures / "cup")
    (pictures / "Dogs").rename(pictures / "zeppelin")
    pool = open_folder(str(pictures))
    with pytest.raises(
        ValueError, match="no class in common: .* has zeppelin, shapeworld-neat has apple, .*--unmatched"
    ):
        hand_drawn(pool, hand("neat"))
    assert shared_classes(pool, hand("neat"), (), True) == []
    with pytest.raises(ValueError, match="--classes: shapeworld-neat has no 'zebra', only apple"):
        shared_classes(hand("neat"), hand("brush"), ("zebra",), False)
    with pytest.raises(ValueError, match="15 sketches, at least 20 are needed"):
        draw_both(pool, hand("neat"), [], 40, (), 0)


def test_only_the_classes_that_are_named_are_drawn() -> None:
    a, b = hand_drawn(hand("neat"), hand("brush"), 40, ("dogs", "cup"))
    assert a.counts() == b.counts() == {"cup": 20, "dog": 20}
