"""The processor: one sample of a shard to items, each a (sketch, image) pair with all its questions.

An item is what the model sees in one row: a prefix (system, sketch, image) and branches (question and
answer), each of which continues the prefix as if it were alone. Branches share the cost of the prefix:
for LLaVA-1.5 that is 1,152 image tokens beside some 40 of a question.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from data_manifests.schema import STRIP_SIDE, Query, Sample
from sketchlm.frame import FILL, pad_to_square, to_frame
from sketchlm.prompt import IMAGE, TEMPLATES, TURN, PromptConfig, answer_of, head_of, question_of
from sketchlm.shards import broken
from sketchlm.tokenizer import check_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


LEAST_SHOWN = 1 / 6
"""Share of a patch that an object has to cover for the patch to tell its box."""


IN_WORDS = ("bbox", "count", "sbir")
"""Tasks that the name of a class asks as well as its sketch: answers to the others speak of the sketch."""


class RawSampleLike(Protocol):
    """What the loader hands over (see sketchlm.shards.RawSample)."""

    @property
    def key(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def jpg(self) -> bytes: ...
    @property
    def strip(self) -> bytes: ...
    @property
    def record(self) -> Sample: ...


@dataclass(frozen=True, slots=True)
class Branch:
    """One question and its answer as tokens.

    ids: question, ` ASSISTANT:`, answer, `</s>`; num_trained: how many of the last ids are trained.
    """

    ids: tuple[int, ...]
    num_trained: int
    task: str
    query: Query = field(repr=False)


@dataclass(frozen=True, slots=True)
class Picture:
    """One image for the tower. pixels: [3, S, S] uint8; what it shows serves the losses beside that of answers, for
    photos with masks: `patches` [C + 1, G, G] float shares of each patch by class (last: background), `extents`
    [4, G, G] float the box (shares of the frame) of the object that a patch shows, NaN where it shows none, `shows`
    [C] bool the classes of its objects, those without a mask among them; `label` the class of a sketch, -1 where
    unknown.
    """

    pixels: NDArray[np.uint8]
    patches: NDArray[np.float32] | None = None
    extents: NDArray[np.float32] | None = None
    shows: NDArray[np.bool_] | None = None
    label: int = -1


@dataclass(frozen=True, slots=True)
class Item:
    """A row of a batch: pictures (sketch first), prefix ids with image tokens expanded, and branches."""

    key: str
    pictures: tuple[Picture, ...]
    prefix: tuple[int, ...]
    branches: tuple[Branch, ...]
    url: str = ""
    """The shard that it comes from, for errors."""

    @property
    def length(self) -> int:
        """Tokens of the row."""
        return len(self.prefix) + sum(len(branch.ids) for branch in self.branches)


@dataclass(frozen=True)
class ProcessorConfig:
    """What a sample becomes."""

    prompt: PromptConfig = field(default_factory=PromptConfig)
    tasks: tuple[str, ...] = ("describe", "bbox", "count", "vqa", "sbir")
    """Questions that this stage asks."""
    branches: int = 8
    """Questions that share one (sketch, image) row at most."""
    rows: int = 0
    """Sketches of a sample that one visit asks about, drawn anew each time; 0 = all."""
    max_length: int = 2048
    """Tokens of a row at most: the context that the model was trained with."""
    words: float = 0.0
    """Share of the sketches in whose place a visit names the class in words and shows the image alone; only boxes,
    counts and retrieval are asked then (IN_WORDS)."""
    blind: bool = False
    """Show an empty sketch: the control that tells what the image alone gives away."""


def check_processor(config: ProcessorConfig) -> None:
    """Raise ValueError for settings that ask for nothing, naming the field."""
    if unknown := sorted(set(config.tasks) - TEMPLATES.keys()):
        raise ValueError(f"processor.tasks: unknown task {unknown[0]!r}; known are {', '.join(TEMPLATES)}")
    if config.branches < 1 or config.rows < 0:
        raise ValueError(f"processor: branches is {config.branches} (1 at least), rows {config.rows} (0 = all)")
    if not 0 <= config.words < 1:
        raise ValueError(f"processor.words is {config.words}; it is a share: from 0 up to, not including, 1")


class Processor:
    """Makes items of samples; holds no state but caches of tokenised text."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        side: int,
        num_image_tokens: int,
        config: ProcessorConfig,
        classes: Sequence[str] = (),
        grid: int = 0,
    ) -> None:
        """side: of the tower's input, pixels; num_image_tokens: of one image; classes and grid: of the
        tower's own loss (none: no targets are made for it).

        Raises ValueError for settings that ask for nothing, and a tokenizer that is not of a LLaVA-1.5.
        """
        check_processor(config)
        check_tokenizer(tokenizer)
        self.tokenizer = tokenizer
        self.side = side
        self.num_image_tokens = num_image_tokens
        self.config = config
        self.classes = {name: number for number, name in enumerate(classes)}
        self.grid = grid
        self._image_id = int(tokenizer.convert_tokens_to_ids(IMAGE))
        self._end_id = int(tokenizer.eos_token_id)
        self._prompt_ids: Callable[[str], tuple[int, ...]] = lru_cache(maxsize=8192)(self._tokenize_prompt)
        self._answer_ids: Callable[[str], tuple[int, ...]] = lru_cache(maxsize=8192)(self._tokenize_answer)

    def items(self, raw: RawSampleLike, draw: int) -> list[Item]:
        """One item for each row of the strip that this stage asks about (and one for text alone).

        draw: a number that decides templates, whatever the order of samples.
        Raises ValueError that names shard, sample and query for what cannot be trained on, ShardError (which a
        loader may skip) for pictures that cannot be read.
        """
        record, config = raw.record, self.config
        asked: dict[int, list[Query]] = {}
        for query in record.queries:
            if query.task in config.tasks:
                asked.setdefault(query.row, []).append(query)
        if not asked:
            return []
        rng = random.Random(draw)
        if 0 < config.rows < len(asked):
            asked = {row: asked[row] for row in sorted(rng.sample(sorted(asked), config.rows))}
        if config.words:
            asked = {row: in_words(q) if row >= 0 and rng.random() < config.words else q for row, q in asked.items()}
        shown = sorted({query.row for queries in asked.values() for query in queries} - {-1})
        photo = self._photo(raw)
        sketches = self._sketches(raw, shown)
        items = []
        for _, queries in sorted(asked.items()):
            if not queries:
                continue
            row = queries[0].row
            pictures = (photo,) if row < 0 else (sketches[row], photo)
            head = head_of(config.prompt, len(pictures))
            prefix = self._prefix(head)
            rng.shuffle(queries)
            branches = [self._branch(head, query, rng, raw) for query in queries]
            for group in self._rows(branches, len(prefix), raw):
                items.append(Item(raw.key, pictures, prefix, tuple(group), raw.url))
        return items

    def question(self, query: Query, draw: int, hint: str = "") -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(prefix, question) ids of a query, up to where the answer begins; hint: words behind the template's.

        Raises ValueError for words that hold a control token.
        """
        head = head_of(self.config.prompt, 1 if query.row < 0 else 2)
        words = question_of(query, draw, self.config.prompt) + (f" {hint}" if hint else "")
        ids = self._question_ids(head, words)
        if self._image_id in ids or self._end_id in ids:
            raise ValueError(f"a control token ({IMAGE} or the end of the turn) stands in {words[:80]!r}: remove it")
        return self._prefix(head), ids

    def pixels(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """[H, W, 3] uint8 of any size to the tower's [3, S, S] uint8: padded to a square, then resized."""
        return resize(pad_to_square(rgb, FILL), self.side)

    def sketch_pixels(self, grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """[256, 256] uint8, dark on white, to the tower's [3, S, S] uint8."""
        return resize(np.repeat(grey[..., None], 3, axis=2), self.side)

    def _rows(self, branches: Sequence[Branch], prefix: int, raw: RawSampleLike) -> list[list[Branch]]:
        """Branches that share a row: `config.branches` at most, and as many as the context holds."""
        config = self.config
        rows: list[list[Branch]] = []
        length = 0
        for branch in branches:
            size = len(branch.ids)
            if prefix + size > config.max_length:
                raise ValueError(
                    f"{raw.url}, sample {raw.key}, query {branch.query.query_id} ({branch.task}): {prefix} tokens of "
                    f"prompt and images, {size} of question and answer; the context holds {config.max_length}: "
                    "shorten its question or answers, or raise processor.max_length"
                )
            if not rows or len(rows[-1]) == config.branches or length + size > config.max_length:
                rows.append([])
                length = prefix
            rows[-1].append(branch)
            length += size
        return rows

    def _branch(self, head: str, query: Query, rng: random.Random, raw: RawSampleLike) -> Branch:
        question = self._question_ids(head, question_of(query, rng.randrange(1 << 30), self.config.prompt))
        text = answer_of(query, (raw.record.image.width, raw.record.image.height), self.config.prompt)
        answer = self._answer_ids(text)
        place = f"{raw.url}, sample {raw.key}, query {query.query_id} ({query.task})"
        if len(answer) < 2:
            raise ValueError(
                f"{place}: answers[0] is {query.answers[0]!r}, there is no word to train on: give an answer"
            )
        if self._image_id in question + answer or self._end_id in question + answer[:-1]:
            raise ValueError(f"{place}: a control token ({IMAGE} or the end of the turn) stands in its text: remove it")
        return Branch(question + answer, len(answer), query.task, query)

    def _prefix(self, head: str) -> tuple[int, ...]:
        ids: list[int] = []
        for token in self._prompt_ids(head):
            ids += [token] * (self.num_image_tokens if token == self._image_id else 1)
        return tuple(ids)

    def _question_ids(self, head: str, question: str) -> tuple[int, ...]:
        """Ids after the head: tokenised together with it, since a tokenizer may join across a border."""
        before, whole = self._prompt_ids(head), self._prompt_ids(f"{head}{question}{TURN}")
        assert whole[: len(before)] == before, f"the tokenizer joins {head[-20:]!r} with {question[:20]!r}"
        return whole[len(before) :]

    def _tokenize_prompt(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text)["input_ids"])

    def _tokenize_answer(self, text: str) -> tuple[int, ...]:
        """The answer as it follows ` ASSISTANT:`, with the end of the turn.

        Together with what stands before it: alone, a tokenizer that puts no space before its first word
        would give other ids than it gives for the whole text (tested).
        """
        turn = TURN.strip()
        before, whole = (
            tuple(self.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in (turn, f"{turn} {text}")
        )
        assert whole[: len(before)] == before, f"the tokenizer joins {turn!r} with {text[:20]!r}"
        return (*whole[len(before) :], self._end_id) if text else (self._end_id,)

    def _photo(self, raw: RawSampleLike) -> Picture:
        rgb = decode_rgb(raw.jpg, f"{raw.url}, sample {raw.key}")
        return Picture(self.pixels(rgb), *(self._shown(raw.record) if self.grid else ()))

    def _sketches(self, raw: RawSampleLike, rows: list[int]) -> dict[int, Picture]:
        if not rows:
            return {}
        array = np.frombuffer(raw.strip, np.uint8)
        strip = cv2.imdecode(array, cv2.IMREAD_GRAYSCALE) if len(array) else None
        if strip is None or strip.shape[1] != STRIP_SIDE or strip.shape[0] < STRIP_SIDE * (rows[-1] + 1):
            seen = "unreadable" if strip is None else f"{strip.shape[1]}x{strip.shape[0]} px"
            raise broken(f"{raw.url}, sample {raw.key}", f"its strip is {seen}, row {rows[-1]} is asked")
        found = {}
        for row in rows:
            grey = strip[STRIP_SIDE * row : STRIP_SIDE * (row + 1)]
            if self.config.blind:
                grey = np.full_like(grey, 255)
            category = raw.record.sketches[row].category
            label = -1 if self.config.blind else self.classes.get(category, -1)
            found[row] = Picture(self.sketch_pixels(grey), label=label)
        return found

    def _shown(self, record: Sample) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """`patches`, `extents` and `shows` of a photo (see Picture)."""
        shape = (self.grid, self.grid)
        shares = np.zeros((len(self.classes) + 1, *shape), np.float32)
        extents = np.full((4, *shape), np.nan, np.float32)
        most = np.full(shape, LEAST_SHOWN, np.float32)
        shows = np.zeros(len(self.classes), np.bool_)
        for thing in record.objects:
            number = self.classes.get(thing.category, -1)
            if number < 0:
                continue
            shows[number] = True
            if thing.mask.size == [0, 0]:
                continue
            square = pad_to_square(decode_mask(thing.mask.size, thing.mask.counts), 0)
            share = cv2.resize(square.astype(np.float32), shape, interpolation=cv2.INTER_AREA)
            shares[number] += share
            box = to_frame(thing.box, (record.image.width, record.image.height), "padded")
            extents[:, share > most] = np.asarray(box, np.float32)[:, None]
            most = np.maximum(most, share)
        return sharpened(shares), extents, shows


def in_words(queries: Sequence[Query]) -> list[Query]:
    """Those that can be asked without their sketch, by the name of its class."""
    named = [query for query in queries if query.task in IN_WORDS and query.category and not query.question]
    return [query.model_copy(update={"row": -1}) for query in named]


def sharpened(shares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shares of classes [C + 1, G, G] to targets that sum to one: a patch that an object covers by a third
    shows that object. Without this nearly all that a small tower learns is background.
    """
    covered = shares[:-1].sum(axis=0)
    shown = np.minimum(1.0, 3.0 * covered)
    return np.concatenate([shares[:-1] * (shown / np.maximum(covered, 1e-6)), (1.0 - shown)[None]]).astype(np.float32)


def decode_mask(size: list[int], counts: str) -> NDArray[np.uint8]:
    """Compressed COCO RLE to [H, W] uint8 of 0 and 1."""
    from pycocotools import mask as coco

    rle: Any = {"size": size, "counts": counts.encode()}
    return np.asarray(coco.decode(rle), np.uint8)


def decode_rgb(data: bytes, place: str) -> NDArray[np.uint8]:
    """JPEG bytes to [H, W, 3] uint8 RGB.

    Raises ShardError, naming the place that they come from, for bytes that are no picture.
    """
    array = np.frombuffer(data, np.uint8)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(array, flags) if len(array) else None
    if image is None:
        raise broken(place, f"its jpg cannot be decoded ({len(data)} bytes)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def resize(square: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """[N, N, 3] uint8 to [3, S, S] uint8, bicubic with antialiasing, the same pixels as CLIP's processor."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize as torch_resize

    chw = torch.from_numpy(np.ascontiguousarray(square.transpose(2, 0, 1)))
    if square.shape[0] == side:
        return chw.numpy()
    return torch_resize(chw, [side, side], InterpolationMode.BICUBIC, antialias=True).numpy()
