"""The order of training samples: which sample of which shard is the n-th that a rank reads.

It is a pure function of (seed, rank, world, counts), made of integers only: a position is a number, to
resume is to go on counting, and no release of a library can change it.

    number ──> part of the mixture ──> position in that part ──> epoch, shard, index

Each epoch shuffles a part's shards and deals the long line of their samples to the ranks in equal
ranges (two ranks share a shard at most at the ends of their ranges, so that each reads, fetches and
checks its own share of the bytes only). Within its range a rank mixes the samples of a window of
shards. Ranges move on by one rank from epoch to epoch, so that the uneven rest goes round; the stream
never ends, so that all ranks can take the same number of steps.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_manifests.schema import MIXTURE, Mixture, load_manifest
from sketchlm.shards import Folder, read_folder

GOLDEN = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio: its multiples fill 64 bits as evenly as any."""
BLOCK = 256
"""Samples within which the shares of a mixture hold to within one."""
STEP = 2**32 // BLOCK


@dataclass(frozen=True)
class Dealing:
    """What the order depends on, besides the shards."""

    seed: int = 0
    shuffle: bool = True
    window: int = 4
    rank: int = 0
    world: int = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Of one sample: part of the mixture, epoch of that part, shard (number in the part's list) and its index there."""

    part: int
    epoch: int
    shard: int
    index: int


@dataclass(frozen=True)
class _Window:
    """Samples that are mixed together: shard and index of each, in the order of reading."""

    shards: NDArray[np.int64]
    indices: NDArray[np.int64]


def read_mixture(where: str) -> tuple[list[Folder], list[float]]:
    """The folders and their weights that `where` names: one folder, or a mixture (its manifest, *.yaml, or the folder
    that holds `mixture.yaml`).

    Folders in a manifest are URLs or paths, from the manifest or, where nothing is there, from the working directory.
    Raises ValueError for a manifest or a folder that cannot be used.
    """
    if not where:
        raise ValueError("`shards` is empty: give a folder of shards, or a mixture manifest (*.yaml)")
    if "://" not in where and (Path(where) / MIXTURE).is_file():
        where = str(Path(where) / MIXTURE)
    if not where.endswith((".yaml", ".yml")):
        return [read_folder(where)], [1.0]
    try:
        mixture = load_manifest(Path(where), Mixture)
    except OSError as error:
        raise ValueError(f"cannot read the mixture {where}: {error}") from None
    folders = [_beside(part.shards, Path(where)) for part in mixture.parts]
    return [read_folder(folder) for folder in folders], [part.weight for part in mixture.parts]


def _beside(shards: str, manifest: Path) -> str:
    """The folder that a manifest names: beside it where there is one, else as it is."""
    beside = manifest.parent / shards
    return str(beside) if "://" not in shards and beside.is_dir() else shards


class PartOrder:
    """The order of one part for one rank."""

    def __init__(self, counts: Sequence[int], part: int, dealing: Dealing) -> None:
        """counts: samples of each shard, at least one in all; part: its number in the mixture."""
        self.num_samples = sum(counts)
        assert self.num_samples > 0, f"part {part} has no sample"
        self._counts = np.array(counts, np.int64)
        self._salt = (dealing.seed, part)
        self._dealing = dealing
        shares = [high - low for low, high in map(self._range, range(dealing.world))]
        self._starts = [0, *accumulate(shares)]  # of this rank's epochs, within `world` of them
        self._layout = lru_cache(4)(self._make_layout)
        self._window = lru_cache(4)(self._make_window)

    def place(self, position: int) -> tuple[int, int, int]:
        """(epoch, shard, index) of the sample that this rank takes after `position` others of the part."""
        cycle, rest = divmod(position, self.num_samples)
        turn = bisect_right(self._starts, rest) - 1  # a range of no samples is stepped over
        epoch, offset = cycle * self._dealing.world + turn, rest - self._starts[turn]
        starts, _ = self._layout(epoch)
        number = bisect_right(starts, offset) - 1
        window = self._window(epoch, number)
        at = offset - starts[number]
        return epoch, int(window.shards[at]), int(window.indices[at])

    def _range(self, epoch: int) -> tuple[int, int]:
        """This rank's range in the line of an epoch's samples; together the ranks take each sample once."""
        world = self._dealing.world
        number = (self._dealing.rank + epoch) % world
        return self.num_samples * number // world, self.num_samples * (number + 1) // world

    def _make_layout(self, epoch: int) -> tuple[list[int], list[list[tuple[int, int, int]]]]:
        """The windows of an epoch: where each starts, and its pieces (shard, first index, end)."""
        low, high = self._range(epoch)
        shards = np.arange(len(self._counts))
        if self._dealing.shuffle:
            shards = permutation(len(shards), *self._salt, "shards", epoch)
        ends = np.cumsum(self._counts[shards])
        pieces = []
        for at in range(int(np.searchsorted(ends, low, "right")), len(shards)):
            start = int(ends[at] - self._counts[shards[at]])
            first, end = max(low, start), min(high, int(ends[at]))
            if first >= high:
                break
            if first < end:
                pieces.append((int(shards[at]), first - start, end - start))
        # windows of equal size, rather than full ones and a rest that is hardly mixed
        count = max(1, -(-len(pieces) // self._dealing.window))
        cuts = [len(pieces) * number // count for number in range(count + 1)]
        windows = [pieces[a:b] for a, b in pairwise(cuts)]
        sizes = [sum(end - first for _, first, end in window) for window in windows]
        return [0, *accumulate(sizes)][:-1], windows

    def _make_window(self, epoch: int, number: int) -> _Window:
        pieces = self._layout(epoch)[1][number]
        shards = np.concatenate([np.full(end - first, shard) for shard, first, end in pieces])
        indices = np.concatenate([np.arange(first, end) for _, first, end in pieces])
        if self._dealing.shuffle:
            # the range's number keeps ranks apart, which may cut the same shards
            mixed = permutation(len(shards), *self._salt, "window", epoch, self._range(epoch)[0], number)
            shards, indices = shards[mixed], indices[mixed]
        return _Window(shards, indices)


class Order:
    """The order of a mixture for one rank: parts take turns by weight, each in its own order with its own epochs.

    Turns come in blocks. A block takes BLOCK evenly spaced points of [0, 1), each falling into a part's
    share of it, and shuffles them; the grid is shifted from block to block by the golden ratio. So the
    shares hold in every block to within one sample and in the long run exactly, for each rank.
    """

    def __init__(self, counts: Sequence[Sequence[int]], weights: Sequence[float], dealing: Dealing) -> None:
        """counts: samples of each shard of each part; weights: of the parts, they sum to one."""
        self._dealing = dealing
        self._parts = [PartOrder(part, number, dealing) for number, part in enumerate(counts)]
        self._cuts = np.rint(np.cumsum(weights) * 2**32).astype(np.int64)
        self._cuts[-1] = 2**32
        self._block = lru_cache(4)(self._make_block)
        self.num_samples = sum(part.num_samples for part in self._parts)
        shares = np.diff(self._cuts, prepend=0) / 2**32
        rounds = [int(part.num_samples / share) for part, share in zip(self._parts, shares, strict=True)]
        self.num_pass = BLOCK + max(rounds)
        """Samples after which a rank has met every one there is."""

    def place(self, number: int) -> Place:
        """Where the sample lies that the rank reads after `number` others (0, 1, 2, ... without end)."""
        block, at = divmod(number, BLOCK)
        parts, positions = self._block(block)
        part = parts[at]
        return Place(part, *self._parts[part].place(positions[at]))

    def _make_block(self, block: int) -> tuple[list[int], list[int]]:
        """Part of each number of a block, and position in that part."""
        own = np.arange(block + 1, dtype=np.uint64) * np.uint64(self._dealing.world) + np.uint64(self._dealing.rank)
        shifts = ((own * np.uint64(GOLDEN)) >> np.uint64(40)).astype(np.int64)  # of the grids, below STEP
        points = np.arange(BLOCK) * STEP + shifts[-1]
        mixed = permutation(BLOCK, self._dealing.seed, "parts", int(own[-1]))
        parts = np.searchsorted(self._cuts, points, "right")[mixed]
        # points below each cut in all blocks before: exact in integers, so nothing needs to be remembered
        below = np.array([int(((cut - shifts[:-1] + STEP - 1) // STEP).sum()) for cut in self._cuts])
        positions = np.empty(BLOCK, np.int64)
        for part, before in enumerate(np.diff(below, prepend=0)):
            chosen = parts == part
            positions[chosen] = before + np.arange(chosen.sum())
        return parts.tolist(), positions.tolist()


def salted(*salt: int | str) -> int:
    """A number below 2^63 that depends on the salt, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(repr(salt).encode(), digest_size=8).digest()) >> 1


def permutation(size: int, *salt: int | str) -> NDArray[np.int64]:
    """A shuffle of 0...size-1 that depends on the salt, the same everywhere (NumPy's own may change).

    Sorts the numbers by SplitMix64's hash of them.
    """
    keys = np.uint64(salted(*salt)) + np.arange(size, dtype=np.uint64) * np.uint64(GOLDEN)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(keys ^ (keys >> np.uint64(31)), kind="stable")
