"""The plan: what is written comes back, shard by shard, and nothing is lost on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sketchgen.index import batch_of
from sketchgen.instance import Instance
from sketchgen.plan import planned_ids, read_plan, read_shard_plan, write_plan
from sketchgen.source import SourceImage, SourceInstance
from sketchgen.storage import Storage

NUMBERS = st.floats(-1e4, 1e4)
SEGMENTATIONS = (
    st.none() | st.lists(st.lists(NUMBERS, max_size=8), min_size=1, max_size=2)
    | st.fixed_dictionaries({"size": st.just([4, 4]), "counts": st.text(max_size=5)})
)  # fmt: skip
ROWS = st.builds(
    SourceInstance,
    st.builds(Instance, st.text(max_size=5), st.text(max_size=5), st.tuples(*[NUMBERS] * 4), SEGMENTATIONS),
    st.sampled_from(["", "crowd", "tiny"]),
)
SIZES = st.integers(0, 10**6)
IMAGES = st.lists(
    st.builds(
        SourceImage,
        *(st.text(), st.text(), SIZES, SIZES, st.text(), st.lists(ROWS, max_size=4).map(tuple), st.booleans()),
    ),
    min_size=1,
    max_size=7,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(images=IMAGES, per_shard=st.integers(1, 4), per_batch=st.integers(1, 7))
def test_a_plan_comes_back_as_it_was(tmp_path: Path, images: list[SourceImage], per_shard: int, per_batch: int) -> None:
    storage = Storage(str(tmp_path))
    batches = [batch_of(images[start : start + per_batch]) for start in range(0, len(images), per_batch)]
    rows = [row for image in images for row in image.instances]
    if not any(row.status == "planned" for row in rows):
        with pytest.raises(ValueError, match="nothing to work on"):
            write_plan(lambda: batches, per_shard, storage)
        return
    plan = write_plan(lambda: batches, per_shard, storage)
    assert plan == read_plan(storage)
    shards = [list(read_shard_plan(storage, shard)) for shard in range(plan.shards)]
    planned = [image for image in images if any(row.status == "planned" for row in image.instances)]
    assert [image for shard in shards for image in shard] == planned
    assert all(len(shard) == per_shard for shard in shards[:-1])
    assert plan.images == len(planned)
    assert plan.images + plan.spare == len(images)
    assert plan.instances == sum(row.status == "planned" for row in rows)
    assert plan.instances + sum(plan.left_out.values()) == len(rows)
    ids = [[r.instance.object_id for i in shard for r in i.instances if r.status == "planned"] for shard in shards]
    assert list(planned_ids(storage)) == list(enumerate(ids))


def test_a_source_without_rows_is_an_error_and_leaves_no_plan(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with pytest.raises(ValueError, match="nothing to work on"):
        write_plan(lambda: [], 4, storage)
    assert storage.names() == []
