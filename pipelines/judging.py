"""A bundle judged on shards that training never saw, beside its controls."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from sketchlm.bundle import Bundle, load_bundle
from sketchlm.evaluation.questions import Column, collect, columns, constants, evaluate, shuffled
from sketchlm.model import num_image_tokens, unwrap
from sketchlm.processor import Processor, ProcessorConfig
from sketchlm.shards import read_samples

CONTROLS = "shuffled: with the sketch of another question; constant: the best answer that is always the same"


class Judgement(NamedTuple):
    """Figures by name, each beside what no sight of the sketch would give."""

    trained: dict[str, Column]
    shuffled: dict[str, Column]
    """The same model, each question with the sketch of another; empty where that was not asked for."""
    constant: dict[str, float]
    """The best answer that is always the same."""


def judge(
    bundle: str | Path,
    shards: str,
    tasks: tuple[str, ...],
    limit: int,
    blind: bool = False,
    controls: bool = True,
    device: str = "",
) -> Judgement:
    """Ask the questions of the first `limit` samples.

    blind: the sketches are hidden, as in training; device: "" = the best there is.
    Raises ValueError for a bundle or shards that cannot be read.
    """
    loaded = load_bundle(bundle)
    loaded.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    processor = processor_of(loaded, tasks, blind)
    asked = collect(islice(read_samples(shards), limit), processor)
    trained = _answered(columns(asked, evaluate(loaded.model, processor, asked)))
    swapped: dict[str, Column] = {}
    if controls and not blind:
        others = {task: shuffled(them) for task, them in asked.items()}
        swapped = _answered(columns(others, evaluate(loaded.model, processor, others)))
    return Judgement(trained, swapped, constants(asked, processor))


def processor_of(bundle: Bundle, tasks: tuple[str, ...], blind: bool = False) -> Processor:
    """What makes questions of samples for a bundle, in the prompt that it was trained with."""
    vision = unwrap(bundle.model).config.vision_config
    config = ProcessorConfig(prompt=bundle.info.prompt, tasks=tasks, blind=blind)
    return Processor(bundle.tokenizer, vision.image_size, num_image_tokens(bundle.model), config)


def _answered(found: dict[str, Column]) -> dict[str, Column]:
    """Those with a question at least: few scenes may hold none with boxes to choose from, say."""
    return {name: column for name, column in found.items() if column.rows}


def show(judgement: Judgement, title: str, console: Console) -> None:
    """A table: one line a figure."""
    table = Table(title=title, title_justify="left", caption=CONTROLS, caption_justify="left", box=None, pad_edge=False)
    for name in ("", "as trained (95 %)", "shuffled", "constant", "n"):
        table.add_column(name, justify="left" if not name else "right")
    for name, column in judgement.trained.items():
        figure, swapped = column.figure(), judgement.shuffled.get(name)
        constant = judgement.constant.get(name)
        table.add_row(
            name,
            str(figure),
            f"{swapped.figure().value:.3f}" if swapped else "",
            "" if constant is None else f"{constant:.3f}",
            str(figure.n),
        )
    console.print(table)


def save(judgement: Judgement, path: Path) -> None:
    """The figures as JSON: by name those of the trained model and of each control."""
    figures: dict[str, dict[str, object]] = {}
    for name, column in judgement.trained.items():
        figures[name] = {"trained": asdict(column.figure())}
        if name in judgement.shuffled:
            figures[name]["shuffled"] = asdict(judgement.shuffled[name].figure())
        if name in judgement.constant:
            figures[name]["constant"] = judgement.constant[name]
    begun = path.with_name(f".tmp-{path.name}")
    begun.write_text(json.dumps(figures, indent=1) + "\n")
    begun.replace(path)
