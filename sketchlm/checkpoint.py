"""Checkpoints: what a run needs to go on as if it had never stopped, whole or absent.

`step-000120/` holds `trained.safetensors` (weights that are trained), `optimizer.pt`, `state.json`
(step, position of the loader, fingerprint of the recipe); the folder gets its name last.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

FOLDER = re.compile(r"step-(\d{6,})")
TEMPORARY = ".tmp-"
OPTIONS = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)
OPTIMIZER_OPTIONS = StateDictOptions(full_state_dict=True, cpu_offload=True)


def save(folder: Path, step: int, objective: nn.Module, optimizers: list[Any], state: dict[str, Any], main: bool) -> Path:
    """Write the checkpoint after `step` steps; every rank calls, `main` writes.

    Raises ValueError, with the remedy, where it cannot be written (a full disk, say); what was begun is removed.
    """
    weights = {name: tensor.contiguous() for name, tensor in get_model_state_dict(objective, options=OPTIONS).items()}
    moments = [get_optimizer_state_dict(objective, [o], options=OPTIMIZER_OPTIONS) for o in optimizers]
    final = folder / f"step-{step:06d}"
    if not main:
        return final
    begun = folder / f"{TEMPORARY}{final.name}"
    try:
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        save_file(weights, begun / "trained.safetensors")
        torch.save(moments, begun / "optimizer.pt")
        (begun / "state.json").write_text(json.dumps({"step": step, **state}, indent=1))
        for path in begun.iterdir():
            _to_disk(path)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(begun, final)
    except (OSError, SafetensorError, RuntimeError) as error:  # torch says RuntimeError for a full disk
        shutil.rmtree(begun, ignore_errors=True)
        raise ValueError(
            f"cannot save the checkpoint {final}: {error}; make room there or choose another --out, "
            "and run the same command again to go on from the last whole one"
        ) from None
    return final


def newest(folder: Path) -> Path | None:
    """The latest whole checkpoint; half-written ones carry another name."""
    found = [path for path in folder.glob("step-*") if FOLDER.fullmatch(path.name) and (path / "state.json").is_file()]
    return max(found, key=lambda path: int(path.name[5:]), default=None)


def prune(folder: Path, keep: int) -> None:
    """Remove all but the latest `keep` checkpoints, and what killed runs left."""
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)
    found = sorted((p for p in folder.glob("step-*") if FOLDER.fullmatch(p.name)), key=lambda p: int(p.name[5:]))
    for path in found[: -keep or None]:
        shutil.rmtree(path, ignore_errors=True)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """`state.json` of a checkpoint; ValueError for one that is damaged."""
    try:
        state = json.loads((checkpoint / "state.json").read_text())
        return dict(state)
    except (OSError, ValueError) as error:
        raise ValueError(f"{checkpoint}/state.json cannot be read ({error}): delete the folder {checkpoint}") from None


def load(checkpoint: Path, objective: nn.Module, optimizers: list[Any]) -> None:
    """Bring weights and moments back in place.

    Raises ValueError for a checkpoint that is damaged or belongs to a model with other trained weights.
    """
    try:
        weights = load_file(checkpoint / "trained.safetensors")
        moments = torch.load(checkpoint / "optimizer.pt", weights_only=True, map_location="cpu")
    except (OSError, SafetensorError, RuntimeError, EOFError) as error:
        raise ValueError(f"checkpoint {checkpoint} is damaged ({error}): delete that folder") from None
    expected = get_model_state_dict(objective, options=OPTIONS)
    if differ := sorted(weights.keys() ^ expected.keys()):
        raise ValueError(f"checkpoint {checkpoint} belongs to another model: {len(differ)} names differ ({differ[0]})")
    set_model_state_dict(objective, weights, options=OPTIONS)
    for optimizer, state in zip(optimizers, moments, strict=True):
        set_optimizer_state_dict(objective, [optimizer], state, options=OPTIMIZER_OPTIONS)


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
