"""How many queries each image of a shard gives, so that the shard gives a certain number, spread evenly."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from data_manifests.schema import Query


class Budget:
    """What is left to be asked in one shard. Where images give less than their share, those after them give more."""

    def __init__(self, size: int, seed: int) -> None:
        """size: queries of the shard, -1 = all that there are; seed: decides which images give one where there are more
        of them than queries."""
        self._left, self._images = size, 0
        self._random = Random(f"budget/{seed}")
        self._ahead = 0  # how many more yes than no

    @property
    def spent(self) -> bool:
        """Whether nothing is left to be asked."""
        return self._left == 0

    def begin(self, images: int) -> None:
        """So many images are now to share what is left."""
        self._images = images

    def share(self) -> int:
        """How many queries the next image may give; -1 for all. To be asked once for each image."""
        images, self._images = max(1, self._images), self._images - 1
        if self._left < 0:
            return -1
        whole, rest = divmod(self._left, images)
        return whole + (self._random.random() * images < rest)

    def pick(self, queries: Sequence[Query], share: int, seed: int) -> list[Query]:
        """The queries that one image gives, in their order: of each task about as many, of `sbir` as many yes as no
        over the images. share: what `share` said."""
        taken = list(queries)
        if share >= 0:
            taken = self._draw(queries, min(share, self._left), Random(f"pick/{seed}"))
            self._left -= len(taken)
        self._ahead += sum(map(_lean, taken))
        return taken

    def give_back(self, queries: Sequence[Query]) -> None:
        """Queries that were picked and could not be made."""
        if self._left >= 0:
            self._left += len(queries)
        self._ahead -= sum(map(_lean, queries))

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
