"""The loop: one stage of training, from the last checkpoint to the bundle."""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from fsspec.core import url_to_fs
from rich.console import Console

from sketchlm import checkpoint
from sketchlm.bundle import save_bundle
from sketchlm.collator import TASKS, Batch
from sketchlm.estimate import estimate, planned_objective
from sketchlm.loader import Loader
from sketchlm.mixture import read_mixture
from sketchlm.model import unwrap
from sketchlm.optimizer import build_optimizers, groups_of, set_rates
from sketchlm.parallel import accumulating, build_accelerator, check_parallel, of_all, of_first, shard, spread, whole
from sketchlm.progress import TrainingDisplay, print_plan
from sketchlm.threads import pin_threads
from sketchlm.training import Parts, TrainConfig, build_loader, build_parts, check, settings_of, write_settings


class Stopped(Exception):  # noqa: N818
    """The run was asked to end (SIGTERM, SIGINT) and saved its state first; `code` is for the shell."""

    def __init__(self, step: int, number: int) -> None:
        super().__init__(f"stopped after step {step}; run the same command again to go on")
        self.code = 128 + number


@dataclass(frozen=True)
class Step:
    """Figures of one step, over all processes: mean loss of its answer tokens (weights of tasks applied), the
    auxiliary ones, the contrastive one among them as it is, norm of the gradient, share of the full rate, plain loss
    by task. asked_to_stop: by anyone."""

    step: int
    loss: float
    auxiliary: float
    contrastive: float
    norm: float
    factor: float
    queries: int
    tokens: int
    by_task: dict[str, float]
    asked_to_stop: bool = False


def train(config: TrainConfig, texts: Sequence[str], classes: Sequence[str], console: Console) -> Path:
    """Train one stage and return its bundle; goes on from the newest whole checkpoint in `out`.

    texts, classes: see `build_parts`. Every process of a launch calls it.
    Raises ValueError for settings, shards or checkpoints that cannot be used and for a disk that is full,
    `Stopped` after a signal, and FloatingPointError for a loss that is no number.
    """
    check(config)
    hush()
    folder, bundle = Path(config.out), Path(config.out) / "bundle"
    if config.dry_run:
        show_plan(config, texts, classes, console)
        return bundle
    accelerator = build_accelerator(config)
    pin_threads(config.threads)
    parts, course = assemble(config, texts, classes, accelerator, console)
    if accelerator.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder) if accelerator.is_main_process else nullcontext():
        start = course.resume(folder)
        if accelerator.is_main_process:
            write_settings(config, folder)
        with signals() as asked, TrainingDisplay(config, parts.objective, accelerator, console, start) as display:
            for step in course.steps(start, asked):
                display.update(step)
                done, every = step.step + 1, config.checkpoint_every
                if step.asked_to_stop or done == config.steps or (every and done % every == 0):
                    course.save(folder, done)
                if step.asked_to_stop and done < config.steps:
                    raise Stopped(done, asked() or signal.SIGTERM)
        if accelerator.is_main_process:
            finish(bundle, config, parts, texts, classes)
    accelerator.wait_for_everyone()
    return bundle


def assemble(
    config: TrainConfig, texts: Sequence[str], classes: Sequence[str], accelerator: Any, console: Console
) -> tuple[Parts, Course]:
    """What is trained, and its course; the first process prints the plan."""
    count_samples(config.loader.shards)  # before gigabytes of weights are read
    parts = build_parts(config, texts, classes)
    if config.compile:
        compile_layers(parts.objective)
    if config.sharding == "fsdp":
        shard(parts.objective, accelerator)
    groups = groups_of(parts.objective, config.optimizer)
    optimizers = build_optimizers(groups, config.optimizer)
    loader = build_loader(config, parts, accelerator.process_index, accelerator.num_processes)
    if accelerator.is_main_process:
        world = accelerator.num_processes
        print_plan_of(config, parts.objective, groups, accelerator.device, world, loader.num_samples, console)
    objective, optimizers = spread(parts.objective, optimizers, config, accelerator)
    return parts, Course(config, accelerator, objective, optimizers, loader)


def finish(bundle: Path, config: TrainConfig, parts: Parts, texts: Sequence[str], classes: Sequence[str]) -> None:
    """Save the bundle of a run that is done. Split weights are read back from the last checkpoint."""
    if config.sharding == "fsdp":
        parts = build_parts(config, texts, classes)
        last = checkpoint.newest(Path(config.out))
        assert last is not None, "a run ends with a checkpoint"
        checkpoint.load_weights(last, parts.objective)
    info = replace(
        parts.info, trained={"recipe": config.recipe, "steps": config.steps, "connector": config.model.connector}
    )
    save_bundle(bundle, parts.objective.model, parts.tokenizer, info, parts.objective.heads)


class Course:
    """The steps of a run."""

    def __init__(
        self, config: TrainConfig, accelerator: Any, objective: Any, optimizers: list[Any], loader: Loader[Any, Batch]
    ) -> None:
        """objective and optimizers as `spread` gave them; loader: of this process."""
        self._config = config
        self._accelerator = accelerator
        self._objective = objective
        self._optimizers = optimizers
        self._loader = loader
        self._parameters = [p for p in objective.parameters() if p.requires_grad]
        if config.precision == "bf16":
            spare_casts(objective)
        # DeepSpeed divides by the batches of a step, which we have done
        self._times = config.accumulation if config.sharding == "zero2" else 1

    def steps(self, start: int, asked: Callable[[], int] = lambda: 0) -> Iterator[Step]:
        """Run the steps from `start` on; each is yielded when it is done, and the loader stands after it.

        asked: whether this process was asked to stop. Raises FloatingPointError for a loss or gradient
        that is no number, before the step is yielded.
        """
        self._objective.train()
        with closing(iter(self._loader)) as stream:
            for step in range(start, self._config.steps):
                batches = [next(stream).to(self._accelerator.device) for _ in range(self._config.accumulation)]
                yield self._step(step, batches, bool(asked()))

    def save(self, folder: Path, done: int) -> None:
        """Checkpoint after `done` steps; every process learns of a failure, so that none waits for ever."""
        main, problem = self._accelerator.is_main_process, ""
        places = of_all(self._loader.state_dict(), self._accelerator)
        state = {"settings": settings_of(self._config), "loader": places}
        try:
            checkpoint.save(folder, done, self._objective, self._optimizers, state, main)
        except ValueError as error:
            problem = str(error)
        if problem := of_first(problem, self._accelerator) or problem:
            raise ValueError(problem)
        if main:
            checkpoint.prune(folder, self._config.keep)

    def resume(self, folder: Path) -> int:
        """Load the newest whole checkpoint, if there is one; returns the step to go on with.

        Raises ValueError for a checkpoint of another recipe, naming the fields that differ, of another number of
        processes, or of other shards.
        """
        found = of_first(checkpoint.newest(folder), self._accelerator)
        if found is None:
            return 0
        state = checkpoint.read_state(found)
        check_settings(found, state["settings"], settings_of(self._config))
        if (there := len(state["loader"])) != (here := self._accelerator.num_processes):
            raise ValueError(
                f"{found} was made on {there} processes, here are {here}: start as many again, or begin anew with "
                "another --out"
            )
        self._loader.load_state_dict(state["loader"][self._accelerator.process_index])
        checkpoint.load(found, self._objective, self._optimizers)
        return int(state["step"])

    def _step(self, step: int, batches: list[Batch], asked: bool) -> Step:
        config, accelerator = self._config, self._accelerator
        torch.manual_seed(seed_of(config.seed, step, accelerator.process_index))  # of dropout, the same after a resume
        factor = set_rates(self._optimizers, step, config.steps, config.optimizer)
        # the mean is over all answer tokens of the step, on whichever rank and in whichever batch they lie
        weight = accelerator.reduce(sum(batch.weights.sum() for batch in batches), "sum").clamp(min=1e-9)
        sums = torch.zeros(6 + 2 * len(TASKS), dtype=torch.float64, device=accelerator.device)
        for number, batch in enumerate(batches):
            with accumulating(self._objective, accelerator, number == len(batches) - 1):
                sums += self._backward(batch, weight, len(batches))
        norm = accelerator.clip_grad_norm_(self._parameters, config.optimizer.clip or math.inf)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        sums[4] = asked
        loss, auxiliary, queries, tokens, stop, contrastive, *by_task = accelerator.reduce(sums, "sum").tolist()
        norm = float(whole(norm))
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise FloatingPointError(
                f"{config.stage} {config.recipe}, step {step}: the loss is {loss:.4g}, the norm of its gradient "
                f"{norm:.4g}. Nothing was saved of it (checkpoints in {config.out} are from before). Begin anew with "
                f"another --out and a lower --optimizer.lr (now {config.optimizer.lr:g})"
                + ("" if config.optimizer.clip else " or --optimizer.clip 1")
                + (f" or --optimizer.muon-lr (now {config.optimizer.muon_lr:g})" * (config.optimizer.name == "muon"))
            )
        seen = {task: by_task[2 * i] / by_task[2 * i + 1] for i, task in enumerate(TASKS) if by_task[2 * i + 1]}
        return Step(step, loss, auxiliary, contrastive, norm, factor, int(queries), int(tokens), seen, stop > 0)

    def _backward(self, batch: Batch, weight: torch.Tensor, batches: int) -> torch.Tensor:
        """One batch; returns its share of [loss, auxiliary loss, queries, tokens, 0, contrastive loss, by task...] over
        all processes."""
        accelerator, world = self._accelerator, self._accelerator.num_processes
        half = self._config.precision == "bf16"
        with torch.autocast(accelerator.device.type, torch.bfloat16, enabled=half):
            if self._config.stage == "tower":
                auxiliary = self._objective(batch, tower_only=True)
                loss = trained = auxiliary / (batches * world)
                contrastive, by_task = auxiliary.new_zeros(()), auxiliary.new_zeros(len(TASKS), 2)
            else:
                found = self._objective(batch)
                auxiliary, contrastive, by_task = found.auxiliary, found.contrastive, found.by_task
                loss = found.total / weight
                trained = loss + auxiliary / (batches * world)
        # the exchange takes the mean of all ranks, and the weight is of all ranks already
        accelerator.backward(trained * (world * self._times))
        even = 1 / (batches * world)  # each batch has the same say in these means, whatever is in it
        figures = [loss, auxiliary * even, batch.num_queries, batch.num_tokens, 0.0, contrastive * even]
        head = torch.stack([torch.as_tensor(value, device=weight.device).detach().double() for value in figures])
        return torch.cat([head, by_task.flatten().double()])


def show_plan(config: TrainConfig, texts: Sequence[str], classes: Sequence[str], console: Console) -> None:
    """What a run would do and cost, without weights, shards or files: the model is built of shapes only."""
    check_parallel(config)
    samples = count_samples(config.loader.shards)
    objective = planned_objective(config, texts, classes)
    device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    world = int(os.environ.get("WORLD_SIZE", 0)) or config.processes or 1
    if not int(os.environ.get("RANK", 0)):
        print_plan_of(config, objective, groups_of(objective, config.optimizer), device, world, samples, console)


def count_samples(shards: str) -> int:
    """Samples of the folder or mixture of shards; -1 where nothing is there yet.

    Raises ValueError for what is there and holds no shards.
    """
    fs, path = url_to_fs(shards)
    if not fs.exists(path):
        return -1
    folders, _ = read_mixture(shards)
    return sum(shard.record.samples for folder in folders for shard in folder.shards)


def print_plan_of(
    config: TrainConfig,
    objective: Any,
    groups: Sequence[Any],
    device: torch.device,
    world: int,
    samples: int,
    console: Console,
) -> None:
    """The plan of a run; says where it is not what the recipe was made for. samples: in its shards, -1 = none there."""
    total = sum(p.numel() for n, p in objective.named_parameters() if "lora_" not in n and ".default" not in n)
    alone = "one process" if config.precision == "bf16" and device.type == "cpu" else device.type
    where = f"{world} processes" if world > 1 else alone
    print_plan(config, groups, total, estimate(config, objective, world, device), where, samples, console)
    if config.processes and world != config.processes:
        console.print(
            f"note: the recipe is made for {config.processes} processes, here is {world}: a step takes {world} of "
            f"{config.processes} shares of its sketches unless --accumulation makes up for it",
            soft_wrap=True,
        )


def check_settings(found: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raise ValueError for settings that are not those of a checkpoint, naming each field and both values."""
    names = [name for name in sorted({**there, **here}) if there.get(name, "") != here.get(name, "")]
    if names:
        differ = (f"  {n}: {there.get(n, '(absent)')!r} there, {here.get(n, '(absent)')!r} now" for n in names)
        raise ValueError(
            f"{found} was made with other settings:\n" + "\n".join(differ) + "\nGive the same settings to go on, "
            f"delete {found.parent} to begin anew, or choose another --out."
        )


def spare_casts(objective: Any) -> None:
    """Let LoRA take its inputs in bfloat16, as autocast has them: PEFT would keep each in full precision as well, a
    third of all activations, and the products are the same.
    """
    for module in objective.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False


def compile_layers(objective: Any) -> None:
    """Compile each layer of the language model, in place: names stay, and all of them share one program."""
    for layer in unwrap(objective.model).model.language_model.layers:
        layer.compile(dynamic=True)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder as long as this process lives.

    Raises ValueError where another one is in it.
    """
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run writes to {folder}: wait for its end, or choose another --out") from None
        except OSError:  # a file system without locks
            pass
        yield


@contextmanager
def signals() -> Iterator[Callable[[], int]]:
    """Turns SIGTERM and SIGINT into a question to be asked between steps (0, or the number of the signal); a
    second one ends at once.
    """
    seen: list[int] = []

    def note(number: int, _: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread (a worker of Ray): nothing to hook
        yield lambda: 0
        return
    try:
        yield lambda: seen[0] if seen else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def seed_of(seed: int, step: int, rank: int) -> int:
    """Of the chance in one step on one process."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()[:7], "little")


def hush() -> None:
    """No bars and no advice to developers from the libraries: what a person must know, the loop says."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|accelerate|torch)\.")
