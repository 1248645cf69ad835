"""Checkpoints: what a run needs to go on as if it had never stopped, whole or absent.

    step-000120/
        weights.safetensors     every weight that is trained, by its name in LLaVA; frozen ones are never written
        moments.safetensors     what the optimizers keep, as `weight/moment`
        engine/                 what DeepSpeed keeps instead of moments, where it trains
        state.json              steps done, position of every rank's loader, settings of the run, sizes of the files

The folder gets its name last. Tensors are whole and named without what PEFT, DDP or FSDP wrap around them, so a
checkpoint does not depend on how a model was spread over processes. (`torch.distributed.checkpoint` keeps the
wrapping of PEFT in its names, takes a step of the optimizer to learn its shape before it loads, and unpickles.)
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sketchlm.model import trained_parameters, without_wrappers
from sketchlm.parallel import split_like, whole
from sketchlm.tokenizer import first_line

FOLDER = re.compile(r"step-(\d{6,})")
TEMPORARY = ".tmp-"
STATE = "state.json"
WEIGHTS = "weights.safetensors"
MOMENTS = "moments.safetensors"
ENGINE = "engine"


def save(
    folder: Path, step: int, objective: nn.Module, optimizers: Sequence[Any], state: dict[str, Any], main: bool = True
) -> Path:
    """Write the checkpoint after `step` steps; every process calls, `main` writes.

    Raises ValueError, with the remedy, where it cannot be written (a full disk, say); what was begun is removed.
    """
    final = folder / f"step-{step:06d}"
    begun = folder / f"{TEMPORARY}{final.name}"
    engine = is_engine(objective)
    # all that processes do together comes before what may fail on the first one alone
    weights = _gather(trained_of(objective).items(), main)
    moments = {} if engine else _gather(moments_of(objective, optimizers), main)
    try:
        if main:
            shutil.rmtree(begun, ignore_errors=True)
            begun.mkdir(parents=True)
        if engine:
            cast(Any, objective).save_checkpoint(str(begun / ENGINE), exclude_frozen_parameters=True)
        if main:
            save_file(weights, begun / WEIGHTS)
            save_file(moments, begun / MOMENTS)
            files = [path for path in begun.rglob("*") if path.is_file()]
            sizes = {str(path.relative_to(begun)): path.stat().st_size for path in sorted(files)}
            (begun / STATE).write_text(json.dumps({"step": step, **state, "files": sizes}, indent=1) + "\n")
            _to_disk([*files, begun / STATE, begun])
            shutil.rmtree(final, ignore_errors=True)
            os.replace(begun, final)
            _to_disk([folder])
    except (OSError, SafetensorError, RuntimeError) as error:  # safetensors and torch have words of their own
        shutil.rmtree(begun, ignore_errors=True)
        raise ValueError(
            f"cannot save the checkpoint {final}: {first_line(error)}; make room there, then run the same command: "
            f"it goes on from {newest(folder) or 'the start'}"
        ) from None
    return final


def newest(folder: Path) -> Path | None:
    """The latest whole checkpoint. Half-written and half-copied ones are passed over."""
    return next((path for path in reversed(_found(folder)) if not what_lacks(path)), None)


def what_lacks(checkpoint: Path) -> str:
    """What is not as its state.json says; "" for a whole checkpoint."""
    try:
        sizes = json.loads((checkpoint / STATE).read_text())["files"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{STATE} cannot be read ({first_line(error)})"
    for name, size in sizes:
        seen = (checkpoint / name).stat().st_size if (checkpoint / name).is_file() else -1
        if seen != size:
            return f"{name} " + ("is missing" if seen < 0 else f"has {seen} of {size} bytes")
    return ""


def prune(folder: Path, keep: int) -> None:
    """Remove all but the latest `keep` whole checkpoints (at least one), and what killed runs left."""
    for path in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)
    found = _found(folder)
    kept = [path for path in found if not what_lacks(path)][-max(1, keep) :]
    for path in found:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """`state.json` of a whole checkpoint.

    Raises ValueError for one that is not whole.
    """
    if lacks := what_lacks(checkpoint):
        raise ValueError(f"checkpoint {checkpoint} is not whole: {lacks}; delete that folder")
    return dict(json.loads((checkpoint / STATE).read_text()))


def load(checkpoint: Path, objective: nn.Module, optimizers: Sequence[Any]) -> None:
    """Bring weights and moments back, in place; every process calls.

    Raises ValueError for a checkpoint that is damaged or belongs to a model with other trained weights.
    """
    load_weights(checkpoint, objective)
    if is_engine(objective):
        cast(Any, objective).load_checkpoint(str(checkpoint / ENGINE), load_module_strict=False)
        return
    stored: dict[str, dict[str, Tensor]] = {}
    for key, tensor in _read(checkpoint / MOMENTS).items():
        name, moment = key.split("/")
        stored.setdefault(name, {})[moment] = tensor
    for name, parameter, optimizer in _optimized(objective, optimizers):
        if name in stored:  # a weight that has had no gradient has no moments
            optimizer.state[parameter] = {
                moment: split_like(tensor, parameter) if tensor.shape == parameter.shape else tensor
                for moment, tensor in stored[name].items()
            }


def load_weights(checkpoint: Path, objective: nn.Module) -> None:
    """Bring the trained weights back, in place."""
    stored, trained = _read(checkpoint / WEIGHTS), trained_of(objective)
    differ = sorted(stored.keys() ^ trained.keys())
    differ += [name for name in stored.keys() & trained.keys() if stored[name].shape != trained[name].shape]
    if differ:
        raise ValueError(
            f"checkpoint {checkpoint} belongs to another model: {len(differ)} trained weights differ, the first is "
            f"{differ[0]}; choose another --out, or delete that folder"
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(split_like(stored[name].to(parameter.dtype), parameter))


def trained_of(objective: nn.Module) -> dict[str, nn.Parameter]:
    """What is trained, by the names that checkpoints use."""
    named = [(without_wrappers(name), parameter) for name, parameter in trained_parameters(objective)]
    assert len(dict(named)) == len(named), "two trained weights share a name"
    return dict(named)


def moments_of(objective: nn.Module, optimizers: Sequence[Any]) -> Iterator[tuple[str, Tensor]]:
    """`weight/moment` and tensor of all that the optimizers keep."""
    for name, parameter, optimizer in _optimized(objective, optimizers):
        for key, value in sorted(optimizer.state.get(parameter, {}).items()):
            yield f"{name}/{key}", torch.as_tensor(value)


def is_engine(objective: nn.Module) -> bool:
    """Whether DeepSpeed trains it, which keeps the moments to itself."""
    return hasattr(objective, "save_checkpoint")


def _optimized(objective: nn.Module, optimizers: Sequence[Any]) -> Iterator[tuple[str, nn.Parameter, Any]]:
    names = {id(parameter): name for name, parameter in trained_of(objective).items()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                yield names[id(parameter)], parameter, optimizer


def _gather(tensors: Iterable[tuple[str, Tensor]], main: bool) -> dict[str, Tensor]:
    """Tensors whole and on the CPU, one by one; only the first process keeps them."""
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors:
        gathered = whole(tensor.detach())
        if main:
            kept[name] = gathered.cpu().contiguous()
    return kept


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{path} cannot be read ({first_line(error)}): delete the folder {path.parent}, an older checkpoint is "
            "taken then"
        ) from None


def _found(folder: Path) -> list[Path]:
    """Folders with the name of a checkpoint, the latest last."""
    return sorted((p for p in folder.glob("step-*") if FOLDER.fullmatch(p.name)), key=lambda path: int(path.name[5:]))


def _to_disk(paths: Sequence[Path]) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
