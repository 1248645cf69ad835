"""Checkpoints: whole or absent, the same whatever wraps the model, and never a frozen weight in them."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sketchlm import checkpoint
from sketchlm.optimizer import OptimizerConfig, build_optimizers, groups_of
from sketchlm.training import build_parts
from tests.sketchlm.runs import CLASSES, TEXTS, losses, run, small, stopping_after, with_lora, write_training_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_shards(tmp_path_factory.mktemp("shards"))


def built(shards: Path, name: str = "adamw", lora: bool = False) -> tuple[Any, list[Any]]:
    """An objective and its optimizers, of the same weights each time."""
    config = small(shards, shards / "unused", optimizer=OptimizerConfig(name=name))  # type: ignore[arg-type]
    objective = build_parts(with_lora(config) if lora else config, TEXTS, CLASSES).objective
    return objective, build_optimizers(groups_of(objective, config.optimizer), config.optimizer)


def nudge(objective: nn.Module, optimizers: list[Any], seed: int) -> None:
    """One step along made-up gradients."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in objective.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(("name", "lora"), [("adamw", False), ("muon", False), ("adamw", True)])
def test_weights_and_moments_come_back_exactly(shards: Path, tmp_path: Path, name: str, lora: bool) -> None:
    first, second = built(shards, name, lora), built(shards, name, lora)
    nudge(*first, seed=1)
    checkpoint.load(checkpoint.save(tmp_path, 1, *first, {}), *second)
    for one in (first, second):
        nudge(*one, seed=2)  # moments decide where this goes
    a, b = (dict(objective.named_parameters()) for objective, _ in (first, second))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_only_trained_weights_are_written_under_plain_names(shards: Path, tmp_path: Path) -> None:
    objective, optimizers = built(shards, lora=True)
    nudge(objective, optimizers, 1)
    saved = checkpoint.save(tmp_path, 3, objective, optimizers, {})
    weights = load_file(saved / "weights.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == 8_000
    assert {name.rsplit(".", 2)[-2] for name in weights if "lora" not in name} == {"linear_1", "linear_2"}
    assert "model.model.language_model.layers.0.mlp.down_proj.lora_A.default.weight" in weights
    assert "model.model.multi_modal_projector.linear_1.weight" in weights  # as in LLaVA: no word of PEFT
    moments = load_file(saved / "moments.safetensors")
    assert {key.split("/")[0] for key in moments} == set(weights)
    assert {key.split("/")[1] for key in moments} == {"step", "exp_avg", "exp_avg_sq"}


def test_what_is_not_whole_is_passed_over(shards: Path, tmp_path: Path) -> None:
    objective, optimizers = built(shards, lora=True)
    assert checkpoint.newest(tmp_path) is None
    saved = [checkpoint.save(tmp_path, step, objective, optimizers, {}) for step in (2, 4, 6, 1_000_000)]
    assert checkpoint.newest(tmp_path) == saved[3]  # by number, not by name
    (saved[3] / "state.json").unlink()
    assert checkpoint.newest(tmp_path) == saved[2]
    with (saved[2] / "weights.safetensors").open("r+b") as file:
        file.truncate(1000)
    assert "weights.safetensors has 1000 of" in checkpoint.what_lacks(saved[2])
    assert checkpoint.newest(tmp_path) == saved[1]
    (saved[1] / "moments.safetensors").unlink()
    (tmp_path / ".tmp-step-000008").mkdir()
    shutil.copytree(saved[0], tmp_path / ".tmp-step-000010")
    assert checkpoint.newest(tmp_path) == saved[0]
    (saved[0] / "state.json").write_text("{")
    assert checkpoint.newest(tmp_path) is None


def test_pruning_keeps_the_latest_whole_ones(shards: Path, tmp_path: Path) -> None:
    objective, optimizers = built(shards, lora=True)
    saved = [checkpoint.save(tmp_path, step, objective, optimizers, {}) for step in (1, 2, 3, 4)]
    (saved[3] / "weights.safetensors").unlink()
    (tmp_path / ".tmp-step-000009").mkdir()
    checkpoint.prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000002", "step-000003"]
    checkpoint.prune(tmp_path, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000003"]


def test_damage_and_other_models_are_named(shards: Path, tmp_path: Path) -> None:
    objective, optimizers = built(shards, lora=True)
    saved = checkpoint.save(tmp_path, 2, objective, optimizers, {})
    with pytest.raises(ValueError, match=r"step-000002 belongs to another model: .* trained weights differ, the first"):
        checkpoint.load(saved, *built(shards))
    data = bytearray((saved / "weights.safetensors").read_bytes())
    data[:8] = b"\xff" * 8
    (saved / "weights.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"weights.safetensors cannot be read .* delete the folder .*step-000002"):
        checkpoint.load(saved, objective, optimizers)
    (saved / "moments.safetensors").unlink()
    with pytest.raises(ValueError, match="step-000002 is not whole: moments.safetensors is missing; delete"):
        checkpoint.read_state(saved)


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_last_checkpoint_and_says_what_to_do(shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path / "out")
    with stopping_after(3), pytest.raises(InterruptedError):
        run(config)
    with small_files(300_000), pytest.raises(ValueError, match="cannot save the checkpoint .*/step-000004") as caught:
        run(config)
    assert f"make room there, then run the same command: it goes on from {config.out}/step-000002" in str(caught.value)
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {"step-000002", "settings.json", "log.jsonl"}
    assert not list((tmp_path / "out").glob(".tmp-*"))
    run(config)
    uninterrupted = small(shards, tmp_path / "other")
    run(uninterrupted)
    assert losses(config.out) == losses(uninterrupted.out)


def test_a_log_that_cannot_grow_is_named(shards: Path, tmp_path: Path) -> None:
    with small_files(12_000), pytest.raises(ValueError, match=r"cannot write .*log.jsonl.* make room there"):
        run(small(shards, tmp_path / "out", steps=200, checkpoint_every=0))


def test_a_small_disk(shards: Path, tmp_path: Path) -> None:
    """The same on a real disk that is full, where one can be mounted."""
    out = tmp_path / "out"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(out)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        with pytest.raises(ValueError, match=r"step-000004: .*[Nn]o space left on device.* goes on from .*step-000002"):
            run(small(shards, out))
        assert checkpoint.newest(out) == out / "step-000002"
        assert not list(out.glob(".tmp-*"))
    finally:
        subprocess.run(["umount", str(out)], check=True)


def test_state_says_what_a_reader_needs(shards: Path, tmp_path: Path) -> None:
    run(small(shards, tmp_path / "out", steps=2))
    state = json.loads((tmp_path / "out" / "step-000002" / "state.json").read_text())
    assert state["step"] == 2
    assert state["settings"]["optimizer.lr"] == 1e-3
    assert len(state["loader"]) == 1
    assert set(state["files"]) == {"weights.safetensors", "moments.safetensors"}
