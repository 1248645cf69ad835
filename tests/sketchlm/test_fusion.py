"""Fusion: photo tokens that look at their sketch and nothing else, the same in training and in `generate`.

That packed rows, batches, answers and scores are those of each alone is tested with the other models, in test_parity,
test_answer and retrieval/test_scorer; resuming in test_loop; several processes in test_distributed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipelines import finetune, pretrain
from sketchlm.answer import Question, answer
from sketchlm.bundle import compact, export, load_bundle, read_info, save_bundle
from sketchlm.collator import IGNORE, Batch
from sketchlm.estimate import Row, matched_sizes, planned_objective, row_flops, step_flops, tower_cost
from sketchlm.evaluation.model import facts_of
from sketchlm.fingerprint import fingerprint
from sketchlm.fusion import Fusion, embed, fusion_of, pairs_of
from sketchlm.loss import LossConfig, Objective, normalise, states
from sketchlm.model import (
    ModelConfig,
    adapt,
    build_tiny,
    load_llava,
    matched,
    part_of,
    trained_parameters,
    unwrap,
    without_wrappers,
)
from sketchlm.optimizer import OptimizerConfig, groups_of
from sketchlm.processor import Item, ProcessorConfig
from sketchlm.tokenizer import load_tokenizer
from sketchlm.training import build_parts, check, warm_start
from tests.sketchlm.llava import (
    SIZES,
    asked,
    collator_of,
    fused,
    query,
    raw_sample,
    save_published,
    tiny_llava,
    tiny_processor,
    tiny_tokenizer,
)
from tests.sketchlm.runs import CLASSES, TEXTS, losses, run, small, with_fusion, with_lora, write_training_shards
from tests.sketchlm.test_bundle import INFO, MERGED, logits_of, shaken, unlist

CROSS = ModelConfig(tower="full", language="full", fusion="cross_attention", fusion_open=True)
LORA = ModelConfig(lora_rank=4, lora_alpha=8, fusion="cross_attention", fusion_open=True)
IMAGE, TOKENS = 3, 4
"""An image's token, and how many it has, in made-up ids."""


@pytest.fixture(scope="module")
def items() -> list[Item]:
    """Two rows of a sketch and a photo, and one of a photo between them."""
    raw = raw_sample(query("bbox", 0), query("sbir", 1), query("vqa", -1), seed=1)
    alone, one, two = sorted(tiny_processor(ProcessorConfig()).items(raw, 0), key=lambda item: len(item.pictures))
    assert [len(item.pictures) for item in (one, alone, two)] == [2, 1, 2]
    return [one, alone, two]


def batch_of(model: Any, items: Sequence[Item]) -> Batch:
    return collator_of(unwrap(model), tiny_tokenizer())(items)


def inputs_of(model: Any, batch: Batch) -> Tensor:
    """What the language model reads [B, L, W]."""
    llava = unwrap(model)
    with torch.no_grad():
        pixels = normalise(batch.pixel_values, torch.float32)
        tokens = torch.stack(list(llava.get_image_features(pixels, return_dict=True).pooler_output))
        return embed(llava.model, tokens[batch.image_index], batch.input_ids)


# --- the layer


def test_without_positions_it_is_a_layer_of_llama_whose_keys_are_another_picture_s() -> None:
    """A photo that looks at itself goes through transformers' own layer; worst of 20 seeds: 9.6e-7 at values to 4.7."""
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    text = tiny_llava().config.text_config
    theirs = LlamaDecoderLayer(text, 0).eval()
    (ours,) = Fusion(text, 1).layers
    weights: dict[str, Tensor] = {}
    for name, tensor in theirs.state_dict().items():
        weights[name.split(".", 1)[1]] = tensor + 0.1 * torch.randn_like(tensor)
    norms = {"photo_norm": "input_layernorm", "sketch_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    theirs.load_state_dict({name: weights[name.split(".", 1)[1]] for name in theirs.state_dict()})
    states_of = theirs.state_dict()
    ours.load_state_dict(
        {k: weights[k] for k in ours.state_dict() if "norm" not in k}
        | {f"{norm}.weight": states_of[f"{name}.weight"] for norm, name in norms.items()}
    )
    photos = torch.randn(3, 16, text.hidden_size, generator=torch.Generator().manual_seed(0))
    still = torch.ones(1, 16, text.hidden_size // text.num_attention_heads)
    seen = torch.zeros(1, 1, 16, 16)
    with torch.no_grad():
        expected = theirs(photos, attention_mask=seen, position_embeddings=(still, torch.zeros_like(still)))
        assert float((ours(photos, photos) - expected).abs().max()) < 1e-5
        other = ours(photos, photos.flip(1))  # the order of a sketch's tokens says nothing
        assert float((other - expected).abs().max()) < 1e-5
        assert float((ours(photos, photos.flip(0)) - expected)[0].abs().max()) > 0.01


def test_photos_may_share_one_sketch() -> None:
    fusion = fusion_of(fused(tiny_llava(), layers=2))
    assert fusion is not None
    photos, sketch = torch.randn(5, 16, SIZES.width), torch.randn(1, 16, SIZES.width)
    with torch.no_grad():
        assert torch.allclose(fusion(photos, sketch), fusion(photos, sketch.expand(5, -1, -1)), atol=1e-5)
        half = fusion(photos.bfloat16(), sketch.bfloat16())
    assert half.dtype == torch.bfloat16


# --- pairs


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=8))
@settings(deadline=None)
def test_pairs_are_the_rows_of_two_pictures_wherever_they_stand(rows: list[tuple[int, int, int]]) -> None:
    """rows: words before the first, pictures, words after the last one."""
    made, slot, expected = [], 0, []
    for before, pictures, after in rows:
        made.append([7] * before + ([IMAGE] * TOKENS + [8]) * pictures + [9] * after)
        expected += [(slot, slot + 1)] if pictures == 2 else []
        slot += pictures
    length = max(map(len, made)) + 1
    for padded in (
        [row + [0] * (length - len(row)) for row in made],
        [[0] * (length - len(row)) + row for row in made],
    ):
        sketches, photos = pairs_of(torch.tensor(padded), IMAGE, TOKENS)
        assert list(zip(sketches.tolist(), photos.tolist(), strict=True)) == expected


def test_only_photos_that_have_a_sketch_change(items: list[Item]) -> None:
    plain, model = tiny_llava(seed=7), fused(tiny_llava(seed=7))
    batch = batch_of(model, items)
    before, after = inputs_of(plain, batch), inputs_of(model, batch)
    changed = (before != after).any(-1)
    image = batch.input_ids == model.config.image_token_id
    photo = image & (image.cumsum(1) > 16)  # behind the 16 tokens of a sketch
    assert photo.sum(1).tolist() == [16, 0, 16] and torch.equal(changed, photo)


def test_a_photo_meets_the_sketch_of_its_own_row(items: list[Item]) -> None:
    model = fused(tiny_llava(seed=7))
    one, alone, two = items
    changed = replace(two, pictures=(replace(two.pictures[0], pixels=255 - two.pictures[0].pixels), two.pictures[1]))
    before, after = (inputs_of(model, batch_of(model, [one, alone, last])) for last in (two, changed))
    assert torch.equal(before[:2], after[:2]) and not torch.equal(before[2], after[2])


def test_closed_layers_are_concatenation_to_the_bit(items: list[Item]) -> None:
    plain, model = tiny_llava(seed=7), adapt(tiny_llava(seed=7), replace(CROSS, fusion_open=False, fusion_layers=2))
    batch = batch_of(model, items)
    with torch.no_grad():
        assert torch.equal(states(plain, batch).last, states(model, batch).last)
    assert torch.equal(logits_of(plain), logits_of(model))


# --- training


def test_generate_sees_what_training_sees(items: list[Item]) -> None:
    """Logits of the first answer token, under `train()` with gradients and in `generate`. Worst of 20 models: 2.9e-6,
    at logits to 4.8."""
    model = adapt(fused(tiny_llava(seed=7)), CROSS)
    for item in items:
        branch = item.branches[0]
        batch = batch_of(model, [replace(item, branches=(branch,))])
        hidden = states(model.train(), batch).last
        assert hidden.requires_grad
        ours = unwrap(model).lm_head(hidden[batch.targets != IGNORE])[0].detach()
        prompt = (item.prefix + branch.ids)[: -branch.num_trained]
        pixels = normalise(batch.pixel_values, torch.float32)
        out = unwrap(model.eval()).generate(
            input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            pixel_values=pixels, max_new_tokens=2, do_sample=False, return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
        assert float((out.logits[0][0] - ours).abs().max()) < 5e-5


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
@pytest.mark.parametrize("config", [CROSS, LORA], ids=["full", "lora"])
def test_a_gradient_reaches_every_weight(items: list[Item], config: ModelConfig, is_open: bool) -> None:
    """Of closed layers that of their last matrices first, and that of all others once these have moved."""
    model = adapt(build_tiny(SIZES, tiny_tokenizer()), replace(config, fusion_open=is_open))
    named = {without_wrappers(n): p for n, p in trained_parameters(model) if part_of(n) == "fusion"}
    assert named.keys() == {f"model.fusion.{n}" for n, _ in fusion_of(unwrap(model)).named_parameters()}  # type: ignore[union-attr]
    objective = Objective(model.train(), LossConfig())
    for step in range(1 if is_open else 2):
        objective(batch_of(model, items)).total.backward()
        reached = {n for n, p in named.items() if p.grad is not None and float(p.grad.abs().max()) > 0}
        last = {n for n in named if "o_proj" in n or "down_proj" in n}
        assert reached == (named.keys() if is_open or step else last)
        with torch.no_grad():
            for parameter in named.values():
                parameter -= 0.1 * parameter.grad
                parameter.grad = None


def test_a_batch_without_a_pair_leaves_no_weight_without_gradient(items: list[Item]) -> None:
    """DDP waits for each."""
    model = adapt(tiny_llava(seed=7), CROSS).train()
    batch = batch_of(model, items[1:2])
    loss = Objective(model, LossConfig())(batch).total
    loss.backward()
    assert all(float(p.grad.abs().max()) == 0 for n, p in model.named_parameters() if part_of(n) == "fusion")
    plain = adapt(tiny_llava(seed=7), replace(CROSS, fusion="concat"))
    assert torch.equal(loss, Objective(plain, LossConfig())(batch).total)


def test_its_first_weights_follow_the_seed_and_leave_the_others_alone() -> None:
    def made(seed: int, **options: Any) -> dict[str, Tensor]:
        torch.rand(seed + 1)  # whatever was drawn before
        return dict(adapt(build_tiny(SIZES, tiny_tokenizer()), replace(CROSS, **options), seed).state_dict())

    one, same, other = made(0), made(0), made(1)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert {part_of(name) for name in one if not torch.equal(one[name], other[name])} == {"fusion"}
    assert {name for name in one if part_of(name) != "fusion"} == made(0, fusion="concat").keys()


def test_it_has_a_rate_of_its_own_and_muon_takes_its_matrices() -> None:
    objective = Objective(adapt(build_tiny(SIZES, tiny_tokenizer()), CROSS), LossConfig())
    rates = OptimizerConfig(name="muon", lr=1e-3, muon_lr=0.02, fusion_lr=2e-3, weight_decay=0.1)
    mine = {g.optimizer: g for g in groups_of(objective, rates) if g.name == "fusion"}
    assert {kind: group.lr for kind, group in mine.items()} == {"adamw": 2e-3, "muon": 0.04}
    assert [p.ndim for p in mine["muon"].parameters] == [2] * 7 and mine["adamw"].weight_decay == 0
    assert {g.lr for g in groups_of(objective, replace(rates, fusion_lr=-1.0)) if g.name == "fusion"} == {1e-3, 0.02}


def test_an_other_fusion_than_the_base_s_is_refused() -> None:
    for has, wants, said in (
        (1, {"fusion": "concat"}, "fusion_layers 1, this recipe has concat: give it the same"),
        (2, {}, "fusion_layers 2, this recipe has cross_attention and 1: give it the same"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            adapt(fused(tiny_llava(), layers=has), replace(CROSS, **wants))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fusion_layers": 0}, "model.fusion_layers is 0; it must be at least 1"),
        ({"fusion_layers": -1}, "model.fusion_layers is -1; it must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_named(changes: dict[str, Any], said: str) -> None:
    config = small("unused", "unused")
    with pytest.raises(ValueError, match=re.escape(said)):
        check(replace(config, model=replace(config.model, **changes)))


def test_a_warm_start_has_none_and_the_stage_behind_it_begins_one(tmp_path: Path) -> None:
    config = with_fusion(small(write_training_shards(tmp_path / "shards", (4,)), tmp_path / "out", steps=2))
    with pytest.raises(ValueError, match="model.fusion is cross_attention, but stage tower trains the tower alone"):
        check(replace(config, stage="tower"))
    before = warm_start(replace(config, warm=replace(config.warm, steps=1, batch_size=2)))
    bundle = run(before)
    assert read_info(bundle).fusion_layers == 0
    config = replace(config, model=replace(config.model, base=str(bundle)))
    assert read_info(run(config)).fusion_layers == 1


def test_the_second_stage_goes_on_with_it(tmp_path: Path) -> None:
    config = with_fusion(small(write_training_shards(tmp_path / "shards", (4,)), tmp_path / "one", steps=2))
    first = run(config)
    again = replace(config, stage="finetune", model=replace(config.model, base=str(first)), out=str(tmp_path / "two"))
    built, planned = build_parts(again, TEXTS, CLASSES).objective, planned_objective(again, TEXTS, CLASSES)
    assert {n: p.shape for n, p in built.named_parameters()} == {n: p.shape for n, p in planned.named_parameters()}
    stored = load_file(first / "fusion.safetensors")
    there = fusion_of(unwrap(built.model)).state_dict()  # type: ignore[union-attr]
    assert stored.keys() == there.keys() and all(torch.equal(there[n], t) for n, t in stored.items())
    second = load_file(run(again) / "fusion.safetensors")
    assert len(losses(again.out)) == 2 and not any(torch.equal(second[n], t) for n, t in stored.items())


# --- bundles


def test_a_whole_model_comes_back_to_the_bit(tmp_path: Path) -> None:
    model = fused(tiny_llava(seed=2), layers=2)
    save_bundle(tmp_path / "b", model, tiny_tokenizer(), INFO)
    bundle = load_bundle(tmp_path / "b")
    assert bundle.info.fusion_layers == 2 and not bundle.model.training
    assert torch.equal(logits_of(bundle.model), logits_of(model))
    assert not torch.equal(logits_of(bundle.model), logits_of(tiny_llava(seed=2)))
    assert not any("fusion" in name for name in load_file(tmp_path / "b" / "model.safetensors"))
    assert "Fusion: cross-attention, layers: 2" in (tmp_path / "b" / "README.md").read_text()
    facts = facts_of("b", bundle).facts
    assert facts["fusion_layers"] == 2 and facts["parameters"] == sum(p.numel() for p in model.parameters())
    assert fingerprint(bundle.model) == fingerprint(model) != fingerprint(fused(tiny_llava(seed=2)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small random LLaVA in the published layout."""
    folder = tmp_path_factory.mktemp("base")
    save_published(folder)
    return str(folder)


@pytest.mark.parametrize("connector", ["full", "lora", "frozen"])
def test_an_adapter_comes_back_with_it(base: str, tmp_path: Path, connector: Any) -> None:
    config = replace(LORA, connector=connector)
    model = shaken(adapt(load_llava(base), config))
    save_bundle(tmp_path / "b", model, load_tokenizer(base), replace(INFO, base=base))
    assert not list((tmp_path / "b").glob("model*"))  # the adapter and the fusion alone
    assert not any("fusion" in name for name in load_file(tmp_path / "b" / "adapter" / "adapter_model.safetensors"))
    expected = logits_of(model)
    on = adapt(load_bundle(tmp_path / "b", trainable=True).model, config).eval()
    assert torch.equal(logits_of(on), expected)
    assert {n for n, _ in trained_parameters(on)} == {n for n, _ in trained_parameters(model)}
    merged = load_bundle(tmp_path / "b").model
    assert float((logits_of(merged) - expected).abs().max()) < MERGED
    half = load_bundle(tmp_path / "b", dtype=torch.bfloat16).model
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


def test_an_adapter_beside_a_trained_tower_is_merged_and_it_is_kept(base: str, tmp_path: Path) -> None:
    model = shaken(adapt(load_llava(base), replace(LORA, tower="full")))
    save_bundle(tmp_path / "b", model, load_tokenizer(base), replace(INFO, base=base))
    bundle = load_bundle(tmp_path / "b")
    assert not bundle.info.base and bundle.info.fusion_layers == 1
    assert float((logits_of(bundle.model) - logits_of(model)).abs().max()) < MERGED


def test_a_frozen_base_in_half_gets_a_fusion_in_full(base: str) -> None:
    model = adapt(load_llava(base, dtype=torch.bfloat16), LORA)
    assert {p.dtype for n, p in model.named_parameters() if part_of(n) == "fusion"} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(logits_of(model)).all()


def test_bundles_from_before_are_concatenation(tmp_path: Path) -> None:
    save_bundle(tmp_path / "b", tiny_llava(seed=2), tiny_tokenizer(), INFO)
    record = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert record.pop("fusion_layers") == 0
    (tmp_path / "b" / "bundle.json").write_text(json.dumps(record))
    bundle = load_bundle(tmp_path / "b")
    assert fusion_of(bundle.model) is None and not (tmp_path / "b" / "fusion.safetensors").exists()
    assert "fusion_layers" not in facts_of("b", bundle).facts
    assert torch.equal(logits_of(bundle.model), logits_of(tiny_llava(seed=2)))


def test_a_fusion_that_is_damaged_is_named(tmp_path: Path) -> None:
    folder, path = tmp_path / "b", tmp_path / "b" / "fusion.safetensors"
    save_bundle(folder, fused(tiny_llava()), tiny_tokenizer(), INFO)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=rf"has {len(whole) - 10} bytes, not {len(whole)}, of fusion.safetensors"):
        load_bundle(folder)
    unlist(folder)
    said = r"fusion.safetensors does not hold the layers of cross-attention \(1\) that bundle.json tells of"
    for damage in (
        lambda: path.write_bytes(whole[:-10]),
        lambda: path.write_bytes(b""),
        lambda: save_file({n: t for n, t in load_file(path).items() if "norm" not in n}, path),
        path.unlink,
    ):
        path.write_bytes(whole)
        damage()
        with pytest.raises(ValueError, match=said) as error:
            load_bundle(folder)
        assert "\n" not in str(error.value)
    record = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(record | {"fusion_layers": "two"}))
    with pytest.raises(ValueError, match=r"bundle.json cannot be read: .*'two'"):
        load_bundle(folder)


def test_a_plain_llava_has_no_place_for_it(tmp_path: Path) -> None:
    save_bundle(tmp_path / "b", fused(tiny_llava()), tiny_tokenizer(), INFO)
    with pytest.raises(ValueError, match="for which a plain LLaVA has no place: use it with SketchLM.from_pretrained"):
        export(tmp_path / "b", tmp_path / "plain")
    assert not (tmp_path / "plain").exists()
    compact(tmp_path / "b", tmp_path / "half")
    assert {tensor.dtype for tensor in load_file(tmp_path / "half" / "fusion.safetensors").values()} == {torch.float16}
    half, whole = (logits_of(load_bundle(tmp_path / name).model) for name in ("half", "b"))
    assert float((half - whole).abs().max()) < 0.05


# --- answers


def test_threads_may_ask_the_same_model(items: list[Item]) -> None:
    """Each gets the answer to its own sketch, while others ask of theirs."""
    model, processor = fused(tiny_llava(seed=3)), tiny_processor()
    sketches = [replace(items[0].pictures[0], pixels=items[0].pictures[0].pixels.copy() // (n + 1)) for n in range(4)]
    many = [Question((sketch, items[0].pictures[1]), asked("sbir", 0)) for sketch in sketches]
    alone = [answer(model, processor, [one])[0] for one in many]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: answer(model, processor, [one])[0], many * 3))
    assert together == alone * 3 and len({one.yes for one in alone}) == 4


# --- what it costs


def test_the_variants_of_tiny_have_as_many_parameters_and_stated_operations() -> None:
    """By hand: a layer of fusion has a norm of 192 more than one of the language model. Its 442,368 matrix values see
    the 64 tokens of a photo in place of a row's 161 (stage I) or 236 (stage II)."""
    for config, tokens in ((pretrain.tiny(), 161), (finetune.tiny(), 236)):
        config = replace(config, model=pretrain.tiny().model)
        sizes = matched_sizes(config, TEXTS)
        plain, cross = sizes["concat"], sizes["cross_attention"]
        assert cross.parameters - plain.parameters == 192
        assert cross.parameters == pytest.approx(plain.parameters, rel=0.01)
        layer, matrices = 442_368 + 2 * 192, 442_368 + 3 * 192
        assert plain.flops - cross.flops == pytest.approx(6 * (tokens * layer - 64 * matrices))
        assert 0.8 < cross.flops / plain.flops < 0.9


def test_what_cannot_be_matched_is_refused() -> None:
    tiny = pretrain.tiny().model
    assert matched(tiny).tiny.layers == 3 and matched(tiny).fusion == "cross_attention"
    with pytest.raises(ValueError, match=r"model.fusion_layers is 4, which leaves none of the 4 of model.tiny.layers"):
        matched(replace(tiny, fusion_layers=4))
    with pytest.raises(ValueError, match=r"model.base is llava-hf/llava-1.5-7b-hf: only the layers of `tiny`"):
        matched(pretrain.o3slm_7b().model)


def test_operations_of_a_photo_are_those_that_are_counted() -> None:
    """Forwards, backwards and for the weights: three times the way forward, but for attention itself."""
    config = replace(small("unused", "unused"), model=replace(small("unused", "unused").model, tiny=SIZES))
    config = replace(config, model=replace(config.model, fusion="cross_attention", fusion_layers=2))
    objective = planned_objective(config, TEXTS, CLASSES)
    fusion = fusion_of(unwrap(objective.model))
    assert fusion is not None
    with FlopCounterMode(display=False) as counter:
        fusion(*torch.empty(2, 1, 16, SIZES.width, device="meta").unbind(0))
    attention = 2 * 2 * 2 * 16 * 16 * SIZES.width
    counted = 3 * (counter.get_total_flops() - attention)
    rest = 100 * step_flops(objective) + 2 * 3 * tower_cost(objective)[0]
    assert row_flops(config, objective, Row(100, 1)) - rest == pytest.approx(counted, rel=0.01)


def test_lora_pays_for_it_too() -> None:
    config = with_lora(small("unused", "unused"), fusion="cross_attention")
    plain = replace(config, model=replace(config.model, fusion="concat"))
    one, two = (planned_objective(c, TEXTS, CLASSES) for c in (config, plain))
    assert step_flops(one) == step_flops(two)
    assert row_flops(config, one, Row(50, 1)) > row_flops(plain, two, Row(50, 1))
