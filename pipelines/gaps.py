"""`sketchgen gap A B`: how far the sketches of two places are apart."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipelines.mixtures import MixtureConfig, bank_config, data_folder
from sketchgen.gap import (
    TRAITS,
    Difference,
    Drawn,
    Estimate,
    Gap,
    Measured,
    Pool,
    Side,
    Values,
    draw_both,
    measure,
    open_bank,
    open_folder,
    shared_classes,
    traits_of,
    write_page,
)
from sketchgen.gap.pool import LEAST
from sketchgen.storage import Storage

Sketch = NDArray[np.uint8]
"""[256, 256], dark on white."""
NONE = "none"
BATCH = 32
CAPTION = (
    "means ± half their 95 % intervals; d: Cohen's, B less A; W: Wasserstein distance; both in pooled spreads; told "
    "apart: by a linear probe, 0.5 = not, 1 = always; noise: of one half of A and the other"
)


@dataclass(frozen=True)
class Measure:
    """How far two ways of drawing are apart, in shape and in a model's eyes, beside what is noise."""

    a: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="A")]
    """A folder of shards, of pictures (a folder for each class, or none) or of Quick, Draw! files; or the name of a
    bank as protocols name them: shapeworld-hand, shapeworld-brush, quickdraw, sketchvcl-NAME, ..."""
    b: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="B")]
    """The other, likewise."""
    number: int = 500
    """Sketches of each side at most."""
    classes: tuple[str, ...] = ()
    """Only these; empty = all that both have."""
    unmatched: bool = False
    """Compare all classes of both as they are, although they differ."""
    tower: str = "learn"
    """Whose features are compared: `learn`, a bundle, a LLaVA-1.5; none = shape alone."""
    device: str = ""
    """cpu, cuda, cuda:1; empty = a GPU where there is one."""
    data: str = ""
    """Folder that holds every bank in a folder of its name; empty = $SKETCH_DATA_DIR, else data."""
    seed: int = 0
    """Decides which sketches are drawn."""
    json: str = ""
    """File to write all figures to."""
    save: str = ""
    """Page to write, .html: sketches of both side by side, and distributions."""


def run_gap(command: Measure, console: Console) -> int:
    """Draw, measure, print, write; returns how many sketches had to be left out."""
    _check(command)
    pools = open_pool(command.a, command), open_pool(command.b, command)
    shared = shared_classes(*pools, command.classes, command.unmatched)
    drawn, sides = _measured(command, pools, shared)
    gap = measure(*sides, bool(shared), command.seed)
    facts = facts_of(command, drawn, shared)
    show(gap, facts, console)
    if command.json:
        write(command.json, to_json(command, drawn, shared, gap))
    if command.save:
        place = Path(command.save)
        a, b = (Side(pool.name, *one) for pool, one in zip(pools, zip(drawn, sides, strict=True), strict=True))
        write_page(Storage(str(place.parent)), place.name, (a, b), gap, facts, bool(shared))
        console.print(f"look at [bold]{escape(command.save)}[/]", soft_wrap=True)
    return _tell(drawn)


def _measured(
    command: Measure, pools: tuple[Pool, Pool], shared: list[str]
) -> tuple[tuple[Drawn, Drawn], tuple[Measured, Measured]]:
    """Sketches of both sides, and what they are as numbers."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:

        def counted(label: str, total: int) -> Callable[[int], None]:
            task = bar.add_task(label, total=total)
            return lambda number: bar.advance(task, number)

        advance = counted("drawing", 2 * command.number)
        drawn = draw_both(*pools, shared, command.number, command.classes, command.seed, lambda: advance(1))
        total = sum(len(one.images) for one in drawn)
        measuring = counted("measuring", total)
        rows = [all_traits(one.images, measuring) for one in drawn]
        features: list[Values | None] = [None, None]
        if command.tower != NONE:
            images = [one.images for one in drawn]
            features = [*tower_features(images, counted("looking", total), command.tower, command.device)]
    a, b = (Measured(row, one.categories, seen) for row, one, seen in zip(rows, drawn, features, strict=True))
    return drawn, (a, b)


def _check(command: Measure) -> None:
    if command.number < LEAST:
        raise ValueError(f"--number is {command.number}: at least {LEAST} sketches of each side are needed")
    if command.save and not command.save.endswith((".html", ".htm")):
        raise ValueError(f"--save {command.save}: it is a page, name it .html")
    for path in (command.json, command.save):
        if path and Path(path).is_dir():
            raise ValueError(f"{path} is a folder: name a file in it")


def open_pool(name: str, command: Measure) -> Pool:
    """The sketches of a folder, or those of a bank that no training saw.

    Raises ValueError for a name that is neither, and for a bank whose folder is not there.
    """
    if os.path.isdir(os.path.expanduser(name)):
        return open_folder(os.path.expanduser(name))
    if os.sep in name or name.startswith((".", "~")):
        raise ValueError(f"there is no folder {name}: make the sketches first, or name another")
    try:
        return open_bank(name, bank_config(name, "val", data_folder(MixtureConfig("", data=command.data))))
    except ValueError as error:
        raise ValueError(
            f"{name}: no folder of this name is here, and as a bank it cannot be had: {error}. Name a folder, or a "
            "bank whose folder lies in --data (or SKETCH_DATA_DIR)"
        ) from None


def all_traits(images: Sequence[Sketch], advance: Callable[[int], None] = lambda number: None) -> Values:
    """[n, k]: the TRAITS of each."""
    rows = np.empty((len(images), len(TRAITS)))
    for place, image in enumerate(images):
        rows[place] = traits_of(image)
        advance(1)
    return rows


def tower_features(
    sets: Sequence[Sequence[Sketch]], advance: Callable[[int], None], tower: str = Measure.tower, device: str = ""
) -> list[Values]:
    """What the tower that the connector reads makes of each sketch of each set [n, d]: its patches' features, each
    patch of mean 0 and variance 1, averaged over patches. So no feature is large because of the model that it is of.

    Raises ValueError for a model that cannot be had.
    """
    import torch.nn.functional as F

    from sketchlm.loading import open_model, processor_of
    from sketchlm.retrieval.scorer import Scorer

    bundle = open_model(tower, device)
    processor = processor_of(bundle)
    scorer = Scorer(bundle.model, processor)

    def pooled(images: Sequence[Sketch]) -> Values:
        found = []
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            features = scorer.features(np.stack([processor.sketch_pixels(image) for image in batch])).float()
            found.append(F.layer_norm(features, features.shape[-1:]).mean(1).cpu().double().numpy())
            advance(len(batch))
        return np.concatenate(found)

    return [pooled(images) for images in sets]


def facts_of(command: Measure, drawn: tuple[Drawn, Drawn], shared: list[str]) -> dict[str, str]:
    """What was compared, as label and value."""
    counts = [one.counts() for one in drawn]
    facts = {
        side: f"{name}, {sum(count.values()):,} sketches of {len(count):,} classes"
        for side, name, count in zip("AB", (command.a, command.b), counts, strict=True)
    }
    if shared:
        there, number = list(counts[0]), counts[0].values()
        named = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "")
        each = f"{min(number)}" if min(number) == max(number) else f"{min(number)} to {max(number)}"
        what = f"matched: {len(there)} ({named}), of each {each} on both sides"
        if len(there) == 1:
            what += "; the figures tell of this one class alone"
    else:
        what = "not matched: what differs may be what is drawn, and not how"
        if "" in {*counts[0], *counts[1]}:
            what += " (pictures in no folder of a class have none)"
    return facts | {"classes": what} | ({} if command.tower == NONE else {"tower": command.tower})


def show(gap: Gap, facts: dict[str, str], console: Console) -> None:
    """The table: a line a trait, and one for each distance of all together."""
    for label, value in facts.items():
        console.print(f"[bold]{label}[/] {escape(value)}", soft_wrap=True)
    table = Table(caption=CAPTION, caption_justify="left", box=None, pad_edge=False)
    for name in ("", "A", "B", "d", "W", "noise"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for trait in TRAITS:
        one, noise = gap.apart.traits[trait.name], gap.noise.traits[trait.name]
        means = (_around(mean, _places(one)) for mean in (one.mean_a, one.mean_b))
        moved = noise.wasserstein.value
        table.add_row(trait.name, *means, _around(one.d, 2), _around(one.wasserstein, 2), f"{moved:.2f}")
    for label, figure, noise_of in (
        ("shape: mean W", gap.apart.shape, gap.noise.shape),
        ("shape: told apart", gap.apart.shape_told, gap.noise.shape_told),
        ("tower: MMD²", gap.apart.tower, gap.noise.tower),
        ("tower: told apart", gap.apart.tower_told, gap.noise.tower_told),
    ):
        if figure and noise_of:
            table.add_row(label, "", "", "", _around(figure, 3), f"{noise_of.value:.3f}".replace("nan", "–"))
    console.print(table)


def _places(one: Difference) -> int:
    """Decimal places that show two digits of the smaller interval."""
    half = min(mean.high - mean.low for mean in (one.mean_a, one.mean_b)) / 2
    return min(3, max(0, 1 - math.floor(math.log10(max(half, 1e-3)))))


def _around(estimate: Estimate, places: int) -> str:
    if not math.isfinite(estimate.value):
        return "–" if math.isnan(estimate.value) else "no spread"
    return f"{estimate.value:.{places}f} ±{(estimate.high - estimate.low) / 2:.{places}f}"


def to_json(command: Measure, drawn: tuple[Drawn, Drawn], shared: list[str], gap: Gap) -> dict[str, Any]:
    """All figures; null stands where there is none."""
    sides = {
        side: {
            "name": name,
            "sketches": len(one.images),
            "classes": one.counts(),
            "left_out": one.broken,
            "put_right": one.notes,
        }
        for side, name, one in zip("ab", (command.a, command.b), drawn, strict=True)
    }
    settings = {"number": command.number, "seed": command.seed, "tower": command.tower}
    units = {trait.name: asdict(trait) for trait in TRAITS}
    figures = {"traits": units, "apart": asdict(gap.apart), "noise": asdict(gap.noise)}
    return {**sides, "classes_matched": len(set(shared) & set(drawn[0].categories)), **settings, **figures}


def write(path: str, record: dict[str, Any]) -> None:
    """Whole or not at all."""
    place = Path(path)
    text = json.dumps(_finite(record), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    Storage(str(place.parent)).write(place.name, text.encode())


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tell(drawn: tuple[Drawn, Drawn]) -> int:
    """Say what was put right and left out; returns how many were left out."""
    errors = Console(highlight=False, stderr=True, soft_wrap=True)
    for side, one in zip("AB", drawn, strict=True):
        for text, number in one.notes.items():
            errors.print(f"note: {side}: {number} times {escape(text)}")
        for reason in one.broken:
            errors.print(f"[yellow]left out[/] of {side}: {escape(reason)}")
    return sum(len(one.broken) for one in drawn)
