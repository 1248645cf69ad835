"""The tokenizer of models made from nothing: whole words and numbers, letters for what it does not know.

No download, no training: a WordPiece over a given vocabulary. Each number of a box is one token, so
that a loss can be smoothed over neighbouring numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>")
PIECE = re.compile(r"\d\.\d\d|\d+|[A-Za-z]+|[^\sA-Za-z0-9]")
"""Numbers with two decimals, whole numbers (spelled digit by digit), words, single signs."""


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that knows every word of `texts` whole, and spells all other printable ASCII.

    Text keeps its case; runs of white space count as one space. `<image>` is one token.
    """
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in texts for word in PIECE.findall(text) if not word.isdigit()})
    numbers = [f"{value / 100:.2f}" for value in range(101)]
    letters = [chr(code) for code in range(33, 127)]
    pieces = dict.fromkeys([*SPECIAL, *numbers, *map(str, range(10)), *words, *letters, *("##" + x for x in letters)])
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Strip()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(PIECE.pattern), "isolated")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.WordPiece(), decoders.Fuse(), decoders.Replace("[ ", "["), decoders.Replace(" ]", "]")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", pieces_id(pieces, "<s>"))]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="right",
        extra_special_tokens={"image_token": "<image>"},
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(base: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a bundle or a LLaVA-1.5 in Hugging Face layout: a folder or hub id.

    What stands before the line break after `<image>` depends on its file: with `"legacy": true` (and always in
    the original LLaVA code, which tokenises the text between images piece by piece) it is `▁` and the break,
    ids 29871 13 of Llama; with `"legacy": false` transformers 5 gives 13 alone. Training and answering take
    whatever this tokenizer gives for the whole text.

    Raises ValueError where there is none, or one that knows no `<image>`.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{base} holds no tokenizer that can be read: {first_line(error)}") from None
    check_tokenizer(tokenizer, base)
    return tokenizer


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, base: str = "the base model") -> None:
    """Raise ValueError for one without `<image>`, `</s>` or padding."""
    image = tokenizer.convert_tokens_to_ids("<image>")
    lacks = [
        *(["token <image>"] if image is None or image == tokenizer.unk_token_id else []),
        *(["eos_token"] if tokenizer.eos_token_id is None else []),
        *(["pad_token"] if tokenizer.pad_token_id is None else []),
    ]
    if lacks:
        raise ValueError(f"the tokenizer of {base} has no {lacks[0]}: take that of a LLaVA-1.5 in Hugging Face layout")


def first_line(error: BaseException) -> str:
    """What an error says, without what others append to it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def pieces_id(pieces: dict[str, None], piece: str) -> int:
    """Place of a piece in the vocabulary."""
    return list(pieces).index(piece)


def class_tokens(tokenizer: PreTrainedTokenizerFast, classes: Sequence[str]) -> list[list[int]]:
    """Ids of each class's name, alone."""
    return [list(tokenizer(name, add_special_tokens=False)["input_ids"]) for name in classes]


def number_tokens(tokenizer: PreTrainedTokenizerFast) -> Sequence[int]:
    """Ids of 0.00, 0.01, ... 1.00 in order; () where the vocabulary lacks them (any real Llama)."""
    ids = tokenizer.convert_tokens_to_ids([f"{value / 100:.2f}" for value in range(101)])
    return [] if tokenizer.unk_token_id in ids or None in ids or len(set(ids)) != 101 else ids
