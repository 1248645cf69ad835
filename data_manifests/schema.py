"""The shapes that everything else agrees on: the shard contract, source manifests and mixtures.

The shard contract is what sketchgen writes and sketchlm reads; neither imports the other. A sample is
one image and everything asked about it, three files of a tar:

    {key}.jpg           the photo
    {key}.sketches.png  its sketches, grayscale, stacked top to bottom, each STRIP_SIDE x STRIP_SIDE
    {key}.json          a `Sample`

No field is ever null or missing: unknown is a typed sentinel (-1, "", size [0, 0]), so that readers
which infer types from the first samples stay right. Field names are an interface.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Manifest = TypeVar("Manifest", bound=BaseModel)

SCHEMA_VERSION: Final = 1
STRIP_SIDE = 256
"""Side of one sketch in the strip, pixels."""
MAX_ROWS = 32
"""Sketches a sample at most; an image with more objects becomes several samples."""

MIXTURE: Final = "mixture.yaml"
"""The manifest in a folder that is a mixture: its parts lie beside it."""

Box = Annotated[list[float], Field(min_length=4, max_length=4)]
"""Absolute xyxy pixels of the stored image."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


class Image(_Record):
    """The photo as stored (width and height in pixels)."""

    source: str
    id: str
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    license: str


class Rle(_Record):
    """Compressed COCO RLE; size is [height, width], [0, 0] with counts "" where no mask is known."""

    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    counts: str


class Object(_Record):
    """One annotated object of the image, with or without a sketch.

    status: `written` (it has a sketch), `rejected` (a check refused it), `dropped` (the plan left it
    out), `crowd` (the box holds many, or no plain object but a picture of one, or where in it is not known: leave its
    class out of counts).
    """

    object_id: str
    category: str
    box: Box
    mask: Rle
    status: Literal["written", "rejected", "dropped", "crowd"]


class Sketch(_Record):
    """One row of the strip. `object_id` is "" where the drawing shows no object of this image."""

    row: Annotated[int, Field(ge=0, lt=MAX_ROWS)]
    sketch_id: str
    category: str
    source: str
    style: str
    object_id: str
    generator: str


class Query(_Record):
    """One question. `row` -1: no sketch; `count` -1 and `match` -1: not asked.

    `question`: of `vqa`; of `sbir` where something else is asked than whether the sketched object is in the image.
    """

    query_id: str
    task: Literal["describe", "bbox", "count", "vqa", "sbir"]
    row: Annotated[int, Field(ge=-1, lt=MAX_ROWS)]
    category: str
    boxes: list[Box]
    count: Annotated[int, Field(ge=-1)]
    question: str
    answers: Annotated[list[str], Field(min_length=1)]
    match: Literal[-1, 0, 1]
    answer_source: str


class Sample(_Record):
    """What `{key}.json` holds."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    image: Image
    objects: list[Object]
    sketches: list[Sketch]
    queries: list[Query]

    @model_validator(mode="after")
    def _agree(self) -> Sample:
        size = (self.image.width, self.image.height)
        ids = [o.object_id for o in self.objects]
        if len(ids) != len(set(ids)):
            raise ValueError("two objects share an object_id")
        for where, box in [(f"object {o.object_id!r}", o.box) for o in self.objects] + [
            (f"query {q.query_id!r}", b) for q in self.queries for b in q.boxes
        ]:
            _check_box(where, box, size)
        for o in self.objects:
            if o.mask.size != [0, 0] and o.mask.size != [size[1], size[0]]:
                raise ValueError(f"mask of {o.object_id!r} has size {o.mask.size}, image is {size} (w, h)")
        if [s.row for s in self.sketches] != list(range(len(self.sketches))):
            raise ValueError(f"sketch rows are {[s.row for s in self.sketches]}, must be 0, 1, 2, ...")
        for s in self.sketches:
            if s.object_id and s.object_id not in ids:
                raise ValueError(f"sketch {s.sketch_id!r} shows object {s.object_id!r}, which is not listed")
        for q in self.queries:
            if q.row >= len(self.sketches):
                raise ValueError(f"query {q.query_id!r} asks row {q.row} of {len(self.sketches)} sketches")
            _check_task(q)
        return self


def _check_box(where: str, box: list[float], size: tuple[int, int]) -> None:
    x1, y1, x2, y2 = box
    if not (0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]):
        raise ValueError(f"box {box} of {where} is not inside the image {size} (w, h) as x1 < x2, y1 < y2")


def _check_task(query: Query) -> None:
    lacks = {
        "describe": not any(query.answers) and not query.boxes,
        "bbox": not query.boxes,
        "count": query.count < 0,
        "vqa": not query.question or not query.answers[0],
        "sbir": query.match < 0,
    }
    if lacks[query.task]:
        raise ValueError(f"{query.task} query {query.query_id!r} has no answer: {query.model_dump()}")


def validate(sample: dict[str, Any] | str | bytes, strip_height: int = -1) -> Sample:
    """Check one sample against the contract and return it typed.

    sample: the decoded json, or its text. strip_height: height of `{key}.sketches.png` in pixels, when
    it is at hand (a strip holds at least one row, blank where the sample has no sketch).
    Raises ValueError that names the field, the value seen, and what it must be.
    """
    try:
        text = sample if isinstance(sample, str | bytes) else json.dumps(sample, allow_nan=True)
        checked = Sample.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"shard contract: {_first(error, 'sample')}") from None
    except TypeError as error:
        raise ValueError(f"shard contract: not JSON: {error}") from None
    expected = STRIP_SIDE * max(1, len(checked.sketches))
    if strip_height not in (-1, expected):
        raise ValueError(
            f"shard contract: strip is {strip_height} px high, {len(checked.sketches)} sketches need {expected}"
        )
    return checked


def _first(error: ValidationError, whole: str) -> str:
    """The first thing that is wrong, in one line; whole: what the record is called."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or whole
    seen = "" if isinstance(first["input"], dict | list) else f" (seen: {first['input']!r:.200})"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}{seen}"


class Completion(_Record):
    """`NNNNNN.json`, written last: a shard without it is not done."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    shard: Annotated[int, Field(ge=0)]
    images: Annotated[int, Field(ge=0)]
    samples: Annotated[int, Field(ge=0)]
    written: Annotated[int, Field(ge=0)]
    rejected: Annotated[int, Field(ge=0)]
    tar_bytes: Annotated[int, Field(ge=0)]
    tar_sha256: str
    ledger_sha256: str
    fingerprint: str
    """Of the settings that decide the bytes (see sketchgen.output)."""


class Split(_Record):
    """Where one part of a dataset lies, below the user's folder (packaged sources: beside the manifest).

    Of several names the first that is there counts: mirrors differ.
    """

    annotations: Annotated[list[str], Field(min_length=1)]
    classes: list[str] = []
    """Names of the classes, where the annotations hold ids only."""
    answers: list[str] = []
    """Answers, where the annotations hold questions only."""
    images: list[str] = []
    """Folder of the images."""
    expected: dict[str, int] = {}
    """What the whole split holds: images, instances, categories, queries."""


class Source(_Record):
    """Manifest of a public dataset: what it is, how it is read, how to get it."""

    name: str
    title: str
    description: str
    kind: Literal["coco", "objects365", "openimages", "pixmo_count", "vqav2", "sketchy"]
    """Which reader takes its annotation files."""
    knows: Literal["boxes", "classes", "counts", "questions"] = "boxes"
    """What it says of an image: its objects with their boxes; or only of which class it is; how many there are of a
    class; or what to ask and the answers. Decides which tasks it can be asked for, and only boxes can be sketched."""
    packaged: bool = False
    """Whether each image names the installed package that it lies in."""
    splits: Annotated[dict[str, Split], Field(min_length=1)]
    license: str
    homepage: str
    obtain: str = ""
    """How to get the data, for a person."""


class Bank(_Record):
    """Manifest of a set of drawings: what it is, where its files lie, how to get it."""

    name: str
    title: str
    description: str
    layout: str
    """Of the folder that a user names."""
    license: str
    homepage: str
    obtain: str
    """How to get the drawings, for a person."""
    evaluation_only: bool = False
    """Whether they measure an unseen style: no training set may hold them."""
    unseen: dict[str, list[str]] = {}
    """Classes that a zero-shot protocol keeps out of training, by the protocol's name."""


class Part(_Record):
    """One part of a mixture: its shards, its share, and, where they are to be made, of what."""

    shards: str
    """Folder: a path or URL; of shards that are to be made, below that of the mixture."""
    weight: Annotated[float, Field(gt=0, le=1)]
    source: str = ""
    """Photos: the name of a source; "" for shards that are there."""
    split: Literal["train", "val"] = "train"
    images: Annotated[int, Field(ge=0)] = 0
    """Photos that are drawn from the source; 0 = all."""
    images_per_shard: Annotated[int, Field(ge=1)] = 250
    tasks: list[Literal["describe", "bbox", "count", "vqa", "sbir"]] = []
    ask: dict[str, int | float | list[str]] = {}
    """How they are asked: fields of sketchgen's TasksConfig that differ from its defaults."""
    world: dict[str, int | float | list[float]] = {}
    """Of shapeworld: fields of its WorldConfig that differ from the defaults."""
    banks: dict[str, Annotated[float, Field(gt=0, le=1)]] = {}
    """Drawings: the share of each bank, of classes that all have; sketchvcl-NAME is a bank of kind sketchvcl."""

    @model_validator(mode="after")
    def _sum(self) -> Part:
        if self.banks:
            _check_sum(self.banks.values(), f"banks of {self.shards!r}")
        if self.source and not self.tasks:
            raise ValueError(f"part {self.shards!r} has a source and no tasks")
        if self.source and (
            self.shards.startswith(("/", "~")) or "://" in self.shards or ".." in self.shards.split("/")
        ):
            raise ValueError(f"shards {self.shards!r} are to be made: name a folder below that of the mixture")
        return self


class Mixture(_Record):
    """Shards and the share of each in training; weights sum to one."""

    name: str
    title: str = ""
    description: str = ""
    size: Annotated[int, Field(ge=0)] = 0
    """Queries of all parts together, where they are to be made; 0 = all that there are."""
    parts: Annotated[list[Part], Field(min_length=1)]

    @model_validator(mode="after")
    def _sum(self) -> Mixture:
        _check_sum((part.weight for part in self.parts), f"weights of mixture {self.name!r}")
        names = [part.shards for part in self.parts]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"mixture {self.name!r} has two parts {twice[0]!r}")
        return self


Measured = Literal["bbox", "boxes", "count", "vqa", "sbir", "retrieval", "describe"]
"""What a protocol measures: tasks of queries, where `bbox` is answered with one box and `sbir` with yes or no of one
image, and two that need more than a query: `boxes`, every instance of a class, and `retrieval`, a gallery ranked."""
Condition = Literal["asked", "shuffled", "blank", "text"]
"""`asked`: as a protocol has it. Controls: `shuffled`: with the sketch of another question; `blank`: with a white page;
`text`: without a sketch, its class named in words."""


class SketchesAsked(_Record):
    """The sketches of one source in a protocol."""

    queries: Annotated[int, Field(ge=0)] = 0
    """Questions that are asked with them; 0 = all that can be."""
    unseen: bool = False
    """Whether this way of drawing was never trained on."""


class Published(_Record):
    """What others reached, as they published it: a grey row of a table."""

    model: str
    origin: str
    """Where it is published."""
    values: dict[str, list[float]]
    """By the name of the sketches: in the order of the protocol's `measures`, shares from 0 to 1."""


class Protocol(_Record):
    """How one skill is measured: photos, sketches, how many questions, and what others reached."""

    name: str
    title: str
    description: str
    tasks: Annotated[
        list[Literal["bbox", "boxes", "count", "vqa", "sbir", "retrieval", "describe"]], Field(min_length=1)
    ]
    """`boxes`: every instance of a class; `retrieval`: a gallery of all photos ranked for each sketch."""
    source: str
    """Photos: the name of a source."""
    split: Literal["train", "val"] = "val"
    images: Annotated[int, Field(ge=0)] = 0
    """Photos that are drawn from the source; 0 = all."""
    ask: dict[str, int | float | list[str]] = {}
    """How they are asked: fields of sketchgen's TasksConfig that differ from its defaults."""
    world: dict[str, int | float | list[float]] = {}
    """Of shapeworld: fields of its WorldConfig that differ from the defaults."""
    made: bool = False
    """Whether the sketches are those that `make sketches` made of the very objects in the photos (of sketchvcl-NAME,
    laid out as it writes them): an answer is then also compared with the sketch's own object."""
    only: str = ""
    """Only classes that this zero-shot protocol of sketchy keeps out of training (shen-25, yelamarthi-21)."""
    without: str = ""
    """All classes but those."""
    sketches: Annotated[dict[str, SketchesAsked], Field(min_length=1)]
    """By bank (sketchvcl-NAME is a bank of kind sketchvcl, shapeworld-STYLE draws in one style); `none` = without."""
    rankings: Annotated[int, Field(ge=0)] = 0
    """Sketches that a gallery is ranked for, where they are fewer than the questions of other tasks; 0 = as many."""
    gallery: Annotated[int, Field(ge=0)] = 0
    """Images of a gallery at most; 0 = all."""
    conditions: Annotated[list[Condition], Field(min_length=1)] = ["asked"]
    """As the protocol has it, and controls."""
    measures: list[str] = []
    """Figures that the published rows give, by their names in sketchlm.metrics."""
    published: list[Published] = []

    @model_validator(mode="after")
    def _agree(self) -> Protocol:
        for row in self.published:
            for name, values in row.values.items():
                if name not in self.sketches or len(values) != len(self.measures):
                    raise ValueError(
                        f"published {row.model!r}, {name!r}: {len(values)} values for {len(self.measures)} measures of "
                        f"{', '.join(self.sketches)}"
                    )
        return self


def _check_sum(weights: Iterable[float], what: str) -> None:
    total = sum(weights)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"{what} sum to {total:.6f}, must be 1")


def load_manifest(path: Path, kind: type[Manifest]) -> Manifest:
    """Read a YAML manifest as `kind` (Source, Bank, Mixture or Protocol); ValueError names the file and the field."""
    try:
        return kind.model_validate(yaml.load(path.read_text(), yaml.CSafeLoader))  # safe_load, six times as fast
    except ValidationError as error:
        raise ValueError(f"{path}: {_first(error, kind.__name__.lower())}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None


def bank_manifest(name: str) -> Bank:
    """The manifest of a bank that comes with the package. Raises ValueError for a name that there is not."""
    return load_manifest(_packaged("banks", name), Bank)


def mixture_manifest(name: str) -> Mixture:
    """The mixture of this name that comes with the package. Raises ValueError for a name that there is not."""
    return load_manifest(_packaged("mixtures", name), Mixture)


def protocol_manifest(name: str) -> Protocol:
    """The protocol of this name that comes with the package. Raises ValueError for a name that there is not."""
    return load_manifest(_packaged("protocols", name), Protocol)


def source_manifest(name: str) -> tuple[Source, Path]:
    """The manifest of a source that comes with the package, and the file it was read from. ValueError as the others."""
    path = _packaged("sources", name)
    return load_manifest(path, Source), path


def _packaged(kind: str, name: str) -> Path:
    path = Path(__file__).parent / kind / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in path.parent.glob("*.yaml"))
        raise ValueError(f"no {kind.removesuffix('s')} is called {name!r}; known are {known}")
    return path
