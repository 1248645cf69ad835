"""Optimizers: parameter groups with their own rates, and the schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from sketchlm.model import part_of, trained_parameters


@dataclass(frozen=True)
class OptimizerConfig:
    """Rates and decay. A rate of -1 means `lr`."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon: torch.optim.Muon for matrices inside layers, AdamW for the rest; for models made from nothing."""
    lr: float = 2e-5
    """Paper: 2e-5 in both stages."""
    connector_lr: float = -1.0
    tower_lr: float = -1.0
    fusion_lr: float = -1.0
    muon_lr: float = 0.02
    """Of the matrices that Muon takes; in connector, tower and fusion by as much lower as their own rate is."""
    weight_decay: float = 0.0
    beta2: float = 0.999
    warmup: float = 0.03
    """Share of the steps over which the rate rises from 0."""
    final: float = 0.0
    """Share of the rate that the cosine ends at."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 = no clipping."""


@dataclass(frozen=True, slots=True)
class Group:
    """One parameter group, as printed before a run."""

    name: str
    optimizer: str
    lr: float
    weight_decay: float
    parameters: tuple[nn.Parameter, ...]

    @property
    def size(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.parameters)


def groups_of(objective: nn.Module, config: OptimizerConfig) -> list[Group]:
    """All that is trained, by part of the model, optimizer and decay; every parameter is in one group."""
    rates = {
        "tower": config.lr if config.tower_lr < 0 else config.tower_lr,
        "connector": config.lr if config.connector_lr < 0 else config.connector_lr,
        "fusion": config.lr if config.fusion_lr < 0 else config.fusion_lr,
        "language": config.lr,
    }
    found: dict[tuple[str, str, float, float], list[nn.Parameter]] = {}
    for name, parameter in trained_parameters(objective):
        part = "tower" if "tower_head" in name else part_of(name)
        matrix = parameter.ndim == 2 and ".layers." in name and name.endswith(".weight") and "lora_" not in name
        if config.name == "muon" and matrix:
            scale = rates[part] / config.lr if config.lr else 1.0
            key = (part, "muon", config.muon_lr * scale, config.weight_decay)
        else:
            decay = config.weight_decay if parameter.ndim > 1 and "embed" not in name else 0.0
            key = (part, "adamw", rates[part], decay)
        found.setdefault(key, []).append(parameter)
    return [Group(part, how, lr, decay, tuple(them)) for (part, how, lr, decay), them in sorted(found.items())]


def build_optimizers(groups: Sequence[Group], config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """One optimizer for each kind in use; rates stand in `initial_lr` for `set_rates`."""
    built: list[torch.optim.Optimizer] = []
    for kind in ("adamw", "muon"):
        chosen: list[dict[str, Any]] = [
            {"params": list(g.parameters), "lr": g.lr, "initial_lr": g.lr, "weight_decay": g.weight_decay}
            for g in groups
            if g.optimizer == kind
        ]
        if not chosen:
            continue
        if kind == "adamw":
            built.append(torch.optim.AdamW(chosen, lr=config.lr, betas=(0.9, config.beta2)))
        else:
            built.append(torch.optim.Muon(chosen, lr=config.muon_lr))
    return built


def set_rates(optimizers: Sequence[Any], step: int, steps: int, config: OptimizerConfig) -> float:
    """Set every group's rate for a step (from 0), and return the factor: linear warm-up, then cosine."""
    factor = rate_factor(step, steps, config)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
    return factor


def rate_factor(step: int, steps: int, config: OptimizerConfig) -> float:
    """Share of the full rate at a step in [0, steps)."""
    rising = math.ceil(config.warmup * steps)
    if step < rising:
        return (step + 1) / rising
    through = (step - rising) / max(1, steps - rising)
    return config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * through))
