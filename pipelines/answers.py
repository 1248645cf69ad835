"""`sketchlm detect | count | ask | rank | export`: what the library does, from the command line.

SKETCH is a picture of a drawing, dark on white; - for none, where --text names the object. Images are paths or URLs.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.exits import clean_exit

if TYPE_CHECKING:
    from sketchlm import SketchLM


@dataclass(frozen=True)
class How:
    """Which model answers, and what becomes of its answers."""

    model: str = "learn"
    """Folder of a bundle, a LLaVA-1.5 (folder or hub id), or `learn`, which comes with the package."""
    device: str = ""
    """cpu, cuda, cuda:1; empty = a GPU where there is one."""
    dtype: Literal["", "float32", "bfloat16", "float16"] = ""
    """Empty = float32 on a CPU, bfloat16 on a GPU."""
    quantization: Literal["", "4bit", "8bit"] = ""
    """Of the language model's weights; needs a GPU and bitsandbytes."""
    batch: int = 8
    """Images at once."""
    save: str = ""
    """Picture of the answer to write; of several images: a folder for their pictures."""
    json: bool = False
    """One JSON object a line."""


SketchPath = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SKETCH")]
ImagePaths = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE [IMAGE ...]")]
Shared = Annotated[How, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class Detect:
    """Where in each image what the sketch shows is: boxes in pixels, surest first."""

    sketch: SketchPath
    """Picture of a drawing; - for none."""
    images: ImagePaths
    """Paths or URLs."""
    text: str = ""
    """Names the object, or says more about it than the sketch."""
    multiple: bool = False
    """All instances, not the first alone."""
    min_score: float = 0.0
    """Only boxes that are at least so sure."""
    how: Shared = dataclasses.field(default_factory=How)


@dataclass(frozen=True)
class Count:
    """How many of what the sketch shows are in each image."""

    sketch: SketchPath
    """Picture of a drawing; - for none."""
    images: ImagePaths
    """Paths or URLs."""
    text: str = ""
    """Names the object, or says more about it than the sketch."""
    how: Shared = dataclasses.field(default_factory=How)


@dataclass(frozen=True)
class Ask:
    """A question about the sketch and each image, answered."""

    sketch: SketchPath
    """Picture of a drawing; - for none."""
    images: ImagePaths
    """Paths or URLs."""
    question: str
    """What to ask."""
    long: bool = False
    """Do not ask for a word or phrase."""
    max_new_tokens: int = 128
    """Tokens of an answer at most."""
    how: Shared = dataclasses.field(default_factory=How)


@dataclass(frozen=True)
class Rank:
    """Which images of a gallery show what the sketch shows, surest first."""

    sketch: SketchPath
    """Picture of a drawing; - for none."""
    gallery: ImagePaths
    """Folders, files or patterns ('photos/**/*.jpg'); or URLs."""
    text: str = ""
    """Names the object, or says more about it than the sketch."""
    top_k: int = 10
    """Images that are named; 0 = all."""
    top_n: int = 75
    """Images that the model looks at, of those that a coarse search finds first."""
    exhaustive: bool = False
    """The model looks at all."""
    folder: str = ""
    """Where what is known of the images is kept; empty = in the user's cache."""
    how: Shared = dataclasses.field(default_factory=How)


@dataclass(frozen=True)
class Export:
    """Write a bundle as a plain Hugging Face LLaVA, weights merged, which vLLM and others load."""

    bundle: Annotated[str, tyro.conf.Positional]
    """Folder of the bundle."""
    out: Annotated[str, tyro.conf.Positional]
    """Folder to write."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float16"


COMMANDS: dict[str, Any] = {"detect": Detect, "count": Count, "ask": Ask, "rank": Rank, "export": Export}


def main(args: Sequence[str] | None = None) -> None:
    """The command line; exits with 1 where an answer could not be had."""
    command = tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="sketchlm", description=__doc__, args=args)
    with clean_exit("nothing was written"):
        runs: dict[type, Callable[[Any], int]] = {Export: run_export, Rank: run_rank}
        failed = runs.get(type(command), run)(command)
    sys.exit(1 if failed else 0)


def run(command: Any) -> int:
    """Answer, print, save; returns how many answers could not be had."""
    from sketchlm import SketchLM

    warnings.formatwarning = lambda message, *_: f"note: {message}\n"
    how = command.how
    if not command.images:
        raise ValueError("no image is named: sketchlm detect SKETCH IMAGE [IMAGE ...]")
    if how.save and len(command.images) > 1 and Path(how.save).suffix:
        raise ValueError(f"--save {how.save}: of {len(command.images)} images, name a folder")
    model = SketchLM.from_pretrained(how.model, how.device, how.dtype, how.quantization)
    out = Console(highlight=False, soft_wrap=True)
    failed = 0
    for number, (image, result) in enumerate(zip(command.images, answers(model, command), strict=True)):
        failed += bool(result.reason)
        out.print(as_json(image, result) if how.json else as_line(image, result), markup=not how.json)
        if how.save and result.raw:
            place = Path(how.save) if Path(how.save).suffix else Path(how.save) / f"{number:03d}-{Path(image).stem}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            result.save(place)
    return failed


def run_rank(command: Rank) -> int:
    """Look at the gallery, rank, print, save; returns how many images could not be read."""
    from sketchlm import SketchLM

    how = command.how
    out, errors = (Console(highlight=False, soft_wrap=True, stderr=stderr) for stderr in (False, True))
    model = SketchLM.from_pretrained(how.model, how.device, how.dtype, how.quantization)
    with progress() as bar:
        task = bar.add_task("looking", total=None)
        gallery = model.gallery(
            list(command.gallery), command.folder, seen=lambda done, of: bar.update(task, completed=done, total=of)
        )
    sketch = None if command.sketch == "-" else command.sketch
    found = model.rank(
        sketch, gallery, command.text, top_k=command.top_k, top_n=command.top_n, exhaustive=command.exhaustive
    )
    for match in found.matches:
        fields = {"image": match.name, "score": None if math.isnan(match.score) else match.score}
        line = f"{'-' if fields['score'] is None else f'{match.score:.3f}':>5}  [bold]{escape(match.name)}[/]"
        out.print(json.dumps(fields) if how.json else line, markup=not how.json)
    for name, reason in found.broken.items():
        errors.print(f"[yellow]left out[/] {escape(name)}: {escape(reason)}")
    if how.save:
        found.save(how.save)
    return len(found.broken)


def progress() -> Progress:
    """A bar on the error output, which goes when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def answers(model: SketchLM, command: Any) -> list[Any]:
    """A result for each image."""
    sketch, images, batch = None if command.sketch == "-" else command.sketch, list(command.images), command.how.batch
    if isinstance(command, Detect):
        many, least = command.multiple, command.min_score
        return list(model.detect(sketch, images, command.text, multiple=many, min_score=least, batch=batch))
    if isinstance(command, Count):
        return list(model.count(sketch, images, command.text, batch=batch))
    limit, brief = command.max_new_tokens, not command.long
    return list(model.ask(sketch, images, command.question, max_new_tokens=limit, brief=brief, batch=batch))


def as_line(image: str, result: Any) -> str:
    """For people."""
    from sketchlm import Count as Counted
    from sketchlm import Detection

    if isinstance(result, Detection):
        boxes = [f"({', '.join(f'{value:.0f}' for value in box.xyxy)}) {box.score:.2f}" for box in result.boxes]
        said = "  ".join(boxes)
    elif isinstance(result, Counted):
        said = "" if result.count is None else f"{result.count} ({result.score:.2f})"
    else:
        said = escape(result.text)
    why = f" [yellow]{escape(result.reason)}[/]" if result.reason else ""
    raw = f" [dim]it said: {escape(result.raw)}[/]" if result.reason and result.raw and not said else ""
    return f"[bold]{escape(image)}[/]  {said}{why}{raw}"


def as_json(image: str, result: Any) -> str:
    """For programs."""
    fields = {name: value for name, value in dataclasses.asdict(result).items() if name not in ("shown", "question")}
    return json.dumps({"image": image, **fields})


def run_export(command: Export) -> int:
    """Write; returns 0."""
    import torch

    from sketchlm.bundle import export

    export(command.bundle, Path(command.out), dtype=getattr(torch, command.dtype))
    Console(highlight=False).print(f"written: [bold]{escape(command.out)}[/]", soft_wrap=True)
    return 0


if __name__ == "__main__":
    main()
