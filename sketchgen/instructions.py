"""One run that makes instruction shards: settings in, photos with drawings and queries out."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any

import cv2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_manifests.card import card
from data_manifests.schema import SCHEMA_VERSION, bank_manifest
from data_manifests.vocabulary import Matching, vocabulary
from sketchgen.askable import is_unseen
from sketchgen.banks import BankConfig, bank_settings, build_bank, check_bank
from sketchgen.banks.matched import REPORT, MatchedBank, from_json, to_json
from sketchgen.banks.mixed import MixedBank
from sketchgen.banks.pictures import PictureBank
from sketchgen.config import absolute, absolute_source, check_least, source_settings
from sketchgen.engine import EngineConfig, TaskFailed
from sketchgen.instruction_worker import InstructionWorker, Material
from sketchgen.output import PLAN, SETTINGS, belongs_to, completions, fingerprint, write_config
from sketchgen.passes import claimed, listed, make_shards, print_failed
from sketchgen.photo import PhotoConfig
from sketchgen.plan import Plan, read_plan, read_shard_plan, write_plan
from sketchgen.progress import ProgressDisplay
from sketchgen.query_counts import QueryCounts, count_rows
from sketchgen.run import CARD
from sketchgen.selection import SelectionConfig
from sketchgen.source import ImageFiles, SourceConfig
from sketchgen.sources import categories_of, read_batches
from sketchgen.storage import Storage
from sketchgen.tasks.asking import ANSWERED
from sketchgen.tasks.config import TasksConfig, check_tasks


@dataclass(frozen=True)
class InstructionsConfig:
    """Everything that a run needs."""

    source: SourceConfig = field(default_factory=lambda: SourceConfig(name="shapeworld"))
    bank: BankConfig = field(default_factory=BankConfig)
    also: tuple[BankConfig, ...] = ()
    """Further banks, of the same split; each has its weight."""
    unseen: str = ""
    """Classes that are kept out of training, by the name of a zero-shot protocol of sketchy: shen-25, yelamarthi-21."""
    select: SelectionConfig = field(default_factory=SelectionConfig)
    size: int = 0
    """Queries that are made at most, spread evenly over the images; 0 = all that there are."""
    tasks: TasksConfig = field(default_factory=TasksConfig)
    photo: PhotoConfig = field(default_factory=PhotoConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    seed: int = 0
    """Decides what is drawn and asked; the scenes of a procedural source have their own."""
    images_per_shard: int = 250
    """Images a shard: the unit of work, and of what a kill can cost."""
    threads: int = 1
    """Threads of a worker's OpenCV; fixed, so that reruns are identical."""
    out: str = "out/instructions"
    """Output folder, a local path or fsspec URL."""
    dry_run: bool = False
    """Print the plan and stop."""


def run_instructions(config: InstructionsConfig, console: Console, may_be_empty: bool = False) -> int:
    """Make all shards that are not made yet; returns the number of shards that could not be made.

    may_be_empty: whether a finished run without a single query is no error, since others stand beside it.
    Raises ValueError or FileNotFoundError, with the remedy, for settings or a source that cannot work,
    and ValueError for a finished run without a single query.
    """
    config = checked(config)
    if config.dry_run:
        return _dry_run(config, console)
    storage = Storage(config.out)
    matchings = match_classes(config)
    settings = settings_of(config, matchings)
    mark = fingerprint(settings)
    batches = partial(read_batches, config.source, console)
    with claimed(storage, settings, batches, config.images_per_shard, console, config.select) as plan:
        write_config(storage, config)
        done = completions(storage, mark)
        todo = [shard for shard in range(plan.shards) if shard not in done]
        _print_plan(plan, len(done), config, console)
        storage.write(REPORT, to_json(matchings))
        _print_matchings(matchings, config, console)
        failed: list[TaskFailed] = []
        if todo:
            ImageFiles(config.source).check([image.file for image in islice(read_shard_plan(storage, todo[0]), 20)])
            before = sum(record.images for record in done.values())
            with ProgressDisplay(console, plan.images, before, unit="queries") as display:
                failed = make_shards(partial(make_worker, config, mark), storage, todo, config.engine, display)
        else:
            console.print("Nothing is left to do: every shard is there.")
        counts = count_rows(storage, mark)
        storage.write(CARD, _card(config, counts).encode())
    _print_summary(counts, failed, console)
    if counts.written == 0 and not failed and not may_be_empty:
        raise ValueError(f"not one query was written ({listed(counts.refused.counts)}); {config.out} holds no sample")
    return len(failed)


def is_complete(config: InstructionsConfig) -> bool:
    """Whether the folder holds every shard of this run already; looks at names and records only.

    Raises ValueError where the folder was made with other settings.
    """
    config = checked(config)
    storage = Storage(config.out)
    settings = settings_of(config)
    if not belongs_to(storage, settings) or not storage.exists(PLAN):
        return False
    return len(completions(storage, fingerprint(settings))) == read_plan(storage).shards


def match_classes(config: InstructionsConfig) -> list[Matching]:
    """Which classes of the source each bank can draw. Raises ValueError where none draws any, and questions need it."""
    if config.source.knows == "questions":
        return [Matching((), (), ()) for _ in (config.bank, *config.also)]
    unseen = unseen_classes(config)
    read = [vocabulary().read(name, config.source.name).name for name in categories_of(config.source)]
    read = list(dict.fromkeys(read)) if config.source.generated else sorted(set(read))
    names = [name for name in read if not is_unseen(name, unseen)]
    matchings = [
        vocabulary().match(names, build_bank(bank).categories, "", bank.name) for bank in (config.bank, *config.also)
    ]
    if not any(matching.matches for matching in matchings):
        drawings = [name for matching in matchings for name in matching.drawings]
        raise ValueError(
            f"no class of {config.source.called} ({', '.join(names[:5])}, ...) is drawn by "
            f"{' + '.join(bank_names(config))} ({', '.join(drawings[:5])}, ...)"
        )
    return matchings


def unseen_classes(config: InstructionsConfig) -> frozenset[str]:
    """Our names of the classes that are kept out of training; none of evaluation."""
    if not config.unseen or config.bank.split != "train":
        return frozenset()
    names = bank_manifest("sketchy").unseen[config.unseen]
    return frozenset(vocabulary().read(name, "sketchy").name for name in names)


def make_worker(config: InstructionsConfig, mark: str) -> InstructionWorker:
    """Called once in each worker process."""
    cv2.setNumThreads(config.threads)
    storage = Storage(config.out)
    banks = [(bank, build_bank(bank)) for bank in (config.bank, *config.also)]
    matched = [
        (MatchedBank(built, matching), bank.weight)
        for (bank, built), matching in zip(banks, from_json(storage.read(REPORT)), strict=True)
    ]
    pairs = [built for bank, built in banks if bank.name == "sketchy" and isinstance(built, PictureBank)]
    material = Material(
        config.source,
        MixedBank(matched) if config.also else matched[0][0],
        pairs[0] if pairs and config.tasks.own else None,
        unseen_classes(config),
    )
    return InstructionWorker(storage, material, config.tasks, config.photo, config.seed, config.size or -1, mark)


def settings_of(config: InstructionsConfig, matchings: Sequence[Matching] | None = None) -> dict[str, Any]:
    """The settings that decide the bytes of the output; paths and the engine are not among them.

    matchings: of `match_classes`, where they are at hand.
    """
    classes = to_json(match_classes(config) if matchings is None else matchings)
    return {
        "schema": SCHEMA_VERSION,
        "source": source_settings(config.source),
        "bank": bank_settings(config.bank, alone=not config.also),
        "also": {str(number): bank_settings(bank, alone=False) for number, bank in enumerate(config.also)},
        "classes": hashlib.sha256(classes).hexdigest()[:16],
        "unseen": config.unseen,
        "select": asdict(config.select),
        "size": config.size,
        "tasks": _listed_tuples(asdict(config.tasks)),
        "photo": asdict(config.photo),
        "seed": config.seed,
        "images_per_shard": config.images_per_shard,
        "threads": config.threads,
    }


def checked(config: InstructionsConfig) -> InstructionsConfig:
    """The config with local paths made absolute: workers may run elsewhere.

    Raises ValueError for numbers that mean nothing, with the flag and what it must be, and for
    sketches of evaluation in training.
    """
    least = {
        "images_per_shard": (config.images_per_shard, 1),
        "threads": (config.threads, 1),
        **config.engine.least,
        "source.limit": (config.source.limit, 0),
        "select.images": (config.select.images, 0),
        "select.instances_per_image": (config.select.instances_per_image, 0),
        "select.balance": (config.select.balance, 0),
        "size": (config.size, 0),
        "photo.max_side": (config.photo.max_side, 1),
    }
    check_least(least)
    check_tasks(config.tasks)
    for bank in (config.bank, *config.also):
        check_bank(bank)
    _check_agreement(config)
    banks = [replace(bank, root=absolute(bank.root)) for bank in (config.bank, *config.also)]
    return replace(
        config, out=absolute(config.out), source=absolute_source(config.source), bank=banks[0], also=tuple(banks[1:])
    )


def _check_agreement(config: InstructionsConfig) -> None:
    """Raises ValueError where source, banks and tasks do not go together."""
    source = config.source
    if source.generated:
        splits = {"source.world.split": str(source.world.split)}
    elif source.packaged:  # there is but one split of it
        splits = {}
    else:
        splits = {"source.split": source.split if source.split == "train" else "val"}
    splits |= {"bank.split": config.bank.split} | {f"also.{n}.split": bank.split for n, bank in enumerate(config.also)}
    if len(set(splits.values())) > 1:
        seen = " and ".join(f"{name} is {split!r}" for name, split in splits.items())
        raise ValueError(
            f"{seen}: photos and sketches of one run must be of one split, or an evaluation would see what was trained "
            "on"
        )
    if strange := [name for name in config.tasks.names if name not in ANSWERED[config.source.knows]]:
        raise ValueError(
            f"{config.source.name} knows {config.source.knows}, which do not answer {strange[0]}: it can be asked for "
            f"{', '.join(ANSWERED[config.source.knows])} (--tasks.names)"
        )
    if config.tasks.own and "sketchy" not in {bank.name for bank in (config.bank, *config.also)}:
        raise ValueError("tasks.own asks for drawings made of the very photos: only the bank sketchy has them")
    protocols = bank_manifest("sketchy").unseen
    if config.unseen and config.unseen not in protocols:
        raise ValueError(f"unseen is {config.unseen!r}; known are {', '.join(protocols)}")


def facts_of(config: InstructionsConfig) -> dict[str, str]:
    """How the shards were made, for a person: label and value."""
    source, banks = config.source, (config.bank, *config.also)
    total = sum(bank.weight for bank in banks)
    drawn = ", ".join(
        f"{name}{f' (weight {bank.weight / total:.0%})' if config.also else ''}"
        for name, bank in zip(bank_names(config), banks, strict=False)
    )
    facts = {
        "Photos": f"{source.called}, split {source.world.split if source.generated else source.split}",
        "Drawings": "none" if source.knows == "questions" else f"{drawn}, split {config.bank.split}",
        "Tasks": ", ".join(config.tasks.names),
        "Seed": str(config.seed),
    }
    if config.unseen:
        facts["Kept out of training"] = f"classes of {config.unseen}"
    if config.select.images:
        facts["Photos chosen"] = f"{config.select.images:,}"
    return facts


def _listed_tuples(tree: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in tree.items()}


def _dry_run(config: InstructionsConfig, console: Console) -> int:
    """Raises ValueError as the run would."""
    matchings = match_classes(config)
    settings = settings_of(config, matchings)
    there, done = Storage(config.out), 0
    if there.exists(SETTINGS) and belongs_to(there, settings):
        done = len(completions(there, fingerprint(settings)))
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        batches = partial(read_batches, config.source, console)
        plan = write_plan(batches, config.images_per_shard, storage, config.select)
    _print_plan(plan, done, config, console)
    _print_matchings(matchings, config, console)
    return 0


def _print_plan(plan: Plan, done: int, config: InstructionsConfig, console: Console) -> None:
    name = config.source.called
    rows = f"{plan.asked:,} questions" if plan.asked else f"{plan.instances:,} instances"
    size = f", {config.size:,} queries at most" if config.size else ""
    drawn = " + ".join(bank_names(config))
    console.print(
        f"[bold]{escape(name)}[/]: {plan.images:,} images, {rows}, {plan.shards:,} shards, {done:,} done{size}. "
        f"{f'Sketches of {drawn} ({config.bank.split})' if drawn else 'No sketches'}, tasks "
        f"{', '.join(config.tasks.names)}, engine {config.engine.name}, to {escape(config.out)}",
        soft_wrap=True,
    )


def bank_names(config: InstructionsConfig) -> list[str]:
    """What the banks are called, as mixtures call them: sketchvcl-coco for what lies in a folder of that name."""
    if config.source.knows == "questions":
        return []
    banks = (config.bank, *config.also)
    folders = [os.path.basename(bank.root.rstrip("/")) for bank in banks]
    return [
        folder if folder.startswith(f"{bank.name}-") else bank.name for bank, folder in zip(banks, folders, strict=True)
    ]


def _print_matchings(matchings: Sequence[Matching], config: InstructionsConfig, console: Console) -> None:
    """Which classes can be asked about, where that is not all of them."""
    if config.source.knows == "questions" or not any(matching.images or matching.drawings for matching in matchings):
        return
    banks = ", ".join(
        f"{name} {len(matching.drawn_by):,}" for name, matching in zip(bank_names(config), matchings, strict=True)
    )
    drawn = {name for matching in matchings for name in matching.drawn_by}
    undrawn = sorted({name for matching in matchings for name in matching.images} - drawn)
    missing = ", ".join(undrawn[:5]) + (", ..." if len(undrawn) > 5 else "")
    console.print(
        f"{len(drawn):,} of {len(drawn) + len(undrawn):,} classes of {config.source.called} are drawn ({banks})"
        f"{f', not {escape(missing)}' if undrawn else ''}: {escape(config.out)}/{REPORT}",
        soft_wrap=True,
    )


def _print_summary(counts: QueryCounts, failed: list[TaskFailed], console: Console) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("written", f"{counts.written:,} queries in {counts.samples:,} samples")
    table.add_row("tasks", listed(counts.by_task))
    if counts.refused.counts:
        table.add_row("not asked", listed(counts.refused.counts))
    console.print(table)
    print_failed(failed, console)


def _card(config: InstructionsConfig, counts: QueryCounts) -> str:
    body = (
        f"{counts.written:,} queries ({listed(counts.by_task)}) about {counts.samples:,} images of "
        f"{config.source.called}, with sketches of {' + '.join(bank_names(config)) or 'none'} "
        f"(split {config.bank.split}), made by sketchgen.\n\n"
        "Each sample is `{key}.jpg` (the photo), `{key}.sketches.png` (its sketches, 256 x 256 each, top to "
        "bottom) and `{key}.json` (objects, sketches, queries). Half of the sketches of a sample show a class "
        "that the image lacks. Questions have no words yet, except those of `vqa`: the trainer draws a template. "
        "`NNNNNN.parquet` beside each shard is its ledger: one row for every query, and for what was not asked.\n\n"
        "```python\nimport datasets\n"
        'shards = datasets.load_dataset("path/to/this/folder", split="train", streaming=True)\n```'
    )
    return card(f"Instructions on {config.source.called}", body)
