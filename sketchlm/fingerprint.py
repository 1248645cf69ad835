"""Fingerprints: which weights computed something, in sixteen digits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sketchlm.model import Part, part_of, unwrap, without_wrappers

SAMPLE = 4096
"""Numbers of a tensor that are read at most, evenly spaced: a 7B model takes a second instead of a minute. Training
changes all of a tensor, so that these tell."""
PARTS: tuple[Part, ...] = ("tower", "connector", "fusion", "language")


def fingerprint(model: Any, parts: Sequence[Part] = PARTS, **facts: Any) -> str:
    """sha256 of the weights of some parts of LLaVA and of `facts` (what JSON can hold), the first 16 digits.

    Weights count by their names in LLaVA, shapes and values as bfloat16 has them: wrappers, the device and the
    precision that a model is loaded in do not matter. Of each tensor at most SAMPLE numbers are read.
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in _weights(model, parts):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(_sample(tensor))
    return digest.hexdigest()[:16]


def _weights(model: Any, parts: Sequence[Part]) -> Iterator[tuple[str, Tensor]]:
    """Name and tensor of all that counts, sorted; what PEFT keeps of before its training does not."""
    named = {
        without_wrappers(name): tensor
        for name, tensor in unwrap(model).state_dict(keep_vars=True).items()
        if "original_module" not in name and part_of(name) in parts
    }
    return iter(sorted(named.items()))


def _sample(tensor: Tensor) -> bytes:
    flat = tensor.detach().reshape(-1)
    if len(flat) > SAMPLE:
        flat = flat[torch.linspace(0, len(flat) - 1, SAMPLE, dtype=torch.float64).long().to(flat.device)]
    values = flat.bfloat16().float() if flat.is_floating_point() else flat
    return np.ascontiguousarray(values.cpu().numpy()).tobytes()
