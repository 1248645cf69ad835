"""`python -m pipelines.ray_train pretrain o3slm_7b --workers 8`: a stage on the workers of a Ray cluster.

For where a Ray cluster is there already; on one machine, or on many without Ray, use torchrun or `accelerate launch`.
The stage, its recipe and its overrides are those of `python -m pipelines.pretrain` and `finetune`. Shards, bundles and
`--out` must lie where every worker finds them. A worker that dies takes the others with it; with `--retries` Ray
starts them anew, and the run goes on from its last checkpoint.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from pipelines import finetune, pretrain, stages
from pipelines.exits import clean_exit
from pipelines.recipes import choose
from sketchgen.engine import init_ray
from sketchlm.training import TrainConfig

SAID = "ray_train.log"
"""In `out`: what the first worker says. The driver repeats it."""
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Launch:
    """How many workers train. What follows the stage goes to it: recipe and overrides."""

    stage: Annotated[Literal["pretrain", "finetune"], tyro.conf.Positional]
    workers: int = 2
    """Processes; each takes one GPU where `gpu` is set."""
    gpu: bool = False
    """Train on GPUs."""
    cpus: int = 1
    """Processors of each worker."""
    retries: int = 0
    """How often a run whose worker died is started anew."""


def launch(config: TrainConfig, options: Launch, console: Console) -> None:
    """Train on Ray: the cluster at RAY_ADDRESS, or this machine.

    Raises ValueError for what a worker says is wrong with the settings, and RuntimeError where workers died.
    """
    config = _from_anywhere(config)
    if config.dry_run:
        stages.run(replace(config, processes=options.workers), console)
        return
    _start_ray()
    from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
    from ray.train.torch import TorchTrainer

    stages.make_missing(config.loader.shards, config, console)
    said = Path(config.out) / SAID
    said.parent.mkdir(parents=True, exist_ok=True)
    trainer = TorchTrainer(
        work,
        train_loop_config={"config": config},
        scaling_config=ScalingConfig(
            num_workers=options.workers, use_gpu=options.gpu, resources_per_worker={"CPU": options.cpus}
        ),
        run_config=RunConfig(
            name=said.parent.name,
            storage_path=str(said.parent / "ray"),
            failure_config=FailureConfig(max_failures=options.retries),
        ),
    )
    with _followed(said, console):
        try:
            trainer.fit()
        except WorkerGroupError as error:
            raise _cause(error.worker_failures) from None


def work(settings: dict[str, Any]) -> None:
    """One worker: a stage as any launcher would start it."""
    config: TrainConfig = settings["config"]
    first = not int(os.environ["RANK"])
    with (Path(config.out) / SAID).open("a", buffering=1) if first else open(os.devnull, "w") as said:
        try:
            stages.run(config, Console(file=said, highlight=False, width=160))
        except FloatingPointError as error:
            raise ValueError(str(error)) from None


def _start_ray() -> None:
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    import ray

    if not ray.is_initialized():
        init_ray()


def _from_anywhere(config: TrainConfig) -> TrainConfig:
    """Paths that do not depend on a worker's folder."""

    def absolute(path: str) -> str:
        return path if "://" in path else str(Path(path).resolve())

    base = config.model.base
    return replace(
        config,
        out=absolute(config.out),
        unseen=config.unseen and absolute(config.unseen),
        loader=replace(config.loader, shards=absolute(config.loader.shards)),
        model=replace(config.model, base=absolute(base) if Path(base).is_dir() else base),
    )


def _cause(failures: dict[int, Exception]) -> Exception:
    """What a person did, if a worker says so, else that workers died."""
    for rank, failure in sorted(failures.items()):
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, ValueError):
                return ValueError(str(cause))
            cause = cause.__cause__
        first = str(failure).strip().splitlines()
        return RuntimeError(f"worker {rank} failed ({type(failure).__name__}): {first[-1] if first else ''}")
    return RuntimeError("no worker could be started")


@contextmanager
def _followed(path: Path, console: Console) -> Iterator[None]:
    """Print what is appended to a file meanwhile."""
    stop = Event()

    def follow() -> None:
        with path.open() as lines:
            lines.seek(0, os.SEEK_END)
            last = False
            while not last:
                last = stop.wait(POLL_SECONDS)
                for line in lines:
                    console.print(line.rstrip("\n"), markup=False, soft_wrap=True)

    path.touch()
    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def main() -> None:
    """The command line."""
    prog = "python -m pipelines.ray_train"
    options, rest = tyro.cli(Launch, prog=prog, description=__doc__, return_unknown_args=True)
    stage: Any = {"pretrain": pretrain, "finetune": finetune}[options.stage]
    before = pretrain.RECIPES if options.stage == "finetune" else {}
    with clean_exit("run the same command to go on from the last checkpoint"):
        config = choose(stage.RECIPES, f"{prog} {options.stage}", stage.__doc__, rest)
        try:
            launch(stages.after(config, before), options, Console(highlight=False))
        except RuntimeError as error:
            Console(stderr=True, highlight=False).print(f"error: {error}", markup=False)
            sys.exit(1)


if __name__ == "__main__":
    main()
