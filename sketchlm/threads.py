"""Threads of the CPU: how many PyTorch computes with."""

from __future__ import annotations

from typing import Any

import torch

SMALL = 50_000_000
"""Parameters below which one thread serves a model best: a second gains little, and where the machine does other work
both wait for each other (`learn`, a question on two cores: 0.12 s with one thread, 0.10 s with two; 0.2 s and 1.1 s
beside other work, and seconds where there is more of it)."""


def pin_threads(threads: int) -> None:
    """Fix the threads of this process: sums in another order give other bits. 0 = as torch chooses."""
    import cv2

    cv2.setNumThreads(1)
    if threads:
        torch.set_num_threads(threads)


def threads_for(model: Any) -> int:
    """How many serve a model where it lies; 0 = as torch chooses."""
    weights = list(model.parameters())
    is_small = sum(weight.numel() for weight in weights) < SMALL
    return 1 if is_small and weights[0].device.type == "cpu" else 0
