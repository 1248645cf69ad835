"""Where a model runs."""

from __future__ import annotations

import torch


def pick_device(name: str) -> torch.device:
    """The device that `name` means: "auto" is cuda where there is one, else cpu.

    Raises ValueError for one that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device
