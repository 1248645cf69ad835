"""The model: exactly what a recipe says is trained, and checkpoints that load whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sketchlm import loading
from sketchlm.loss import LossConfig, Objective
from sketchlm.model import (
    ModelConfig,
    TinyConfig,
    adapt,
    base_options,
    build_tiny,
    load_llava,
    num_image_tokens,
    part_of,
    quantized,
    trained_parameters,
    unwrap,
    without_wrappers,
)
from tests.sketchlm.llava import (
    SIZES,
    collator_of,
    published_config,
    published_name,
    query,
    raw_sample,
    save_published,
    save_shards,
    tiny_llava,
    tiny_processor,
    tiny_tokenizer,
)

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A folder in the layout of llava-hf/llava-1.5-7b-hf, and the model in it."""
    folder = tmp_path_factory.mktemp("published")
    return folder, save_published(folder)


# --- what is trained


def test_lora_sits_at_the_seven_linears_of_each_layer_and_nowhere_else() -> None:
    model = adapt(tiny_llava(), ModelConfig(connector="frozen"))
    adapted = sorted(name for name, _ in model.named_modules() if name.endswith("lora_A"))
    assert adapted == sorted(
        f"base_model.model.model.language_model.layers.{layer}.{'self_attn' if n < 4 else 'mlp'}.{linear}.lora_A"
        for layer in range(SIZES.layers)
        for n, linear in enumerate(LINEARS)
    )
    ranks = {p.shape[0] for n, p in model.named_parameters() if "lora_A" in n}
    assert ranks == {64} and len(adapted) == 7 * SIZES.layers
    assert not any("lora" in n for n, _ in model.named_modules() if "vision_tower" in n or "lm_head" in n)


def parameters_of(part: str) -> set[str]:
    return {name for name, _ in tiny_llava().named_parameters() if part_of(name) == part}


LANGUAGE_LORA = {
    f"model.language_model.layers.{layer}.{'self_attn' if n < 4 else 'mlp'}.{linear}.lora_{half}.default.weight"
    for layer in range(SIZES.layers)
    for n, linear in enumerate(LINEARS)
    for half in "AB"
}
CONNECTOR_LORA = {f"model.multi_modal_projector.linear_{n}.lora_{half}.default.weight" for n in (1, 2) for half in "AB"}


@pytest.mark.parametrize(
    ("tower", "connector", "language", "expected"),
    [
        ("frozen", "full", "lora", lambda: LANGUAGE_LORA | parameters_of("connector")),
        ("frozen", "lora", "lora", lambda: LANGUAGE_LORA | CONNECTOR_LORA),
        ("frozen", "frozen", "lora", lambda: LANGUAGE_LORA),
        ("frozen", "full", "frozen", lambda: parameters_of("connector")),
        ("frozen", "lora", "frozen", lambda: CONNECTOR_LORA),
        ("frozen", "full", "full", lambda: parameters_of("connector") | parameters_of("language")),
        ("frozen", "lora", "full", lambda: CONNECTOR_LORA | parameters_of("language")),
        ("full", "full", "full", lambda: {name for name, _ in tiny_llava().named_parameters()}),
        ("full", "full", "lora", lambda: LANGUAGE_LORA | parameters_of("connector") | parameters_of("tower")),
        ("full", "frozen", "frozen", lambda: parameters_of("tower")),
    ],
)
def test_exactly_these_parameters_train(
    tower: Any, connector: Any, language: Any, expected: Callable[[], set[str]]
) -> None:
    model = adapt(tiny_llava(), ModelConfig(tower=tower, connector=connector, language=language, lora_rank=4))
    assert {without_wrappers(name) for name, _ in trained_parameters(model)} == expected()


def test_a_step_moves_what_trains_and_nothing_else() -> None:
    model = adapt(tiny_llava(), ModelConfig(lora_rank=4))
    objective = Objective(model, LossConfig())
    batch = collator_of(unwrap(model), tiny_tokenizer())(
        tiny_processor().items(raw_sample(query("bbox"), query("sbir")), 0)
    )
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for _, p in trained_parameters(model)], lr=1.0)
    for _ in range(2):  # LoRA's A moves once B has
        optimizer.zero_grad()
        objective(batch).total.backward()
        assert all(p.grad is None for _, p in model.named_parameters() if not p.requires_grad)
        optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, _ in trained_parameters(model)}
    assert not any("vision_tower" in name for name in moved)


def test_a_frozen_tower_gets_no_graph_and_a_trained_one_does() -> None:
    from sketchlm.loss import tower_features

    pixels = torch.zeros(1, 3, SIZES.side, SIZES.side, dtype=torch.uint8)
    model = tiny_llava()
    adapt(model, ModelConfig(language="full"))
    assert not tower_features(model, pixels).requires_grad
    adapt(model, ModelConfig(tower="full", language="full"))
    assert tower_features(model, pixels).requires_grad


def test_the_first_weights_of_lora_follow_the_seed() -> None:
    def first(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)  # whatever was drawn before
        model = adapt(tiny_llava(), ModelConfig(lora_rank=4), seed)
        return next(p for n, p in model.named_parameters() if "lora_A" in n)

    assert torch.equal(first(0), first(0)) and not torch.equal(first(0), first(1))


def test_what_trains_is_in_full_precision_on_a_base_in_half() -> None:
    model = adapt(tiny_llava().bfloat16(), ModelConfig(lora_rank=4))
    assert {p.dtype for _, p in trained_parameters(model)} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("config", "precision", "expected"),
    [
        (ModelConfig(), "no", {}),
        (ModelConfig(), "bf16", {"dtype": torch.bfloat16}),
        (ModelConfig(language="frozen"), "bf16", {"dtype": torch.bfloat16}),
        (ModelConfig(language="full"), "bf16", {}),  # what is trained must not be rounded on loading
        (ModelConfig(tower="full"), "bf16", {}),
    ],
)
def test_frozen_weights_are_kept_in_the_precision_of_the_run(
    config: ModelConfig, precision: str, expected: dict[str, Any]
) -> None:
    assert base_options(config, precision) == expected


def test_four_bits_that_cannot_be_had_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"model\.four_bit: a 4-bit base cannot be trained itself"):
        base_options(ModelConfig(four_bit=True, language="full"), "bf16")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"model\.four_bit needs a GPU and bitsandbytes: pip install bitsandbytes"):
            base_options(ModelConfig(four_bit=True), "bf16")


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_are_made_small_in_one_way_for_training_and_answering(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sketchlm.model.find_spec", lambda _: True)
    monkeypatch.setattr("sketchlm.loading.find_spec", lambda _: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    here = loading._small(f"{bits}bit", torch.device("cuda"), torch.bfloat16)
    assert here["device_map"] == {"": torch.device("cuda")}
    how = here["quantization_config"].to_dict()
    assert how == quantized(bits, torch.bfloat16).to_dict()  # type: ignore[arg-type]
    assert (how["load_in_4bit"], how["load_in_8bit"]) == (bits == 4, bits == 8)
    assert "vision_tower" in how["llm_int8_skip_modules"]
    if bits == 4:
        trained = base_options(ModelConfig(four_bit=True), "bf16")
        assert trained["quantization_config"].to_dict() == how and trained["dtype"] == torch.bfloat16


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(ValueError, match="tower, connector and language are all frozen"):
        adapt(tiny_llava(), ModelConfig(connector="frozen", language="frozen"))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("base_model.model.model.multi_modal_projector.modules_to_save.default.linear_1.weight",
         "model.multi_modal_projector.linear_1.weight"),
        ("module.model.base_model.model.lm_head.weight", "model.lm_head.weight"),
        ("_orig_mod.model.language_model.norm.weight", "model.language_model.norm.weight"),
        ("lm_head.weight", "lm_head.weight"),
    ],
)  # fmt: skip
def test_names_without_wrappers(name: str, plain: str) -> None:
    assert without_wrappers(name) == plain


# --- tiny


def test_tiny_is_the_same_for_the_same_seed_and_needs_no_file() -> None:
    one, two = (build_tiny(SIZES, tiny_tokenizer()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    other = build_tiny(TinyConfig(**{**SIZES.__dict__, "seed": 1}), tiny_tokenizer())
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    assert num_image_tokens(one) == 16 and part_of("lm_head.weight") == "language"


def test_a_side_that_patches_do_not_fill_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"tiny\.side is 100, must be a multiple of tiny\.patch \(16\)"):
        build_tiny(TinyConfig(side=100), tiny_tokenizer())


def test_the_sizes_of_llava_make_576_tokens() -> None:
    from transformers import LlavaConfig

    class Stub:
        config = LlavaConfig(vision_config={"model_type": "clip_vision_model", "image_size": 336, "patch_size": 14})

    assert num_image_tokens(Stub()) == 576


# --- checkpoints


@pytest.mark.parametrize("old_names", [True, False])
def test_the_published_layout_loads_whole(published: tuple[Path, Any], tmp_path: Path, old_names: bool) -> None:
    folder, model = published
    if not old_names:
        model = save_published(folder := tmp_path, old_names=False)
    loaded = load_llava(str(folder))
    assert loaded.dtype == torch.float32  # the files hold float16, in which nothing can be trained
    expected = dict(model.named_parameters())
    assert {n for n, _ in loaded.named_parameters()} == expected.keys()
    assert all(torch.equal(p, expected[n]) for n, p in loaded.named_parameters())
    config = loaded.config
    assert (config.image_token_id, config.vision_feature_layer, config.text_config.vocab_size) == (32000, -2, 32064)


def test_another_precision_is_loaded_where_asked_for(published: tuple[Path, Any]) -> None:
    assert load_llava(str(published[0]), dtype=torch.bfloat16).dtype == torch.bfloat16


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {published_name(n): t.half().contiguous() for n, t in model.state_dict().items()}


def copy_of(published: tuple[Path, Any], to: Path, weights: dict[str, torch.Tensor]) -> Path:
    (to / "config.json").write_text((published[0] / "config.json").read_text())
    save_shards(to, weights)
    return to


def test_buffers_that_old_versions_saved_do_no_harm(published: tuple[Path, Any], tmp_path: Path) -> None:
    weights = weights_of(published[1])
    weights["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(8)
    weights["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(17)
    load_llava(str(copy_of(published, tmp_path, weights)))


PROJECTOR = "multi_modal_projector.linear_1.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop(PROJECTOR), rf"1 missing keys, the first is model\.{PROJECTOR}"),
        (lambda w: w.update({"bogus.weight": torch.zeros(1)}), r"1 unexpected keys, the first is bogus\.weight"),
        (lambda w: w.update({PROJECTOR: torch.zeros(2, 2)}), r"1 mismatched keys, the first is .*linear_1"),
    ],
)
def test_missing_and_unexpected_weights_are_fatal(
    published: tuple[Path, Any], tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], Any], said: str
) -> None:
    weights = weights_of(published[1])
    change(weights)
    with pytest.raises(ValueError, match=rf"model\.base: {tmp_path} has {said}"):
        load_llava(str(copy_of(published, tmp_path, weights)))


def truncate(folder: Path) -> None:
    file = folder / "model-00002-of-00003.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def pickle_instead(folder: Path) -> None:
    weights = load_file(folder / "model-00002-of-00003.safetensors")
    for path in folder.glob("model*"):
        path.unlink()
    torch.save(weights, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "model-00002-of-00003.safetensors").unlink(),
        truncate,
        pickle_instead,
    ],
)
def test_a_damaged_folder_is_one_clear_error(
    published: tuple[Path, Any], tmp_path: Path, damage: Callable[[Path], Any], capfd: pytest.CaptureFixture[str]
) -> None:
    damage(copy_of(published, tmp_path, weights_of(published[1])))
    with pytest.raises(ValueError, match=r"model\.base: .*" + str(tmp_path)) as error:
        load_llava(str(tmp_path))
    assert "\n" not in str(error.value)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("base", ["llava-hf/llava-1.5-7b-hf", "out/nothing", "/no/such/folder", "just-a-name"])
def test_a_model_that_is_not_there_is_one_clear_error(base: str) -> None:
    with pytest.raises(ValueError, match=rf"model\.base: .*{base}") as error:
        load_llava(base)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_another_models_features_are_refused(published: tuple[Path, Any], tmp_path: Path) -> None:
    folder = copy_of(published, tmp_path, weights_of(published[1]))
    (folder / "config.json").write_text(json.dumps(published_config() | {"vision_feature_select_strategy": "full"}))
    with pytest.raises(ValueError, match=r"with strategy 'full'; LLaVA-1\.5 takes one layer, with 'default'"):
        load_llava(str(folder))


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ValueError, match=r"model\.base: .* is a llama, not a LLaVA-1\.5 in Hugging Face layout"):
        load_llava(str(tmp_path))


def test_lora_on_the_published_layout(published: tuple[Path, Any]) -> None:
    model = adapt(load_llava(str(published[0])), ModelConfig())
    assert sum(name.endswith("lora_A") for name, _ in model.named_modules()) == 14
    assert {without_wrappers(n) for n, _ in trained_parameters(model)} == LANGUAGE_LORA | parameters_of("connector")
