"""One description: what a model is asked about an object, how its answer is read and judged, the text made of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from data_manifests.schema import Box, Query, Sample
from data_manifests.vocabulary import vocabulary
from sketchgen.captioner import Captioner, Failure, Request
from sketchgen.checks import box_iou
from sketchgen.tasks import words

PROMPT = """The image is {width} x {height} pixels. One object in it is {a} {category}, at {boxes} (x1, y1, x2, y2 in \
{unit}).
Annotations say of it: {facts}
Describe that object as it is seen in the image. Answer with one JSON object and nothing else:
{"object": "its class, as one name", "description": "one to three sentences on how it looks: colour, material, \
parts, pose", "relations": ["where it is as seen from other objects, such as: left of the red bus"], \
"box": [x1, y1, x2, y2]}
Write no coordinates into the texts."""
REFINE_PROMPT = """This JSON object describes {a} {category} in an image:
{answer}
Annotations say of it: {facts}
Make its texts plain, fluent English, and take out what contradicts the annotations, is said twice, or is guessed. \
Add nothing. Keep "object" and "box" as they are. Answer with the JSON object in the same form and nothing else."""
AGAIN = "\nYour last answer was not taken: {detail}. Answer again, with the JSON object alone."
PLACES = ("a", "category", "boxes", "width", "height", "unit", "facts", "answer")
"""What a prompt can have filled in."""
LONGEST_ANSWER = 8_000
LONGEST_TEXT = 800
"""Characters."""
MOST_RELATIONS = 8
MARKUP = re.compile(r"<[^<>\s]{1,40}>")
"""Tokens of models, `<image>` or `</s>`: in a prompt or a training text they would be read as such."""
COORDINATES = re.compile(r"[\[(]\s*-?\d+(\.\d+)?(\s*,\s*-?\d+(\.\d+)?)+\s*[\])]|\d+(\.\d+)?(\s*,\s*\d+(\.\d+)?){3}")
BARE = re.compile(r"^((it|they) )?(is|are) ")
"""What a relation may begin with, though a phrase was asked for."""
JPEG_QUALITY = 95


@dataclass(frozen=True)
class DescribeConfig:
    """What the models are asked, and what is taken."""

    prompt: str = PROMPT
    """To the captioner. {a} {category} {boxes} {width} {height} {unit} {facts} are filled in."""
    refine_prompt: str = REFINE_PROMPT
    """To the refiner; {answer} too: the captioner's, as JSON."""
    view: Literal["photo", "crop"] = "photo"
    """What the captioner sees: the photo, or the object with what is around it."""
    context: float = 0.5
    """Of a crop: how much around the object, as a share of its longer side."""
    unit: Literal["pixels", "thousandths"] = "pixels"
    """Of boxes in prompts and answers: pixels, or thousandths of width and height (DeepSeek-VL2, Qwen3-VL)."""
    min_iou: float = 0.5
    """How well the box of an answer must fit one of the query's, else it is `wrong-box`."""
    also_vqa: bool = False
    """Also ask the paper's open question (how does the sketch relate to the image?) as `vqa`, with what a model wrote
    for its answer."""
    tries: int = 2
    """How often a model is asked at most; from the second time on it is told what was wrong."""


def _plain(text: str) -> str:
    """The text on one line. Raises ValueError for what is no plain text."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not 0 < len(plain) <= LONGEST_TEXT:
        raise ValueError(f"has {len(plain)} characters, must have from 1 to {LONGEST_TEXT}")
    if not any(map(str.isalpha, plain)):
        raise ValueError(f"is {plain!r:.40}, must hold words")
    if found := MARKUP.search(plain):
        raise ValueError(f"holds {found[0]}, must be plain words")
    return plain


def _few(relations: list[str]) -> list[str]:
    if len(relations) > MOST_RELATIONS:
        raise ValueError(f"has {len(relations)} entries, at most {MOST_RELATIONS} are wanted")
    return relations


def _four(box: list[float]) -> list[float]:
    if len(box) != 4:
        raise ValueError(f"has {len(box)} numbers, must have 4")
    return box


Text = Annotated[str, AfterValidator(_plain)]


class Description(BaseModel):
    """What a model must answer. Limits are checked, but not in the schema: servers differ in what they take there."""

    model_config = ConfigDict(
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra={"additionalProperties": False, "description": "One object of the image."},
    )

    object: Text
    """Class of what is shown."""
    description: Text
    relations: Annotated[list[Text], AfterValidator(_few)]
    box: Annotated[list[float], AfterValidator(_four)]
    """xyxy, in the prompt's unit."""


def check_describe(config: DescribeConfig) -> None:
    """Raises ValueError for settings that mean nothing, with the flag and what it must be."""
    for name in ("prompt", "refine_prompt"):
        text = getattr(config, name)
        if unknown := [place for place in re.findall(r"\{(\w+)\}", text) if place not in PLACES]:
            known = ", ".join(f"{{{place}}}" for place in PLACES)
            raise ValueError(f"describe.{name} holds {{{unknown[0]}}}, which nothing fills in; known are {known}")
    if "{answer}" not in config.refine_prompt:
        raise ValueError("describe.refine_prompt lacks {answer}: the refiner would not see what it is to refine")
    if not 0 <= config.min_iou <= 1:
        raise ValueError(f"describe.min_iou is {config.min_iou}, must be from 0 to 1")


def first_request(sample: Sample, query: Query, jpeg: bytes, config: DescribeConfig) -> Request:
    """What the captioner is asked. jpeg: the sample's photo."""
    boxes, size = tuple(query.boxes), (sample.image.width, sample.image.height)
    if config.view == "crop":
        jpeg, boxes, size = crop(jpeg, boxes, config.context)
    request = Request("", jpeg, query.category, boxes, size, facts_of(sample, query))
    return replace(request, prompt=fill(config.prompt, request, config))


def refine_request(request: Request, found: Description, config: DescribeConfig) -> Request:
    """What the refiner is asked, about an answer of the captioner."""
    answer = json.dumps(found.model_dump(), ensure_ascii=False)
    return replace(request, prompt=fill(config.refine_prompt, request, config, answer), image=b"")


def fill(prompt: str, request: Request, config: DescribeConfig, answer: str = "") -> str:
    """The prompt with its places filled in, at once: what is filled in is not looked through again."""
    values = {
        "a": words.article(request.category),
        "category": request.category,
        "boxes": ", ".join(json.dumps(to_unit(box, request.size, config)) for box in request.boxes),
        "width": str(request.size[0]),
        "height": str(request.size[1]),
        "unit": "pixels" if config.unit == "pixels" else "thousandths of the image's width and height",
        "facts": request.facts,
        "answer": answer,
    }
    return re.sub(r"\{(\w+)\}", lambda found: MARKUP.sub("", values[found[1]]), prompt)


def facts_of(sample: Sample, query: Query) -> str:
    """What the annotations say, in words: the answer of the template, and what else is there."""
    numbers = Counter(o.category for o in sample.objects if o.category and o.category != query.category)
    others = ", ".join(f"{name} ({n})" for name, n in sorted(numbers.items()))
    return query.answers[0] + (f" Other objects in the image: {others}." if others else "")


def crop(jpeg: bytes, boxes: Sequence[Box], context: float) -> tuple[bytes, tuple[Box, ...], tuple[int, int]]:
    """The part of a photo around the boxes: its JPEG, the boxes in its pixels, its (width, height)."""
    photo = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if photo is None:
        raise ValueError("the photo of a sample cannot be read: make its shard again")
    left, top = (min(box[axis] for box in boxes) for axis in (0, 1))
    right, bottom = (max(box[axis] for box in boxes) for axis in (2, 3))
    margin = context * max(right - left, bottom - top)
    x1, y1 = max(0, int(left - margin)), max(0, int(top - margin))
    part = photo[y1 : int(np.ceil(bottom + margin)), x1 : int(np.ceil(right + margin))]
    ok, file = cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert ok, f"OpenCV could not encode a crop of shape {part.shape}"
    moved = tuple([box[0] - x1, box[1] - y1, box[2] - x1, box[3] - y1] for box in boxes)
    return file.tobytes(), moved, (part.shape[1], part.shape[0])


def to_unit(box: Box, size: tuple[int, int], config: DescribeConfig) -> list[int]:
    """A box in pixels as prompts have it."""
    scale = (1.0, 1.0) if config.unit == "pixels" else (1000 / size[0], 1000 / size[1])
    return [round(value * scale[number % 2]) for number, value in enumerate(box)]


def to_pixels(box: Box, size: tuple[int, int], config: DescribeConfig) -> list[float]:
    """A box of an answer in pixels."""
    scale = (1.0, 1.0) if config.unit == "pixels" else (size[0] / 1000, size[1] / 1000)
    return [value * scale[number % 2] for number, value in enumerate(box)]


def ask(model: Captioner, requests: Sequence[Request], config: DescribeConfig) -> list[Description | Failure]:
    """What a model says to each request, judged; an answer that is not taken is asked for again, with the reason.

    A request that failed is not: the model's own client tried that. Raises ConnectionError as `Captioner.answer`.
    """
    results: list[Description | Failure] = [Failure("", "")] * len(requests)
    asked = dict(enumerate(requests))
    for _ in range(config.tries):
        wrong = {}
        for (number, request), answer in zip(asked.items(), model.answer([*asked.values()]), strict=True):
            result = answer if isinstance(answer, Failure) else judge(answer, request, config)
            results[number] = result
            if isinstance(result, Failure) and not isinstance(answer, Failure):
                again = AGAIN.replace("{detail}", MARKUP.sub("(a token)", result.detail))
                wrong[number] = replace(request, prompt=requests[number].prompt + again)
        asked = wrong
        if not asked:
            break
    return results


def judge(text: str, request: Request, config: DescribeConfig) -> Description | Failure:
    """The answer, or why it is not taken: `garbage`, `wrong-class`, `wrong-box`, `box-text`."""
    found = parse(text)
    if isinstance(found, Failure):
        return found
    if not is_same_class(found.object, request.category):
        return Failure("wrong-class", f"{found.object!r:.60} where the annotation says {request.category!r}")
    box = to_pixels(found.box, request.size, config)
    fit = max((box_iou(_corners(box), _corners(other)) for other in request.boxes), default=0.0) if _real(box) else 0.0
    if fit < config.min_iou:
        return Failure("wrong-box", f"{_short(found.box)} fits the object's box by IoU {fit:.2f} < {config.min_iou:g}")
    for part in (found.description, *found.relations):
        if numbers := COORDINATES.search(part):
            return Failure("box-text", f"coordinates {numbers[0]:.60} in the text")
    return found


def parse(text: str) -> Description | Failure:
    """The first JSON object in a text that is what was asked for, whatever is around it; else `garbage`."""
    wrong = f"no JSON object in {text[:80]!r}" if text.strip() else "an empty answer"
    for value in _objects(text[:LONGEST_ANSWER]):
        try:
            return Description.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            wrong = f"{where}: {first['msg'].removeprefix('Value error, ')}"
    return Failure("garbage", wrong)


def is_same_class(said: str, category: str) -> bool:
    """Whether all that a model names means the class: `a sofa` for `couch`, but not `couch/bed`."""
    bare = re.sub(r"^(a|an|the)\s+", "", said.strip().rstrip("."), flags=re.IGNORECASE)
    return set(vocabulary().read(bare).names) <= set(vocabulary().read(category).names)


def compose(found: Description, category: str, is_one: bool) -> str:
    """The text of the answer: what the sketch shows, how it looks, where it is. is_one: not about several."""
    shows = words.SHOWS[0].format(a=words.article(category), name=category)
    phrases = [BARE.sub("", relation).rstrip(" .") for relation in found.relations if relation[0].islower()]
    whole = [_sentence(relation) for relation in found.relations if not relation[0].islower()]
    if phrases:
        subject = f"{words.IT} is" if is_one else "They are"
        listed = ", ".join(phrases[:-1]) + " and " * (len(phrases) > 1) + phrases[-1]
        whole.append(f"{subject} {listed}.")
    return " ".join([shows, _sentence(found.description), *whole])


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _objects(text: str) -> Iterator[Any]:
    """Every JSON object that begins in a text, outermost, in order."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield value
        start = text.find("{", end)


def _real(box: Sequence[float]) -> bool:
    """Whether it has an area. Numbers are finite here, but may be too large to multiply."""
    return box[0] < box[2] and box[1] < box[3] and max(map(abs, box)) < 1e9


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    return x1, y1, x2, y2


def _short(box: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in box) + "]"
