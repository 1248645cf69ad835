"""Where a model runs."""

from __future__ import annotations

import torch


def pick_device(name: str) -> torch.device:
    """The device that `name` means: "auto" is cuda where there is one, else cpu."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
