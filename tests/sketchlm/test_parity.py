"""Two images, packed branches, adapters: the same as plain transformers.

Weights are shaken (see `tiny_llava`): logits reach 5.5. Worst differences of 80 models (20 seeds; full, LoRA, eager,
layer -2), one thread: packed against alone 1.0e-5 with AVX-512, 4.1e-6 with AVX2; batch against single 4.8e-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sketchlm.collator import IGNORE, Batch
from sketchlm.loss import LossConfig, Objective, encode, normalise
from sketchlm.model import ModelConfig, adapt, build_tiny, unwrap
from sketchlm.processor import Item, ProcessorConfig
from tests.sketchlm.llava import (
    SIZES,
    collator_of,
    fused,
    query,
    raw_sample,
    shake,
    tiny_llava,
    tiny_processor,
    tiny_tokenizer,
)

PACKED = 5e-5
"""Five times the worst that was seen: other shapes, other order of sums."""


@pytest.fixture(scope="module")
def items() -> list[Item]:
    """Five rows of one to three branches, different lengths; the last without a sketch."""
    one = raw_sample(
        query("bbox", 0),
        query("count", 0),
        query("describe", 0, answers=["A brown dog stands there."]),
        query("sbir", 1),
    )
    two = raw_sample(query("vqa", 0), query("sbir", 0), query("bbox", 1), query("bbox", -1), seed=1, size=(40, 61))
    made = [i for n, raw in enumerate((one, two)) for i in tiny_processor(ProcessorConfig(branches=3)).items(raw, n)]
    assert sorted(len(i.branches) for i in made) == [1, 1, 1, 2, 3] and len({i.length for i in made}) == 5
    return made


@pytest.fixture(scope="module", params=["full", "lora", "fusion", "lora, fusion", "published feature layer", "eager"])
def model(request: pytest.FixtureRequest) -> Any:
    llava = tiny_llava(seed=7)
    if "fusion" in request.param:
        llava = fused(llava, layers=2)
    if "lora" in request.param:
        fusion = "cross_attention" if "fusion" in request.param else "concat"
        llava = adapt(llava, ModelConfig(lora_rank=4, connector="lora", fusion=fusion, fusion_layers=2)).eval()
        shake(llava, 8)
    if request.param == "published feature layer":  # LLaVA-1.5 reads the last layer but one
        llava.config.vision_feature_layer = -2
    if request.param == "eager":
        llava.set_attn_implementation("eager")
    return llava


def batch_of(model: Any, items: Sequence[Item]) -> Batch:
    return collator_of(unwrap(model), tiny_tokenizer())(items)


def packed_logits(model: Any, batch: Batch) -> Tensor:
    """[T, V] logits at every trained place, row by row."""
    with torch.no_grad():
        hidden, _ = encode(model, batch)
        return unwrap(model).lm_head(hidden[batch.targets != IGNORE])


def plain_logits(model: Any, items: Sequence[Item]) -> Tensor:
    """The same from LlavaForConditionalGeneration's own forward, each question alone."""
    found = []
    for item in items:
        pixels = normalise(torch.stack([torch.from_numpy(p.pixels) for p in item.pictures]), torch.float32)
        for branch in item.branches:
            ids = torch.tensor([item.prefix + branch.ids])
            with torch.no_grad():
                logits = unwrap(model)(input_ids=ids, pixel_values=pixels).logits[0]
            found.append(logits[-branch.num_trained - 1 : -1])
    return torch.cat(found)


def test_packed_branches_are_each_query_alone_in_plain_transformers(model: Any, items: list[Item]) -> None:
    ours, theirs = packed_logits(model, batch_of(model, items)), plain_logits(model, items)
    assert ours.shape == theirs.shape and float(theirs.abs().max()) > 1
    assert float((ours - theirs).abs().max()) < PACKED


def test_a_batch_is_its_rows_one_by_one_and_padding_changes_nothing(model: Any, items: list[Item]) -> None:
    together = packed_logits(model, batch_of(model, items))
    alone = torch.cat([packed_logits(model, batch_of(model, [item])) for item in items])
    assert float((together - alone).abs().max()) < PACKED
    backwards = packed_logits(model, batch_of(model, items[::-1]))
    counts = [sum(b.num_trained for b in item.branches) for item in items]
    again = torch.cat(backwards.split(counts[::-1])[::-1])
    assert float((together - again).abs().max()) < PACKED


def test_branches_see_nothing_of_each_other(model: Any, items: list[Item]) -> None:
    item = next(i for i in items if len(i.branches) == 3)
    one, two, three = item.branches
    changed = replace(two, ids=tuple(reversed(two.ids)))
    before, after = (
        packed_logits(model, batch_of(model, [replace(item, branches=(one, middle, three))]))
        for middle in (two, changed)
    )
    assert torch.equal(before[: one.num_trained], after[: one.num_trained])
    assert torch.equal(before[-three.num_trained :], after[-three.num_trained :])


def test_swapping_sketch_and_image_changes_the_output(model: Any, items: list[Item]) -> None:
    swapped = [replace(item, pictures=item.pictures[::-1]) for item in items]
    before, after = (packed_logits(model, batch_of(model, rows)) for rows in (items, swapped))
    counts = [sum(b.num_trained for b in item.branches) for item in items]
    for item, a, b in zip(items, before.split(counts), after.split(counts), strict=True):
        moved = float((a - b).abs().max())
        assert moved > 0.01 if len(item.pictures) == 2 else moved < PACKED


def test_each_image_changes_the_output(model: Any, items: list[Item]) -> None:
    """The second image was ignored by LLaVA's own batches (LLaVA#1292)."""
    item = next(i for i in items if len(i.pictures) == 2)
    before = packed_logits(model, batch_of(model, [item]))
    for place in (0, 1):
        pictures = list(item.pictures)
        pictures[place] = replace(pictures[place], pixels=255 - pictures[place].pixels)
        after = packed_logits(model, batch_of(model, [replace(item, pictures=tuple(pictures))]))
        assert float((before - after).abs().max()) > 0.01


def test_the_loss_is_that_of_transformers(items: list[Item]) -> None:
    """Mean cross entropy over the answer tokens, labels -100 elsewhere."""
    model = tiny_llava(seed=7)
    for item in items:
        for branch in item.branches:
            alone = replace(item, branches=(branch,))
            loss = Objective(model, LossConfig())(batch_of(model, [alone]))
            ids = torch.tensor([item.prefix + branch.ids])
            labels = torch.full_like(ids, IGNORE)
            labels[0, -branch.num_trained :] = ids[0, -branch.num_trained :]
            pixels = normalise(torch.stack([torch.from_numpy(p.pixels) for p in item.pictures]), torch.float32)
            theirs = model(input_ids=ids, pixel_values=pixels, labels=labels).loss.detach()
            assert float((loss.total / loss.weight).detach()) == pytest.approx(float(theirs), abs=1e-5)
            assert int(loss.weight) == branch.num_trained


def test_gradients_of_a_packed_row_are_the_sum_of_its_queries(items: list[Item]) -> None:
    def gradients(rows: list[Item]) -> dict[str, Tensor]:
        model = adapt(build_tiny(SIZES, tiny_tokenizer()), ModelConfig(tower="full", language="full"))
        Objective(model, LossConfig())(batch_of(model, rows)).total.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    packed = gradients(items)
    alone = gradients([replace(item, branches=(branch,)) for item in items for branch in item.branches])
    assert packed.keys() == alone.keys()
    for name, gradient in packed.items():
        # worst seen: 3e-7 of the largest; the gradient of a key's bias is 0 but for rounding
        limit = 1e-5 * float(alone[name].abs().max()) + 1e-7
        assert float((gradient - alone[name]).abs().max()) < limit, name


def gradients_of(model: Any, items: list[Item], autocast: bool = False) -> dict[str, Tensor]:
    model.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = Objective(model, LossConfig())(batch_of(model, items))
    (loss.total / loss.weight).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_recomputed_activations_give_the_same_gradients(items: list[Item]) -> None:
    def model() -> Any:
        made = adapt(tiny_llava(seed=7), ModelConfig(lora_rank=4, lora_alpha=8, connector="lora"))
        shake(made, 8, 0.1)
        return made

    recomputed = model()
    unwrap(recomputed).gradient_checkpointing_enable()
    expected, found = gradients_of(model(), items), gradients_of(recomputed, items)
    assert expected.keys() == found.keys() and all(torch.equal(found[n], g) for n, g in expected.items())


def test_a_frozen_base_in_half_trains_as_one_in_full(items: list[Item]) -> None:
    """bf16 keeps 8 bits: the direction of every gradient stays, its length to some percent."""

    def model(dtype: torch.dtype) -> Any:
        made = adapt(tiny_llava(seed=7).to(dtype), ModelConfig(lora_rank=4, lora_alpha=8))
        shake(made, 8, 0.1)
        return made

    full, half = gradients_of(model(torch.float32), items), gradients_of(model(torch.bfloat16), items, autocast=True)
    assert full.keys() == half.keys() and {g.dtype for g in half.values()} == {torch.float32}
    one, two = (torch.cat([g.flatten() for _, g in sorted(found.items())]) for found in (full, half))
    assert float(torch.cosine_similarity(one, two, dim=0)) > 0.99
