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

from data_manifests.schema import Mixture, Part, bank_manifest, load_manifest, mixture_manifest, source_manifest
from pipelines.wording import worded
from sketchgen.banks import BankConfig
from sketchgen.config import absolute
from sketchgen.data_card import CardPart, write_data_card
from sketchgen.engine import EngineConfig
from sketchgen.instructions import InstructionsConfig, checked, count_queries, facts_of, run_instructions, settings_of
from sketchgen.output import fingerprint
from sketchgen.selection import SelectionConfig
from sketchgen.shapeworld import WorldConfig
from sketchgen.source import SourceConfig
from sketchgen.storage import Storage
from sketchgen.tasks.config import TasksConfig

MANIFEST = "mixture.yaml"
"""What training reads, beside the folders of the parts."""


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


@dataclass(frozen=True)
class Made:
    """What became of one part. target: queries that were asked for, 0 = all that there are."""

    part: Part
    config: InstructionsConfig
    target: int
    written: int
    images: int
    samples: int
    reasons: dict[str, int]
    failed: int


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
    _check_data(configs, config)
    made = []
    for part, target, one in zip(parts, targets, configs, strict=True):
        console.rule(f"{manifest.name}: {part.shards}", align="left", style="dim")
        failed = run_instructions(one, console, may_be_empty=True)
        if not config.dry_run:
            made.append(_made(part, one, target, failed))
    if config.dry_run:
        return 0
    _write_manifest(manifest, made, config)
    _print_made(made, config, console)
    _write_card(manifest, made, size, config, console)
    return sum(one.failed for one in made)


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
    banks = [_bank_config(name, part, data) for name in names] or [BankConfig(split=part.split)]
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
        return SourceConfig("shapeworld", world=WorldConfig(split=part.split, num_scenes=part.images))
    return SourceConfig(part.source, split=part.split, root=f"{data}/{part.source}")


def _bank_config(name: str, part: Part, data: str) -> BankConfig:
    kind: Any = "sketchvcl" if name.startswith("sketchvcl-") else name
    root = "" if kind == "shapeworld-hand" else f"{data}/{name}"
    return BankConfig(kind, root=root, split=part.split, weight=part.banks[name])


def _folder(out: str, part: Part) -> str:
    return out if part.shards == "." else f"{out.rstrip('/')}/{part.shards}"


def _chosen(manifest: Mixture, config: MixtureConfig) -> list[Part]:
    """The parts that are to be made."""
    names = [part.shards for part in manifest.parts]
    if strange := [name for name in config.parts if name not in names]:
        raise ValueError(f"--parts: {manifest.name} has no part {strange[0]!r}, only {', '.join(names)}")
    if there := [part.shards for part in manifest.parts if not part.source]:
        raise ValueError(
            f"{manifest.name}: nothing says what {there[0]} is made of (source, tasks, banks): train on it as it is"
        )
    return [part for part in manifest.parts if not config.parts or part.shards in config.parts]


def _check_data(configs: Sequence[InstructionsConfig], config: MixtureConfig) -> None:
    """Raises ValueError that names everything that is missing, and how to get it."""
    missing: dict[str, str] = {}
    for one in configs:
        source, banks = one.source, (one.bank, *one.also)
        if not source.generated and not os.path.isdir(source.root) and "://" not in source.root:
            missing[source.name] = source_manifest(source.name)[0].obtain
        for bank in banks:
            if bank.name != "shapeworld-hand" and not os.path.isdir(bank.root):
                missing[Path(bank.root).name or bank.name] = bank_manifest(bank.name).obtain
    if missing:
        ways = "\n".join(f"  {name}/: {obtain.strip()}" for name, obtain in missing.items())
        raise ValueError(
            f"{config.mixture}: {absolute(data_folder(config))} lacks {len(missing)} of the folders that it is made of "
            f"(--data DIR or SKETCH_DATA_DIR names another):\n{ways}\nOr make a part of it: --parts, --banks."
        )
    for one in configs:
        checked(one)


def _made(part: Part, config: InstructionsConfig, target: int, failed: int) -> Made:
    config = checked(config)
    counts = count_queries(Storage(config.out), fingerprint(settings_of(config)))
    return Made(part, config, target, counts.written, counts.images, counts.samples, counts.by_reason, failed)


def _write_manifest(manifest: Mixture, made: Sequence[Made], config: MixtureConfig) -> None:
    """The mixture of what was made, as training reads it."""
    there = [one for one in made if one.samples]
    if not there:
        raise ValueError(f"not one query of {manifest.name} was written: the lines above say why")
    total = sum(one.part.weight for one in there)
    weights = [round(one.part.weight / total, 9) for one in there]
    weights[-1] = round(1 - sum(weights[:-1]), 9)
    parts = [
        {"shards": _folder(config.out, one.part), "weight": weight} for one, weight in zip(there, weights, strict=True)
    ]
    text = yaml.safe_dump({"name": manifest.name, "title": manifest.title, "parts": parts}, sort_keys=False)
    Storage(absolute(config.out)).write(MANIFEST, text.encode())


def _write_card(manifest: Mixture, made: Sequence[Made], size: int, config: MixtureConfig, console: Console) -> None:
    """One card of all parts, beside the mixture."""
    total = sum(one.part.weight for one in made)
    parts = [
        CardPart(
            one.part.shards,
            Storage(absolute(one.config.out)),
            one.config.source.name,
            one.part.weight / total,
            one.target,
        )
        for one in made
    ]
    facts = {"What": manifest.description.strip()} if manifest.description else {}
    for one in made:
        how = facts_of(one.config)
        facts[one.part.shards] = f"{how.pop('Tasks')} · " + " · ".join(f"{k.lower()} {v}" for k, v in how.items())
    name = write_data_card(Storage(absolute(config.out)), manifest.title or manifest.name, facts, size, parts, worded)
    console.print(f"data card: [bold]{escape(config.out)}/{name}[/]", soft_wrap=True)


def _print_made(made: Sequence[Made], config: MixtureConfig, console: Console) -> None:
    table = Table("part", "queries", "of", "samples", "why not more", box=None, pad_edge=False, header_style="bold")
    for one in made:
        reached = f"{one.written / one.target:.0%} of {one.target:,}" if one.target else "all"
        short = one.target and one.written < one.target
        why = ", ".join(
            [f"{one.images:,} images", *(f"{name} {count:,}" for name, count in list(one.reasons.items())[:3])]
        )
        table.add_row(one.part.shards, f"{one.written:,}", reached, f"{one.samples:,}", escape(why) if short else "")
    console.print()
    console.print(table)
    console.print(f"mixture: [bold]{escape(config.out)}/{MANIFEST}[/]", soft_wrap=True)
