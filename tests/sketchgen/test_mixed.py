"""Several banks as one: each draws its share of a class, and all of a class that it alone has."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchgen.bank import Drawing
from sketchgen.banks.mixed import MixedBank


class NamedBank:
    """Draws white, under the names it is given."""

    def __init__(self, source: str, *names: str) -> None:
        self.source, self.names = source, names

    @property
    def categories(self) -> tuple[str, ...]:
        return self.names

    def draw(self, category: str, seed: int) -> Drawing:
        if category not in self.names:
            raise ValueError(category)
        return Drawing(f"{self.source}/{seed}", category, self.source, "", "", np.full((256, 256), 255, np.uint8))

    def lookalikes(self, category: str) -> tuple[str, ...]:
        return tuple(name for name in self.names if name != category)


def test_a_class_that_several_have_is_drawn_by_each_as_its_weight_says() -> None:
    bank = MixedBank([(NamedBank("a", "dog", "cat"), 0.5), (NamedBank("b", "dog"), 0.3), (NamedBank("c", "dog"), 0.2)])
    shares = Counter(bank.draw("dog", seed).source for seed in range(6000))
    assert {name: count / 6000 for name, count in shares.items()} == pytest.approx(
        {"a": 0.5, "b": 0.3, "c": 0.2}, abs=0.02
    )
    assert {bank.draw("cat", seed).source for seed in range(50)} == {"a"}
    assert bank.categories == ("dog", "cat")
    assert bank.lookalikes("dog") == ("cat",)


def test_a_class_that_none_has_is_an_error() -> None:
    with pytest.raises(ValueError, match="none of the banks has drawings of 'moon'"):
        MixedBank([(NamedBank("a", "dog"), 1.0)]).draw("moon", 0)


@given(weights=st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=6), seed=st.integers(0, 2**63 - 1))
def test_any_weights_and_seeds_give_a_drawing_and_always_the_same(weights: list[float], seed: int) -> None:
    bank = MixedBank([(NamedBank(str(number), "dog"), weight) for number, weight in enumerate(weights)])
    assert bank.draw("dog", seed).sketch_id == bank.draw("dog", seed).sketch_id
