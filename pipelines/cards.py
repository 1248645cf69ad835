"""The data card of instruction shards, with the trainer's words: of one run, or of all parts of a mixture."""

from __future__ import annotations

import os

from rich.console import Console
from rich.markup import escape

from pipelines.wording import worded
from sketchgen.config import absolute
from sketchgen.data_card import DATA_CARD, CardPart, write_data_card
from sketchgen.descriptions import DescriptionsConfig
from sketchgen.finished import instruction_settings
from sketchgen.instructions import InstructionsConfig, facts_of
from sketchgen.storage import Storage


def write_run_card(config: InstructionsConfig, console: Console) -> None:
    """The card of one run, beside its shards."""
    storage = Storage(absolute(config.out))
    part = CardPart(config.source.called, storage, config.source.name, target=config.size)
    title = f"Instructions · {os.path.basename(config.out.rstrip('/'))}"
    write_data_card(storage, title, facts_of(config), config.size, [part], worded)
    console.print(f"data card: [bold]{escape(config.out)}/{DATA_CARD}[/]", soft_wrap=True)


def write_described_card(config: DescriptionsConfig, console: Console) -> None:
    """The card of described shards, beside them."""
    source = instruction_settings(Storage(absolute(config.shards)))["source"]
    storage = Storage(absolute(config.out))
    facts = {"Questions": config.shards, "Captioner": config.captioner.model}
    if config.refiner.model:
        facts["Refiner"] = config.refiner.model
    part = CardPart(source["label"], storage, source["name"])
    title = f"Descriptions · {os.path.basename(config.out.rstrip('/'))}"
    write_data_card(storage, title, facts, 0, [part], worded)
    console.print(f"data card: [bold]{escape(config.out)}/{DATA_CARD}[/]", soft_wrap=True)
