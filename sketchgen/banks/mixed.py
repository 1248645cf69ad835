"""Several banks as one, each with its share of the drawings (the paper's SketchMIX)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from data_manifests.vocabulary import vocabulary
from sketchgen.bank import Drawing, SketchBank
from sketchgen.seed import seed_of


class MixedBank:
    """Draws a class with one of the banks that have it: as often with each as its weight says."""

    def __init__(self, banks: Sequence[tuple[SketchBank, float]]) -> None:
        """banks: one at least, each with its weight, more than 0."""
        self._banks = [bank for bank, _ in banks]
        self._having: dict[str, list[tuple[SketchBank, float]]] = {}
        for bank, weight in banks:
            for name in bank.categories:
                self._having.setdefault(name, []).append((bank, weight))

    @property
    def categories(self) -> tuple[str, ...]:
        """Of all banks."""
        return tuple(self._having)

    def draw(self, category: str, seed: int) -> Drawing:
        """See `SketchBank`."""
        if category not in self._having:
            raise ValueError(f"none of the banks has drawings of {category!r}")
        having = self._having[category]
        ends = list(accumulate(weight for _, weight in having))
        point = seed_of("bank", seed) / 2**63 * ends[-1]
        bank = next(bank for (bank, _), end in zip(having, ends, strict=True) if point < end)
        return bank.draw(category, seed)

    def lookalikes(self, category: str) -> tuple[str, ...]:
        """Those that any of the banks knows, whichever of them draws them."""
        found = [twin for bank in self._banks for twin in bank.lookalikes(category)]
        found += [name for name in vocabulary().alike(category) if not found]
        return tuple(name for name in dict.fromkeys(found) if name in self._having)
