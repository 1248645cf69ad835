"""What a run costs: operations, memory and hours, before it starts; and the share of a device that it uses."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "A10G": 70e12, "L4": 121e12, "4090": 165e12}
"""Dense bf16 operations a second, from the makers' data sheets, by a part of the device's name."""


def peak_flops(device: torch.device) -> float:
    """Operations a second that the device can do in bf16; 0 where unknown (a CPU)."""
    if device.type != "cuda":
        return 0.0
    name = torch.cuda.get_device_name(device)
    return next((value for part, value in PEAK.items() if part in name), 0.0)


def step_flops(objective: nn.Module) -> float:
    """Operations a token in the published convention: 2 x parameters forward, 2 x backward through the
    activations, 2 x for gradients of weights where they are trained (so 4 x for a frozen base, 6 x in full).

    The language model counts; the tower sees an image, not tokens, and is left out.
    """
    language = [p for n, p in objective.named_parameters() if "vision_tower" not in n and "embed_tokens" not in n]
    return float(sum((6 if p.requires_grad else 4) * size_of(p) for p in language))


def size_of(parameter: Any) -> int:
    """Values of a parameter (4-bit ones are stored two in a byte)."""
    packed = parameter.__class__.__name__ == "Params4bit"
    return int(parameter.numel()) * (2 if packed else 1)
