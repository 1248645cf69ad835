"""Two processes (gloo, CPU): the steps that one would take, in DDP and in FSDP, whatever ends a run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sketchlm import checkpoint
from sketchlm.bundle import load_bundle
from sketchlm.collator import Batch
from sketchlm.loop import Course, Step
from sketchlm.loss import LossConfig
from sketchlm.optimizer import OptimizerConfig, build_optimizers, groups_of
from sketchlm.parallel import build_accelerator, spread
from sketchlm.training import TrainConfig, build_loader, build_parts
from tests.sketchlm.runs import (
    CLASSES,
    TEXTS,
    launch,
    launched,
    losses,
    run_apart,
    small,
    stopping_after,
    tower_stage,
    with_fusion,
    with_lora,
    write_training_shards,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_shards(tmp_path_factory.mktemp("shards"), (9, 4))


class Dealt:
    """The batches of two ranks, one after the other: what two processes see, for one."""

    def __init__(self, config: TrainConfig) -> None:
        parts = build_parts(config, TEXTS, CLASSES)
        self._loaders = [build_loader(config, parts, rank, 2) for rank in range(2)]

    def __iter__(self) -> Iterator[Batch]:
        for pair in zip(*self._loaders, strict=True):
            yield from pair


def alone(config: TrainConfig) -> list[Step]:
    """The steps of one process that accumulates over the batches of both ranks."""
    config = replace(config, sharding="none", accumulation=2)
    accelerator = build_accelerator(config)
    objective = build_parts(config, TEXTS, CLASSES).objective
    optimizers = build_optimizers(groups_of(objective, config.optimizer), config.optimizer)
    dealt: Any = Dealt(config)
    return list(Course(config, accelerator, *spread(objective, optimizers, config, accelerator), dealt).steps(0))


KINDS = {
    "ddp": lambda config: config,
    "ddp, muon": lambda config: replace(config, optimizer=OptimizerConfig(name="muon", lr=1e-3)),
    "ddp, lora": with_lora,
    "ddp, tower": tower_stage,
    "ddp, grounding": lambda config: replace(config, loss=replace(config.loss, grounding=1.0)),
    "ddp, fusion": lambda config: with_fusion(config),
    "fsdp, fusion": lambda config: replace(with_fusion(config), sharding="fsdp"),
    "ddp, contrastive": lambda config: replace(config, loss=replace(config.loss, contrastive=1.0)),
    "fsdp": lambda config: replace(config, sharding="fsdp"),
    "fsdp, lora": lambda config: replace(with_lora(config, checkpointing=True), sharding="fsdp"),
    "fsdp, contrastive": lambda config: replace(config, sharding="fsdp", loss=replace(config.loss, contrastive=1.0)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_take_the_steps_of_one(shards: Path, tmp_path: Path, kind: str) -> None:
    """Equal to the bit in DDP; FSDP adds up norms in another order (measured worst case 2.4e-7)."""
    config = KINDS[kind](small(shards, tmp_path / "out"))
    assert launch(run_apart, config) == [0, 0]
    expected = alone(config)
    for name in ("loss", "auxiliary", "norm"):
        found = losses(config.out, name)
        assert found == pytest.approx(
            [getattr(step, name) for step in expected], rel=2e-6 if config.sharding == "fsdp" else 0
        ), name
    for name in ("queries", "tokens"):
        assert losses(config.out, name) == [getattr(step, name) for step in expected]


def test_ranks_with_answers_of_other_lengths_count_by_token(shards: Path, tmp_path: Path) -> None:
    """What the test above rests on: the ranks' shares are uneven, and their plain mean would be wrong."""
    config = replace(small(shards, tmp_path / "out", steps=4), loss=LossConfig())
    config = replace(config, loader=replace(config.loader, batch_size=1))
    batches = list(islice(iter(Dealt(config)), 8))
    tokens = [float(batch.weights.sum()) for batch in batches]
    assert all(a != b for a, b in zip(tokens[::2], tokens[1::2], strict=True))
    objective = build_parts(config, TEXTS, CLASSES).objective
    with torch.no_grad():
        sums = [float(objective(batch).total) for batch in batches[:2]]
    assert launch(run_apart, config) == [0, 0]
    by_token = sum(sums) / sum(tokens[:2])
    by_rank = sum(s / n for s, n in zip(sums, tokens[:2], strict=True)) / 2
    assert losses(config.out)[0] == pytest.approx(by_token, rel=1e-6)
    assert abs(by_rank - by_token) > 1e-4 * by_token


def cut_off(config: TrainConfig, steps: int) -> None:
    """Both processes die after so many steps."""
    with stopping_after(steps):
        run_apart(config)


@pytest.mark.parametrize("kind", ["ddp, muon", "fsdp, lora"])
def test_they_go_on_exactly(shards: Path, tmp_path: Path, kind: str) -> None:
    config = KINDS[kind](small(shards, tmp_path / "whole"))
    assert launch(run_apart, config) == [0, 0]
    cut = replace(config, out=str(tmp_path / "cut"))
    assert launch(cut_off, cut, 3) == [1, 1]
    assert launch(run_apart, cut) == [0, 0]
    assert losses(cut.out) == losses(config.out)
    saved = [load_file(tmp_path / name / "step-000006" / "weights.safetensors") for name in ("whole", "cut")]
    assert all(torch.equal(saved[0][name], saved[1][name]) for name in saved[0].keys() | saved[1].keys())


def test_what_was_split_is_saved_whole(shards: Path, tmp_path: Path) -> None:
    config = replace(small(shards, tmp_path / "out", steps=2), sharding="fsdp")
    assert launch(run_apart, config) == [0, 0]
    saved = load_file(tmp_path / "out" / "step-000002" / "weights.safetensors")
    objective = build_parts(config, TEXTS, CLASSES).objective
    optimizers = build_optimizers(groups_of(objective, config.optimizer), config.optimizer)
    checkpoint.load(tmp_path / "out" / "step-000002", objective, optimizers)  # where nothing is split
    moments = dict(checkpoint.moments_of(objective, optimizers))
    assert {name: tensor.shape for name, tensor in saved.items()} == {
        name: moments[f"{name}/exp_avg"].shape for name in saved
    }
    bundle = load_bundle(tmp_path / "out" / "bundle").model.state_dict()
    assert all(
        torch.equal(bundle[name.removeprefix("model.")], tensor) for name, tensor in saved.items() if "head" not in name
    )


def test_a_signal_to_one_stops_both(shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path / "out", steps=100_000, checkpoint_every=0)
    log = tmp_path / "out" / "log.jsonl"
    with launched(run_apart, config) as processes:
        while all(p.is_alive() for p in processes) and not (log.is_file() and log.stat().st_size > 2000):
            time.sleep(0.01)
        os.kill(processes[1].pid or 0, signal.SIGTERM)
    assert [process.exitcode for process in processes] == [143, 143]
    newest = checkpoint.newest(tmp_path / "out")
    assert newest is not None
    done = int(newest.name[5:])
    assert len(losses(config.out)) == done
    assert launch(cut_off, config, 2) == [1, 1]
    assert len(losses(config.out)) == done + 2
    assert launch(run_apart, config, processes=1) == [2]
    said = (tmp_path / "out.0.txt").read_text()
    assert f"step-{done:06d} was made on 2 processes, here are 1: start as many again" in said


def full_disk(config: TrainConfig) -> None:
    """The disk of the first process is full when it saves."""

    def refused(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    checkpoint.save_file = refused
    run_apart(config)


def test_a_disk_that_is_full_ends_both(shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path / "out")
    assert launch(full_disk, config) == [2, 2]
    assert "cannot save the checkpoint" in (tmp_path / "out.1.txt").read_text()
