"""Run-length encodings equal those of pycocotools; scaling keeps shapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from sketchgen.instance import Instance, Mask
from sketchgen.segmentation import encode, read_mask, read_rle, rescale


@settings(max_examples=300)
@given(st.data())
def test_encoding_equals_pycocotools_on_the_full_image(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    h, w = data.draw(st.integers(1, height - y)), data.draw(st.integers(1, width - x))
    bits = data.draw(hnp.arrays(bool, (h, w)))
    full = np.zeros((height, width), np.uint8)
    full[y : y + h, x : x + w] = bits
    expected = coco_mask.encode(np.asfortranarray(full))
    assert encode(Mask(x, y, bits), width, height) == {
        "size": [height, width],
        "counts": expected["counts"].decode(),
    }


def test_scaling_moves_box_and_polygon_alike() -> None:
    square = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]
    scaled = rescale(Instance("1", "ball", (10, 10, 30, 30), [square]), (0.5, 2.0))
    assert scaled.box == (5, 20, 15, 60)
    mask = read_mask(scaled, 200, 50)
    assert (mask.x, mask.y, mask.bits.shape) == (5, 20, (40, 10))


@pytest.mark.parametrize("compressed", [True, False])
def test_scaling_a_run_length_encoding(compressed: bool) -> None:
    full = np.zeros((100, 80), np.uint8)
    full[20:60, 10:50] = 1
    code = coco_mask.encode(np.asfortranarray(full))
    rle = {"size": [100, 80], "counts": code["counts"].decode()}
    if not compressed:
        rle["counts"] = [10 * 100 + 20] + [40, 60] * 39 + [40, 8000 - (49 * 100 + 60)]
    scaled = rescale(Instance("1", "ball", (10, 20, 50, 60), rle), (0.5, 0.5))
    mask = read_mask(scaled, 50, 40)
    assert (mask.x, mask.y, mask.bits.shape) == (5, 10, (20, 20))
    assert mask.bits.all()


@pytest.mark.parametrize("junk", [None, [], "text", [[1.0, "a"]], {"size": [5, 5]}, {"counts": "x"}, [None]])
def test_scaling_junk_raises_nothing(junk: object) -> None:
    scaled = rescale(Instance("1", "ball", (0, 0, 5, 5), junk), (0.5, 0.5))
    assert read_mask(scaled, 10, 10).area == 0


CORNER = st.floats(-3, 24) | st.integers(-3, 24)
POLYGONS = st.lists(st.lists(CORNER, min_size=0, max_size=12) | st.just("no polygon"), max_size=3)
RUNS = st.lists(st.integers(0, 80), min_size=1, max_size=12)


@settings(max_examples=400)
@given(
    polygons=POLYGONS | RUNS.map(lambda runs: {"size": [16, 20], "counts": runs}),
    packed=st.booleans(),
    scale=st.sampled_from([(1.0, 1.0), (0.5, 0.5), (1.3, 1.25)]),
)
def test_what_a_sample_stores_of_a_mask_is_its_encoding(polygons, packed: bool, scale: tuple[float, float]) -> None:  # type: ignore[no-untyped-def]
    if isinstance(polygons, dict):
        polygons["counts"].append(320 - sum(polygons["counts"]))
        if packed and polygons["counts"][-1] >= 0:
            polygons["counts"] = coco_mask.frPyObjects(dict(polygons), 16, 20)["counts"].decode()
    height, width = round(16 * scale[1]), round(20 * scale[0])
    instance = rescale(Instance("1", "ball", (0, 0, 20, 16), polygons), scale)
    mask = read_mask(instance, height, width)
    assert read_rle(instance, height, width) == (encode(mask, width, height) if mask.area else None)
