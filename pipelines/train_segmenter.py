"""Recipe of boxseg, the embedded segmenter: train on a COCO folder, then measure on its held-out part."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import cv2
import torch
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track
from rich.table import Table

from pipelines.exits import clean_exit
from sketchgen.segmenter import Segmenter, SegmenterConfig
from sketchgen.segmenters import build_segmenter
from sketchgen.training.cutouts import Scene, paste_scenes, read_coco, read_drawings
from sketchgen.training.mask_quality import FilledBox, Quality, Verdict, coco_scenes, judge, over, summarize
from sketchgen.training.segmenter import SegmenterTraining, train

MIN_AREA = 32.0**2
"""Instances with fewer pixels are not counted."""


def boxseg() -> SegmenterTraining:
    """The shipped weights: an hour and a quarter on one core."""
    return SegmenterTraining()


def main() -> None:
    """Train (progress on the terminal, one JSON line a step in `out`/log.jsonl), then print the table."""
    config = tyro.cli(SegmenterTraining, default=boxseg(), description=__doc__)
    with clean_exit("run the same command to go on from the last checkpoint"):
        run(config)


def run(config: SegmenterTraining) -> None:
    """Train unless weights to evaluate are named; measure unless nothing is held out."""
    if config.evaluate:
        checkpoint = "" if config.evaluate == "shipped" else config.evaluate
    else:
        checkpoint = str(train_with_progress(config))
    if config.modulus > 0:
        measure(config, checkpoint)


def train_with_progress(config: SegmenterTraining) -> Path:
    """`train`, seen from the terminal; returns the path of the weights."""
    if not config.annotations.is_file():
        raise FileNotFoundError(
            f"no annotations at {config.annotations}: name a COCO instances JSON, "
            'make train-segmenter ARGS="--annotations FILE --images DIR"'
        )
    config.out.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("boxseg"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    loss_column = TextColumn("loss {task.fields[loss]:.3f}")
    with Progress(*columns, loss_column) as bar, open(config.out / "log.jsonl", "a", buffering=1) as log:
        task = bar.add_task("train", total=config.steps, loss=float("nan"))
        smooth = float("nan")

        def report(step: int, figures: dict[str, float]) -> None:
            nonlocal smooth
            smooth = figures["loss"] if smooth != smooth else 0.98 * smooth + 0.02 * figures["loss"]
            bar.update(task, completed=step + 1, loss=smooth)
            log.write(json.dumps({"step": step, **figures}) + "\n")

        return train(config, report)


def measure(config: SegmenterTraining, checkpoint: str) -> None:
    """Print and write (`out`/quality.json) the quality of the weights beside GrabCut and the filled box."""
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(config.threads)
    photographed = list(coco_scenes(config.annotations, config.images, config.modulus))
    held_out = read_coco(config.annotations, config.images, config.modulus, holdout=True)
    drawings = read_drawings(Path(config.drawings), holdout=True) if config.drawings else []
    pasted = list(paste_scenes(config.seed, config.num_scenes, held_out, drawings))
    segmenters: dict[str, Segmenter] = {
        "boxseg": build_segmenter(SegmenterConfig(checkpoint=checkpoint, device="cpu")),
        "grabcut": build_segmenter(SegmenterConfig(name="grabcut")),
        "filled box": FilledBox(),
    }
    rows: dict[str, dict[str, Quality]] = {}
    for name, segmenter in segmenters.items():
        rows[name] = qualities(judge(segmenter, seen(photographed, f"{name}, photos")))
        rows[name] |= pasted_qualities(judge(segmenter, seen(pasted, f"{name}, cut-outs")))
    console = Console(width=120)
    console.print(table(rows))
    speed = {name: milliseconds(segmenter, photographed) for name, segmenter in segmenters.items()}
    named = ", ".join(f"{name} {value:.1f}" for name, value in speed.items())
    console.print(f"CPU milliseconds an instance, photos in one call, {config.threads} thread(s): {named}")
    config.out.mkdir(parents=True, exist_ok=True)
    document = {name: {kind: asdict(row) for kind, row in row_of.items()} for name, row_of in rows.items()}
    (config.out / "quality.json").write_text(json.dumps(document, indent=1))


def milliseconds(segmenter: Segmenter, scenes: list[Scene]) -> float:
    """CPU time of an instance, everything included, when all photos come in one call."""
    began = time.process_time()
    masks = segmenter.segment([scene.image for scene in scenes], [scene.instances for scene in scenes])
    return (time.process_time() - began) * 1000 / max(1, sum(len(row) for row in masks))


def seen(scenes: list[Scene], what: str) -> Iterable[Scene]:
    """The scenes, with a bar that goes away."""
    return track(scenes, what, transient=True)


def qualities(verdicts: list[Verdict]) -> dict[str, Quality]:
    """Of annotated photos: the size limit on the box, and on the true mask."""
    return {
        "photos, box over 32²": summarize(over(verdicts, box_area=MIN_AREA)),
        "photos, mask over 32²": summarize(over(verdicts, mask_area=MIN_AREA)),
    }


def pasted_qualities(verdicts: list[Verdict]) -> dict[str, Quality]:
    """Of pasted scenes: all cut-outs, and each kind of them."""
    verdicts = over(verdicts, box_area=MIN_AREA)
    kinds = {"photo": "of photos", "drawing": "of drawings"}
    found = {kind: [verdict for verdict in verdicts if verdict.category == kind] for kind in kinds}
    parts = {f"cut-outs {kinds[kind]}": summarize(part) for kind, part in found.items() if part}
    return {"cut-outs": summarize(verdicts)} | parts


def table(rows: dict[str, dict[str, Quality]]) -> Table:
    """One line for each set and segmenter."""
    printed = Table("held-out set", "segmenter", "instances", "mean IoU", "95 %", "IoU < 0.5", "AUROC of score")
    for kind in next(iter(rows.values())):
        for name, row_of in rows.items():
            row = row_of[kind]
            interval = f"{row.low:.3f}-{row.high:.3f}"
            counted, below = str(row.num_instances), f"{row.below_half:.1%}"
            printed.add_row(kind, name, counted, f"{row.mean_iou:.3f}", interval, below, f"{row.auroc:.2f}")
        printed.add_section()
    return printed


if __name__ == "__main__":
    main()
