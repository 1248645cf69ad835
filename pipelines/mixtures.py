"""Mixtures that are made: every part of a manifest as shards, then the mixture that training reads, and a card."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_manifests.card import card
from data_manifests.schema import (
    MIXTURE,
    Mixture,
    Part,
    bank_manifest,
    load_manifest,
    mixture_manifest,
    source_manifest,
)
from pipelines.wording import worded
from sketchgen.banks import BankConfig, Split
from sketchgen.config import absolute
from sketchgen.data_card import DATA_CARD, CardPart, PartNumbers, shortfall, write_data_card
from sketchgen.engine import EngineConfig
from sketchgen.instructions import InstructionsConfig, checked, facts_of, run_instructions
from sketchgen.output import RUN, read_config
from sketchgen.run import CARD
from sketchgen.selection import SelectionConfig
from sketchgen.shapeworld import TRAINING_STYLES, WorldConfig
from sketchgen.source import SourceConfig
from sketchgen.storage import Storage
from sketchgen.tasks.config import TasksConfig


@dataclass(frozen=True)
class MixtureConfig:
    """Which mixture, of what is where, and how much of it."""

    mixture: str
    """Name of a manifest in data_manifests/mixtures, or a file of that form."""
    data: str = ""
    """Folder that holds every source and bank, each in a folder of its name; empty = $SKETCH_DATA_DIR, else data."""
    parts: tuple[str, ...] = ()
    """Only these parts; empty = all."""
    banks: tuple[str, ...] = ()
    """Only drawings of these banks; empty = all."""
    size: int = 0
    """Queries of all parts together; 0 = as the manifest says."""
    unseen: str = ""
    """Classes that are kept out of training, by the name of a zero-shot protocol: shen-25, yelamarthi-21."""
    seed: int = 0
    """Decides what is drawn and asked."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    out: str = "out/instructions"
    """Output folder: a folder for each part in it."""
    dry_run: bool = False
    """Print the plan of every part and stop."""


def read_manifest(name: str) -> Mixture:
    """The manifest of this name, or in this file. Raises ValueError for one that cannot be used."""
    if not name.endswith((".yaml", ".yml")):
        return mixture_manifest(name)
    try:
        return load_manifest(Path(name), Mixture)
    except OSError as error:
        raise ValueError(f"cannot read the mixture {name}: {error}") from None


def run_mixture(config: MixtureConfig, console: Console) -> int:
    """Make what is missing of every part, then the mixture of them; returns the number of shards that failed.

    Raises ValueError for a manifest, settings or data that cannot work, before anything is made.
    """
    manifest = read_manifest(config.mixture)
    parts = _chosen(manifest, config)
    size = config.size or round(manifest.size * sum(part.weight for part in parts))
    targets = shares(size, [part.weight for part in parts])
    if size and not all(targets):
        few = ", ".join(part.shards for part, target in zip(parts, targets, strict=True) if not target)
        raise ValueError(f"of {size} queries there are none for {few}: a larger --size, or only some of the --parts")
    configs = [part_config(part, target, config) for part, target in zip(parts, targets, strict=True)]
    _check_data(parts, configs, config)
    failed = 0
    for number, (part, one) in enumerate(zip(parts, configs, strict=True), 1):
        console.rule(f"{number} of {len(parts)}: {part.shards}", align="left", style="dim")
        failed += run_instructions(one, console, may_be_empty=True)
    if not config.dry_run:
        _finish(manifest, size, config, console)
    return failed


def shares(size: int, weights: Sequence[float]) -> list[int]:
    """The size divided by weights, in whole numbers that sum to it (largest remainders)."""
    exact = [size * weight / sum(weights) for weight in weights]
    whole = [int(value + 1e-6) for value in exact]
    for place in sorted(range(len(exact)), key=lambda n: whole[n] - exact[n])[: size - sum(whole)]:
        whole[place] += 1
    return whole


def part_config(part: Part, size: int, config: MixtureConfig) -> InstructionsConfig:
    """The run that makes a part. size: its queries, 0 = all. Raises ValueError where the manifest asks for what is
    not there."""
    names = [name for name in part.banks if not config.banks or name in config.banks]
    if part.banks and not names:
        raise ValueError(f"part {part.shards!r} draws with {', '.join(part.banks)}, none of which is in --banks")
    if not part.banks and SourceConfig(part.source).knows != "questions":
        raise ValueError(f"part {part.shards!r} has no banks: its questions need drawings")
    tasks = _tasks_config(part)
    if tasks.own and "sketchy" not in names:  # nobody else has drawings of the very photos
        tasks = replace(tasks, own=0.0)
    data = data_folder(config)
    banks = [bank_config(name, part.split, data, part.banks[name]) for name in names] or [BankConfig(split=part.split)]
    return InstructionsConfig(
        source=_source_config(part, data),
        bank=banks[0],
        also=tuple(banks[1:]),
        unseen=config.unseen,
        select=SelectionConfig(images=0 if part.source == "shapeworld" else part.images),
        size=size,
        tasks=tasks,
        engine=config.engine,
        seed=config.seed,
        images_per_shard=part.images_per_shard,
        out=_folder(config.out, part),
        dry_run=config.dry_run,
    )


def data_folder(config: MixtureConfig) -> str:
    """Where sources and banks lie."""
    return os.path.expanduser(config.data or os.environ.get("SKETCH_DATA_DIR") or "data").rstrip("/")


def _tasks_config(part: Part) -> TasksConfig:
    known = {field.name for field in fields(TasksConfig)} - {"names"}
    if strange := sorted(set(part.ask) - known):
        raise ValueError(f"part {part.shards!r}: ask: there is no {strange[0]!r}; known are {', '.join(sorted(known))}")
    try:
        return TypeAdapter(TasksConfig).validate_python({"names": part.tasks, **part.ask})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"part {part.shards!r}: ask: {where}: {first['msg']} (seen: {first['input']!r})") from None


def _source_config(part: Part, data: str) -> SourceConfig:
    if part.source == "shapeworld":
        return SourceConfig("shapeworld", world=world_config(part))
    return SourceConfig(part.source, split=part.split, root=f"{data}/{part.source}")


def world_config(part: Part) -> WorldConfig:
    """The scenes of a part of shapeworld. Raises ValueError where the manifest asks for what is not there."""
    known = {field.name for field in fields(WorldConfig)} - {"split", "num_scenes"}
    if strange := sorted(set(part.world) - known):
        raise ValueError(
            f"part {part.shards!r}: world: there is no {strange[0]!r} to set; known are {', '.join(sorted(known))}"
        )
    try:
        return TypeAdapter(WorldConfig).validate_python({"split": part.split, "num_scenes": part.images, **part.world})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"part {part.shards!r}: world: {where}: {first['msg']} (seen: {first['input']!r})") from None


def bank_config(name: str, split: Split, data: str, weight: float = 1.0) -> BankConfig:
    """shapeworld-hand draws in the styles of training, shapeworld-STYLE in that one."""
    if name.startswith("shapeworld-"):
        styles = TRAINING_STYLES if name == "shapeworld-hand" else (name.removeprefix("shapeworld-"),)
        return BankConfig("shapeworld-hand", split=split, styles=styles, weight=weight)
    if name == "blank":
        return BankConfig("blank", split=split, weight=weight)
    kind: Any = "sketchvcl" if name.startswith("sketchvcl-") else name
    return BankConfig(kind, root=f"{data}/{name}", split=split, weight=weight)


def _folder(out: str, part: Part) -> str:
    return out if part.shards == "." else f"{out.rstrip('/')}/{part.shards}"


def _chosen(manifest: Mixture, config: MixtureConfig) -> list[Part]:
    """The parts that are to be made."""
    names = [part.shards for part in manifest.parts]
    if strange := [name for name in config.parts if name not in names]:
        raise ValueError(f"--parts: {manifest.name} has no part {strange[0]!r}, only {', '.join(names)}")
    known = {name: None for part in manifest.parts for name in part.banks}
    if strange := [name for name in config.banks if name not in known]:
        raise ValueError(f"--banks: {manifest.name} draws with no {strange[0]!r}, only with {', '.join(known)}")
    if there := [part.shards for part in manifest.parts if not part.source]:
        raise ValueError(
            f"{manifest.name}: nothing says what {there[0]} is made of (source, tasks, banks): train on it as it is"
        )
    return [part for part in manifest.parts if not config.parts or part.shards in config.parts]


def _check_data(parts: Sequence[Part], configs: Sequence[InstructionsConfig], config: MixtureConfig) -> None:
    """Raises ValueError that names everything that is missing, and how to get it; and the part that cannot work."""
    data = absolute(data_folder(config))
    if not os.path.isdir(data) and any(not one.source.generated for one in configs):
        raise ValueError(f"{config.mixture}: there is no folder {data} (--data DIR or SKETCH_DATA_DIR names another)")
    missing: dict[str, str] = {}
    lacking: set[str] = set()
    for part, one in zip(parts, configs, strict=True):
        absent = missing_folders(one, data)
        missing |= absent
        if one.source.name in absent:
            lacking.add(part.shards)
    if missing:
        ways = "\n".join(f"  {name}/: {way}" for name, way in missing.items())
        whole = [part.shards for part in parts if part.shards not in lacking]
        less = f"--parts {' '.join(whole)}" if whole and lacking else "--parts"
        drawn = dict.fromkeys(name for part in parts for name in part.banks if name not in missing)
        raise ValueError(
            f"{config.mixture}: {data} lacks {len(missing)} of the folders that it is made of, each to be put there "
            f"under this name:\n{ways}\nOr do with less: {less} --banks {' '.join(drawn)}".rstrip()
        )
    for part, one in zip(parts, configs, strict=True):
        try:
            checked(one)
        except ValueError as error:
            raise ValueError(f"{config.mixture}, part {part.shards}: {error}") from None


def missing_folders(one: InstructionsConfig, data: str) -> dict[str, str]:
    """The folders of source and banks that are not there, by name, each with the way to get it."""
    missing: dict[str, str] = {}
    if not one.source.generated and not os.path.isdir(one.source.root):
        manifest = source_manifest(one.source.name)[0]
        missing[one.source.name] = f"{manifest.obtain.strip()} ({manifest.homepage})"
    for bank in (one.bank, *one.also):
        if bank.root and not os.path.isdir(bank.root):
            missing[os.path.basename(bank.root)] = _way_to(os.path.basename(bank.root), bank.name, data)
    return missing


def _way_to(folder: str, bank: str, data: str) -> str:
    """How to get a bank into its folder."""
    if bank == "sketchvcl":
        source = folder.removeprefix("sketchvcl-")
        made = f"--source.root {data}/{source} --out {data}/{folder}"
        return f'made on your machine: make sketches RECIPE={source} ARGS="{made}"'
    manifest = bank_manifest(bank)
    return f"{manifest.obtain.strip()} ({manifest.homepage})"


def _finish(manifest: Mixture, size: int, config: MixtureConfig, console: Console) -> None:
    """The mixture of every part that is there, made now or before, and one card of them."""
    out = Storage(absolute(config.out))
    parts, facts = [], {"What": manifest.description.strip()} if manifest.description else {}
    for part in manifest.parts:
        storage = Storage(absolute(_folder(config.out, part)))
        if not storage.exists(RUN):
            continue
        made = read_config(storage, InstructionsConfig)
        parts.append(CardPart(part.shards, storage, made.source.name, part.weight, made.size))
        how = facts_of(made)
        facts[part.shards] = f"{how.pop('Tasks')} · " + " · ".join(f"{k.lower()} {v}" for k, v in how.items())
    total = sum(part.weight for part in parts)
    parts = [replace(part, weight=part.weight / total) for part in parts]
    title = manifest.title or manifest.name
    wanted = sum(part.target for part in parts) if size else 0
    numbers = write_data_card(out, title, facts, wanted, parts, worded)
    there = [part for part in numbers.parts if part.samples]
    if not there:
        raise ValueError(f"not one query of {manifest.name} was written: the lines above say why")
    out.write(MIXTURE, _manifest_text(manifest, there, config).encode())
    out.write(CARD, card(title, manifest.description, {part.name: part.name for part in there}).encode())
    _print_made(numbers.parts, console)
    console.print(f"mixture: [bold]{escape(config.out)}/{MIXTURE}[/]", soft_wrap=True)
    console.print(f"data card: [bold]{escape(config.out)}/{DATA_CARD}[/]", soft_wrap=True)


def _manifest_text(manifest: Mixture, there: Sequence[PartNumbers], config: MixtureConfig) -> str:
    """The mixture as training reads it: folders beside the manifest, or URLs."""
    total = sum(part.weight for part in there)
    weights = [round(part.weight / total, 9) for part in there]
    weights[-1] = round(1 - sum(weights[:-1]), 9)
    base = f"{config.out.rstrip('/')}/" if "://" in config.out else ""
    parts = [{"shards": base + part.name, "weight": weight} for part, weight in zip(there, weights, strict=True)]
    return yaml.safe_dump({"name": manifest.name, "title": manifest.title, "parts": parts}, sort_keys=False)


def _print_made(parts: Sequence[PartNumbers], console: Console) -> None:
    table = Table("part", "queries", "of", "samples", box=None, pad_edge=False, header_style="bold")
    for part in parts:
        reached = f"{_percent(part.queries / part.target)} of {part.target:,}" if part.target else "all"
        table.add_row(part.name, f"{part.queries:,}", reached, f"{part.samples:,}")
    console.print()
    console.print(table)
    for part in parts:
        if why := shortfall(part):
            console.print(f"{part.name}: {escape(why)}", soft_wrap=True)


def _percent(share: float) -> str:
    return "< 1%" if 0 < share < 0.01 else f"{int(100 * share)}%"
