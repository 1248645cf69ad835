"""How many queries each image of a shard gives, so that the shard gives a certain number, spread evenly."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from data_manifests.schema import Query


class Budget:
    """What is left to be asked in one shard. An image that gives little leaves more to those after it."""

    def __init__(self, size: int, images: int) -> None:
        """size: queries of the shard, -1 = all that there are; images: of the shard."""
        self._left, self._images = size, images
        self._ahead = 0  # how many more yes than no

    @property
    def spent(self) -> bool:
        """Whether nothing is left to be asked."""
        return self._left == 0

    def pick(self, queries: Sequence[Query], seed: int) -> list[Query]:
        """The queries that one image gives, in their order: of each task about as many, of `sbir` as many yes as no
        over the images."""
        taken = list(queries)
        if self._left >= 0:
            share = -(-self._left // max(1, self._images))
            taken = self._draw(queries, min(share, self._left), Random(f"budget/{seed}"))
            self._left -= len(taken)
        self._ahead += sum(_lean(query) for query in taken)
        return taken

    def pass_on(self) -> None:
        """The next image is on, whatever this one gave."""
        self._images -= 1

    def _draw(self, queries: Sequence[Query], number: int, random: Random) -> list[Query]:
        waiting: dict[str, list[Query]] = {}
        for query in random.sample(queries, len(queries)):
            waiting.setdefault(query.task, []).append(query)
        taken: list[Query] = []
        ahead = self._ahead
        tasks = list(waiting)
        random.shuffle(tasks)
        while waiting and len(taken) < number:
            for task in tasks:
                if task in waiting and len(taken) < number:
                    query = min(waiting[task], key=lambda query: _lean(query) * ahead)
                    ahead += _lean(query)
                    taken.append(query)
                    waiting[task].remove(query)
                    if not waiting[task]:
                        del waiting[task]
        return [query for query in queries if query in taken]


def _lean(query: Query) -> int:
    """1 for a yes, -1 for a no, 0 for what is neither."""
    return {-1: 0, 0: -1, 1: 1}[query.match]
