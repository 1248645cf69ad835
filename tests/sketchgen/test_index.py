"""The index against a plain loop over the same rows: none is lost, and each has the reason that reading it gives."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sketchgen import index
from sketchgen.index import Index, IndexBuilder, images_of, open_index
from sketchgen.source import SourceImage

NUMBERS = st.sampled_from([-5.0, 0.0, 3.0, 10.0, 19.5, 20.0, 1e300, math.inf, -math.inf, math.nan])
Row = tuple[int, str, tuple[float, float, float, float], str]
"""(image, category id, box, the source's own reason)."""
ROWS = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from(["1", "2", "?"]), st.tuples(*[NUMBERS] * 4),
        st.sampled_from(["", "", "fake"]),
    ),
    max_size=30,
)  # fmt: skip
SIZES = [(20, 20), (0, 0), (10, 30), (20, 20)]


def build(folder: Path, rows: list[Row], relative: bool, at_once: bool) -> Index:
    with IndexBuilder(folder, relative) as builder:
        builder.category("1", "cat")
        builder.category("2", "a name that another gives way to")
        builder.category("2", "dog")
        for number, size in enumerate(SIZES):
            builder.image(f"i{number}", f"{number}.jpg", *size, "")
        if at_once:
            columns = dict(zip(("image_id", "category_id", "x1", "y1", "x2", "y2", "reason"), zip(*[
                (f"i{image}", category, *box, why) for image, category, box, why in rows
            ], strict=True), strict=True))  # fmt: skip
            builder.rows({name: index.pa.array(values) for name, values in columns.items()})
        else:
            for number, (image, category, box, why) in enumerate(rows):
                builder.row(f"i{image}", category, str(number), box, "", why)
        return builder.write(folder / "index.parquet", "mark")


def plain(rows: list[Row], relative: bool) -> list[list[tuple[str, str, str]]]:
    """(object id, category, reason) of the rows of each image."""
    found: list[list[tuple[str, str, str]]] = [[] for _ in SIZES]
    for image, (width, height) in enumerate(SIZES):
        width, height = (1, 1) if relative else (width, height)
        kept = set()
        for number, (owner, category, box, why) in enumerate(rows):
            if owner != image:
                continue
            name = {"1": "cat", "2": "dog"}.get(category, "")
            x1, y1, x2, y2 = box
            if not why and not name:
                why = "category-unknown"
            if not why and not all(map(math.isfinite, box)):
                why = "box-invalid"
            if not why and (x2 <= x1 or y2 <= y1):
                why = "box-empty"
            if not why and width and height and (x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0):
                why = "box-outside"
            if not why and (name, box) in kept:
                why = "duplicate"
            if not why:
                kept.add((name, box))
            found[image].append((str(number), name, why))
    return found


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, relative=st.booleans(), at_once=st.booleans(), group=st.sampled_from([1, 3, 100]))
def test_every_row_has_the_reason_that_a_plain_loop_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Row], relative: bool, at_once: bool, group: int
) -> None:
    monkeypatch.setattr(index, "IMAGES_A_GROUP", group)
    monkeypatch.setattr(index, "PENDING", 2)
    made = build(tmp_path, rows, relative, at_once and bool(rows))
    found: list[SourceImage] = [image for batch in made.batches() for image in images_of(batch)]
    assert [image.image_id for image in found] == [f"i{number}" for number in range(len(SIZES))]
    wanted = plain(rows, relative)
    for image, reference in zip(found, wanted, strict=True):
        seen = [(row.instance.object_id, row.instance.category, row.reason) for row in image.instances]
        if at_once and rows:  # numbered within their image
            reference = [(f"{image.image_id}/{n}", name, why) for n, (_, name, why) in enumerate(reference)]
        assert seen == reference
    boxes = [row.instance.box for image in found for row in image.instances]
    given_boxes = [box for image in range(len(SIZES)) for owner, _, box, _ in rows if owner == image]
    assert np.array_equal(np.array(boxes), np.array(given_boxes), equal_nan=True)
    assert made.reasons == Counter(why for reference in wanted for *_, why in reference)
    assert made.categories == ("cat", "dog")
    assert open_index(made.path) == made
