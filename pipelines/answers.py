"""`sketchlm detect | count | ask | rank | export`: what the library does, from the command line.

SKETCH is a picture of a drawing, dark on white; - for none, where --text names the object. Images are paths or URLs.
PyTorch takes some seconds to load; what can be checked before is.
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
from rich.status import Status

from pipelines.exits import clean_exit

if TYPE_CHECKING:
    from sketchlm import SketchLM


@dataclass(frozen=True)
class Which:
    """Which model answers, and where."""

    model: str = "learn"
    """Folder of a bundle, a LLaVA-1.5 (folder or hub id), or `learn`, which comes with the package."""
    device: str = ""
    """cpu, cuda, cuda:1; empty = a GPU where there is one."""
    dtype: Literal["", "float32", "bfloat16", "float16"] = ""
    """Empty = float32 on a CPU, bfloat16 on a GPU."""
    quantization: Literal["", "4bit", "8bit"] = ""
    """Of the language model's weights; needs a GPU and bitsandbytes."""
    threads: int = 0
    """Of the CPU; 0 = one for a small model, which a second hardly helps and a busy machine then slows down; else as
    PyTorch chooses."""


@dataclass(frozen=True)
class How:
    """How it is asked, and what becomes of its answers."""

    batch: int = 8
    """Images at once."""
    save: str = ""
    """Picture of the answer to write (.png, .jpg); of several images: a folder for their pictures."""
    json: bool = False
    """One JSON object a line."""


SketchPath = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SKETCH")]
ImagePaths = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE [IMAGE ...]")]
WhichModel = Annotated[Which, tyro.conf.arg(name="")]
HowAsked = Annotated[How, tyro.conf.arg(name="")]


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
    which: WhichModel = dataclasses.field(default_factory=Which)
    how: HowAsked = dataclasses.field(default_factory=How)


@dataclass(frozen=True)
class Count:
    """How many of what the sketch shows are in each image."""

    sketch: SketchPath
    """Picture of a drawing; - for none."""
    images: ImagePaths
    """Paths or URLs."""
    text: str = ""
    """Names the object, or says more about it than the sketch."""
    which: WhichModel = dataclasses.field(default_factory=Which)
    how: HowAsked = dataclasses.field(default_factory=How)


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
    which: WhichModel = dataclasses.field(default_factory=Which)
    how: HowAsked = dataclasses.field(default_factory=How)


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
    save: str = ""
    """Picture to write (.png, .jpg): the sketch beside the best ten."""
    json: bool = False
    """One JSON object a line."""
    which: WhichModel = dataclasses.field(default_factory=Which)


@dataclass(frozen=True)
class Export:
    """Write a bundle as a plain Hugging Face LLaVA, weights merged, which vLLM and others load."""

    bundle: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="BUNDLE")]
    """Folder of the bundle, its hub id, or `learn`, which comes with the package."""
    out: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder to write; an earlier export in it is replaced."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float16"
    """Of its weights."""


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
    warnings.formatwarning = lambda message, *_: f"note: {message}\n"
    how = command.how
    check_images(command.images)
    check_save(how.save, len(command.images))
    check_sketch(command.sketch, command.question if isinstance(command, Ask) else command.text)
    model = opened(command.which)
    out = Console(highlight=False, soft_wrap=True)
    failed = 0
    for number, (image, result) in enumerate(zip(command.images, answers(model, command), strict=True)):
        failed += bool(result.reason)
        out.print(as_json(image, result) if how.json else as_line(image, result), markup=not how.json)
        if how.save and result.raw:
            is_file = len(command.images) == 1 and is_picture(how.save)
            result.save(how.save if is_file else Path(how.save) / f"{number:03d}-{Path(image).stem}.png")
    return failed


def run_rank(command: Rank) -> int:
    """Look at the gallery, rank, print, save; returns how many images could not be read."""
    from sketchlm.results import check_savable

    warnings.formatwarning = lambda message, *_: f"note: {message}\n"
    check_gallery(command.gallery)
    if command.save:
        check_savable(command.save)
    check_sketch(command.sketch, command.text)
    sketch = None if command.sketch == "-" else command.sketch
    out, errors = (Console(highlight=False, soft_wrap=True, stderr=stderr) for stderr in (False, True))
    model = opened(command.which)
    with progress() as bar:
        task = bar.add_task("looking", total=None)
        gallery = model.gallery(
            list(command.gallery), command.folder, seen=lambda done, of: bar.update(task, completed=done, total=of)
        )
    found = model.rank(
        sketch, gallery, command.text, top_k=command.top_k, top_n=command.top_n, exhaustive=command.exhaustive
    )
    for match in found.matches:
        fields = {"image": match.name, "score": None if math.isnan(match.score) else match.score}
        line = f"{'-' if fields['score'] is None else f'{match.score:.3f}':>5}  [bold]{escape(match.name)}[/]"
        out.print(json.dumps(fields) if command.json else line, markup=not command.json)
    for name, reason in found.broken.items():
        errors.print(f"[yellow]left out[/] {escape(name)}: {escape(reason)}")
    if command.save:
        found.save(command.save)
    return len(found.broken)


def opened(which: Which) -> SketchLM:
    """The model, on the threads that serve it; a terminal is told meanwhile, for PyTorch alone takes seconds."""
    with waiting(f"loading PyTorch and the model {which.model}"):
        from sketchlm import SketchLM
        from sketchlm.threads import pin_threads, threads_for

        if which.threads < 0:
            raise ValueError(f"--threads is {which.threads}, must be at least 1 (0 = as serves the model)")
        model = SketchLM.from_pretrained(which.model, which.device, which.dtype, which.quantization)
        if threads := which.threads or threads_for(model.bundle.model):
            pin_threads(threads)
        return model


def waiting(what: str) -> Status:
    """Shown on the error output until it is done, where that is a terminal."""
    return Console(stderr=True).status(f"{escape(what)} ...")


def check_sketch(path: str, words: str) -> None:
    """Raises ValueError for what is no sketch, and where words are wanted in its place; its warnings come later."""
    from data_manifests.sketch import as_sketch

    if path != "-":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            as_sketch(path, name=path)
    elif not words.strip():
        raise ValueError("there is neither a sketch nor a text: draw the object, or name it (--text)")


def check_gallery(places: Sequence[str]) -> None:
    """Raises ValueError for a folder or pattern without photos, and for a file that is not there."""
    from sketchlm.retrieval.files import find_photos

    if not places:
        raise ValueError("no image is named: sketchlm rank SKETCH FOLDER")
    for place in (str(Path(place).expanduser()) for place in places if "://" not in place):
        if find_photos(place) == [place]:
            check_images([place])


def check_images(images: Sequence[str]) -> None:
    """Raises ValueError for paths where nothing is; what lies there is read later, and told for each by itself."""
    if not images:
        raise ValueError("no image is named: sketchlm detect SKETCH IMAGE [IMAGE ...]")
    if missing := [image for image in images if "://" not in image and not Path(image).is_file()]:
        more = f" ({len(missing)} of {len(images)} images are missing)" if missing[1:] else ""
        raise ValueError(f"there is no file {missing[0]}{more}: name images that are there, or URLs")


def check_save(place: str, number: int) -> None:
    """Raises ValueError where pictures of so many answers cannot be saved."""
    from sketchlm.results import check_savable

    if place and number > 1 and Path(place).suffix and not Path(place).is_dir():
        raise ValueError(f"--save {place}: of {number} images, name a folder")
    if place:
        check_savable(place if number == 1 and is_picture(place) else Path(place) / "000.png")


def is_picture(place: str) -> bool:
    """Whether --save names a picture, and not a folder."""
    return bool(Path(place).suffix) and not Path(place).is_dir()


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
    with waiting(f"loading PyTorch and the bundle {command.bundle}"):
        import torch

        from sketchlm.bundle import export
        from sketchlm.loading import find_model

        export(find_model(command.bundle), Path(command.out), dtype=getattr(torch, command.dtype))
    Console(highlight=False).print(f"written: [bold]{escape(command.out)}[/]", soft_wrap=True)
    return 0


if __name__ == "__main__":
    main()
