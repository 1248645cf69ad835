"""Fingerprints: they change with what computes, and with nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sketchlm.fingerprint import SAMPLE, _sample, fingerprint
from sketchlm.model import ModelConfig, adapt, part_of
from tests.sketchlm.llava import shake, tiny_llava


def test_each_weight_of_a_part_counts_and_no_other() -> None:
    model = tiny_llava(seed=3)
    before = {part: fingerprint(model, (part,)) for part in ("tower", "connector", "language")}  # type: ignore[arg-type]
    for name, weight in model.state_dict().items():
        kept = weight.clone()
        weight.view(-1)[: max(1, weight.numel() // SAMPLE)] += 1
        changed = {part for part, was in before.items() if fingerprint(model, (part,)) != was}  # type: ignore[arg-type]
        assert changed == {part_of(name)}, name
        weight.copy_(kept)
    assert len(fingerprint(model)) == 16 and fingerprint(model) == fingerprint(tiny_llava(seed=3))


def test_facts_count() -> None:
    model = tiny_llava()
    assert fingerprint(model, prompt="a", side=1) == fingerprint(model, side=1, prompt="a")
    assert fingerprint(model, side=1) != fingerprint(model, side=2) != fingerprint(model)


def half(model: Any) -> Any:
    return model.half()


def merged(model: Any) -> Any:
    adapted = adapt(model, ModelConfig(lora_rank=4, connector="full"))
    return adapted.merge_and_unload()  # LoRA's B is 0 at birth: the same weights


@pytest.mark.parametrize("change", [half, merged])
def test_the_same_numbers_have_the_same_fingerprint(change: Any) -> None:
    model = tiny_llava(seed=3).half().float()
    before = fingerprint(model)
    assert fingerprint(change(model)) == before


def test_a_trained_connector_counts_under_its_wrapper_too() -> None:
    model = tiny_llava(seed=3)
    before = fingerprint(model, ("connector",))
    adapted = adapt(model, ModelConfig(lora_rank=4, connector="full"))
    assert fingerprint(adapted, ("connector",)) == before
    shake(adapted, 1)
    after = fingerprint(adapted, ("connector",))
    assert after != before == fingerprint(tiny_llava(seed=3), ("connector",))
    assert fingerprint(adapted.merge_and_unload(), ("connector",)) == after


def test_training_a_large_weight_is_seen() -> None:
    """Of a large tensor only a sample is read; a step of training moves all of it."""
    weight = torch.zeros(3 * SAMPLE)
    assert len(_sample(weight)) == 4 * SAMPLE and _sample(weight + 1e-6) != _sample(weight)
