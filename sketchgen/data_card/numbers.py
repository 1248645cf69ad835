"""The numbers of a data card: what the queries of instruction shards are, counted in their ledgers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_manifests.vocabulary import vocabulary
from sketchgen.data_card.table import CardPart, QueryTable, task_order
from sketchgen.output import PLAN
from sketchgen.plan import read_plan
from sketchgen.storage import Storage

SMALL, MEDIUM = 32, 96
"""Sides of a square from which COCO calls an object medium, and from which large, pixels."""
SIDE_STEP, SIDE_END = 16, 640
"""Width of a bar of the box sizes, and where the last one begins that takes all larger, pixels."""
MOST_COUNTED = 11
"""The last bar of the counts takes this many and more."""
EVEN = 0.01
"""How far the share of yes may be from a half to be called even."""
BARS = 30
"""Bars of a histogram at most."""
KIND = "regexp_extract(query_id, '^vqa-(-1|[0-9]+)-(.+)$', 2)"
"""Of a vqa query, from its id; "" for one that was not made from a template."""


@dataclass(frozen=True)
class PartNumbers:
    """How far one part came, and what kept it there."""

    name: str
    image_source: str
    weight: float
    target: int
    """Queries; 0: none was set."""
    queries: int
    samples: int
    images: int
    """Of the finished shards, with a sample or without."""
    images_planned: int
    shards: int
    """Finished."""
    shards_planned: int
    tar_bytes: int
    reasons: dict[str, tuple[int, str]]
    """Why an image, or a class of one, was not asked about: how often, and the first detail."""
    left_out: dict[str, int]
    """Rows of the source that the plan leaves out, by reason."""


@dataclass(frozen=True)
class Spread:
    """A histogram. Where nothing was counted, n is 0 and the other numbers are -1."""

    n: int
    mean: float
    median: float
    largest: int
    bars: dict[str, int]
    """How many in each; a bar is named by its value, or the first and the last of its values."""


@dataclass(frozen=True)
class BoxSizes:
    """Sides of answers' boxes (the first of each), as the root of the area in pixels of the stored photo."""

    n: int
    small: int
    """Area below SMALL squared."""
    medium: int
    large: int
    """Area of MEDIUM squared and more."""
    median: float
    """-1 where there is none."""
    bars: tuple[int, ...]
    """SIDE_STEP pixels each; the last takes all from SIDE_END."""


@dataclass(frozen=True)
class Balance:
    """Yes and no among the answers of a question."""

    yes: int
    no: int
    share: float
    """Of yes, in [0, 1]; -1 where nothing was asked."""
    is_even: bool
    """Whether that is within EVEN of a half."""


@dataclass(frozen=True)
class Counting:
    """How often each number 0, 1, ..., MOST_COUNTED and more is the answer, beside how often an image of the plan
    holds so many of a class that it shows."""

    asked: tuple[int, ...]
    source: tuple[int, ...]
    """Pairs of image and class, all planned ones."""
    source_asked: tuple[int, ...]
    """The same, of the classes that queries are about."""
    distance: float
    """Between `asked` and `source_asked` from 1 on: half the sum of the differences of their shares, in [0, 1]; -1
    where one of them is empty."""


@dataclass(frozen=True)
class QueryNumbers:
    """All of them. Counts are in queries where nothing else is said."""

    queries: int
    samples: int
    images: int
    """Distinct, with a query."""
    sketches: int
    """Distinct drawings."""
    sketches_shown: int
    """Rows of strips that are asked about."""
    parts: tuple[PartNumbers, ...]
    tasks: dict[str, dict[str, int]]
    """By task and sketch source, "" for those without a sketch."""
    answers: dict[str, dict[str, int]]
    """By task and answer source."""
    fallbacks: dict[str, int]
    image_sources: dict[str, tuple[int, int, int]]
    """(queries, distinct images, distinct classes)."""
    classes: dict[str, int]
    words: dict[str, Spread]
    """Words an answer, of the tasks whose answers are stored as text."""
    boxes: Spread
    """Boxes an answer, of those that have one."""
    box_sizes: BoxSizes
    counting: Counting
    balance: dict[str, Balance]
    """Of `sbir`, `vqa-presence` and `vqa-ordinary`: yes and no."""
    kinds: dict[str, int]
    """Of `vqa`."""
    queries_an_image: Spread


def count_all(table: QueryTable, parts: Sequence[CardPart]) -> QueryNumbers:
    """Count what the table holds; plans are read as well, shards never. parts: those of the table."""
    ((queries, images, sketches, shown),) = table.ask(
        """SELECT count(*), count(DISTINCT (image_source, image_id)),
                  count(DISTINCT (sketch_source, sketch_id)) FILTER (WHERE "row" >= 0),
                  count(DISTINCT (part, key, "row")) FILTER (WHERE "row" >= 0)
           FROM queries"""
    )
    numbers = tuple(_part(table, part) for part in parts)
    an_image = "SELECT count(*) AS value FROM queries GROUP BY image_source, image_id"
    return QueryNumbers(
        queries=queries,
        samples=sum(part.samples for part in numbers),
        images=images,
        sketches=sketches,
        sketches_shown=shown,
        parts=numbers,
        tasks=_crossed(table, "sketch_source"),
        answers=_crossed(table, "answer_source"),
        fallbacks=table.counts("fallback", "fallback <> ''"),
        image_sources=_image_sources(table),
        classes=table.counts("category", "category <> ''"),
        words=_words(table),
        boxes=spread(table.counts("boxes", "boxes > 0")),
        box_sizes=_box_sizes(table),
        counting=_counting(table, parts),
        balance=_balances(table),
        kinds=table.counts(KIND, "task = 'vqa'"),
        queries_an_image=spread(dict(table.ask(f"SELECT value, count(*) FROM ({an_image}) GROUP BY value"))),
    )


def spread(counts: Mapping[int, int]) -> Spread:
    """The histogram of whole numbers, 0 and up. counts: how often each occurs."""
    total = sum(counts.values())
    if not total:
        return Spread(0, -1.0, -1.0, -1, {})
    first, last = min(counts), max(counts)
    step = next(step for step in _steps() if last // step - first // step < BARS)
    bars: Counter[int] = Counter()
    for value, n in counts.items():
        bars[value // step] += n
    named = {
        str(bar) if step == 1 else f"{bar * step}–{bar * step + step - 1}": bars[bar]
        for bar in range(first // step, last // step + 1)
    }
    mean = sum(value * n for value, n in counts.items()) / total
    return Spread(total, round(mean, 3), _median(counts, total), last, named)


def balance(yes: int, no: int) -> Balance:
    """The share of yes, and whether it is even."""
    share = yes / (yes + no) if yes + no else -1.0
    return Balance(yes, no, round(share, 6), abs(2 * yes - (yes + no)) <= 2 * EVEN * (yes + no) > 0)


def shortfall(part: PartNumbers) -> str:
    """Why a part holds fewer queries than were wanted, in one line; "" where it does not."""
    if part.queries >= part.target:
        return ""
    waiting = part.shards_planned - part.shards
    said = [
        f"{waiting:,} of {part.shards_planned:,} shards are not finished"
        if waiting
        else f"each of the {part.images_planned:,} images of its plan was looked at"
    ]
    if silent := part.images - part.samples:
        reasons = ", ".join(f"{reason} {n:,}" for reason, (n, _) in list(part.reasons.items())[:3])
        said.append(f"{silent:,} of {part.images:,} gave no query ({reasons})")
    if part.samples:
        said.append(f"those asked about gave {part.queries / part.samples:.1f} each")
    return f"{part.target - part.queries:,} queries short of {part.target:,}: {'; '.join(said)}"


def class_counts(storage: Storage, source: str, among: Collection[str]) -> tuple[Counter[int], Counter[int]]:
    """How often an image of the plan holds 1, 2, ... planned instances of a class: of any class, and of those among.

    source: whose class names they are; among: our names.
    """
    every, some = Counter[int](), Counter[int]()
    leaves = [f"instances.list.element.{name}" for name in ("category", "reason")]
    with storage.open(PLAN) as file:
        plan = pq.ParquetFile(file)
        for group in range(plan.num_row_groups):  # an image lies in one of them, whole
            lists = plan.read_row_group(group, columns=leaves)["instances"].combine_chunks()
            rows = pc.list_flatten(lists)
            found = pa.table({"image": pc.list_parent_indices(lists), "name": rows.field("category")})
            found = found.filter(pc.equal(rows.field("reason"), ""))
            found = found.set_column(1, "name", _ours(found["name"].combine_chunks(), source))
            found = found.group_by(["image", "name"]).aggregate([([], "count_all")])
            _tally(every, found)
            _tally(some, found.filter(pc.is_in(found["name"], pa.array(sorted(among), pa.string()))))
    return every, some


def _part(table: QueryTable, part: CardPart) -> PartNumbers:
    plan, records = read_plan(part.storage), table.records[part.name].values()
    ((queries,),) = table.ask("SELECT count(*) FROM queries WHERE part = ?", [part.name])
    reasons = table.ask(
        """SELECT reason, count(*) AS n, first(detail ORDER BY rowid) FROM rows
           WHERE part = ? AND status <> 'written' GROUP BY reason ORDER BY n DESC, reason""",
        [part.name],
    )
    return PartNumbers(
        name=part.name,
        image_source=part.image_source,
        weight=part.weight,
        target=part.target,
        queries=queries,
        samples=sum(record.samples for record in records),
        images=sum(record.images for record in records),
        images_planned=plan.images,
        shards=len(records),
        shards_planned=plan.shards,
        tar_bytes=sum(record.tar_bytes for record in records),
        reasons={reason: (n, detail) for reason, n, detail in reasons},
        left_out=dict(sorted(plan.left_out.items(), key=lambda pair: (-pair[1], pair[0]))),
    )


def _crossed(table: QueryTable, column: str) -> dict[str, dict[str, int]]:
    """Queries by task, then by the column."""
    crossed: dict[str, dict[str, int]] = {}
    for task, value, n in table.ask(f"SELECT task, {column}, count(*) FROM queries GROUP BY ALL ORDER BY ALL"):
        crossed.setdefault(task, {})[value] = n
    return {task: crossed[task] for task in sorted(crossed, key=task_order)}


def _words(table: QueryTable) -> dict[str, Spread]:
    counts: dict[str, dict[int, int]] = {}
    for task, words, n in table.ask("SELECT task, words, count(*) FROM queries WHERE words > 0 GROUP BY ALL"):
        counts.setdefault(task, {})[words] = n
    return {task: spread(counts[task]) for task in sorted(counts, key=task_order)}


def _image_sources(table: QueryTable) -> dict[str, tuple[int, int, int]]:
    sql = """SELECT image_source, count(*) AS n, count(DISTINCT image_id), count(DISTINCT nullif(category, ''))
             FROM queries GROUP BY image_source ORDER BY n DESC, image_source"""
    return {source: (queries, images, classes) for source, queries, images, classes in table.ask(sql)}


def _box_sizes(table: QueryTable) -> BoxSizes:
    sides = f"least(floor(sqrt(box_area) / {SIDE_STEP}), {SIDE_END // SIDE_STEP})::INT"
    bars = table.counts(sides, "boxes > 0")
    ((n, small, large, median),) = table.ask(
        f"""SELECT count(*), count(*) FILTER (WHERE box_area < {SMALL**2}),
                   count(*) FILTER (WHERE box_area >= {MEDIUM**2}), coalesce(median(sqrt(box_area)), -1)
            FROM queries WHERE boxes > 0"""
    )
    found = tuple(bars.get(number, 0) for number in range(SIDE_END // SIDE_STEP + 1))
    return BoxSizes(n, small, n - small - large, large, round(median, 1), found)


def _counting(table: QueryTable, parts: Sequence[CardPart]) -> Counting:
    asked = _binned(table.counts('"count"', "task = 'count'"))
    every, some = Counter[int](), Counter[int]()
    for part in parts:
        among = {name for (name,) in table.ask("SELECT DISTINCT category FROM queries WHERE part = ?", [part.name])}
        of_all, of_some = class_counts(part.storage, part.image_source, among)
        every.update(of_all)
        some.update(of_some)
    source_asked = _binned(some)
    return Counting(asked, _binned(every), source_asked, distance(asked[1:], source_asked[1:]))


def distance(one: Sequence[int], other: Sequence[int]) -> float:
    """Half the sum of the differences of two histograms' shares, in [0, 1]: 0 for the same shape; -1 for an empty."""
    n, m = sum(one), sum(other)
    if not n or not m:
        return -1.0
    return round(sum(abs(a / n - b / m) for a, b in zip(one, other, strict=True)) / 2, 4)


def _binned(counts: Mapping[int, int]) -> tuple[int, ...]:
    """How often 0, 1, ..., and MOST_COUNTED and more."""
    bins = [0] * (MOST_COUNTED + 1)
    for value, n in counts.items():
        bins[min(value, MOST_COUNTED)] += n
    return tuple(bins)


def _balances(table: QueryTable) -> dict[str, Balance]:
    """Of retrieval, of the questions whether an object is there, and of all others that are answered so."""
    among = {
        "sbir": "task = 'sbir'",
        "vqa-presence": f"task = 'vqa' AND {KIND} = 'presence'",
        "vqa-ordinary": "task = 'vqa' AND \"row\" < 0",
    }
    found = {name: table.counts('"match"', f'"match" >= 0 AND {where}') for name, where in among.items()}
    return {name: balance(matches.get(1, 0), matches.get(0, 0)) for name, matches in found.items()}


def _ours(names: pa.Array, source: str) -> pa.Array:
    """Names of classes as the vocabulary reads them."""
    coded = names.dictionary_encode()
    return pa.array([vocabulary().read(name, source).name for name in coded.dictionary.to_pylist()], pa.string()).take(
        coded.indices
    )


def _tally(counts: Counter[int], found: pa.Table) -> None:
    for entry in pc.value_counts(found["count_all"]).to_pylist():
        counts[entry["values"]] += entry["counts"]


def _steps() -> Iterable[int]:
    """1, 2, 5, 10, 20, ..."""
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


def _median(counts: Mapping[int, int], total: int) -> float:
    """The middle value, or the mean of the two."""
    passed = 0
    lower = -1
    for value in sorted(counts):
        passed += counts[value]
        if lower < 0 and 2 * passed >= total:
            lower = value
        if 2 * passed > total:
            return (lower + value) / 2
    raise AssertionError(f"no middle of {total} values")
