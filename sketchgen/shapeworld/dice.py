"""Dice: every random draw of the world, from a key that names what is drawn."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Option = TypeVar("Option")


class Dice:
    """A stream of random numbers that its key alone decides, on every machine and Python."""

    def __init__(self, *key: object) -> None:
        digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
        self._stream = random.Random(int.from_bytes(digest, "big"))
        self.share = self._stream.random
        """Uniform in [0, 1)."""

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.share()

    def whole(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + int(self.share() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.share() < probability

    def among(self, options: Sequence[Option]) -> Option:
        """One of the options, all equally likely."""
        return options[int(self.share() * len(options))]

    def shuffled(self, options: Sequence[Option]) -> list[Option]:
        """All of them in random order."""
        left = list(options)
        for last in range(len(left) - 1, 0, -1):
            other = self.whole(0, last)
            left[last], left[other] = left[other], left[last]
        return left

    def array(self) -> np.random.Generator:
        """A generator of arrays that goes on from here."""
        return np.random.Generator(np.random.PCG64(int(self.share() * 2**53)))
