"""The GPU benchmark of SAM 2.1, tried on the CPU: the sizes are the published ones, and it measures both ways."""

from __future__ import annotations

import argparse

import pytest
import torch

from benchmarks import sam2_gpu

PUBLISHED = {"tiny": 38.9, "small": 46.0, "base-plus": 80.8, "large": 224.4}
"""Parameters of SAM 2.1 in millions, those of the memory of its video model (7.5) included."""


@pytest.mark.slow
@pytest.mark.parametrize("size", list(PUBLISHED))
def test_the_sizes_are_those_that_are_published(size: str) -> None:
    model = sam2_gpu.build(size, 1024, torch.device("meta"))
    millions = sum(tensor.numel() for tensor in model.parameters()) / 1e6
    assert millions + 7.5 == pytest.approx(PUBLISHED[size], abs=0.1)


@pytest.mark.slow
def test_it_measures_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sam2_gpu.BACKBONES,
        "tiny",
        {"hidden_size": 96, "blocks_per_stage": [1, 1, 2, 1], "global_attention_blocks": [3]},
    )
    options = argparse.Namespace(tiny=True, images=2, batch=2, rounds=1, compile=False)
    speed = sam2_gpu.measure("tiny", options, torch.device("cpu"))
    assert speed.bare > 0 and speed.ours > 0
    text = sam2_gpu.page([speed], options, torch.device("cpu"))
    assert f"{speed.ours / speed.bare:.2f}" in text
