"""Small training runs for the tests of the loop: shards, a recipe of seconds, and processes that run it."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console

from data_manifests.schema import STRIP_SIDE, validate
from sketchlm.loader import LoaderConfig
from sketchlm.loop import Course, Stopped, train
from sketchlm.loss import LossConfig
from sketchlm.model import ModelConfig, TinyConfig
from sketchlm.optimizer import OptimizerConfig
from sketchlm.processor import ProcessorConfig
from sketchlm.prompt import PromptConfig, words
from sketchlm.training import TrainConfig
from tests.sketchlm import write_shard

CLASSES = ("dog", "cat", "cup")
TEXTS = [*words(), "red", "green", "blue", "A dog cat cup here.", "What is the color of the dog cat cup?"]
SIDE = 64
"""Of the photos, pixels."""


def write_training_shards(folder: Path, counts: Sequence[int] = (12, 12)) -> Path:
    """Shards whose samples ask all five tasks about one to three objects with masks; returns the folder."""
    number = 0
    for shard, count in enumerate(counts):
        samples = {}
        for index in range(count):
            samples[f"{shard:06d}-{index:05d}"] = _sample(number)
            number += 1
        write_shard(folder, shard, samples)
    return folder


def _sample(number: int) -> dict[str, bytes]:
    rng = np.random.default_rng(number)
    photo = np.full((SIDE, SIDE, 3), 90, np.uint8)
    objects, sketches, queries = [], [], []
    strip = np.full((STRIP_SIDE * (1 + number % 3), STRIP_SIDE), 255, np.uint8)
    for row in range(1 + number % 3):
        kind, color = int(rng.integers(3)), int(rng.integers(3))
        x, y, side = (int(value) for value in rng.integers((0, 0, 12), (40, 40, 24)))
        box = [float(x), float(y), float(x + side), float(y + side)]
        photo[y : y + side, x : x + side] = 0
        photo[y : y + side, x : x + side, color] = 250
        cv2.circle(strip, (128, STRIP_SIDE * row + 128), 30 + 30 * kind, 0, 6)
        objects.append({"object_id": str(row), "category": CLASSES[kind], "box": box,
                        "mask": _mask(x, y, side), "status": "written"})  # fmt: skip
        sketches.append({"row": row, "sketch_id": f"tests/{number}/{row}", "category": CLASSES[kind],
                         "source": "tests", "style": "ink", "object_id": str(row), "generator": ""})  # fmt: skip
        told = f"A {CLASSES[kind]} here." + " A cup here." * (number % 5)  # answers of many lengths
        asked = [("describe", told), ("bbox", ""), ("count", ""), ("sbir", ""),
                 ("vqa", ("blue", "green", "red")[color])]  # fmt: skip
        for task, answer in asked:
            question = f"What is the color of the {CLASSES[kind]}?" if task == "vqa" else ""
            queries.append({"query_id": f"{row}{task}", "task": task, "row": row, "category": CLASSES[kind],
                            "boxes": [box] if task in ("bbox", "describe") else [], "count": 1 + row,
                            "question": question, "answers": [answer], "match": number % 2,
                            "answer_source": "tests"})  # fmt: skip
    record = {"schema": 1, "image": {"source": "tests", "id": str(number), "width": SIDE, "height": SIDE,
                                     "license": "CC0"},
              "objects": objects, "sketches": sketches, "queries": queries}  # fmt: skip
    validate(record, strip.shape[0])
    encoded = [cv2.imencode(kind, array)[1].tobytes() for kind, array in ((".jpg", photo), (".png", strip))]
    return {"jpg": encoded[0], "sketches.png": encoded[1], "json": json.dumps(record).encode()}


def _mask(x: int, y: int, side: int) -> dict[str, Any]:
    from pycocotools import mask as coco

    mask = np.zeros((SIDE, SIDE), np.uint8, order="F")
    mask[y : y + side, x : x + side] = 1
    return {"size": [SIDE, SIDE], "counts": coco.encode(mask)["counts"].decode()}


def small(shards: Path | str, out: Path | str, **changes: Any) -> TrainConfig:
    """A recipe of seconds: 4 tokens an image, two layers of width 32, everything trained."""
    sizes = TinyConfig(side=32, patch=16, tower_width=32, tower_layers=2, tower_heads=2, width=32, layers=2, heads=2)
    config = TrainConfig(
        stage="pretrain",
        recipe="small",
        model=ModelConfig(base="tiny", tiny=sizes, tower="full", connector="full", language="full"),
        loader=LoaderConfig(shards=str(shards), batch_size=4),
        processor=ProcessorConfig(prompt=PromptConfig(system="", short=False), max_length=512),
        loss=LossConfig(box_sigma=2.5, tower=0.5),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, warmup=0.1),
        steps=6,
        checkpoint_every=2,
        trackers=(),
        threads=1,
        device="cpu",
        out=str(out),
    )
    return replace(config, **changes)


def with_lora(config: TrainConfig, **changes: Any) -> TrainConfig:
    """The same with a frozen base, as a LLaVA is trained."""
    model = replace(config.model, tower="frozen", language="lora", lora_rank=4, lora_alpha=8, **changes)
    return replace(config, model=model, loss=LossConfig())


def with_fusion(config: TrainConfig) -> TrainConfig:
    """The same with cross-attention, and with rows that show one picture: some batches hold no others."""
    model = replace(config.model, fusion="cross_attention", fusion_open=True)
    loader = replace(config.loader, batch_size=1)
    return replace(config, model=model, loader=loader, processor=replace(config.processor, words=0.5))


def tower_stage(config: TrainConfig) -> TrainConfig:
    """The same as the warm start of the tower."""
    model = replace(config.model, tower="full", connector="frozen", language="frozen")
    return replace(config, stage="tower", model=model, processor=replace(config.processor, rows=1, branches=1))


def quiet() -> Console:
    """A console that shows nothing."""
    return Console(file=io.StringIO(), width=200)


def run(config: TrainConfig, console: Console | None = None) -> Path:
    """Train here."""
    return train(config, TEXTS, CLASSES, console or quiet())


def run_apart(config: TrainConfig) -> None:
    """Train in a process of its own: what it says goes to `{out}.txt`, errors become exit codes as in pipelines."""
    with Path(f"{config.out}.{os.environ.get('RANK', 0)}.txt").open("a") as said:
        try:
            run(config, Console(file=said, width=200))
        except Stopped as stopped:
            sys.exit(stopped.code)
        except (ValueError, FloatingPointError) as error:
            said.write(f"error: {error}\n")
            sys.exit(2)


def losses(out: Path | str, name: str = "loss") -> list[float]:
    """The loss of every step, from log.jsonl; each step must be there once, in order."""
    lines = [json.loads(line) for line in (Path(out) / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(len(lines)))
    return [line[name] for line in lines]


@contextmanager
def stopping_after(steps: int) -> Iterator[None]:
    """Training dies after so many steps, as if the machine had: nothing more is saved."""
    original = Course.steps

    def fewer(self: Course, start: int, *rest: Any) -> Iterator[Any]:
        for done, step in enumerate(original(self, start, *rest), 1):
            yield step
            if done == steps:
                raise InterruptedError("died, for a test")

    Course.steps = fewer  # type: ignore[method-assign]
    try:
        yield
    finally:
        Course.steps = original  # type: ignore[method-assign]


_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.sketchlm.preloaded"])  # torch once, then a process takes milliseconds


def spawn(function: Callable[..., None], *args: Any, **environment: str) -> BaseProcess:
    """Call it in a process of its own, with these variables."""
    process = _CONTEXT.Process(target=_called, args=(function, args, environment))
    process.start()
    return process


def _called(function: Callable[..., None], args: tuple[Any, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    function(*args)


def launch(function: Callable[..., None], *args: Any, processes: int = 2) -> list[int]:
    """Call it in `processes` processes that can meet, as torchrun would; returns their exit codes."""
    with launched(function, *args, processes=processes) as started:
        pass
    return [process.exitcode if process.exitcode is not None else -1 for process in started]


@contextmanager
def launched(
    function: Callable[..., None], *args: Any, processes: int = 2, timeout: float = 120.0
) -> Iterator[list[BaseProcess]]:
    """The same, with something to do while they run; they have ended behind it."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
    shared |= {"LOCAL_WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    started = [spawn(function, *args, **shared, RANK=str(n), LOCAL_RANK=str(n)) for n in range(processes)]
    end = time.monotonic() + timeout
    try:
        yield started
        for process in started:
            process.join(max(0.0, end - time.monotonic()))
    finally:
        for process in started:
            if process.is_alive():
                process.kill()
            process.join()


def _free_port() -> int:
    """Below those that the system hands out by itself: one of them may be taken before it is used."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port from 20000 to 32000")
