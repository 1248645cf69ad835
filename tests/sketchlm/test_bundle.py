"""The bundle: saved, reloaded, exported, trained on; whole or an error."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

from sketchlm.bundle import BundleInfo, compact, export, is_bundle, load_bundle, load_tower, read_info, save_bundle
from sketchlm.bundle import card as make_card
from sketchlm.loss import LossConfig, Objective, TowerHead, normalise
from sketchlm.model import ModelConfig, adapt, load_llava, num_image_tokens, trained_parameters, unwrap
from sketchlm.processor import Processor, ProcessorConfig
from sketchlm.prompt import TURN, PromptConfig, head_of
from sketchlm.tokenizer import load_tokenizer
from tests.sketchlm.llava import (
    SIZES,
    collator_of,
    llama_tokenizer,
    query,
    raw_sample,
    save_published,
    shake,
    tiny_llava,
    tiny_processor,
    tiny_tokenizer,
)

MERGED = 7e-5
"""(W + BA) x against W x + B (A x): the worst of 80 models (20 seeds) was 1.5e-5, at logits to 6.4."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small random LLaVA in the published layout."""
    folder = tmp_path_factory.mktemp("base")
    save_published(folder)
    return str(folder)


def logits_of(model: Any) -> Tensor:
    """Plain forward on a fixed two-image prompt, from 16 image tokens each."""
    generator = torch.Generator().manual_seed(5)
    image = unwrap(model).config.image_token_id
    ids = torch.tensor([[1, *[image] * 32, *range(40, 60)]])
    pixels = torch.randn((2, 3, SIZES.side, SIZES.side), generator=generator)
    with torch.no_grad():
        return unwrap(model)(input_ids=ids, pixel_values=pixels).logits


def shaken(model: Any, seed: int = 1) -> Any:
    """As after training: LoRA's B is no longer zero."""
    shake(model, seed, 0.1)
    return model.eval()


def heads_of_tower() -> nn.ModuleDict:
    """What a stage with the tower's own loss saves beside the model."""
    return nn.ModuleDict({"tower": TowerHead(SIZES.tower_width, 2, 4)})


INFO = BundleInfo("pretrain", "", PromptConfig(system="Hello."), ("dog", "cat"), {"recipe": "tests", "steps": 3})

ADAPTED = [
    ModelConfig(lora_rank=4, lora_alpha=8, connector="full"),
    ModelConfig(lora_rank=4, lora_alpha=8, connector="lora"),
    ModelConfig(lora_rank=4, lora_alpha=8, connector="frozen"),
    ModelConfig(lora_rank=4, lora_alpha=8, connector="lora", language="frozen"),
]


def name_of(config: ModelConfig) -> str:
    return f"connector-{config.connector}-language-{config.language}"


# --- saved, reloaded, exported


def test_a_model_made_from_nothing_comes_back_to_the_bit(tmp_path: Path) -> None:
    model = tiny_llava(seed=2)
    heads = heads_of_tower()
    save_bundle(tmp_path / "b", model, tiny_tokenizer(), INFO, heads)
    assert is_bundle(str(tmp_path / "b")) and not is_bundle(str(tmp_path))
    bundle = load_bundle(tmp_path / "b")
    assert torch.equal(logits_of(bundle.model), logits_of(model)) and not bundle.model.training
    assert replace(bundle.info, files={}) == INFO
    again = heads_of_tower()
    again.load_state_dict(bundle.heads)
    assert torch.equal(again["tower"].classify.weight, heads["tower"].classify.weight)
    assert bundle.tokenizer.get_vocab() == tiny_tokenizer().get_vocab()


@pytest.mark.parametrize("config", ADAPTED, ids=name_of)
def test_adapter_reloaded_merged_and_exported_give_the_same_logits(
    base: str, tmp_path: Path, config: ModelConfig
) -> None:
    model = shaken(adapt(load_llava(base), config))
    save_bundle(tmp_path / "b", model, load_tokenizer(base), replace(INFO, base=base))
    assert not list((tmp_path / "b").glob("model*"))  # the adapter alone
    expected = logits_of(model)
    assert float((expected - logits_of(load_llava(base))).abs().max()) > 0.05

    on = load_bundle(tmp_path / "b", trainable=True).model.eval()
    assert torch.equal(logits_of(on), expected)
    names = {name for name, _ in trained_parameters(model)}
    assert {name for name, _ in trained_parameters(adapt(on, config))} == names

    merged = load_bundle(tmp_path / "b").model
    assert not hasattr(merged, "get_base_model")
    assert float((logits_of(merged) - expected).abs().max()) < MERGED

    export(tmp_path / "b", tmp_path / "plain")
    plain = LlavaForConditionalGeneration.from_pretrained(tmp_path / "plain").eval()
    assert torch.equal(logits_of(plain), logits_of(merged))
    assert torch.equal(logits_of(load_llava(str(tmp_path / "plain"))), logits_of(merged))


def test_a_compact_bundle_has_half_the_bytes_and_answers_alike(base: str, tmp_path: Path) -> None:
    model = tiny_llava(seed=2)
    save_bundle(tmp_path / "b", model, tiny_tokenizer(), INFO, heads_of_tower())
    compact(tmp_path / "b", tmp_path / "c", license="CC0")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in "bc"]
    assert sizes[1] < 0.55 * sizes[0]
    small = load_bundle(tmp_path / "c")
    assert next(small.model.parameters()).dtype == torch.float32 and not small.heads
    assert replace(small.info, files={}) == replace(INFO, trained=INFO.trained | {"license": "CC0"})
    assert "License: CC0" in (tmp_path / "c" / "README.md").read_text()
    # worst seen: 4e-3 of logits up to 2.5
    assert torch.allclose(logits_of(small.model), logits_of(model), atol=1e-2)


def test_a_model_begins_with_the_tower_of_a_bundle(tmp_path: Path) -> None:
    save_bundle(tmp_path / "b", tiny_llava(seed=2), tiny_tokenizer(), INFO)
    model = tiny_llava(seed=5)
    before = model.lm_head.weight.clone()
    load_tower(model, str(tmp_path / "b"))
    for name, weight in tiny_llava(seed=2).model.vision_tower.state_dict().items():
        assert torch.equal(model.model.vision_tower.state_dict()[name], weight)
    assert torch.equal(model.lm_head.weight, before)
    with pytest.raises(ValueError, match=r"the tower of .*learn has other sizes .* set model\.tower_weights to \"\""):
        load_tower(model, "learn")
    with pytest.raises(ValueError, match=r"model\.tower_weights: no bundle lies at nothing, and none"):
        load_tower(model, "nothing")


def test_an_adapter_on_a_model_made_from_nothing_is_saved_merged(tmp_path: Path) -> None:
    model = shaken(adapt(tiny_llava(), ModelConfig(lora_rank=4, lora_alpha=8, connector="lora")))
    save_bundle(tmp_path / "b", model, tiny_tokenizer(), INFO)
    assert float((logits_of(load_bundle(tmp_path / "b").model) - logits_of(model)).abs().max()) < MERGED
    assert any("lora_A" in name for name, _ in model.named_modules())  # what was training trains on


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(lora_rank=4, lora_alpha=8, tower="full"),  # a tower is in no adapter
        ModelConfig(language="full"),
        ModelConfig(connector="full", language="frozen"),
        ModelConfig(lora_rank=4, lora_alpha=8, connector="lora", language="full"),
    ],
    ids=name_of,
)
def test_what_no_adapter_holds_is_saved_whole(base: str, tmp_path: Path, config: ModelConfig) -> None:
    model = shaken(adapt(load_llava(base), config))
    save_bundle(tmp_path / "b", model, load_tokenizer(base), replace(INFO, base=base))
    bundle = load_bundle(tmp_path / "b")
    assert bundle.info.base == "" and not (tmp_path / "b" / "adapter").exists()
    assert float((logits_of(bundle.model) - logits_of(model)).abs().max()) < MERGED
    assert base in (tmp_path / "b" / "README.md").read_text()


def test_an_export_is_named_as_the_published_checkpoints_are(base: str, tmp_path: Path) -> None:
    published = set(json.loads((Path(base) / "model.safetensors.index.json").read_text())["weight_map"])
    save_bundle(tmp_path / "b", tiny_llava(), tiny_tokenizer(), INFO)
    export(tmp_path / "b", tmp_path / "plain", dtype=torch.float16)
    with safe_open(tmp_path / "plain" / "model.safetensors", "pt") as file:
        names = set(file.keys())
        assert file.get_tensor("language_model.lm_head.weight").dtype == torch.float16
    assert names == published
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert config["model_type"] == "llava" and config["image_token_index"] == tiny_tokenizer().image_token_id


# --- the processor in it


@pytest.mark.parametrize("legacy", [True, False])
def test_plain_transformers_sees_the_same_pixels_and_ids(tmp_path: Path, legacy: bool) -> None:
    tokenizer = llama_tokenizer(tmp_path / "t", legacy)
    save_bundle(tmp_path / "b", tiny_llava(), tokenizer, INFO)
    ours = Processor(load_bundle(tmp_path / "b").tokenizer, SIZES.side, 16, ProcessorConfig(prompt=INFO.prompt))
    raw = raw_sample(query("count"))
    (item,) = ours.items(raw, 3)
    branch = item.branches[0]
    question = ours.tokenizer.decode(branch.ids[: -branch.num_trained]).removesuffix(TURN)

    theirs = AutoProcessor.from_pretrained(tmp_path / "b")
    assert type(theirs).__name__ == "LlavaProcessor" and theirs.image_processor.do_pad
    text = {"type": "text", "text": question}
    said = [{"role": "user", "content": [{"type": "image"}, {"type": "image"}, text]}]
    prompt = theirs.apply_chat_template(said, add_generation_prompt=True)
    assert prompt == f"{head_of(INFO.prompt, 2)}{question}{TURN}"
    photo = np.asarray(Image.open(io.BytesIO(raw.jpg)).convert("RGB"))
    sketch = np.repeat(np.asarray(Image.open(io.BytesIO(raw.strip)))[:256, :, None], 3, axis=2)
    seen = theirs(text=prompt, images=[Image.fromarray(sketch), Image.fromarray(photo)], return_tensors="pt")
    assert seen["input_ids"][0].tolist() == [*item.prefix, *branch.ids[: -branch.num_trained]]
    pixels = normalise(torch.from_numpy(np.stack([p.pixels for p in item.pictures])), torch.float32)
    assert torch.allclose(seen["pixel_values"], pixels, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["tiny", "legacy", "not legacy"])
def test_the_tokenizer_comes_back_as_it_was(tmp_path: Path, kind: str) -> None:
    tokenizer = tiny_tokenizer() if kind == "tiny" else llama_tokenizer(tmp_path / "t", kind == "legacy")
    save_bundle(tmp_path / "b", tiny_llava(), tokenizer, INFO)
    text = "USER: <image>\n<image>\nCOUNT: How many? ASSISTANT: [0.10, 0.20, 0.30, 0.40] é</s>"
    for again in (load_bundle(tmp_path / "b").tokenizer, AutoTokenizer.from_pretrained(tmp_path / "b")):
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert (again.pad_token_id, again.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)


# --- trained on


def step(model: Any, tokenizer: Any) -> None:
    """One step of plain gradient descent on one sample."""
    processor = tiny_processor() if tokenizer is tiny_tokenizer() else Processor(
        tokenizer, SIZES.side, num_image_tokens(model), ProcessorConfig())  # fmt: skip
    batch = collator_of(unwrap(model), tokenizer)(processor.items(raw_sample(query("sbir")), 0))
    loss = Objective(model, LossConfig())(batch)
    (loss.total / loss.weight).backward()
    with torch.no_grad():
        for _, parameter in trained_parameters(model):
            parameter -= 0.01 * parameter.grad
            parameter.grad = None


def adapter_names(folder: Path) -> set[str]:
    return set(load_file(folder / "adapter" / "adapter_model.safetensors"))


@pytest.mark.parametrize("config", ADAPTED[:2], ids=name_of)
def test_stage_two_on_stage_ones_adapter_keeps_its_keys(base: str, tmp_path: Path, config: ModelConfig) -> None:
    tokenizer = load_tokenizer(base)
    info = replace(INFO, base=base)
    save_bundle(tmp_path / "one", shaken(adapt(load_llava(base), config)), tokenizer, info)
    bundle = load_bundle(tmp_path / "one", trainable=True)
    before = logits_of(bundle.model)
    model = adapt(bundle.model, config)
    step(model, tokenizer)
    save_bundle(tmp_path / "two", model, tokenizer, replace(info, stage="finetune"))
    assert adapter_names(tmp_path / "two") == adapter_names(tmp_path / "one")
    assert not any("base_model.model.base_model" in name for name in adapter_names(tmp_path / "two"))
    after = logits_of(load_bundle(tmp_path / "two").model)
    assert float((after - logits_of(model)).abs().max()) < MERGED < float((after - before).abs().max())


def test_what_was_trained_is_not_rounded_to_the_base(base: str, tmp_path: Path) -> None:
    model = shaken(adapt(load_llava(base, dtype=torch.bfloat16), ADAPTED[0]))
    save_bundle(tmp_path / "b", model, load_tokenizer(base), replace(INFO, base=base))
    again = adapt(load_bundle(tmp_path / "b", trainable=True, dtype=torch.bfloat16).model, ADAPTED[0])
    expected = dict(trained_parameters(model))
    assert {p.dtype for p in expected.values()} == {torch.float32}
    assert all(torch.equal(p, expected[name]) for name, p in trained_parameters(again))


@pytest.mark.parametrize("config", ADAPTED, ids=name_of)
def test_a_bundle_is_used_in_half_where_asked_for(base: str, tmp_path: Path, config: ModelConfig) -> None:
    model = shaken(adapt(load_llava(base), config))
    save_bundle(tmp_path / "b", model, load_tokenizer(base), replace(INFO, base=base))
    half = load_bundle(tmp_path / "b", dtype=torch.bfloat16).model
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    export(tmp_path / "b", tmp_path / "plain", dtype=torch.float16)
    stored = load_file(tmp_path / "plain" / "model.safetensors").values()
    assert {tensor.dtype for tensor in stored} == {torch.float16}


def test_a_connector_may_rest_in_stage_two(base: str, tmp_path: Path) -> None:
    info = replace(INFO, base=base)
    save_bundle(tmp_path / "b", shaken(adapt(load_llava(base), ADAPTED[0])), load_tokenizer(base), info)
    model = adapt(load_bundle(tmp_path / "b", trainable=True).model, replace(ADAPTED[0], connector="frozen"))
    assert {"lora" if "lora_" in name else name for name, _ in trained_parameters(model)} == {"lora"}
    save_bundle(tmp_path / "two", model, load_tokenizer(base), info)
    assert adapter_names(tmp_path / "two") == adapter_names(tmp_path / "b")  # it is kept, as it was


@pytest.mark.parametrize(
    ("wants", "said"),
    [
        ({"lora_rank": 8}, "has r 4, this recipe wants 8"),
        ({"lora_alpha": 16}, "has lora_alpha 8, this recipe wants 16"),
        ({"connector": "lora"}, "has target_modules "),
        ({"connector": "frozen", "language": "full"}, "has target_modules "),
        ({"tower": "full"}, "cannot hold the tower: merge it first"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(base: str, tmp_path: Path, wants: dict[str, Any], said: str) -> None:
    info = replace(INFO, base=base)
    save_bundle(tmp_path / "b", adapt(load_llava(base), ADAPTED[0]), load_tokenizer(base), info)
    model = load_bundle(tmp_path / "b", trainable=True).model
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        adapt(model, replace(ADAPTED[0], **wants))
    assert "merge it first" in str(error.value)


def test_a_frozen_connector_cannot_begin_to_train(base: str, tmp_path: Path) -> None:
    info = replace(INFO, base=base)
    save_bundle(tmp_path / "b", adapt(load_llava(base), ADAPTED[2]), load_tokenizer(base), info)
    with pytest.raises(ValueError, match=r"has modules_to_save None, this recipe wants .*resume .* or merge it first"):
        adapt(load_bundle(tmp_path / "b", trainable=True).model, ADAPTED[0])


# --- whole or an error


def saved(folder: Path, base: str = "") -> Path:
    if base:
        model, tokenizer = adapt(load_llava(base), ADAPTED[0]), load_tokenizer(base)
    else:
        model, tokenizer = tiny_llava(), tiny_tokenizer()
    save_bundle(folder, model, tokenizer, replace(INFO, base=base), heads_of_tower())
    return folder


FILES = ("bundle.json", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
         "processor_config.json", "preprocessor_config.json", "heads.safetensors")  # fmt: skip


@pytest.mark.parametrize("gone", FILES)
def test_a_bundle_that_lacks_a_file_names_it(tmp_path: Path, gone: str) -> None:
    folder = saved(tmp_path / "b")
    (folder / gone).unlink()
    with pytest.raises(ValueError, match=rf"{re.escape(str(folder))} .*{re.escape(gone)}") as error:
        load_bundle(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("gone", ["adapter/adapter_config.json", "adapter/adapter_model.safetensors"])
@pytest.mark.parametrize("listed", [True, False])
def test_an_adapter_that_lacks_a_file_names_it(base: str, tmp_path: Path, gone: str, listed: bool) -> None:
    folder = saved(tmp_path / "b", base)
    if not listed:
        unlist(folder)
    (folder / gone).unlink()
    with pytest.raises(ValueError, match=re.escape(gone.split("/")[1])):
        load_bundle(folder)


def unlist(folder: Path) -> None:
    """As if nothing were known of its files."""
    record = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(record | {"files": {}}))


def test_weights_cut_short_are_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "b")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=rf"has {len(whole) - 10} bytes, not {len(whole)}, of model\.safetensors"):
        load_bundle(folder)
    unlist(folder)
    with pytest.raises(ValueError, match="holds no whole model: "):
        load_bundle(folder)


def test_an_adapter_with_other_weights_is_refused(base: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = saved(tmp_path / "b", base)
    unlist(folder)
    path = folder / "adapter" / "adapter_model.safetensors"
    weights = load_file(path)
    name = next(n for n in weights if "lora_A" in n)
    save_file({n: t for n, t in weights.items() if n != name}, path)
    with pytest.raises(ValueError, match=rf"1 of its weights are missing or unexpected, the first is {name}"):
        load_bundle(folder)
    save_file(weights | {name: torch.zeros(9, 9)}, path)
    with pytest.raises(ValueError, match="adapter does not fit its base model: "):
        load_bundle(folder)


@pytest.mark.parametrize("text", ["", "{", "{}", '{"stage": "x", "prompt": {"systm": ""}, "classes": []}', "[]"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    folder = saved(tmp_path / "b")
    (folder / "bundle.json").write_text(text)
    with pytest.raises(ValueError, match=r"bundle\.json cannot be read"):
        read_info(folder)


def test_a_base_that_is_gone_is_named(base: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "b", base)
    record = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(record | {"base": "llava-hf/llava-1.5-7b-hf"}))
    with pytest.raises(ValueError, match=r"needs its base model llava-hf/llava-1\.5-7b-hf: model\.base: ") as error:
        load_bundle(folder)
    assert "\n" not in str(error.value)


def test_what_is_no_bundle_is_said(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match=r"is no bundle: it holds no bundle\.json"):
            load_bundle(folder)


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.path),))


def test_nothing_is_ever_unpickled(base: str, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = pickle.dumps(Trap(sprung))
    pickle.loads(trap)
    assert sprung.is_file()
    sprung.unlink()
    whole, adapter = saved(tmp_path / "whole"), saved(tmp_path / "adapter", base)
    for folder in (whole, adapter):
        unlist(folder)
    (whole / "model.safetensors").rename(whole / "gone")
    (adapter / "adapter" / "adapter_model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.bin", "adapter/adapter_model.bin"):
        for folder in (whole, adapter):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(trap)
    for folder in (whole, adapter):
        with pytest.raises(ValueError, match="safetensors"):
            load_bundle(folder)
    (whole / "gone").rename(whole / "model.safetensors")
    load_bundle(whole)
    assert not sprung.exists()


def test_a_bundle_replaces_an_older_one_whole(tmp_path: Path) -> None:
    folder = saved(tmp_path / "b")
    (folder / "note.txt").write_text("of the older one")
    save_bundle(folder, tiny_llava(seed=9), tiny_tokenizer(), replace(INFO, stage="finetune"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b"] and not (folder / "note.txt").exists()
    assert load_bundle(folder).info.stage == "finetune"
    assert torch.equal(logits_of(load_bundle(folder).model), logits_of(tiny_llava(seed=9)))


class Killed(BaseException):
    """Stands for a signal."""


@pytest.mark.parametrize("at", ["_save_llava", "_save_processor", "_to_disk"])
def test_a_half_written_bundle_is_never_picked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    import sketchlm.bundle as module

    older = saved(tmp_path / "b")
    expected = logits_of(load_bundle(older).model)

    def killed(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(module, at, killed)
    with pytest.raises(Killed):
        save_bundle(older, tiny_llava(seed=9), tiny_tokenizer(), INFO)
    with pytest.raises(Killed):
        save_bundle(tmp_path / "new", tiny_llava(seed=9), tiny_tokenizer(), INFO)
    assert not (tmp_path / "new").exists() and torch.equal(logits_of(load_bundle(older).model), expected)
    monkeypatch.undo()
    saved(tmp_path / "new")  # what was begun is no hindrance
    saved(older)
    assert not list(tmp_path.glob(".*"))


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from sketchlm.bundle import BundleInfo, save_bundle
from tests.sketchlm.llava import tiny_llava, tiny_tokenizer
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))  # the weights are larger
try:
    save_bundle(Path(sys.argv[1]) / "b", tiny_llava(), tiny_tokenizer(), BundleInfo("pretrain"))
except ValueError as error:
    sys.exit(f"said: {error}")
"""


@pytest.mark.slow
def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 1, done.stderr
    said = done.stderr[done.stderr.index("said: ") :].strip()
    assert re.fullmatch(r"said: cannot save .*/b: .*; make room there, or choose another --out", said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Exception("No space left (os error 28)")])
def test_every_word_for_a_full_disk_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The tokenizers package raises a plain Exception."""
    import sketchlm.bundle as module

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(module, "_save_processor", fail)
    with pytest.raises(ValueError, match="cannot save .*: .*No space left.*; make room there"):
        saved(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(module, "_save_processor", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # no word about disks for faults of ours
        saved(tmp_path / "b")


def test_the_card_says_what_it_is(base: str, tmp_path: Path) -> None:
    card = (saved(tmp_path / "whole") / "README.md").read_text()
    for part in (
        "What it is: a whole model, after",
        "stage `pretrain`",
        "Recipe: tests",
        "Steps: 3",
        "padded to a square",
    ):
        assert part in card
    assert re.search(r"License: to be stated", card) and "base_model" not in card
    info = replace(INFO, base=base, trained={"recipe": "r", "steps": 9, "license": "CC0"}, stage="finetune")
    save_bundle(tmp_path / "adapter", adapt(load_llava(base), ADAPTED[0]), load_tokenizer(base), info)
    card = (tmp_path / "adapter" / "README.md").read_text()
    for part in (f"an adapter for `{base}`", "stage `finetune`", "License: CC0"):
        assert part in card
    assert not (tmp_path / "adapter" / "adapter" / "README.md").exists()
    export(tmp_path / "adapter", tmp_path / "plain")
    card = (tmp_path / "plain" / "README.md").read_text()
    assert f"a whole model, begun from `{base}`" in card and "LlavaForConditionalGeneration" in card
    assert "base_model: llava-hf/llava-1.5-7b-hf\n" in make_card(info, "llava-hf/llava-1.5-7b-hf")
    (tmp_path / "adapter" / "README.md").write_text("Our own words.")
    load_bundle(tmp_path / "adapter")
