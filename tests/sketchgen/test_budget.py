"""A budget spreads a number of queries evenly over the images of a shard, and yes and no over `sbir`."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from data_manifests.schema import Query
from sketchgen.instruction_worker import quota
from sketchgen.plan import Plan
from sketchgen.tasks.budget import Budget

COUNTS = st.lists(st.integers(0, 6), min_size=1, max_size=30)


def query(number: int, task: str = "count", match: int = -1) -> Query:
    return Query(
        query_id=f"{task}-{number}", task=task, row=0, category="dog", boxes=[], count=-1, question="", answers=[""],
        match=match, answer_source="template",
    )  # fmt: skip


def spent(budget: Budget, images: list[list[Query]]) -> list[list[Query]]:
    budget.begin(len(images))
    return [budget.pick(queries, budget.share(), seed) for seed, queries in enumerate(images)]


@given(counts=COUNTS, size=st.integers(0, 60))
def test_no_more_is_taken_than_asked_for_and_nothing_is_made_up(counts: list[int], size: int) -> None:
    images = [[query(n) for n in range(count)] for count in counts]
    taken = spent(Budget(size, 0), images)
    assert sum(map(len, taken)) <= size
    assert all(
        set(q.query_id for q in some) <= {q.query_id for q in all_} for some, all_ in zip(taken, images, strict=True)
    )
    # an image is passed over only where those before it gave the fair share of what was left
    if sum(counts) <= size:
        last = images[-1]
        assert len(taken[-1]) == len(last)


def test_without_a_size_everything_is_taken() -> None:
    images = [[query(n) for n in range(count)] for count in (3, 0, 5)]
    assert spent(Budget(-1, 0), images) == images


def test_where_every_image_has_enough_the_size_is_met_exactly_and_evenly() -> None:
    images = [[query(n) for n in range(8)] for _ in range(40)]
    for size in (0, 1, 40, 57, 100, 320):
        taken = [len(some) for some in spent(Budget(size, 0), images)]
        assert sum(taken) == size
        assert max(taken) - min(taken) <= 1


def test_later_images_give_what_earlier_ones_lack() -> None:
    images: list[list[Query]] = [[]] * 20 + [[query(n) for n in range(8)] for _ in range(20)]
    assert sum(map(len, spent(Budget(40, 0), images))) == 40


def test_yes_and_no_are_as_many_though_images_give_one_query_each() -> None:
    images = [[query(0, "sbir", 1), query(1, "sbir", 0), query(2, "sbir", 0)] for _ in range(100)]
    answers = Counter(q.match for some in spent(Budget(100, 0), images) for q in some)
    assert answers == {0: 50, 1: 50}


def test_tasks_come_up_alike_however_many_queries_they_have() -> None:
    images = [[query(0, "bbox"), *(query(n, "sbir", n % 2) for n in range(8))] for _ in range(400)]
    tasks = Counter(q.task for some in spent(Budget(400, 0), images) for q in some)
    assert abs(tasks["bbox"] - 200) < 45


@given(size=st.integers(-1, 500), images=st.integers(1, 90), per_shard=st.integers(1, 25))
def test_shards_share_a_size_in_proportion(size: int, images: int, per_shard: int) -> None:
    plan = Plan(-(-images // per_shard), images, images, {}, per_shard, 0, ())
    sizes = [min(per_shard, images - shard * per_shard) for shard in range(plan.shards)]
    quotas = [quota(size, shard, own, plan) for shard, own in enumerate(sizes)]
    if size < 0:
        assert set(quotas) == {-1}
        return
    assert sum(quotas) == size
    assert all(abs(some - size * own / images) < 1 for some, own in zip(quotas, sizes, strict=True))
