"""Small models in Hugging Face layout that were taught a few answers by heart: real `generate`, seconds to make."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from tests.sketchlm.llava import published_config

CHAT = (
    "{% for message in messages %}USER: {% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{% endfor %} ASSISTANT:"
)
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>")
Lesson = tuple[bytes, str, str]
"""JPEG (b"" for a model that reads text alone), prompt, answer."""


def save_captioner(folder: Path, lessons: Sequence[Lesson], steps: int, chat: str = CHAT) -> None:
    """A LLaVA that knows the lessons after enough steps, and after none says noise."""
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    side = {"height": 56, "width": 56}
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 56}, crop_size=side),
        _letters(),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat or None,
    )
    vision = published_config()["vision_config"]
    config = LlavaConfig(
        vision_config=vision,
        text_config=_text_config(),
        image_token_index=SPECIAL.index("<image>"),
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    processor.save_pretrained(folder)
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    _teach(model, processor, lessons, steps)
    model.save_pretrained(folder)


def save_refiner(folder: Path, lessons: Sequence[Lesson], steps: int) -> None:
    """A Llama that knows the lessons after enough steps; like Llama 3 it has no token for padding."""
    from transformers import LlamaForCausalLM

    tokenizer = _letters()
    torch.manual_seed(0)
    model = LlamaForCausalLM(_text_config())
    _teach(model, tokenizer, lessons, steps)
    model.save_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)


def _letters() -> Any:
    """A tokenizer for which each sign of ASCII is a token."""
    from transformers import PreTrainedTokenizerFast

    signs = [*SPECIAL, "\n", *map(chr, range(32, 127))]
    tokenizer = Tokenizer(models.WordLevel({sign: number for number, sign in enumerate(signs)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"}, clean_up_tokenization_spaces=False,
    )  # fmt: skip
    made.chat_template = CHAT
    return made


def _text_config() -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(SPECIAL) + 96, hidden_size=96, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=4096, bos_token_id=1, eos_token_id=2, pad_token_id=3,
    )  # fmt: skip


def _teach(model: Any, processor: Any, lessons: Sequence[Lesson], steps: int) -> None:
    """Learn the lessons by heart."""
    if not steps:
        return
    batch = _batch(processor, lessons)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def _batch(processor: Any, lessons: Sequence[Lesson]) -> dict[str, torch.Tensor]:
    """Prompts and answers, padded on the right; only answers are labels."""
    tokenizer = getattr(processor, "tokenizer", processor)
    rows, pixels = [], []
    for jpeg, prompt, answer in lessons:
        content: Any = prompt
        if jpeg:
            image = Image.open(io.BytesIO(jpeg)).convert("RGB")
            content = [{"type": "image", "image": image}, {"type": "text", "text": prompt}]
        talk = [{"role": "user", "content": content}]
        tensors = {"return_tensors": "pt"}
        options: dict[str, Any] = {"processor_kwargs": tensors} if jpeg else tensors
        asked = processor.apply_chat_template(
            talk, add_generation_prompt=True, tokenize=True, return_dict=True, **options
        )
        said = tokenizer(f"{answer}</s>", add_special_tokens=False, return_tensors="pt")["input_ids"]
        rows.append((asked["input_ids"][0], said[0]))
        pixels += [asked["pixel_values"]] if jpeg else []
    longest = max(len(asked) + len(said) for asked, said in rows)
    ids = torch.full((len(rows), longest), SPECIAL.index("<pad>"))
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, (asked, said) in enumerate(rows):
        end = len(asked) + len(said)
        ids[row, :end] = torch.cat([asked, said])
        labels[row, len(asked) : end] = said
        mask[row, :end] = 1
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return batch | ({"pixel_values": torch.cat(pixels)} if pixels else {})
