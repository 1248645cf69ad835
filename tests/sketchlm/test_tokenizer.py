"""Tokenizers: ours for models made from nothing, and what we need of a Llama's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchlm.prompt import PromptConfig, box_text
from sketchlm.tokenizer import build_tokenizer, check_tokenizer, load_tokenizer, number_tokens
from tests.sketchlm.llava import KNOWN, llama_tokenizer, save_llama_tokenizer, tiny_tokenizer


def test_a_number_of_a_box_is_one_token_and_they_stand_in_order() -> None:
    tokenizer = tiny_tokenizer()
    numbers = number_tokens(tokenizer)
    assert len(numbers) == 101
    assert tokenizer.convert_ids_to_tokens([numbers[0], numbers[37], numbers[100]]) == ["0.00", "0.37", "1.00"]
    ids = tokenizer("[0.12, 0.34, 0.56, 1.00]", add_special_tokens=False)["input_ids"]
    assert [i for i in ids if i in numbers] == [numbers[12], numbers[34], numbers[56], numbers[100]]


def test_the_same_texts_give_the_same_vocabulary() -> None:
    ours, again = build_tokenizer(["a b", "c"]), build_tokenizer(["c", "b a"])
    assert ours.get_vocab() == again.get_vocab()


@given(st.lists(st.lists(st.floats(0, 40), min_size=4, max_size=4), min_size=1, max_size=3))
def test_boxes_come_back_as_they_were_written(boxes: list[list[float]]) -> None:
    tokenizer = tiny_tokenizer()
    text = box_text(boxes, (40, 40), PromptConfig())
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


@given(st.integers(0, 100_000))
def test_whole_numbers_come_back_whole(number: int) -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer(f"there are {number}.", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == f"there are {number}."


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).filter(lambda t: "<" not in t))
def test_every_printable_text_has_tokens_and_none_is_unknown(text: str) -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert bool(ids) == bool(text.strip())


def test_image_and_end_are_one_token_and_text_begins_with_bos() -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer("USER: <image>\n<image>\nyes</s>")["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
    assert ids.count(tokenizer.convert_tokens_to_ids("<image>")) == 2


@pytest.mark.parametrize("legacy", [True, False])
def test_spot_checks_of_the_llama_vocabulary(tmp_path: Path, legacy: bool) -> None:
    tokenizer = llama_tokenizer(tmp_path, legacy)
    ids = tokenizer(f"{KNOWN[0]}<image>\n<image>{KNOWN[2]}")["input_ids"]
    assert ids[:6] == [1, 319, 13563, 1546, 263, 12758]
    turn = ids.index(13566)
    assert ids[turn - 3 : turn + 2] == [319, 1799, 9047, 13566, 29901]
    assert number_tokens(tokenizer) == []  # 0.12 is four pieces there


@pytest.mark.parametrize(
    ("legacy", "golden"),
    # `▁USER`, `:`, `▁`, <image>, [`▁`], `\n`, <image>, [`▁`], `\n`, `COUNT`
    [
        (True, [3148, 1001, 29901, 29871, 32000, 29871, 13, 32000, 29871, 13, 18736]),
        (False, [3148, 1001, 29901, 29871, 32000, 13, 32000, 13, 18736]),
    ],
)
def test_the_line_break_after_an_image(tmp_path: Path, legacy: bool, golden: list[int]) -> None:
    """The original LLaVA code and transformers 4 give what `legacy` gives; transformers 5 follows the file's flag."""
    ids = llama_tokenizer(tmp_path, legacy)(f"{KNOWN[0]}<image>\n<image>{KNOWN[3]}")["input_ids"]
    start = ids.index(3148)
    assert ids[start : start + len(golden)] == golden


def test_a_folder_without_a_tokenizer_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no tokenizer that can be read") as error:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_damaged_tokenizer_is_one_clear_error(tmp_path: Path) -> None:
    save_llama_tokenizer(tmp_path, legacy=True)
    whole = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="holds no tokenizer that can be read"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_without_image_or_padding_is_refused() -> None:
    tokenizer = build_tokenizer(["yes no"])
    check_tokenizer(tokenizer)
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match=r"of the base has no pad_token: take that of a LLaVA-1\.5"):
        check_tokenizer(tokenizer, "the base")

    class Plain:
        unk_token_id, eos_token_id, pad_token_id = 0, 1, 2

        def convert_tokens_to_ids(self, token: str) -> int:
            return 0

    with pytest.raises(ValueError, match="has no token <image>"):
        check_tokenizer(Plain())
