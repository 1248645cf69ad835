"""The loop: one stage of training, from the last checkpoint to the bundle."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sketchlm import checkpoint
from sketchlm.bundle import save_bundle
from sketchlm.collator import TASKS, Batch
from sketchlm.loader import Loader
from sketchlm.optimizer import build_optimizers, groups_of, set_rates
from sketchlm.progress import TrainingDisplay, print_plan
from sketchlm.training import Parts, TrainConfig, build_loader, build_parts, settings_of, write_settings


class Stopped(Exception):
    """The run was asked to end (SIGTERM, SIGINT) and saved its state first."""


@dataclass(frozen=True)
class Step:
    """Figures of one step: the mean loss over its answer tokens on all ranks (weights of tasks applied)."""

    step: int
    loss: float
    tower: float
    norm: float
    factor: float
    queries: int
    tokens: int
    by_task: dict[str, float]


def train(config: TrainConfig, texts: Sequence[str], classes: Sequence[str], console: Console) -> Path:
    """Train one stage and return its bundle; goes on from the newest whole checkpoint in `out`.

    Raises ValueError for settings, shards or checkpoints that cannot be used, `Stopped` after a signal,
    and FloatingPointError for a loss that is no number.
    """
    accelerator = build_accelerator(config)
    pin_threads(config.threads)
    parts = build_parts(config, texts, classes)
    folder = Path(config.out)
    bundle = folder / "bundle"
    groups = groups_of(parts.objective, config.optimizer)
    loader = build_loader(config, parts, accelerator.process_index, accelerator.num_processes)
    if accelerator.is_main_process:
        print_plan(config, parts, groups, loader.num_samples, accelerator, console)
    if config.dry_run:
        return bundle
    folder.mkdir(parents=True, exist_ok=True)
    optimizers = build_optimizers(groups, config.optimizer)
    objective, *prepared = accelerator.prepare(parts.objective, *optimizers)
    start = resume(folder, config, objective, prepared, loader)
    if accelerator.is_main_process:
        write_settings(config, folder)
    course = Course(config, accelerator, objective, prepared, loader)
    with asked_to_stop() as stop, TrainingDisplay(config, parts, accelerator, console, start) as display:
        for figures in course.steps(start):
            display.update(figures)
            done = figures.step + 1
            due = config.checkpoint_every and done % config.checkpoint_every == 0
            if due or stop() or done == config.steps:
                course.save(folder, done)
            if stop() and done < config.steps:
                raise Stopped(f"stopped after step {done}; run the same command again to go on")
    if accelerator.is_main_process:
        info = replace(parts.info, trained={"recipe": config.recipe, "steps": config.steps})
        save_bundle(bundle, parts.objective.model, parts.tokenizer, info, parts.objective.tower_head)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return bundle


class Course:
    """The steps of a run."""

    def __init__(
        self, config: TrainConfig, accelerator: Any, objective: Any, optimizers: list[Any], loader: Loader[Any, Batch]
    ) -> None:
        self._config = config
        self._accelerator = accelerator
        self._objective = objective
        self._optimizers = optimizers
        self._loader = loader
        self._parameters = [p for p in objective.parameters() if p.requires_grad]

    def steps(self, start: int) -> Iterator[Step]:
        """Run the steps from `start` on; each is yielded when it is done, and the loader stands after it."""
        stream = iter(self._loader)
        self._objective.train()
        for step in range(start, self._config.steps):
            batches = [next(stream).to(self._accelerator.device) for _ in range(self._config.accumulation)]
            yield self._step(step, batches)

    def save(self, folder: Path, done: int) -> None:
        """Checkpoint after `done` steps."""
        state = {"settings": settings_of(self._config), "loader": self._loader.state_dict()}
        main = self._accelerator.is_main_process
        states = gather_objects(state["loader"], self._accelerator)
        state["loader"] = states
        checkpoint.save(folder, done, self._objective, self._optimizers, state, main)
        self._accelerator.wait_for_everyone()
        if main:
            checkpoint.prune(folder, self._config.keep)

    def _step(self, step: int, batches: list[Batch]) -> Step:
        config, accelerator = self._config, self._accelerator
        factor = set_rates(self._optimizers, step, config.steps, config.optimizer)
        # the mean is over all answer tokens of the step, on whichever rank and in whichever batch they lie
        weight = accelerator.reduce(sum(batch.weights.sum() for batch in batches), "sum")
        totals = torch.zeros(2, device=accelerator.device)
        by_task = torch.zeros(len(TASKS), 2, device=accelerator.device)
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with nullcontext() if last else accelerator.no_sync(self._objective):
                loss, tower, seen = self._forward(batch, weight, len(batches))
                accelerator.backward(loss)
            totals += torch.stack([loss.detach() / accelerator.num_processes, tower.detach() / len(batches)])
            by_task += seen
        norm = self._clip()
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        totals = accelerator.reduce(totals, "sum")
        by_task = accelerator.reduce(by_task, "sum")
        value = float(totals[0])
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at step {step} (norm of the gradient {norm:.3g}): lower optimizer.lr, "
                "or set optimizer.clip; the last checkpoint is from before"
            )
        return Step(
            step,
            value,
            float(totals[1]) / accelerator.num_processes,
            norm,
            factor,
            sum(batch.num_queries for batch in batches) * accelerator.num_processes,
            sum(batch.num_tokens for batch in batches) * accelerator.num_processes,
            {task: float(by_task[i, 0] / by_task[i, 1]) for i, task in enumerate(TASKS) if by_task[i, 1] > 0},
        )

    def _forward(self, batch: Batch, weight: torch.Tensor, parts: int) -> tuple[torch.Tensor, ...]:
        """(loss to differentiate, tower's loss, sums by task) of one batch."""
        if self._config.stage == "tower":
            tower = self._objective(batch, tower_only=True)
            return tower / parts, tower, tower.new_zeros(len(TASKS), 2)
        found = self._objective(batch)
        # DDP takes the mean over ranks: undo it, the weight is of all ranks already
        loss = found.total / weight * self._accelerator.num_processes
        return loss + self._config.loss.tower * found.tower / parts, found.tower, found.by_task

    def _clip(self) -> float:
        limit = self._config.optimizer.clip or math.inf
        return float(self._accelerator.clip_grad_norm_(self._parameters, limit))


def build_accelerator(config: TrainConfig) -> Any:
    """Accelerate, as launched (DDP, FSDP, DeepSpeed) or alone."""
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    partly = config.stage == "tower"  # the language model gets no gradient there
    cpu = config.device == "cpu" or not torch.cuda.is_available()
    return Accelerator(
        cpu=cpu,
        mixed_precision=config.precision,
        log_with=list(config.trackers) or None,
        project_dir=config.out,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=partly)],
    )


def resume(folder: Path, config: TrainConfig, objective: Any, optimizers: list[Any], loader: Any) -> int:
    """Load the newest checkpoint, if there is one; returns the step to go on with.

    Raises ValueError for a checkpoint of another recipe, naming the fields that differ.
    """
    found = checkpoint.newest(folder)
    if found is None:
        return 0
    state = checkpoint.read_state(found)
    there, here = state["settings"], settings_of(config)
    differ = [f"  {n}: {there.get(n)!r} there, {here.get(n)!r} now" for n in sorted(there.keys() | here.keys())]
    differ = [line for line, n in zip(differ, sorted(there.keys() | here.keys()), strict=True) if there.get(n) != here.get(n)]
    if differ:
        raise ValueError(
            f"{found} was made with other settings:\n" + "\n".join(differ) + "\nGive the same settings to go on, "
            "delete the folder to begin anew, or choose another --out."
        )
    checkpoint.load(found, objective, optimizers)
    rank = int(os.environ.get("RANK", 0))
    if rank >= len(state["loader"]):
        raise ValueError(f"{found} was made on {len(state['loader'])} processes; start as many again")
    loader.load_state_dict(state["loader"][rank])
    return int(state["step"])


def gather_objects(value: Any, accelerator: Any) -> list[Any]:
    """One value of each rank, in order of rank."""
    if accelerator.num_processes == 1:
        return [value]
    from accelerate.utils import gather_object

    return list(gather_object([value]))


@contextmanager
def asked_to_stop() -> Iterator[Any]:
    """Turns SIGTERM and SIGINT into a question to be asked between steps; a second one ends at once."""
    seen: list[int] = []

    def note(number: int, _: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread (a Ray worker): nothing to hook
        yield lambda: False
        return
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def pin_threads(threads: int) -> None:
    """Fix the threads of this process: sums in another order give other bits."""
    import cv2

    cv2.setNumThreads(1)
    if threads:
        torch.set_num_threads(threads)


def seconds() -> float:
    """A clock for rates."""
    return time.perf_counter()
