"""Stages that overlap: while one item is segmented, the next is read and the one before is sketched."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

Item = TypeVar("Item")


def in_turn(items: Iterable[Item], stages: Sequence[Callable[[Item], None]]) -> Iterator[Item]:
    """Every item after all its stages, one after the other, in the caller's thread."""
    for item in items:
        for stage in stages:
            stage(item)
        yield item


def overlapped(items: Iterable[Item], stages: Sequence[Callable[[Item], None]]) -> Iterator[Item]:
    """The same items in the same order; each stage has a thread of its own, which takes the items one by one.

    So nothing that a stage does depends on the others' pace. At most one item for each stage, and one, is under way.
    What a stage raises is raised here.
    """
    with ExitStack() as stack:
        threads = [stack.enter_context(ThreadPoolExecutor(1)) for _ in stages]
        under_way: deque[Future[Item]] = deque()
        # on any way out: what has not begun never will, what has is waited for
        for thread in threads:
            stack.callback(thread.shutdown, wait=False, cancel_futures=True)
        for item in items:
            under_way.append(_submit(item, stages, threads))
            if len(under_way) > len(stages):
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _submit(
    item: Item, stages: Sequence[Callable[[Item], None]], threads: Sequence[ThreadPoolExecutor]
) -> Future[Item]:
    before: Future[Item] | None = None
    for stage, thread in zip(stages, threads, strict=True):
        before = thread.submit(_after, before, stage, item)
    assert before is not None
    return before


def _after(before: Future[Item] | None, stage: Callable[[Item], None], item: Item) -> Item:
    """A stage of an item once the stage before it is done; its thread takes nothing else meanwhile, which keeps the
    order."""
    if before is not None:
        before.result()
    stage(item)
    return item
