"""Overlapping stages: the order, the bound, and the ways out."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchgen.stages import in_turn, overlapped


@given(st.integers(0, 30), st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_every_item_goes_through_every_stage_in_order(count: int, depth: int, chance: object) -> None:
    pauses = [[chance.random() / 2000 for _ in range(count)] for _ in range(depth)]  # type: ignore[attr-defined]
    seen: list[list[int]] = [[] for _ in range(depth)]

    def stage(level: int) -> object:
        def work(item: list[int]) -> None:
            assert len(item) == level + 1  # all stages before it are done
            time.sleep(pauses[level][item[0]])
            seen[level].append(item[0])
            item.append(level)

        return work

    wanted = [[number, *range(depth)] for number in range(count)]
    stages = [stage(level) for level in range(depth)]
    assert list(overlapped(([number] for number in range(count)), stages)) == wanted  # type: ignore[arg-type]
    assert seen == [list(range(count))] * depth
    assert list(in_turn(([number] for number in range(count)), stages)) == wanted  # type: ignore[arg-type]


def test_stages_overlap_and_no_more_is_under_way_than_they_can_hold() -> None:
    begun: list[int] = []
    together, most = threading.Barrier(3, timeout=10), 0

    def meet(item: int) -> None:
        if 2 <= item < 5:  # three stages at once, each with another item
            together.wait()

    for item in overlapped((begun.append(number) or number for number in range(20)), [
        lambda item: meet(item + 0), lambda item: meet(item + 1), lambda item: meet(item + 2),
    ]):  # fmt: skip
        most = max(most, len(begun) - item)
    assert most == 4


def test_what_a_stage_raises_ends_it_all_and_leaves_no_thread() -> None:
    before = threading.active_count()
    done = []

    def fail(item: int) -> None:
        if item == 3:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        for item in overlapped(range(100), [lambda item: None, fail, lambda item: None]):
            done.append(item)
    assert done == [0, 1, 2]
    assert threading.active_count() == before


def test_a_reader_that_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    items = overlapped(range(1000), [lambda item: time.sleep(0.001)] * 3)
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
