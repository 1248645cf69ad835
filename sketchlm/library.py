"""The library: sketches, photos and words in, answers out.

>>> import os
>>> from sketchlm import SketchLM
>>> model = SketchLM.from_pretrained("learn", device="cpu")
>>> bird, scene = "docs/examples/bird.png", "docs/examples/scene.jpg"
>>> model.ask(bird, scene, "What does the sketch show?").text
'bird'
>>> found = model.detect(bird, scene, multiple=True)  # boxes are pixels of the scene, surest first
>>> len(found.boxes) > 2, found.box.score > 0.5
(True, True)
>>> [os.path.basename(match.name) for match in model.rank(bird, [scene]).matches]
['scene.jpg']
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from data_manifests.notice import notice
from data_manifests.schema import Query
from data_manifests.sketch import SketchSource, as_sketch, is_strokes
from sketchlm.answer import Question, answer, chance_of, read_count, span_of_count
from sketchlm.bundle import Bundle
from sketchlm.detection import Boxes, DetectionConfig, detect
from sketchlm.frame import from_frame
from sketchlm.loading import Dtype, Quantization, open_model, processor_of
from sketchlm.metrics.box import OVERLAP
from sketchlm.photo import PhotoSource, as_photo, fetched
from sketchlm.processor import Picture
from sketchlm.results import Box, Count, Detection, Match, Ranking, Reply, Shown
from sketchlm.retrieval.embedding import Embedding, PooledEmbedding, embedding_of
from sketchlm.retrieval.files import PhotoFiles, find_photos
from sketchlm.retrieval.gallery import Gallery, build_gallery, gallery_of
from sketchlm.retrieval.ranking import TOP_N, rank
from sketchlm.retrieval.scorer import Scorer

Task = Literal["bbox", "count", "vqa"]
Result = TypeVar("Result", Detection, Count, Reply)
BATCH = 8
CUT = "the answer was cut off: raise max_new_tokens"
UNTRAINED = (
    "no embedding was trained for this model: the coarse search misses much of what the model would find; rank with "
    "exhaustive=True, or train one (sketchlm.retrieval.distillation)"
)


class SketchLM:
    """A model that reads a sketch, an image and words.

    Each of `detect`, `count` and `ask` takes one sketch, one image (and one question), or lists of as many, and then
    gives a list; what is one beside a list is one for all. `rank` puts the images of a gallery in order.

    A sketch is a path, a PIL picture, an array, or strokes (`[[[x, ...], [y, ...]], ...]`, or an array [n, 3] of
    offsets and pen states): dark on white, or turned so with a warning (see `as_sketch`). None: no sketch, and `text`
    names the object. Both: `text` says more about what is drawn ("the red one").
    An image is a path, a URL, a PIL picture or an array, in any orientation that its EXIF tells; boxes are pixels of
    the upright image.

    What cannot be used raises ValueError; in a list of images the broken ones become results with a `reason`, so that
    the others are not lost. An answer that cannot be read is a result with `raw` and a `reason`, always.
    One model may be used by several threads: they take turns. How many threads PyTorch computes with is the caller's:
    on a CPU that does other work a small model is far faster after `torch.set_num_threads(1)`.
    """

    def __init__(self, bundle: Bundle) -> None:
        """bundle: of `open_model`; most want `from_pretrained`."""
        self.bundle = bundle
        self.processor = processor_of(bundle)
        self._turn = threading.RLock()  # a callback may ask the same model

    @cached_property
    def scorer(self) -> Scorer:
        """What looks at the images of a gallery."""
        return Scorer(self.bundle.model, self.processor)

    @cached_property
    def embedding(self) -> Embedding:
        """What the coarse search of `rank` compares: the one in the bundle's folder, else an untrained one. Another
        may be set before galleries are made (see sketchlm.retrieval.embedding)."""
        folder = self.bundle.folder
        return embedding_of(folder, self.scorer) if folder else PooledEmbedding(self.scorer)

    @classmethod
    def from_pretrained(
        cls, name: str | Path = "learn", device: str = "", dtype: Dtype = "", quantization: Quantization = ""
    ) -> SketchLM:
        """A model by name: `learn`, which comes with the package (procedural scenes, no photos); the folder of a
        bundle; a LLaVA-1.5 in Hugging Face layout; or the hub id of either. The rest, and ValueError, as `open_model`.
        """
        return cls(open_model(name, device, dtype, quantization))

    @overload
    def detect(
        self, sketch: SketchSource | None, image: list[Any], text: str = "", *, multiple: bool = False,
        overlap: float = OVERLAP, min_score: float = 0.0, max_new_tokens: int = 0, batch: int = BATCH
    ) -> list[Detection]: ...  # fmt: skip
    @overload
    def detect(
        self, sketch: SketchSource | None, image: PhotoSource, text: str = "", *, multiple: bool = False,
        overlap: float = OVERLAP, min_score: float = 0.0, max_new_tokens: int = 0, batch: int = BATCH
    ) -> Detection: ...  # fmt: skip
    def detect(
        self,
        sketch: SketchSource | None,
        image: PhotoSource | list[Any],
        text: str = "",
        *,
        multiple: bool = False,
        overlap: float = OVERLAP,
        min_score: float = 0.0,
        max_new_tokens: int = 0,
        batch: int = BATCH,
    ) -> Detection | list[Detection]:
        """Where what is drawn is in the image.

        multiple: all instances, else the one that is named first. overlap: of two boxes that share more (IoU) the surer
        stays. min_score: boxes that are at least so sure stay. max_new_tokens: 0 = enough for ten boxes of a LLaVA,
        which spells each in some 25.
        """
        config = DetectionConfig(multiple, overlap, min_score)
        frame = self.processor.config.prompt.frame

        def found(group: _Group) -> list[Detection]:
            boxes = detect(self.bundle.model, self.processor, group.questions, config, batch, max_new_tokens)
            return [_detection(*row, frame) for row in zip(boxes, group.readable, group.sizes, strict=True)]

        asked = _Asked("bbox", sketch, image, text)
        return self._answers(asked, batch, found, lambda place, reason: Detection((), "", place.shown, reason))

    @overload
    def count(
        self, sketch: SketchSource | None, image: list[Any], text: str = "", *, batch: int = BATCH
    ) -> list[Count]: ...
    @overload
    def count(
        self, sketch: SketchSource | None, image: PhotoSource, text: str = "", *, batch: int = BATCH
    ) -> Count: ...
    def count(
        self, sketch: SketchSource | None, image: PhotoSource | list[Any], text: str = "", *, batch: int = BATCH
    ) -> Count | list[Count]:
        """How many of what is drawn are in the image."""

        def counted(group: _Group) -> list[Count]:
            said = answer(self.bundle.model, self.processor, group.questions, batch)
            return [_count(*row) for row in zip(said, group.readable, strict=True)]

        asked = _Asked("count", sketch, image, text)
        return self._answers(asked, batch, counted, lambda place, reason: Count(None, 0.0, "", place.shown, reason))

    @overload
    def ask(
        self, sketch: SketchSource | None, image: list[Any], question: str | list[str], *, max_new_tokens: int = 128,
        brief: bool = True, batch: int = BATCH
    ) -> list[Reply]: ...  # fmt: skip
    @overload
    def ask(
        self, sketch: SketchSource | None, image: PhotoSource, question: list[str], *, max_new_tokens: int = 128,
        brief: bool = True, batch: int = BATCH
    ) -> list[Reply]: ...  # fmt: skip
    @overload
    def ask(
        self, sketch: SketchSource | None, image: PhotoSource, question: str, *, max_new_tokens: int = 128,
        brief: bool = True, batch: int = BATCH
    ) -> Reply: ...  # fmt: skip
    def ask(
        self,
        sketch: SketchSource | None,
        image: PhotoSource | list[Any],
        question: str | list[str],
        *,
        max_new_tokens: int = 128,
        brief: bool = True,
        batch: int = BATCH,
    ) -> Reply | list[Reply]:
        """The answer to a question about sketch and image, or the image alone; of a list of questions, a list.

        brief: ask for a word or phrase, where the model was trained to give one, as LLaVA-1.5 is for VQA.
        """

        def replied(group: _Group) -> list[Reply]:
            said = answer(self.bundle.model, self.processor, group.questions, batch, max_new_tokens)
            return [_reply(*row) for row in zip(said, group.readable, strict=True)]

        asked = _Asked("vqa", sketch, image, question=question, brief=brief)
        return self._answers(asked, batch, replied, lambda at, reason: Reply("", "", at.shown, reason, at.question))

    def gallery(
        self, images: PhotoFiles | list[Any], folder: str | os.PathLike[str] = "", *, keep_features: bool = True,
        seen: Callable[[int, int], None] = lambda done, of: None
    ) -> Gallery:  # fmt: skip
        """Images that `rank` can search, each looked at once.

        images: a folder, a file, a pattern (`photos/**/*.jpg`) or a list of such, which are kept in `folder` ("" = the
        user's cache) and, when asked for again, only looked at where they are new or have changed; a build that was
        stopped goes on. What the folder keeps beside them stays there, and is not searched. Or a list with URLs,
        pictures or arrays in it, which is kept in memory.
        keep_features: False keeps what the coarse search compares alone (some kB an image, in place of 1.2 MB of
        LLaVA's). seen: told how many of how many files are done.
        What cannot be read is named in `broken` of the result. Raises ValueError where nothing can be.
        """
        if not _are_files(images):
            if os.fspath(folder):
                raise ValueError(
                    f"a gallery with URLs, pictures or arrays is kept in memory, not in {os.fspath(folder)}"
                )
            return self._gallery_of(images, seen)
        # names that hold from any folder
        paths = [os.path.abspath(os.path.expanduser(os.fspath(one))) for one in _as_list(images)]
        place = Path(folder) if os.fspath(folder) else _cache_folder(paths, f"{self.scorer.tower} {keep_features}")
        return build_gallery(place, paths, self.scorer, self.embedding, keep_features, seen=seen)

    def rank(
        self,
        sketch: SketchSource | None,
        gallery: Gallery | PhotoFiles | list[Any],
        text: str = "",
        *,
        top_k: int = 10,
        top_n: int = TOP_N,
        exhaustive: bool = False,
    ) -> Any:
        """The images of a gallery in the order of how surely they show what is drawn: a `Ranking`; of a list of
        sketches, a list.

        gallery: of `gallery`, or all that it takes. top_k: so many images, 0 = all. A coarse search narrows to `top_n`,
        which the model then looks at one by one; exhaustive: it looks at all, as it does where there is no sketch.
        Broken and doubled images are named in the result, and the rest is ranked.
        """
        found = gallery if isinstance(gallery, Gallery) else self.gallery(gallery)
        is_list = _are_sketches(sketch)
        many: Any = sketch if is_list else [sketch]
        sketches = _drawn(many, is_list)
        words = (text or "").strip()
        if not words and any(one is None for one in sketches):
            raise ValueError("there is neither a sketch nor a text: draw the object, or name it (text=...)")
        if isinstance(self.embedding, PooledEmbedding) and not exhaustive and len(found) > top_n:
            notice(UNTRAINED)
        results = []
        for one in sketches:
            probe: Any = words if one is None else self.processor.sketch_pixels(one)
            hint = "" if one is None else words
            with self._turn:
                (order,) = rank(
                    self.scorer, self.embedding, [probe], found, top_k, top_n, exhaustive or one is None, hint
                )
            matches = tuple(
                Match(name, float(yes), found.given.get(name, name))
                for name, yes in zip(order.names, order.yes, strict=True)
            )
            results.append(Ranking(matches, one, text, found.broken, found.duplicates))
        return results if is_list else results[0]

    def _gallery_of(self, images: Any, seen: Callable[[int, int], None]) -> Gallery:
        broken: dict[str, str] = {}
        given: dict[str, Any] = {}
        many = _spread(_as_list(images))

        def readable() -> Iterator[tuple[str, NDArray[np.uint8]]]:
            for number, image in enumerate(many):
                name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else f"#{number}"
                name = f"{name} (#{number})" if name in given or name in broken else name
                try:
                    kept = _kept(image)
                    rgb = as_photo(kept, name=name if kept is not image else "")
                except ValueError as error:
                    broken[name] = str(error)
                else:
                    given[name] = kept
                    yield name, rgb
                seen(number + 1, len(many))

        found = gallery_of(readable(), self.scorer, self.embedding)
        return replace(found, broken=broken, given=given)

    def _answers(
        self,
        asked: _Asked,
        batch: int,
        given: Callable[[_Group], list[Result]],
        broken: Callable[[_Place, str], Result],
    ) -> Any:
        """A result for each place, in order; the only one where no list was given.

        given: those of a group's places that can be shown; broken: that of one which cannot be, and why.
        """
        if batch < 1:
            raise ValueError(f"batch is {batch}, must be at least 1")
        results: list[Result] = []
        for start in range(0, len(asked.images), batch):
            group = self._group(asked, range(start, min(start + batch, len(asked.images))))
            with self._turn:
                rest = iter(given(group))
            results += [broken(place, reason) if reason else next(rest) for place, reason in group.places]
        return results if asked.is_list else results[0]

    def _group(self, asked: _Asked, numbers: Iterable[int]) -> _Group:
        group = _Group()
        looks: dict[int, _Look | str] = {}  # several questions about one image look at it once
        for number in numbers:
            image, sketch, question = asked.images[number], asked.sketches[number], asked.questions[number]
            look = looks[id(image)] = looks.get(id(image)) or self._look(image)
            if isinstance(look, str):
                if not asked.is_list:
                    raise ValueError(look)
                group.places.append((_Place(Shown(image, sketch, asked.text), question), look))
                continue
            pictures: tuple[Picture, ...] = (Picture(look.pixels),)
            if sketch is not None:
                pictures = (Picture(self.processor.sketch_pixels(sketch)), *pictures)
            group.places.append((_Place(Shown(look.image, sketch, asked.text), question), ""))
            group.sizes.append(look.size)
            group.questions.append(asked.question_about(pictures, question))
        return group

    def _look(self, image: Any) -> _Look | str:
        """An image, or why it is none, its path or URL named."""
        try:
            kept = _kept(image)
            rgb = as_photo(kept, name=image if kept is not image else "")
        except ValueError as error:
            return str(error)
        return _Look(kept, self.processor.pixels(rgb), (rgb.shape[1], rgb.shape[0]))


class _Look(NamedTuple):
    """What was seen of an image."""

    image: Any
    """As it is kept in results."""
    pixels: NDArray[np.uint8]
    """[3, S, S], as the tower sees it."""
    size: tuple[int, int]
    """Width and height of the upright image."""


class _Place(NamedTuple):
    """What was shown, and asked about it."""

    shown: Shown
    question: str


class _Asked:
    """What is asked about one or many images: as many sketches [256, 256] (or None) and questions, and the words."""

    def __init__(
        self, task: Task, sketch: Any, image: Any, text: str = "", question: str | list[str] = "", brief: bool = True
    ) -> None:
        self.task, self.text, self.brief = task, (text or "").strip(), brief
        are_sketches = _are_sketches(sketch)
        (sketches, self.images, questions), self.is_list = _together(
            sketches=(sketch, are_sketches), images=(image, _is_list(image)), questions=(question, _is_list(question))
        )
        self.questions = [_worded(one) for one in questions] if task == "vqa" else questions
        if task != "vqa" and not self.text and any(one is None for one in sketches):
            raise ValueError("there is neither a sketch nor a text: draw the object, or name it (text=...)")
        self.sketches = _drawn(sketches, are_sketches)

    def question_about(self, pictures: tuple[Picture, ...], question: str) -> Question:
        row = len(pictures) - 2
        query = Query(
            query_id="",
            task=self.task,
            row=row,
            category=self.text if row < 0 else "",
            boxes=[],
            count=-1,
            question=question,
            answers=["" if self.brief else "an answer that is longer than a phrase"],
            match=-1,
            answer_source="",
        )
        return Question(pictures, query, hint=self.text if row >= 0 else "")


@dataclass
class _Group:
    """Images that are asked about together."""

    places: list[tuple[_Place, str]] = field(default_factory=list)
    """What was shown, and why it cannot be; "" where it can."""
    questions: list[Question] = field(default_factory=list)
    """Of those that can be shown, in their order."""
    sizes: list[tuple[int, int]] = field(default_factory=list)

    @property
    def readable(self) -> list[_Place]:
        return [place for place, reason in self.places if not reason]


def _together(**given: tuple[Any, bool]) -> tuple[list[list[Any]], bool]:
    """As many of each, and whether any is a list; given: by name, one for all or a list, and which of both it is."""
    lengths = {name: len(value) for name, (value, is_list) in given.items() if is_list}
    if len(set(lengths.values())) > 1:
        seen = " and ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"{seen}: give one for all, or as many")
    length = next(iter(lengths.values()), 1)
    return [list(value) if is_list else [value] * length for value, is_list in given.values()], bool(lengths)


def _drawn(sketches: Sequence[Any], is_list: bool) -> list[NDArray[np.uint8] | None]:
    """Each sketch as the model sees it; of a list, errors and warnings name it by its path or place."""
    drawn: dict[int, NDArray[np.uint8] | None] = {}
    for place, one in enumerate(sketches):
        if id(one) not in drawn:
            name = os.fspath(one) if isinstance(one, (str, os.PathLike)) else f"sketch #{place}"
            drawn[id(one)] = None if one is None else as_sketch(one, name=name if is_list else "")
    return [drawn[id(one)] for one in sketches]


def _worded(question: Any) -> str:
    if not isinstance(question, str) or not question.strip():
        raise ValueError("the question is empty: ask something")
    return question.strip()


def _are_files(images: Any) -> bool:
    """Whether these are paths, folders or patterns, and nothing else."""
    return all(map(_is_path, _as_list(images)))


def _is_path(image: Any) -> bool:
    return isinstance(image, (str, os.PathLike)) and "://" not in os.fspath(image)


def _as_list(images: Any) -> list[Any]:
    return list(images) if _is_list(images) else [images]


def _is_list(given: Any) -> bool:
    return isinstance(given, (list, tuple))


def _are_sketches(sketch: Any) -> bool:
    """Whether it is a list of sketches, and not one of strokes."""
    return _is_list(sketch) and not is_strokes(sketch)


def _spread(images: Iterable[Any]) -> list[Any]:
    """Folders and patterns among images as the files in them."""
    found: list[Any] = []
    for image in images:
        found += find_photos(image) if _is_path(image) else [image]
    return found


def _cache_folder(paths: Sequence[str], made_by: str) -> Path:
    """Where the gallery of these files is kept."""
    mark = hashlib.sha256("\n".join((made_by, *paths)).encode(errors="surrogateescape")).hexdigest()[:16]
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sketchlm" / "galleries" / mark


def _kept(image: Any) -> Any:
    """What is behind a URL is fetched once."""
    return fetched(image) if isinstance(image, str) and "://" in image else image


def _detection(found: Boxes, place: _Place, size: tuple[int, int], frame: Any) -> Detection:
    boxes = tuple(Box(*from_frame(one.box, size, frame), one.score) for one in found.kept)
    boxes = tuple(box for box in boxes if box.x1 < box.x2 and box.y1 < box.y2)  # not those that lie in the padding
    reason = ""
    if not boxes:
        reason = "no box is sure enough, or inside the image" if found.named else "the answer holds no box"
    elif not found.answer.ended:
        reason = CUT
    return Detection(boxes, found.answer.text, place.shown, reason, len(found.named) - len(boxes))


def _count(given: Any, place: _Place) -> Count:
    number = read_count(given.text)
    if number < 0:
        return Count(None, 0.0, given.text, place.shown, "the answer holds no number")
    return Count(number, chance_of(given.tokens, [span_of_count(given.text)]), given.text, place.shown)


def _reply(given: Any, place: _Place) -> Reply:
    reason = "" if given.ended else CUT
    reason = reason or ("" if given.text else "the answer is empty")
    return Reply(given.text, given.text, place.shown, reason, place.question)
