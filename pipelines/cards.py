"""The data card of instruction shards, with the trainer's words: of one run, or of all parts of a mixture."""

from __future__ import annotations

import os

from rich.console import Console
from rich.markup import escape

from pipelines.wording import worded
from sketchgen.config import absolute
from sketchgen.data_card import CardPart, write_data_card
from sketchgen.instructions import InstructionsConfig, facts_of
from sketchgen.storage import Storage


def write_run_card(config: InstructionsConfig, console: Console) -> None:
    """The card of one run, beside its shards."""
    storage = Storage(absolute(config.out))
    part = CardPart(config.source.called, storage, config.source.name, target=config.size)
    title = f"Instructions · {os.path.basename(config.out.rstrip('/'))}"
    name = write_data_card(storage, title, facts_of(config), config.size, [part], worded)
    console.print(f"data card: [bold]{escape(config.out)}/{name}[/]", soft_wrap=True)
