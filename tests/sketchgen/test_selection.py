"""The selection: seeded, at most so many, only of what is clean, and balanced where that is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchgen.checks import Reject, clip_box
from sketchgen.index import batch_of
from sketchgen.instance import Instance
from sketchgen.selection import LEFT_OUT, SMALL, Selection, SelectionConfig, mark_small
from sketchgen.source import SourceImage, SourceInstance

Rows = list[tuple[str, str]]
"""(category, reason) of each row of an image."""


def batches_of(images: Sequence[Rows], size: int = 100) -> list[pa.RecordBatch]:
    made = [
        SourceImage(
            f"i{n}", f"{n}.jpg", 9, 9, "",
            tuple(SourceInstance(Instance(f"{n}/{k}", kind, (0, 0, 1, 1)), why) for k, (kind, why) in enumerate(rows)),
        )
        for n, rows in enumerate(images)
    ]  # fmt: skip
    return [batch_of(made[start : start + size]) for start in range(0, len(made), size)]


def select(images: Sequence[Rows], config: SelectionConfig, size: int = 100) -> list[list[str]]:
    """The reasons of the rows of each image."""
    batches = batches_of(images, size)
    selection = Selection(config, lambda: batches)
    found: list[str] = []
    for batch in batches:
        reasons, planned = selection.apply(batch)
        found += reasons.to_pylist()
        counts = [len(rows) for rows in batch["instances"].to_pylist()]
        ends = np.cumsum(counts)
        parts = [reasons.to_pylist()[end - count : end] for count, end in zip(counts, ends, strict=True)]
        assert planned.tolist() == ["" in part for part in parts]
    edges = np.cumsum([0, *(len(rows) for rows in images)])
    return [found[a:b] for a, b in pairwise(edges)]


IMAGES = st.lists(
    st.lists(st.tuples(st.sampled_from(["cat", "dog", "cup"]), st.sampled_from(["", "", "", "crowd"])), max_size=6),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(deadline=None, max_examples=80)
@given(
    images=IMAGES,
    config=st.builds(
        SelectionConfig, st.integers(0, 9), st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 3)
    ),
    size=st.integers(1, 8),
)
def test_at_most_so_many_of_the_clean_and_the_rest_says_why(
    images: list[Rows], config: SelectionConfig, size: int
) -> None:
    found = select(images, config, size)
    assert found == select(images, config, 100)  # whatever the batches
    clean = [sum(not why for _, why in rows) for rows in images]
    taken = [sum(not why for why in reasons) for reasons in found]
    for rows, reasons in zip(images, found, strict=True):
        assert all(
            new in (old, LEFT_OUT) if not old else new == old for (_, old), new in zip(rows, reasons, strict=True)
        )
    most = config.instances_per_image or 99
    able = sum(count > 0 for count in clean)
    assert sum(count > 0 for count in taken) == min(config.images or able, able)
    assert all(got in (0, min(count, most)) for got, count in zip(taken, clean, strict=True))


SIDES = st.sampled_from([0, 40, 60, 200, 999])


@settings(deadline=None, max_examples=200)
@given(
    size=st.tuples(SIDES, SIDES),
    relative=st.booleans(),
    corners=st.lists(st.tuples(*[st.floats(-50, 250)] * 4, st.sampled_from(["", "", "crowd"])), max_size=5),
    max_side=st.sampled_from([50, 100, 1024]),
)
def test_a_box_is_small_exactly_where_a_worker_would_refuse_it(
    size: tuple[int, int], relative: bool, corners: list[tuple[float, float, float, float, str]], max_side: int
) -> None:
    boxes = [(min(x, u), min(y, v), max(x, u) + 1, max(y, v) + 1) for x, y, u, v, _ in corners]
    rows = tuple(
        SourceInstance(Instance(str(n), "cat", box), why)
        for n, (box, (*_, why)) in enumerate(zip(boxes, corners, strict=True))
    )
    batch = batch_of([SourceImage("i", "i.jpg", *size, "", rows, relative), SourceImage("j", "j.jpg", 9, 9, "", ())])
    found = mark_small(batch, 24, max_side)["instances"].to_pylist()
    assert found[1] == []
    scale = min(1, max_side / max(*size, 1))
    for row, new in zip(rows, found[0], strict=True):
        box = row.instance.box
        assert (new["x1"], new["y1"], new["x2"], new["y2"]) == box
        inside = (max(box[0], 0), max(box[1], 0), min(box[2], size[0]), min(box[3], size[1]))
        small = min(inside[2] - inside[0], inside[3] - inside[1]) * scale < 24
        unknown = relative or min(size) == 0
        assert new["reason"] == (row.reason or (SMALL if small and not unknown else ""))
        if not row.reason and not unknown:
            stored = clip_box(tuple(value * scale for value in box), size[0] * scale, size[1] * scale, 24)
            assert isinstance(stored, Reject) == small or min(size) * scale < 24


def test_a_seed_decides() -> None:
    images = [[("cat", "")] * 3] * 200
    first = select(images, SelectionConfig(images=50, instances_per_image=1, seed=1))
    assert first == select(images, SelectionConfig(images=50, instances_per_image=1, seed=1))
    assert first != select(images, SelectionConfig(images=50, instances_per_image=1, seed=2))
    chosen = [reasons.index("") for reasons in first if "" in reasons]
    assert {0, 1, 2} == set(chosen)


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.1), (1.0, 0.5)])
def test_balance_makes_a_rare_class_as_likely_as_a_common_one(balance: float, share: float) -> None:
    """One image in ten shows a cup, the others a person; and within an image of nine persons and a cup."""
    apart = [[("cup", "")] if n % 10 == 0 else [("person", "")] for n in range(4000)]
    found = select(apart, SelectionConfig(images=400, balance=balance))
    kinds = Counter(rows[0][0] for rows, reasons in zip(apart, found, strict=True) if reasons == [""])
    assert kinds["cup"] / 400 == pytest.approx(share, abs=0.06)
    together = [[*[("person", "")] * 9, ("cup", "")]] * 1000
    found = select(together, SelectionConfig(instances_per_image=1, balance=balance))
    assert sum(reasons[-1] == "" for reasons in found) / 1000 == pytest.approx(share, abs=0.06)
