"""The processor: ids equal to those of the whole text, labels from segments, pixels of CLIP, errors that say where."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import CLIPImageProcessor, LlavaImageProcessor, LlavaProcessor

from data_manifests.schema import Query, Rle
from sketchlm.frame import FILL
from sketchlm.loss import normalise
from sketchlm.processor import Processor, ProcessorConfig, decode_rgb
from sketchlm.prompt import TEMPLATES, TURN, PromptConfig, answer_of, head_of, question_of
from sketchlm.shards import ShardError
from tests.sketchlm.llava import SIZES, Raw, asked, llama_tokenizer, query, raw_sample, tiny_processor, tiny_tokenizer
from tests.sketchlm.test_frame import expand2square

TOKENS = 16
ANSWERS = ["yes", " padded ", "[0.1]", "5", "1,234", "été ☃", "a\nb", "...", "two  spaces", "ASSISTANT: hi", "\ttab"]


@pytest.fixture(params=["legacy", "not legacy", "tiny"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return tiny_tokenizer() if request.param == "tiny" else llama_tokenizer(tmp_path, request.param == "legacy")


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", list(TEMPLATES))
@pytest.mark.parametrize("row", [0, -1])
def test_prefix_question_and_answer_are_the_ids_of_the_whole_text(tokenizer: Any, task: str, row: int) -> None:
    """Also tried with all 32,000 pieces of the real vocabulary."""
    processor = Processor(tokenizer, SIZES.side, TOKENS, ProcessorConfig())
    for draw, text in enumerate(ANSWERS):
        one = asked(task, row, answers=[text], question=f"What about {text}?", count=draw)
        answer = answer_of(one, (61, 40), processor.config.prompt)
        prefix, question = processor.question(one, draw)
        ids = prefix + question + processor._answer_ids(answer)
        head = head_of(processor.config.prompt, 1 if row < 0 else 2).replace("<image>", "<image>" * TOKENS)
        whole = f"{head}{question_of(one, draw, processor.config.prompt)}{TURN} {answer}</s>"
        assert list(ids) == tokenizer(whole)["input_ids"]


def test_ids_are_those_of_transformers_llava_processor(tmp_path: Path) -> None:
    tokenizer = llama_tokenizer(tmp_path, legacy=False)
    size = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
    theirs = LlavaProcessor(
        CLIPImageProcessor(**size), tokenizer, 14, "default", num_additional_image_tokens=1, image_token="<image>"
    )
    ours = Processor(tokenizer, 336, 576, ProcessorConfig())
    item = ours.items(raw_sample(query("count")), 0)[0]
    question = question_of(item.branches[0].query, 0, PromptConfig())
    images = [Image.new("RGB", (256, 256)), Image.new("RGB", (61, 40))]
    ids = theirs(text=f"{head_of(PromptConfig(), 2)}{question}{TURN}", images=images)["input_ids"][0]
    prefix, words = ours.question(item.branches[0].query, 0)
    assert list(prefix + words) == list(ids)
    assert prefix == item.prefix and prefix.count(32000) == 2 * 576


SYSTEM_IDS = (
    "1 319 13563 1546 263 12758 1404 322 385 23116 21082 20255 29889 450 20255 4076 8444 29892 13173 29892 322 1248 "
    "568 6089 304 278 1404 29915 29879 5155 29889 3148 1001 29901 29871"
)


@pytest.mark.parametrize(("legacy", "line_break"), [(True, [29871, 13]), (False, [13])])
@pytest.mark.parametrize(
    ("one", "golden"),
    [
        (asked("bbox", boxes=[[12.0, 34.0, 56.0, 78.0]]),
         "29933 8456 29990 29901 18492 263 3216 292 3800 2820 1203 9875 491 278 21256 297 278 1967 29889 319 1799 9047 "
         "13566 29901 518 29900 29889 29896 29906 29892 29871 29900 29889 29941 29946 29892 29871 29900 29889 29945 "
         "29953 29892 29871 29900 29889 29955 29947 29962 2"),
        (asked("count", count=5),
         "18736 29901 3917 278 1353 310 3618 297 278 1967 393 620 6967 278 21256 29889 319 1799 9047 13566 29901 29871 "
         "29945 2"),
        (asked("sbir", match=1),
         "1744 8193 29901 1317 278 1203 4318 297 278 21256 7962 777 988 297 278 1967 29892 1234 411 4874 470 694 29889 "
         "319 1799 9047 13566 29901 4874 2"),
        (asked("vqa"),
         "29963 29984 29909 29901 1724 338 278 2927 310 278 11203 29973 13 22550 278 1139 773 263 2323 1734 470 16549 "
         "29889 319 1799 9047 13566 29901 17354 2"),
        (asked("describe", answers=["A small dog on the grass."], boxes=[]),
         "4002 29581 278 1203 393 278 21256 3697 322 988 372 338 297 278 1967 29889 319 1799 9047 13566 29901 319 2319 "
         "11203 373 278 17455 29889 2"),
    ],
    ids=lambda value: value.task if isinstance(value, Query) else "",
)  # fmt: skip
def test_golden_ids_of_the_llama_vocabulary(
    tmp_path: Path, legacy: bool, line_break: list[int], one: Query, golden: str
) -> None:
    """Made with all 32,000 pieces; `llama-tokenizer-js` itself gives the same for the text between images."""
    processor = Processor(llama_tokenizer(tmp_path, legacy), 336, 2, ProcessorConfig())
    prefix, question = processor.question(one, 0)
    image = [32000, 32000]
    assert list(prefix) == [*map(int, SYSTEM_IDS.split()), *image, *line_break, *image, *line_break]
    answer = processor._answer_ids(answer_of(one, (100, 100), processor.config.prompt))
    assert [*question, *answer] == [int(word) for word in golden.split()]


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", list(TEMPLATES))
def test_the_answer_and_the_end_are_trained_and_nothing_else(tokenizer: Any, task: str) -> None:
    processor = Processor(tokenizer, SIZES.side, TOKENS, ProcessorConfig())
    (item,) = processor.items(raw_sample(query(task)), 5)
    (branch,) = item.branches
    question, answer = branch.ids[: -branch.num_trained], branch.ids[-branch.num_trained :]
    assert answer[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(answer[:-1]).strip() == answer_of(branch.query, (61, 40), processor.config.prompt)
    assert tokenizer.decode(question).replace(" ", "").endswith("ASSISTANT:")
    assert item.prefix[0] == tokenizer.bos_token_id and branch.task == task


def test_wordings_are_drawn_evenly_and_decided_by_the_draw() -> None:
    processor = tiny_processor()
    raw = raw_sample(*(query(task) for task in TEMPLATES))
    seen: dict[str, Counter[str]] = {task: Counter() for task in TEMPLATES}
    for draw in range(400):
        for branch in processor.items(raw, draw)[0].branches:
            seen[branch.task][processor.tokenizer.decode(branch.ids[: -branch.num_trained])] += 1
    for task, counts in seen.items():
        assert len(counts) == len(TEMPLATES[task])
        expected = 400 / len(counts)
        assert sum((n - expected) ** 2 / expected for n in counts.values()) < 24.3  # chi-square, 7 degrees, p = 0.001
    assert processor.items(raw, 7)[0].branches == processor.items(raw, 7)[0].branches


# --- rows ------------------------------------------------------------------------------------------------------------


def test_an_item_a_sketch_and_one_for_text_alone() -> None:
    raw = raw_sample(query("bbox", 0), query("count", 0), query("sbir", 1), query("vqa", -1))
    items = tiny_processor().items(raw, 0)
    assert [(len(i.pictures), sorted(b.task for b in i.branches)) for i in items] == [
        (1, ["vqa"]),
        (2, ["bbox", "count"]),
        (2, ["sbir"]),
    ]
    assert all(i.url == raw.url and i.key == raw.key for i in items)
    assert len({id(i.pictures[-1]) for i in items}) == 1  # the photo is decoded once, and shared
    image = tiny_tokenizer().convert_tokens_to_ids("<image>")
    assert [i.prefix.count(image) for i in items] == [16, 32, 32]


def test_only_the_tasks_of_the_stage_are_asked() -> None:
    raw = raw_sample(query("describe"), query("bbox"))
    (item,) = tiny_processor(ProcessorConfig(tasks=("describe",))).items(raw, 0)
    assert [b.task for b in item.branches] == ["describe"]
    assert tiny_processor(ProcessorConfig(tasks=("sbir",))).items(raw, 0) == []


def test_rows_draws_sketches_anew_each_time() -> None:
    raw = raw_sample(*(query("count", row, query_id=str(row)) for row in range(6)), rows=6)
    processor = tiny_processor(ProcessorConfig(rows=2))
    seen = Counter(i.branches[0].query.row for draw in range(60) for i in processor.items(raw, draw))
    assert sum(seen.values()) == 120 and len(seen) == 6


def test_a_share_of_the_sketches_is_named_in_words_instead() -> None:
    queries = [query(task, row, query_id=f"{task}{row}") for row in range(4) for task in ("bbox", "vqa", "sbir")]
    own = query("sbir", 3, query_id="own", question="Is it this very one?")
    raw = raw_sample(*queries, own, rows=4)
    items = [i for draw in range(100) for i in tiny_processor(ProcessorConfig(words=0.25)).items(raw, draw)]
    spoken = [i for i in items if len(i.pictures) == 1]
    assert len(items) == 400 and 70 < len(spoken) < 130
    assert {b.task for i in spoken for b in i.branches} == {"bbox", "sbir"}
    assert all(b.query.row == -1 and b.query.query_id != "own" for i in spoken for b in i.branches)
    words = tiny_tokenizer().decode(spoken[0].branches[0].ids)
    assert "sketch" not in words and spoken[0].branches[0].query.category in words
    drawn = [i for i in items if len(i.pictures) == 2]
    assert {b.task for i in drawn for b in i.branches} == {"bbox", "vqa", "sbir"}


def test_a_sketch_of_which_words_ask_nothing_is_left_out() -> None:
    raw = raw_sample(query("vqa", 0))
    items = [tiny_processor(ProcessorConfig(words=0.5)).items(raw, draw) for draw in range(40)]
    assert {len(found) for found in items} == {0, 1}


@given(st.integers(1, 9), st.integers(1, 4), st.integers(80, 200))
def test_a_row_holds_what_the_context_holds_and_every_query_is_asked_once(number: int, most: int, context: int) -> None:
    raw = raw_sample(*(query("count", query_id=str(n)) for n in range(number)))
    config = ProcessorConfig(branches=most, max_length=context, prompt=PromptConfig(system=""))
    items = tiny_processor(config).items(raw, 3)
    assert all(item.length <= context and 1 <= len(item.branches) <= most for item in items)
    assert sorted(b.query.query_id for i in items for b in i.branches) == sorted(map(str, range(number)))


# --- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [(61, 40), (40, 61), (333, 500), (501, 334), (336, 336), (256, 256), (1024, 768), (9, 1)]
)
def test_pixels_are_those_of_clips_processor_on_the_square(size: tuple[int, int]) -> None:
    rgb = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8), (0, 0), 1.5)
    processor = tiny_processor()
    processor.side = 336
    ours = normalise(torch.from_numpy(processor.pixels(rgb))[None], torch.float32)[0]
    sizes = {"size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336}}
    square = expand2square(Image.fromarray(rgb), FILL)
    clip = CLIPImageProcessor(**sizes)(square, return_tensors="pt")["pixel_values"][0]
    # both round to bytes after resizing; what is left is the order of (x / 255 - mean) / std: 2.4e-7 at most
    assert torch.allclose(ours, clip, atol=1e-6, rtol=0)
    padded = LlavaImageProcessor(do_pad=True, **sizes)(Image.fromarray(rgb), return_tensors="pt")["pixel_values"][0]
    assert torch.equal(padded, clip)
    # the original resizes with Pillow: two steps of a byte apart at most (2 / 255 / 0.2613 = 0.0300), seen: 0.0284
    pil = np.asarray(square.resize((336, 336), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    original = normalise(torch.from_numpy(pil.copy())[None], torch.float32)[0]
    assert float((ours - original).abs().max()) <= 0.0301


def test_golden_pixels_of_an_odd_photo() -> None:
    processor = tiny_processor()
    processor.side = 5
    rgb = np.full((3, 5, 3), 200, np.uint8)
    pixels = processor.pixels(rgb)
    assert pixels.shape == (3, 5, 5) and pixels.dtype == np.uint8
    assert [row[0] for row in pixels[0].tolist()] == [122, 200, 200, 200, 122]
    assert pixels[:, 0, 0].tolist() == [122, 116, 104]
    mean_std = normalise(torch.from_numpy(pixels)[None], torch.float32)[0, :, 0, 0]
    assert mean_std.tolist() == pytest.approx([-0.01125, -0.01120, -0.00133], abs=1e-5)


def test_the_sketch_stands_first_and_is_its_row_of_the_strip() -> None:
    raw = raw_sample(query("bbox", 0), query("bbox", 1))
    first, second = tiny_processor().items(raw, 0)
    strip = cv2.imdecode(np.frombuffer(raw.strip, np.uint8), cv2.IMREAD_GRAYSCALE)
    for row, item in enumerate((first, second)):
        grey = np.repeat(strip[256 * row : 256 * row + 256, :, None], 3, axis=2)
        assert np.array_equal(item.pictures[0].pixels, tiny_processor().pixels(grey))
        rgb = decode_rgb(raw.jpg, "photo")
        assert np.array_equal(item.pictures[1].pixels, tiny_processor().pixels(rgb))


def test_the_blind_control_shows_an_empty_sketch() -> None:
    raw = raw_sample(query("bbox", 0), query("bbox", 1))
    blind = [i.pictures[0].pixels for i in tiny_processor(ProcessorConfig(blind=True)).items(raw, 0)]
    assert all((pixels == 255).all() for pixels in blind)


def test_targets_of_the_towers_own_loss() -> None:
    from pycocotools import mask as coco

    mask = np.zeros((40, 60), np.uint8)
    mask[:, :30] = 1  # the left half of the photo is the dog
    rle = coco.encode(np.asfortranarray(mask))
    raw = raw_sample(query("bbox"), size=(60, 40))
    thing = {"object_id": "1", "category": "dog", "box": [0.0, 0.0, 30.0, 40.0], "status": "written"}
    rle_ = Rle(size=[40, 60], counts=rle["counts"].decode())
    record = raw.record.model_copy(update={"objects": [type("O", (), {**thing, "mask": rle_})()]})
    (item,) = tiny_processor(classes=("cat", "dog"), grid=6).items(Raw(raw.key, raw.url, raw.jpg, raw.strip, record), 0)
    sketch, photo = item.pictures
    assert sketch.label == 1 and photo.label == -1
    assert photo.patches is not None and photo.patches.shape == (3, 6, 6)
    dog = np.zeros((6, 6))
    dog[1:5, :3] = 1  # 60 x 40 lies in the middle four of six rows
    assert np.allclose(photo.patches, np.stack([np.zeros((6, 6)), dog, 1 - dog]))
    assert photo.extents is not None and np.array_equal(~np.isnan(photo.extents), np.stack([dog > 0] * 4))
    assert np.allclose(photo.extents[:, 2, 1], [0, 10 / 60, 0.5, 50 / 60])


def test_a_photo_shows_the_classes_of_all_its_objects_those_without_a_mask_too() -> None:
    """An object whose mask was rejected is there all the same; one of an unknown class is not told of."""
    nothing = Rle(size=[0, 0], counts="")
    things = [type("O", (), {"category": kind, "mask": nothing})() for kind in ("dog", "sofa")]
    raw = raw_sample(query("bbox"), size=(60, 60))
    record = raw.record.model_copy(update={"objects": things})
    (item,) = tiny_processor(classes=("cat", "dog"), grid=6).items(Raw(raw.key, raw.url, raw.jpg, raw.strip, record), 0)
    sketch, photo = item.pictures
    assert sketch.shows is None and photo.shows is not None and photo.shows.tolist() == [False, True]
    assert photo.patches is not None and not photo.patches[:-1].any()


def test_a_patch_tells_the_box_of_the_object_that_covers_it_most() -> None:
    from pycocotools import mask as coco

    things = []
    for number, (left, right) in enumerate(((0, 25), (25, 60))):  # the patch at 20..29 px: half each; at 30..: the cat
        mask = np.zeros((60, 60), np.uint8, order="F")
        mask[:, left:right] = 1
        rle = Rle(size=[60, 60], counts=coco.encode(mask)["counts"].decode())
        kind, box = ("dog", "cat")[number], [float(left), 0.0, float(right), 60.0]
        things.append(type("O", (), {"object_id": str(number), "category": kind, "box": box, "mask": rle})())
    raw = raw_sample(query("bbox"), size=(60, 60))
    record = raw.record.model_copy(update={"objects": things})
    (item,) = tiny_processor(classes=("cat", "dog"), grid=6).items(Raw(raw.key, raw.url, raw.jpg, raw.strip, record), 0)
    extents = item.pictures[1].extents
    assert extents is not None
    assert np.allclose(extents[0, 0], np.array([0, 0, 0, 25, 25, 25]) / 60)


# --- bad input -------------------------------------------------------------------------------------------------------


def test_an_answer_longer_than_the_context_names_file_sample_field_and_remedy() -> None:
    raw = raw_sample(query("count"), query("describe", query_id="7", answers=["word " * 100]))
    config = ProcessorConfig(max_length=120)
    with pytest.raises(ValueError, match=re.escape("shards/000003.tar, sample sample-a, query 7 (describe)")) as error:
        tiny_processor(config).items(raw, 0)
    for part in ("the context holds 120", "shorten its question or answers", "processor.max_length"):
        assert part in str(error.value)


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_answer_without_words_names_file_sample_field_and_remedy(text: str) -> None:
    raw = raw_sample(query("vqa"))
    bad = raw.record.queries[0].model_copy(update={"answers": [text]})
    raw = Raw(raw.key, raw.url, raw.jpg, raw.strip, raw.record.model_copy(update={"queries": [bad]}))
    with pytest.raises(ValueError, match=r"3\.tar, sample sample-a, query vqa0 \(vqa\): answers\[0\] is .*give an"):
        tiny_processor().items(raw, 0)


@pytest.mark.parametrize(
    "fields", [{"question": "What is <image>?"}, {"answers": ["a</s>b"]}, {"answers": ["<image>"]}]
)
def test_control_tokens_in_a_text_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"sample-a, query vqa0 \(vqa\): a control token .* stands in its text"):
        tiny_processor().items(raw_sample(query("vqa", **fields)), 0)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            ProcessorConfig(tasks=("bbox", "locate")),
            r"processor\.tasks: unknown task 'locate'; known are describe,",
        ),
        (ProcessorConfig(branches=0), r"branches is 0 \(1 at least\)"),
        (ProcessorConfig(rows=-1), r"rows -1"),
    ],
)
def test_settings_that_ask_for_nothing(config: ProcessorConfig, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tiny_processor(config)


def test_an_unknown_task_in_a_shard_names_the_field() -> None:
    said = r"shard contract: queries\.1\.task: .*'describe', 'bbox'.* \(seen: 'locate'\)"
    with pytest.raises(ValueError, match=said):
        raw_sample(query("bbox"), query("locate"))


def test_an_unreadable_photo_or_strip_names_shard_and_sample() -> None:
    raw = raw_sample(query("bbox", 1))
    with pytest.raises(ShardError, match=r"000003\.tar, sample sample-a: its jpg cannot be decoded \(3 bytes\)"):
        tiny_processor().items(replace(raw, jpg=b"abc"), 0)
    with pytest.raises(ShardError, match=r"sample-a: its strip is unreadable, row 1 is asked"):
        tiny_processor().items(replace(raw, strip=b""), 0)
    short = cv2.imencode(".png", np.zeros((256, 256), np.uint8))[1].tobytes()
    with pytest.raises(ShardError, match=r"sample-a: its strip is 256x256 px, row 1 is asked"):
        tiny_processor().items(replace(raw, strip=short), 0)
