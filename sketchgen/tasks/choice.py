"""The choice of what is drawn for an image: fair, so that nothing but sketch and image together answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import NamedTuple

from sketchgen.bank import Drawing, SketchBank
from sketchgen.tasks.config import TasksConfig
from sketchgen.tasks.facts import Facts


class Choice(NamedTuple):
    """One drawing to be made. `object_id` is "" where it shows no particular object of the image."""

    category: str
    object_id: str
    is_present: bool
    drawing: Drawing | None = None
    """Where it had to be drawn for the choice."""
    number: int = 0
    """Of several drawings of one class for one image."""


def choose_categories(
    facts: Facts,
    bank: SketchBank,
    seed: int,
    config: TasksConfig,
    surplus: Mapping[str, int] | None = None,
    without: Collection[str] = (),
) -> list[Choice]:
    """Every class that is present (as far as rows go), and as many absent ones, in mixed order; absent ones only where
    a task asks about them.

    Of the absent ones `config.lookalikes` are look-alikes of a present class, rounded up or down by
    chance, and the others are not; where the bank has too few of either, the other kind fills in.
    surplus: for each class, how often it was drawn as present minus how often as absent so far: absent
    classes are taken from the top of it (ties by chance), so that over many images each class is
    present as often as absent, however often it occurs and however many look-alikes it has.
    without: classes that are not drawn. [] where no class of the bank is present.
    """
    random = Random(f"choice/{seed}")
    surplus = surplus or {}
    shown = {o.category for o in facts.objects}
    named = {o.category for o in facts.objects if o.status != "crowd"}
    drawn = [name for name in bank.categories if name not in without]
    present = [name for name in drawn if name in named]
    if not config.asks_absent:
        return [Choice(name, "", True) for name in random.sample(present, min(len(present), config.max_rows))]
    absent = [name for name in drawn if name not in shown and name not in facts.unclear]
    number = min(len(present), len(absent), config.max_rows // 2)
    present = random.sample(present, number)
    twins = {twin for name in shown for twin in bank.lookalikes(name)}
    random.shuffle(absent)
    absent.sort(key=lambda name: -surplus.get(name, 0))
    like = [name for name in absent if name in twins]
    unlike = [name for name in absent if name not in twins]
    num_like = int(number * config.lookalikes + random.random())
    num_like = max(min(num_like, len(like)), number - len(unlike))
    chosen = [Choice(name, "", True) for name in present]
    chosen += [Choice(name, "", False) for name in (*like[:num_like], *unlike[: number - num_like])]
    random.shuffle(chosen)
    return chosen


def add_to_surplus(surplus: Counter[str], chosen: Sequence[Choice]) -> None:
    """Note what was drawn, for the choice of the next image."""
    for choice in chosen:
        surplus[choice.category] += 1 if choice.is_present else -1
