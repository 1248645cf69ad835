"""Protocols that are asked: the shards of each with the sketches of each source, made where its data are here."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

from rich.console import Console
from rich.markup import escape

import data_manifests
from data_manifests.schema import Part, Protocol, bank_manifest, load_manifest, protocol_manifest
from data_manifests.vocabulary import vocabulary
from pipelines.mixtures import MixtureConfig, data_folder, missing_folders, part_config, world_config
from pipelines.sketches import shapeworld
from sketchgen.config import RunConfig, absolute
from sketchgen.engine import EngineConfig
from sketchgen.instructions import InstructionsConfig, is_complete, run_instructions
from sketchgen.run import run as sketch
from sketchgen.selection import SelectionConfig
from sketchlm.evaluation.questions import ASKED_AS, Samples
from sketchlm.evaluation.record import Missing

NONE = "none"
"""The sketches of a protocol that has none."""
CHOICE = 4
"""Times as many questions are made as are asked, so that classes can be chosen evenly."""


@dataclass(frozen=True)
class ShardsConfig:
    """Where data lie, and where the shards of protocols go."""

    data: str = ""
    """Folder that holds every source and bank, each in a folder of its name; empty = $SKETCH_DATA_DIR, else data."""
    engine: EngineConfig = field(default_factory=lambda: EngineConfig("local"))
    shards: str = "out/protocols"
    """A folder for each protocol and the sketches of each source."""


def data_place(config: ShardsConfig) -> str:
    """The folder that holds every source and bank."""
    return absolute(data_folder(MixtureConfig("", data=config.data)))


def read_protocol(name: str) -> Protocol:
    """The protocol of this name, or in this file. Raises ValueError for one that cannot be used."""
    if not name.endswith((".yaml", ".yml")):
        return protocol_manifest(name)
    try:
        return load_manifest(Path(name), Protocol)
    except OSError as error:
        raise ValueError(f"cannot read the protocol {name}: {error}") from None


def protocol_names() -> list[str]:
    """Those that come with the package."""
    return sorted(path.stem for path in (Path(data_manifests.__file__).parent / "protocols").glob("*.yaml"))


def shards_config(protocol: Protocol, sketches: str, config: ShardsConfig) -> InstructionsConfig:
    """The run that makes the shards of a protocol with the sketches of one source.

    Raises ValueError where the manifest asks for what is not there.
    """
    one = part_config(
        _part(protocol, sketches),
        0,
        MixtureConfig(protocol.name, data=config.data, engine=config.engine, out=f"{config.shards}/{protocol.name}"),
    )
    if one.source.generated:
        return one
    number = protocol.sketches[sketches].queries
    if protocol.images or "retrieval" in protocol.tasks or not number:
        return replace(one, select=SelectionConfig(images=protocol.images, balance=1.0 if protocol.images else 0.0))
    balance = 1.0 if one.source.knows == "boxes" else 0.0  # others know no classes before they are asked
    return replace(one, select=SelectionConfig(images=CHOICE * number, balance=balance), size=CHOICE * number)


def _part(protocol: Protocol, sketches: str) -> Part:
    """The protocol as a part of a mixture would say it."""
    tasks = list(dict.fromkeys(ASKED_AS.get(task, task) for task in protocol.tasks))
    banks = {} if protocol.source == "vqav2" else {"blank" if sketches == NONE else sketches: 1.0}
    return Part(
        shards=sketches,
        weight=1.0,
        source=protocol.source,
        split=protocol.split,
        images=protocol.images,
        tasks=cast(Any, tasks),
        ask=protocol.ask,
        world=protocol.world,
        banks=banks,
    )


def make_shards(protocol: Protocol, sketches: str, config: ShardsConfig, console: Console) -> str | Missing:
    """The folder of the shards, made first where they are missing; or what of the data is missing, and how to get it.

    Raises ValueError for a manifest that asks for what is not there, and for a folder that was made otherwise.
    """
    data = data_place(config)
    if protocol.made:
        return _made(protocol, sketches, config, data, console)
    one = shards_config(protocol, sketches, config)
    if absent := missing_folders(one, data):
        return _lacking(protocol, sketches, data, absent)
    try:
        whole = is_complete(one)
    except (ValueError, OSError) as error:
        return Missing(protocol=protocol.name, sketches=named(sketches), what=str(error))
    if not whole:
        console.print(
            f"making the questions of [bold]{protocol.name}[/] with {sketches} in {escape(one.out)}", soft_wrap=True
        )
        try:
            failed = run_instructions(one, console)
        except (ValueError, OSError) as error:
            return Missing(protocol=protocol.name, sketches=named(sketches), what=str(error))
        if failed:
            what = f"{failed} shards of {one.out} could not be made: run the same command again"
            return Missing(protocol=protocol.name, sketches=named(sketches), what=what)
    return one.out


def _made(protocol: Protocol, sketches: str, config: ShardsConfig, data: str, console: Console) -> str | Missing:
    """Sketches that were made of the photos themselves: of shapeworld made here, of others looked for."""
    if protocol.source == "shapeworld":
        one = made_config(protocol, sketches, config)
        if failed := sketch(one, console):
            what = f"{failed} shards of {one.out} could not be made: run the same command again"
            return Missing(protocol=protocol.name, sketches=sketches, what=what)
        return one.out
    folder = f"{data}/{sketches}"
    if os.path.isdir(folder):
        return folder
    flags = f"--source.root {data}/{protocol.source} --source.split {protocol.split} --out {folder}"
    way = f'made on your machine: make sketches RECIPE={protocol.source} ARGS="{flags}"'
    return _lacking(protocol, sketches, data, {sketches: way})


def _lacking(protocol: Protocol, sketches: str, data: str, folders: dict[str, str]) -> Missing:
    """folders: each with the way to get it."""
    what = f"{data} lacks {' and '.join(f'{name}/' for name in folders)}"
    return Missing(protocol=protocol.name, sketches=named(sketches), what=what, folders=folders)


def made_config(protocol: Protocol, sketches: str, config: ShardsConfig) -> RunConfig:
    """The run that makes sketches of the scenes of a protocol."""
    world = world_config(_part(protocol, sketches))
    base = shapeworld()
    return replace(
        base,
        source=replace(base.source, world=world),
        engine=config.engine,
        out=f"{config.shards}/{protocol.name}/{sketches}",
    )


def named(sketches: str) -> str:
    """As an entry of the record calls them."""
    return "" if sketches == NONE else sketches


def style_of(protocol: Protocol, sketches: str) -> Literal["seen", "unseen", ""]:
    """Whether training is to see this way of drawing: what the protocol says, whatever a model was trained on."""
    if sketches == NONE:
        return ""
    return "unseen" if protocol.sketches[sketches].unseen else "seen"


def classes_of(protocol: Protocol, samples: Samples) -> frozenset[str]:
    """The classes that a zero-shot protocol asks about; empty where all are."""
    if not protocol.only and not protocol.without:
        return frozenset()
    there = {thing.category for record in samples.records for thing in record.objects}
    return frozenset(
        name
        for name in there
        if (not protocol.only or name in zero_shot(protocol.only)) and name not in zero_shot(protocol.without)
    )


def zero_shot(name: str) -> frozenset[str]:
    """Our names of the classes that a zero-shot protocol of sketchy keeps out of training; none for "".

    Raises ValueError for a name that there is not.
    """
    if not name:
        return frozenset()
    known = bank_manifest("sketchy").unseen
    if name not in known:
        raise ValueError(f"no zero-shot protocol is called {name!r}; known are {', '.join(known)}")
    return frozenset(vocabulary().read(one, "sketchy").name for one in known[name])


def chosen(protocol: Protocol, sketches: Collection[str]) -> Iterator[str]:
    """The sketches of a protocol that are asked for; empty = all. Those of no source are always among them."""
    yield from (name for name in protocol.sketches if not sketches or name in sketches or name == NONE)


def check_chosen(protocols: Sequence[Protocol], sketches: Sequence[str]) -> None:
    """Raises ValueError for sketches that none of the protocols has."""
    known = {name: None for protocol in protocols for name in protocol.sketches}
    if strange := [name for name in sketches if name not in known]:
        raise ValueError(f"--sketches: no protocol here has {strange[0]!r}, only {', '.join(known)}")
