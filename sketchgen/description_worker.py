"""The worker of described shards: the shard of questions, with a model's text where there was a template's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data_manifests.schema import Query
from sketchgen.captioner import Captioner, Failure, Request
from sketchgen.description import DescribeConfig, Description, ask, compose, first_request, refine_request
from sketchgen.finished import FinishedShard, StoredSample, read_finished
from sketchgen.ledger import QueryRow
from sketchgen.seed import seed_of
from sketchgen.shard import shard_writer
from sketchgen.storage import Storage
from sketchgen.tasks.query import TEMPLATE
from sketchgen.tasks.words import OPEN_QUESTIONS
from sketchgen.worker import Clock, Progress, ShardTask

REFINER = "refiner-"
"""What the reason begins with where the refiner's answer was not taken, and the captioner's was."""


@dataclass(frozen=True)
class Role:
    """A model, and what the shards call it."""

    model: Captioner
    name: str


@dataclass(frozen=True)
class Told:
    """What became of one question. text: of the answer; source, fallback, detail: see `QueryRow`."""

    text: str
    source: str
    fallback: str = ""
    detail: str = ""


class DescriptionWorker:
    """Calling it with a task makes that shard and yields `Progress` as it goes."""

    def __init__(
        self,
        source: Storage,
        storage: Storage,
        captioner: Role,
        refiner: Role | None,
        config: DescribeConfig,
        samples_per_batch: int,
        mark: str,
    ) -> None:
        """source: folder of the shards of questions; storage: of the output; mark: the settings' fingerprint."""
        self._source = source
        self._storage = storage
        self._captioner = captioner
        self._refiner = refiner
        self._config = config
        self._size = samples_per_batch
        self._mark = mark

    def __call__(self, task: ShardTask) -> Iterator[Progress]:
        clock = Clock()
        self._check()
        with clock("read"):
            shard = read_finished(self._source, task.shard)
        rows = _rows_by_query(shard)
        told: list[Told] = []
        asked_too: list[QueryRow] = []
        with shard_writer(self._storage, task.shard, self._mark, QueryRow) as writer:
            for start in range(0, len(shard.samples), self._size):
                group = shard.samples[start : start + self._size]
                answers = self._describe(group, clock)
                with clock("write"):
                    for sample in group:
                        more = _open_questions(sample, answers) if self._config.also_vqa else []
                        writer.copy(sample.key, sample.jpeg, sample.strip, _record(sample, answers, more))
                        asked_too += [_row_of(rows[sample.key, origin], query) for origin, query in more]
                for place, answer in answers.items():
                    _note(rows[place], answer)
                told += answers.values()
                yield _progress(task.shard, writer.samples, told, clock, done=False)
            self._check()  # a shard whose last requests failed is not done unless the models are there
            writer.images, writer.rows = shard.record.images, [*shard.rows, *asked_too]
        yield _progress(task.shard, writer.images, told, clock, done=True)

    def _check(self) -> None:
        for role in filter(None, (self._captioner, self._refiner)):
            role.model.check()

    def _describe(self, group: Sequence[StoredSample], clock: Clock) -> dict[tuple[str, str], Told]:
        """What is told, by key and query_id, of each question that wants a description."""
        asked = [(sample, query) for sample in group for query in sample.record.queries if _is_open(query)]
        with clock("read"):
            requests = [first_request(sample.record, query, sample.jpeg, self._config) for sample, query in asked]
        with clock("caption"):
            found = ask(self._captioner.model, requests, self._config)
        with clock("refine"):
            refined = self._refine(requests, found)
        return {
            (sample.key, query.query_id): self._told(query, *pair)
            for (sample, query), pair in zip(asked, zip(found, refined, strict=True), strict=True)
        }

    def _refine(
        self, requests: Sequence[Request], found: Sequence[Description | Failure]
    ) -> list[Description | Failure | None]:
        """The refined descriptions, None where there is nothing to refine or nobody to do it."""
        refined: list[Description | Failure | None] = [None] * len(found)
        if self._refiner is not None:
            good = {number: answer for number, answer in enumerate(found) if isinstance(answer, Description)}
            again = [refine_request(requests[number], answer, self._config) for number, answer in good.items()]
            for number, answer in zip(good, ask(self._refiner.model, again, self._config), strict=True):
                refined[number] = answer
        return refined

    def _told(self, query: Query, found: Description | Failure, refined: Description | Failure | None) -> Told:
        if isinstance(found, Failure):
            return Told(query.answers[0], TEMPLATE, found.reason, found.detail)
        name, is_one = self._captioner.name, len(query.boxes) == 1
        if isinstance(refined, Description):
            assert self._refiner is not None
            return Told(compose(refined, query.category, is_one), f"{name} + {self._refiner.name}")
        text = compose(found, query.category, is_one)
        if isinstance(refined, Failure):
            return Told(text, name, REFINER + refined.reason, refined.detail)
        return Told(text, name)


def _is_open(query: Query) -> bool:
    return query.task == "describe" and query.answer_source == TEMPLATE and bool(query.boxes)


def _rows_by_query(shard: FinishedShard) -> dict[tuple[str, str], QueryRow]:
    """Rows of the ledger by key and query_id. Raises ValueError where a question has none."""
    rows = {(row.key, row.query_id): row for row in shard.rows}
    for sample in shard.samples:
        for query in sample.record.queries:
            if (sample.key, query.query_id) not in rows:
                raise ValueError(
                    f"shard {shard.record.shard:06d}: its ledger lacks query {query.query_id} of sample {sample.key}; "
                    "remove its .json and run `make instructions` again"
                )
    return rows


def _open_questions(sample: StoredSample, answers: dict[tuple[str, str], Told]) -> list[tuple[str, Query]]:
    """The open question about each sketch that a model described, with the id of the query that it told of."""
    more = []
    for query in sample.record.queries:
        told = answers.get((sample.key, query.query_id))
        if told is not None and told.source != TEMPLATE:
            asked = OPEN_QUESTIONS[seed_of("open", sample.key, query.query_id) % len(OPEN_QUESTIONS)]
            about = {"query_id": f"vqa-{query.row}-open", "task": "vqa", "boxes": [], "question": asked}
            more.append((query.query_id, query.model_copy(update=about | _answered(query, told))))
    return more


def _answered(query: Query, told: Told) -> dict[str, Any]:
    return {"answers": [told.text, *query.answers[1:]], "answer_source": told.source}


def _row_of(origin: QueryRow, query: Query) -> QueryRow:
    """The row of an open question; origin: of the query whose description answers it."""
    words, source = len(query.answers[0].split()), query.answer_source
    row = replace(origin, query_id=query.query_id, task=query.task, boxes=0, box_area=-1.0)
    return replace(row, words=words, answer_source=source)


def _record(sample: StoredSample, answers: dict[tuple[str, str], Told], more: Sequence[tuple[str, Query]]) -> bytes:
    """The json of a sample with what was told in it, and further queries."""
    queries = []
    for query in sample.record.queries:
        told = answers.get((sample.key, query.query_id))
        queries.append(query if told is None else query.model_copy(update=_answered(query, told)))
    queries += [query for _, query in more]
    return sample.record.model_copy(update={"queries": queries}).model_dump_json(by_alias=True).encode()


def _note(row: QueryRow, told: Told) -> None:
    row.answer_source, row.fallback, row.detail = told.source, told.fallback, told.detail
    row.words = len(told.text.split())


def _progress(shard: int, images: int, told: Sequence[Told], clock: Clock, done: bool) -> Progress:
    return Progress(
        shard=shard,
        images=images,
        written=sum(answer.source != TEMPLATE for answer in told),
        rejected=dict(Counter(answer.fallback for answer in told if answer.source == TEMPLATE)),
        seconds=dict(clock.seconds),
        done=done,
        elapsed=clock.elapsed,
    )
