"""Recipe of pix2pix, the embedded sketcher: `python -m pipelines.train_sketcher --openmoji DIR_OR_TGZ --out DIR`.

With `--evaluate shipped` (or the path of other weights) it prints the figures of the model card instead.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.exits import clean_exit
from sketchgen.sketcher import SketcherConfig
from sketchgen.sketchers.pix2pix import Pix2PixSketcher
from sketchgen.training.sketcher import SIDE, SketcherTraining, drawing_pairs, train
from sketchgen.training.sketcher_figures import held_out_crops, print_drawing_figures, print_photo_figures


def pix2pix() -> SketcherTraining:
    """The shipped weights: about an hour on one core."""
    return SketcherTraining()


def main() -> None:
    """Train, or evaluate."""
    config = tyro.cli(SketcherTraining, default=pix2pix(), description=__doc__)
    with clean_exit("run the same command to go on from the last checkpoint"):
        evaluate(config) if config.evaluate else run(config)


def run(config: SketcherTraining) -> None:
    """Train with progress on the terminal and one JSON line a step in `out`/log.jsonl."""
    if not config.openmoji:
        raise ValueError(
            "openmoji is empty: run `npm pack openmoji@17`, then "
            'make train-sketcher ARGS="--openmoji openmoji-17.0.0.tgz"'
        )
    config.out.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("pix2pix"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, TextColumn("{task.fields[figures]}")) as bar,
        open(config.out / "log.jsonl", "a", buffering=1) as log,
    ):
        task = bar.add_task("train", total=config.steps, figures="preparing pairs")

        def report(step: int, figures: dict[str, float]) -> None:
            shown = " ".join(f"{name} {value:.3f}" for name, value in figures.items())
            bar.update(task, completed=step, figures=shown)
            log.write(json.dumps({"step": step, **figures}) + "\n")

        weights = train(config, report)
    Console().print(f"weights: {weights}")


def evaluate(config: SketcherTraining) -> None:
    """Figures on held-out drawings, and on held-out photos where their folder is given."""
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(config.threads)
    checkpoint = "" if config.evaluate == "shipped" else config.evaluate
    sketcher, console = Pix2PixSketcher(SketcherConfig(checkpoint=checkpoint, device="cpu")), Console()
    if config.openmoji:
        print_drawing_figures(sketcher, drawing_pairs(Path(config.openmoji), held_out=True), console)
    if config.photos_annotations:
        crops = list(held_out_crops(Path(config.photos_annotations), Path(config.photos_images), SIDE))
        print_photo_figures(sketcher, crops, console)


if __name__ == "__main__":
    main()
