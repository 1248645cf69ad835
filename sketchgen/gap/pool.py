"""Pools: the sketches of two places, drawn so that both have as many of each class."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_manifests.schema import MIXTURE
from data_manifests.sketch import SketchWarning, as_sketch
from data_manifests.vocabulary import vocabulary
from sketchgen.bank import Drawing, SketchBank
from sketchgen.banks import BankConfig, build_bank, check_bank
from sketchgen.banks.files import files_in, folders_in, printable
from sketchgen.banks.pictures import PictureBank
from sketchgen.banks.quickdraw import SOURCE as QUICKDRAW
from sketchgen.banks.quickdraw import QuickDrawBank
from sketchgen.banks.sketchvcl import SketchVclBank
from sketchgen.checks import DARK
from sketchgen.output import SETTINGS
from sketchgen.seed import seed_of

LEAST_EACH = 4
"""Sketches of a class that both sides have, at least: of two halves each has two, which can be compared."""
LEAST = 20
"""Sketches of a side below which no distance is told."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
STRIDE = 1_000_003
"""From one seed to the next, a prime: banks take a seed as a place among their drawings, so that none is met twice
before all are, and drawings of one photo are not all taken."""
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""What Pillow says of a file, and says otherwise each time."""
TRIES = 4
"""Seeds that are tried for each drawing that is wanted: a bank may give one again."""


@dataclass(frozen=True)
class Pool:
    """A place that sketches are drawn from. plain: whether they are dark on white, 256 x 256, as banks and shards hold
    them; pictures of users are made so."""

    name: str
    bank: SketchBank
    source: str = ""
    """Whose class names they are, as `vocabulary` knows sources."""
    plain: bool = True

    @property
    def classes(self) -> dict[str, list[str]]:
        """Names that the bank has for each class of ours; {"": [""]} where classes are not known."""
        found: dict[str, list[str]] = {}
        for name in self.bank.categories:
            found.setdefault(vocabulary().read(name, self.source).name if name else "", []).append(name)
        return found


@dataclass
class Drawn:
    """Sketches of a pool, those of one class together. images: [256, 256] uint8 each, dark on white."""

    images: list[NDArray[np.uint8]] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """What was left out, and why."""
    notes: dict[str, int] = field(default_factory=dict)
    """What had to be put right, and how often."""

    def counts(self) -> dict[str, int]:
        """Sketches of each class."""
        return {name: self.categories.count(name) for name in dict.fromkeys(self.categories)}


def open_bank(name: str, config: BankConfig) -> Pool:
    """A bank by its settings. Raises ValueError as `check_bank` and `build_bank`."""
    check_bank(config)
    return Pool(name, build_bank(config), config.name)


def open_folder(name: str) -> Pool:
    """A folder of shards, of Quick, Draw! files, or of pictures (a folder for each class, or none).

    Raises ValueError for one that holds none of these, and for what its reader refuses.
    """
    folder = Path(name)
    if (folder / MIXTURE).is_file():
        raise ValueError(f"{name} is a mixture: name one of the folders in it")
    if (folder / SETTINGS).is_file() or files_in(folder, ".tar"):
        return Pool(name, SketchVclBank(folder, ""))
    if files_in(folder, ".ndjson"):
        return Pool(name, QuickDrawBank(folder, "", BankConfig().width), QUICKDRAW)
    loose = _pictures(folder)
    classes = {place.name: pictures for place in folders_in(folder) if (pictures := _pictures(place))}
    if loose and classes:
        raise ValueError(
            f"{name} holds {len(loose)} pictures beside the folders of {len(classes)} classes: sort them in, or take "
            "them out"
        )
    if not loose and not classes:
        raise ValueError(
            f"{name} holds no sketches: shards (*.tar), Quick, Draw! files (*.ndjson) or pictures "
            f"({', '.join(f'*{ending}' for ending in PICTURES)}, in a folder for each class or in none) are expected "
            "there"
        )
    return Pool(name, PictureBank(printable(folder), classes or {"": loose}), plain=False)


def _pictures(folder: Path) -> list[Path]:
    return [path for path in files_in(folder, "") if path.suffix.lower() in PICTURES]


def shared_classes(a: Pool, b: Pool, classes: Collection[str], unmatched: bool) -> list[str]:
    """The classes that sketches are drawn of so that both sides have as many of each; none where they are compared as
    they are. classes: only these; empty = all.

    Raises ValueError for a class that a side does not have, and for two sides without a class in common.
    """
    wanted = [vocabulary().read(name).name for name in classes]
    for pool in (a, b):
        if strange := [name for name in wanted if name not in pool.classes]:
            raise ValueError(f"--classes: {pool.name} has no {strange[0]!r}, only {_some(pool.classes)}")
    if unmatched:
        return []
    shared = [name for name in a.classes if name and name in b.classes and (not wanted or name in wanted)]
    if not shared and "" not in a.classes and "" not in b.classes:
        raise ValueError(
            f"no class in common: {a.name} has {_some(a.classes)}, {b.name} has {_some(b.classes)}. A difference of "
            "classes would be read as one of style: compare sketches of the same things, or say --unmatched"
        )
    return sorted(shared)


def _some(names: Collection[str]) -> str:
    shown = [name or "(no classes)" for name in list(names)[:8]]
    return ", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def draw_both(
    a: Pool, b: Pool, shared: Collection[str], number: int, classes: Collection[str], seed: int,
    advance: Callable[[], None] = lambda: None,
) -> tuple[Drawn, Drawn]:  # fmt: skip
    """At most `number` sketches of each side; of the shared classes as many on both. advance: called for each.

    Raises ValueError where fewer than LEAST can be had.
    """
    wanted = [vocabulary().read(name).name for name in classes]
    # two sides of one pool are different sketches
    seeds = [seed, seed_of("other", seed) if a.name == b.name else seed]
    drawn = [
        _draw(
            pool,
            _quotas(list(shared or wanted or pool.classes), number, LEAST_EACH if shared else 1, seed),
            own,
            advance,
        )
        for pool, own in zip((a, b), seeds, strict=True)
    ]
    if shared:
        counts = [one.counts() for one in drawn]
        least = {name: min(counts[0].get(name, 0), counts[1].get(name, 0)) for name in shared}
        drawn = [_trimmed(one, least) for one in drawn]
    for pool, one in zip((a, b), drawn, strict=True):
        if len(one.images) < LEAST:
            why = f"; {len(one.broken)} were left out, the first: {one.broken[0]}" if one.broken else ""
            raise ValueError(
                f"{pool.name}: {len(one.images)} sketches{' of classes that both have' if shared else ''}, at least "
                f"{LEAST} are needed{why}: name more classes, a larger --number, or a place with more sketches"
            )
    return drawn[0], drawn[1]


def _quotas(names: list[str], number: int, least: int, seed: int) -> dict[str, int]:
    """The number spread evenly; where there are too many classes for `least` of each, chance says which are drawn."""
    names = sorted(names, key=lambda name: seed_of("class", seed, name))[: max(1, number // least)]
    each, more = divmod(number, len(names))
    return {name: each + (place < more) for place, name in enumerate(names)}


def _draw(pool: Pool, quotas: Mapping[str, int], seed: int, advance: Callable[[], None]) -> Drawn:
    drawn = Drawn()
    for category in sorted(quotas):
        names = pool.classes[category]
        seen: set[str] = set()
        idle = 0
        for number in range(TRIES * quotas[category] + TRIES):
            if len(seen) == quotas[category] or idle > 2 * len(seen) + 8:  # all were met
                break
            idle += 1
            try:
                place = seed_of("gap", seed, category) + number // len(names) * STRIDE
                drawing = pool.bank.draw(names[number % len(names)], place)
                if drawing.sketch_id in seen:
                    continue
                image = _usable(pool, drawing, drawn)
            except ValueError as error:
                reason = ADDRESS.sub("", str(error))
                if reason in drawn.broken:  # the round begins again
                    break
                drawn.broken.append(reason)
                continue
            seen.add(drawing.sketch_id)
            idle = 0
            drawn.images.append(image)
            drawn.categories.append(category)
            advance()
    return drawn


def _usable(pool: Pool, drawing: Drawing, drawn: Drawn) -> NDArray[np.uint8]:
    """The image, dark on white. Raises ValueError, with its name, for one that is blank."""
    image = drawing.image
    if not pool.plain:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SketchWarning)
            try:
                image = as_sketch(image)
            except ValueError as error:
                raise ValueError(f"{drawing.sketch_id}: {error}") from None
        for one in caught:
            text = str(one.message).partition(" (")[0].partition(": ")[0]
            drawn.notes[text] = drawn.notes.get(text, 0) + 1
    if not (image < DARK).any():
        raise ValueError(f"{drawing.sketch_id} is blank: its darkest pixel is {image.min()}, ink is below {DARK}")
    return image


def _trimmed(drawn: Drawn, counts: Mapping[str, int]) -> Drawn:
    """The first sketches of each class, so many."""
    had: dict[str, int] = {}
    kept = []
    for place, name in enumerate(drawn.categories):
        had[name] = had.get(name, 0) + 1
        if had[name] <= counts.get(name, 0):
            kept.append(place)
    return replace(drawn, images=[drawn.images[n] for n in kept], categories=[drawn.categories[n] for n in kept])
