"""The data card: its numbers are those of a plain loop over the samples, it is deterministic, its page is safe."""

from __future__ import annotations

import io
import json
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from data_manifests.schema import Image, Object, Query, Rle, Sample, Sketch
from data_manifests.vocabulary import vocabulary
from sketchgen.data_card import CardConfig, CardPart, write_data_card
from sketchgen.data_card.examples import pick_examples
from sketchgen.data_card.numbers import (
    QueryNumbers,
    balance,
    class_counts,
    count_all,
    distance,
    shortfall,
    spread,
)
from sketchgen.data_card.page import _percent
from sketchgen.data_card.table import QueryTable
from sketchgen.index import batch_of
from sketchgen.instance import Instance
from sketchgen.instruction_sample import written_row
from sketchgen.instructions import run_instructions
from sketchgen.ledger import LedgerRow, QueryRow, write_ledger
from sketchgen.output import fingerprint, write_settings
from sketchgen.plan import write_plan
from sketchgen.shard import shard_writer
from sketchgen.source import SourceImage, SourceInstance
from sketchgen.storage import Storage
from sketchgen.tasks.config import TASK_NAMES
from tests.sketchgen.test_instructions import quiet, samples, world

SETTINGS = {"made": "by a test"}
SMALL = settings(deadline=None, max_examples=40)


def wording(query: Query, sample: Sample) -> tuple[str, str]:
    return f"ask {query.query_id} of {sample.image.id}", f"answer {query.answers[0]} {query.count} {query.match}"


def write(out: Path, parts: Sequence[CardPart], target: int = 0, **fields: int) -> str:
    """The page."""
    write_data_card(Storage(str(out)), "A title", {"seed": "0"}, target, parts, wording, CardConfig(**fields))
    return (out / "card.html").read_text()


def record(out: Path) -> dict:
    return json.loads((out / "card.json").read_text())


def part(folder: Path, name: str = "part", **fields) -> CardPart:
    return CardPart(name, Storage(str(folder)), "shapeworld", **fields)


def numbers_of(*parts: CardPart) -> QueryNumbers:
    with QueryTable(parts) as table:
        return count_all(table, parts)


def begin(folder: Path, images: Sequence[SourceImage], per_shard: int = 10) -> Storage:
    """A folder with settings and a plan, and no shard."""
    storage = Storage(str(folder))
    storage.make()
    write_settings(storage, SETTINGS)
    write_plan(lambda: [batch_of(images)], per_shard, storage)
    return storage


def add_shard(storage: Storage, shard: int, rows: Sequence[QueryRow], found: Sequence[Sample] = ()) -> None:
    """A finished shard. found: its samples; their queries are put into the ledger behind the rows."""
    with shard_writer(storage, shard, fingerprint(SETTINGS), QueryRow) as writer:
        writer.rows += rows
        for sample in found:
            photo = io.BytesIO()
            Picture.new("RGB", (sample.image.width, sample.image.height), "green").save(photo, "JPEG")
            strip = [np.full((256, 256), 255, np.uint8) for _ in sample.sketches or [None]]
            key = writer.add(photo.getvalue(), strip, sample.model_dump_json(by_alias=True).encode())
            blank = QueryRow(shard, sample.image.id)
            writer.rows += [written_row(blank, query, key, sample.sketches) for query in sample.queries]
            writer.images += 1


def image(number: int, *names: str) -> SourceImage:
    rows = [SourceInstance(Instance(f"{number}-{n}", name, (0.0, 0.0, 9.0, 9.0), None)) for n, name in enumerate(names)]
    return SourceImage(str(number), f"{number}.jpg", 64, 48, "", tuple(rows))


def sample_of(name: str, *queries: Query, sketches: int = 1, image_id: str = "1") -> Sample:
    """A sample of one object of class `name`."""
    return Sample(
        schema_=1,
        image=Image(source="shapeworld", id=image_id, width=64, height=48, license=name),
        objects=[
            Object(object_id="0", category=name, box=[1, 1, 9, 9], mask=Rle(size=[0, 0], counts=""), status="written")
        ],
        sketches=[
            Sketch(row=n, sketch_id=f"s/{n}", category=name, source=name, style=name, object_id="", generator="g")
            for n in range(sketches)
        ],
        queries=list(queries),
    )


def query_of(name: str, task: str = "bbox", row: int = 0, **fields) -> Query:
    plain = {"boxes": [[2.0, 2.0, 8.0, 6.0]], "count": -1, "question": "", "answers": [""], "match": -1}
    plain |= {"query_id": f"{task}-{row}", "answer_source": "template"}
    return Query(task=task, row=row, category=name, **plain | fields)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes in three shards."""
    out = tmp_path_factory.mktemp("card") / "out"
    assert run_instructions(world(out, scenes=12), quiet()) == 0
    return out


# --- numbers


def test_the_numbers_are_those_of_a_loop_over_the_samples(made: Path) -> None:
    found = numbers_of(part(made))
    records = [record for record, _, _ in samples(made).values()]
    asked = [(record, query) for record in records for query in record.queries]
    assert found.queries == len(asked)
    assert found.samples == found.images == len(records)
    assert found.tasks == {
        task: {"shapeworld-hand": n} for task, n in Counter(query.task for _, query in asked).items()
    }
    assert list(found.tasks) == list(TASK_NAMES)
    assert found.classes == dict(Counter(query.category for _, query in asked if query.category))
    assert list(found.classes.values()) == sorted(found.classes.values(), reverse=True)
    shown = [(record.image.id, query.row) for record, query in asked]
    assert found.sketches_shown == len(set(shown))
    assert found.sketches == len({s.sketch_id for record in records for s in record.sketches})
    assert found.image_sources == {"shapeworld": (len(asked), len(records), len(found.classes))}
    said = [len(query.answers[0].split()) for _, query in asked if query.task == "describe"]
    assert {int(bar): n for bar, n in found.words["describe"].bars.items() if n} == Counter(said)
    assert found.words["describe"].mean == pytest.approx(statistics.mean(said), abs=1e-3)
    assert found.words["describe"].median == statistics.median(said)
    assert set(found.words) == {"describe", "vqa"}
    boxes = [query.boxes for _, query in asked if query.boxes]
    assert found.boxes.bars == {"1": len(boxes)}
    sides = [((b[0][2] - b[0][0]) * (b[0][3] - b[0][1])) ** 0.5 for b in boxes]
    assert (found.box_sizes.small, found.box_sizes.large) == (sum(s < 32 for s in sides), sum(s >= 96 for s in sides))
    assert found.box_sizes.bars == tuple(sum(int(min(s // 16, 40)) == n for s in sides) for n in range(41))
    assert found.box_sizes.median == pytest.approx(statistics.median(sides), abs=0.051)
    assert found.kinds == dict(Counter(query.query_id.split("-")[2] for _, query in asked if query.task == "vqa"))
    counts = Counter(query.count for _, query in asked if query.task == "count")
    assert found.counting.asked == tuple(counts.get(n, 0) for n in range(12))
    there = Counter(n for record in records for n in Counter(o.category for o in record.objects).values())
    assert found.counting.source == tuple(there.get(n, 0) for n in range(12))
    for name, answers in {
        "sbir": [query.match for _, query in asked if query.task == "sbir"],
        "vqa-presence": [
            {"yes": 1, "no": 0}[query.answers[0]] for _, query in asked if query.query_id.endswith("-presence")
        ],
    }.items():
        assert (found.balance[name].yes, found.balance[name].no) == (answers.count(1), answers.count(0))
    assert found.queries_an_image.mean == pytest.approx(len(asked) / len(records), abs=1e-3)
    assert found.queries_an_image.largest == max(len(record.queries) for record in records)


SLUGS = st.sampled_from(["", "a", "b"])
ROWS = st.lists(
    st.builds(
        QueryRow,
        shard=st.just(0),
        image_id=st.sampled_from(["i", "j", "k"]),
        query_id=st.sampled_from(["vqa-0-presence", "vqa-1-place", "vqa-ours", "vqa--1-number", "x"]),
        task=st.sampled_from(TASK_NAMES),
        category=st.text(max_size=3),
        key=SLUGS,
        row=st.integers(-1, 2),
        sketch_id=SLUGS,
        sketch_source=SLUGS,
        count=st.integers(-1, 40),
        match=st.integers(-1, 1),
        boxes=st.integers(-1, 3),
        box_area=st.sampled_from([1023.9, 1024.0, 9215.9, 9216.0]) | st.floats(0.1, 1e7),
        words=st.integers(-1, 300),
        answer_source=SLUGS,
        fallback=SLUGS,
        status=st.sampled_from(["written", "rejected"]),
        reason=SLUGS,
        detail=SLUGS,
    ).map(lambda row: replace(row, count=max(row.count, 0) if row.task == "count" else row.count)),
    max_size=25,
)


@SMALL
@given(one=ROWS, other=ROWS)
def test_any_rows_are_counted_as_a_loop_counts_them(tmp_path_factory, one, other) -> None:
    folders = [tmp_path_factory.mktemp("any") for _ in range(2)]
    for folder, rows in zip(folders, (one, other), strict=True):
        add_shard(begin(folder, [image(1, "dog")]), 0, rows)
    found = numbers_of(*(part(folder, str(n)) for n, folder in enumerate(folders)))
    both = [(n, row) for n, rows in enumerate((one, other)) for row in rows if row.status == "written"]
    rows = [row for _, row in both]
    assert found.queries == len(rows)
    assert found.classes == dict(Counter(row.category for row in rows if row.category))
    assert {(t, s): n for t, by in found.tasks.items() for s, n in by.items()} == Counter(
        (row.task, row.sketch_source) for row in rows
    )
    assert {(t, s): n for t, by in found.answers.items() for s, n in by.items()} == Counter(
        (row.task, row.answer_source) for row in rows
    )
    assert found.fallbacks == dict(Counter(row.fallback for row in rows if row.fallback))
    assert found.images == len({row.image_id for row in rows})
    assert found.sketches == len({(row.sketch_source, row.sketch_id) for row in rows if row.row >= 0})
    assert found.sketches_shown == len({(n, row.key, row.row) for n, row in both if row.row >= 0})
    assert {task: words.n for task, words in found.words.items()} == Counter(row.task for row in rows if row.words > 0)
    areas = [row.box_area for row in rows if row.boxes > 0]
    assert found.box_sizes.n == found.boxes.n == len(areas) == sum(found.box_sizes.bars)
    assert found.box_sizes.small == sum(area < 1024 for area in areas)
    assert found.box_sizes.medium == sum(1024 <= area < 9216 for area in areas)
    kinds = [re.fullmatch(r"vqa-(?:-1|\d+)-(.+)", row.query_id) for row in rows if row.task == "vqa"]
    assert found.kinds == dict(Counter(kind[1] if kind else "" for kind in kinds))
    asked = [row.count for row in rows if row.task == "count"]
    assert found.counting.asked == tuple(
        sum(number == n or (n == 11 and number > 11) for number in asked) for n in range(12)
    )
    for name, mine in {
        "sbir": [row for row in rows if row.task == "sbir"],
        "vqa-presence": [row for row in rows if row.task == "vqa" and row.query_id.endswith("presence")],
        "vqa-ordinary": [row for row in rows if row.task == "vqa" and row.row < 0],
    }.items():
        answers = [row.match for row in mine]
        assert (found.balance[name].yes, found.balance[name].no) == (answers.count(1), answers.count(0))
    for n, rows_of in enumerate((one, other)):
        refused = [row for row in rows_of if row.status != "written"]
        assert {reason: n for reason, (n, _) in found.parts[n].reasons.items()} == Counter(r.reason for r in refused)
        for reason, (_, detail) in found.parts[n].reasons.items():
            assert detail == next(row.detail for row in refused if row.reason == reason)


def test_sizes_of_boxes_end_where_those_of_coco_do(tmp_path: Path) -> None:
    rows = [
        QueryRow(0, "1", boxes=1, box_area=area, status="written") for area in (9.0, 1023.9, 1024, 9215.9, 9216, 1e9)
    ]
    add_shard(begin(tmp_path / "s", [image(1, "dog")]), 0, [*rows, QueryRow(0, "1", boxes=0, status="written")])
    found = numbers_of(part(tmp_path / "s")).box_sizes
    assert (found.n, found.small, found.medium, found.large) == (6, 2, 2, 2)
    assert {n: bar for n, bar in enumerate(found.bars) if bar} == {0: 1, 1: 1, 2: 1, 5: 1, 6: 1, 40: 1}


@SMALL
@given(values=st.lists(st.integers(0, 5000), max_size=50))
def test_a_spread_keeps_every_value(values: list[int]) -> None:
    found = spread(Counter(values))
    assert found.n == len(values) == sum(found.bars.values())
    assert len(found.bars) <= 30
    if values:
        assert found.median == statistics.median(values)
        assert found.mean == pytest.approx(statistics.mean(values), abs=1e-3)
        assert found.largest == max(values)
        for bar, n in found.bars.items():
            low, _, high = bar.partition("–")
            assert n == sum(int(low) <= value <= int(high or low) for value in values)
    else:
        assert (found.mean, found.median, found.largest) == (-1, -1, -1)


def test_even_is_within_one_per_cent_of_a_half() -> None:
    assert balance(51, 49).is_even
    assert balance(49, 51).is_even
    assert not balance(5101, 4899).is_even
    assert not balance(4899, 5101).is_even
    assert balance(1, 1).share == 0.5
    assert (balance(0, 0).share, balance(0, 0).is_even) == (-1, False)


@SMALL
@given(
    shown=st.lists(
        st.lists(st.sampled_from(["Moniter/TV", "tv", "Dog", "dogs", "Orange/Tangerine"]), max_size=6),
        min_size=1,
        max_size=6,
    ),
    reasons=st.lists(st.sampled_from(["", "", "crowd"]), min_size=36, max_size=36),
)
def test_instances_a_class_are_counted_by_our_names(tmp_path_factory, shown, reasons) -> None:
    left = iter(reasons)
    images = [image(n, *names) for n, names in enumerate(shown)]
    images = [replace(one, instances=tuple(replace(row, reason=next(left)) for row in one.instances)) for one in images]
    rows = [
        (one.image_id, vocabulary().read(row.instance.category, "objects365").name)
        for one in images
        for row in one.instances
        if not row.reason
    ]
    if not rows:
        return
    storage = begin(tmp_path_factory.mktemp("plan"), images, per_shard=2)
    every, some = class_counts(storage, "objects365", {"tv"})
    assert every == Counter(Counter(rows).values())
    assert some == Counter(n for (_, name), n in Counter(rows).items() if name == "tv")


def test_the_distance_of_two_histograms() -> None:
    assert distance((1, 1), (5, 5)) == 0
    assert distance((1, 0), (0, 3)) == 1
    assert distance((3, 1), (1, 1)) == 0.25
    assert distance((0, 0), (1, 1)) == -1


# --- how far it came


def test_unfinished_shards_are_not_counted_and_said(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    for path in made.iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / "000001.json").unlink()
    page = write(tmp_path / "o", [part(folder, target=10_000)], 10_000, examples=9)
    counted = record(tmp_path / "o")
    kept = [sample for key, (sample, _, _) in samples(made).items() if not key.startswith("000001")]
    assert counted["queries"] == sum(len(sample.queries) for sample in kept)
    assert (counted["parts"][0]["shards"], counted["parts"][0]["shards_planned"]) == (2, 3)
    assert {query["shard"] for query in counted["examples"]["queries"]} == {0, 2}
    assert "2 of 3</td>" in page
    assert "1 of 3 shards are not finished" in page


def test_a_run_that_made_nothing_has_a_card(tmp_path: Path) -> None:
    begin(tmp_path / "none", [image(1, "dog"), image(2, "dog")])
    page = write(tmp_path / "o", [part(tmp_path / "none", target=50)], 50)
    assert "0 queries" in page
    assert "50 queries short of 50: 1 of 1 shards are not finished" in page
    assert record(tmp_path / "o")["queries"] == 0
    assert record(tmp_path / "o")["examples"]["queries"] == []


def test_a_part_without_a_query_stands_beside_one_with(made: Path, tmp_path: Path) -> None:
    storage = begin(tmp_path / "none", [image(1, "dog")])
    add_shard(storage, 0, [QueryRow(0, "1", category="dog", reason="class-not-drawn", detail="the bank has no 'dog'")])
    page = write(tmp_path / "o", [part(made), part(tmp_path / "none", "empty", target=5)])
    assert [entry["queries"] > 0 for entry in record(tmp_path / "o")["parts"]] == [True, False]
    assert re.search(
        r"<td>class-not-drawn</td><td class=\"n\">1</td><td class=\"detail\">the bank has no &#39;dog", page
    )
    assert "<b>empty</b> is 5 queries short of 5" in page


def test_why_a_part_is_short(made: Path) -> None:
    whole = numbers_of(part(made)).parts[0]
    assert shortfall(whole) == ""
    assert shortfall(replace(whole, target=whole.queries)) == ""
    more = replace(
        whole, target=10_000, images=20, images_planned=20, reasons={"image-missing": (8, "x does not exist")}
    )
    assert shortfall(more) == (
        f"{10_000 - whole.queries:,} queries short of 10,000: each of the 20 images of its plan was looked at; "
        f"8 of 20 gave no query (image-missing 8); those asked about gave {whole.queries / 12:.1f} each"
    )


# --- examples


def test_examples_come_evenly_from_parts_tasks_and_banks(tmp_path: Path) -> None:
    parts = []
    for name, banks in (("a", 3), ("b", 1)):
        rows = [
            QueryRow(
                0, f"{name}{n}", f"{task}-0", task, "dog", f"000000-{n:05d}", 0, sketch_source=str(n % banks),
                status="written",
            )
            for n in range(60)
            for task in TASK_NAMES
        ]  # fmt: skip
        add_shard(begin(tmp_path / name, [image(1, "dog")]), 0, rows)
        parts.append(part(tmp_path / name, name))
    with QueryTable(parts) as table:
        picks = pick_examples(table, 40, 0)
        assert picks == pick_examples(table, 40, 0)
        assert picks != pick_examples(table, 40, 1)
        assert len(pick_examples(table, 1000, 0)) == 600
    assert Counter(pick.part for pick in picks) == {"a": 20, "b": 20}
    assert set(Counter(pick.task for pick in picks).values()) == {8}
    banks = Counter(pick.sketch_source for pick in picks if pick.part == "a")
    assert sorted(banks.values()) == [6, 7, 7]
    assert len({pick.image_id for pick in picks}) == 40


def test_an_example_shows_the_question_as_it_is_worded(made: Path, tmp_path: Path) -> None:
    page = write(tmp_path / "o", [part(made)], examples=7)
    assert page.count('<figure class="example">') == 7
    known = samples(made)
    for query in record(tmp_path / "o")["examples"]["queries"]:
        sample = known[query["key"]][0]
        asked = next(q for q in sample.queries if q.query_id == query["query_id"])
        assert f"<dd>ask {asked.query_id} of {sample.image.id}</dd>" in page
        for x1, y1, x2, _ in asked.boxes:
            assert f'<rect class="box" x="{x1}" y="{y1}" width="{round(x2 - x1, 2)}"' in page


def test_a_question_without_a_sketch_shows_none(tmp_path: Path) -> None:
    storage = begin(tmp_path / "s", [image(1, "dog")])
    add_shard(storage, 0, [], [sample_of("dog", query_of("dog", row=-1), sketches=0)])
    page = write(tmp_path / "o", [part(tmp_path / "s")])
    assert page.count('<figure class="example">') == 1
    assert page.count("data:image/jpeg") == 1
    assert "data:image/png" not in page
    assert "no sketch" in page
    assert record(tmp_path / "o")["sketches"] == 0


# --- the page


class Reader(HTMLParser):
    """Collects what a page would load, and whether its tags close."""

    VOID = frozenset({"meta", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "iframe", "object"}
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.loads += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "xlink:href"}]
        if tag not in self.VOID:
            self.tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.tags.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.tags.pop() == tag


def test_the_page_is_whole_small_and_loads_nothing(made: Path, tmp_path: Path) -> None:
    page = write(tmp_path / "o", [part(made)], 999)
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.tags == []
    assert all(re.match(r"data:image/|#\w+$", load) for load in reader.loads)
    assert sum(load.startswith("data:image/jpeg") for load in reader.loads) == 40
    assert "url(" not in page
    assert "default-src 'none'" in page
    assert len(page) < 6_000_000


def test_the_same_shards_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write(tmp_path / name, [part(made)], seed=seed, examples=6)
    for name in ("card.html", "card.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    here, there = record(tmp_path / "a"), record(tmp_path / "c")
    assert here.pop("examples") != there.pop("examples")
    assert here == there


def test_shards_of_an_object_store_give_the_same_card(made: Path, tmp_path: Path) -> None:
    there, out = Storage(f"memory://{tmp_path.name}/shards"), Storage(f"memory://{tmp_path.name}/card")
    for path in filter(Path.is_file, made.iterdir()):
        there.write(path.name, path.read_bytes())
    page = write(tmp_path / "o", [part(made)], examples=5)
    write_data_card(
        out, "A title", {"seed": "0"}, 0, [CardPart("part", there, "shapeworld")], wording, CardConfig(examples=5)
    )
    assert out.read("card.html").decode() == page


def test_names_from_the_data_cannot_run_in_the_browser(tmp_path: Path) -> None:
    evil = "</b><script>alert('&')</script>"
    storage = begin(tmp_path / evil.replace("/", "_"), [image(1, evil)])
    rows = [QueryRow(0, "1", category=evil, reason=evil, detail=evil)]
    said = {"query_id": f"vqa-0-{evil}", "question": evil, "answers": [evil], "boxes": [], "answer_source": evil}
    add_shard(storage, 0, rows, [sample_of(evil, query_of(evil), query_of(evil, "vqa", **said))])
    evil_part = CardPart(evil, storage, evil, 1.0, 7)
    write_data_card(
        Storage(str(tmp_path / "o")), evil, {evil: evil}, 7, [evil_part], lambda query, sample: (evil, evil)
    )
    page = (tmp_path / "o" / "card.html").read_text()
    assert "<script" not in page
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.tags == []
    assert page.count("&lt;script&gt;alert(&#39;&amp;&#39;)") > 20
    assert json.loads((tmp_path / "o" / "card.json").read_text())["classes"] == {evil: 2}


def test_many_classes_fold(tmp_path: Path) -> None:
    rows = [QueryRow(0, "1", f"bbox-{n}", "bbox", f"class {n:03d}", status="written") for n in range(45)]
    add_shard(begin(tmp_path / "s", [image(1, "dog")]), 0, rows)
    page = write(tmp_path / "o", [part(tmp_path / "s")], examples=0)
    assert "The 30 most asked about, and 15 more." in page
    assert page.count("class 044") == 1
    assert page.count("<summary>all 45 classes</summary>") == 1


@pytest.mark.parametrize(
    ("pair", "text"),
    [((1, 2), "50.0 %"), ((0, 5), "0.0 %"), ((5, 5), "100.0 %"), ((99_999, 100_000), "99.9 %"), ((0, 0), "–"),
     ((1, 100_000), "< 0.1 %"), ((3, 2), "150.0 %")],
)  # fmt: skip
def test_what_is_not_quite_all_does_not_look_so(pair: tuple[int, int], text: str) -> None:
    assert _percent(*pair) == text


# --- what cannot be counted


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"empty holds no instruction shards \(it lacks settings.json\): make them first"
    ):
        write(tmp_path / "o", [part(tmp_path / "empty")])
    assert not (tmp_path / "o" / "card.html").exists()


def test_an_older_ledger_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    storage = begin(tmp_path / "s", [image(1, "dog")])
    add_shard(storage, 0, [QueryRow(0, "1")])
    path = tmp_path / "s" / "000000.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["words", "match"]), path)
    with pytest.raises(ValueError, match="made by another version, it lacks match, words: remove 000000.json"):
        write(tmp_path / "o", [part(tmp_path / "s")])


def test_a_ledger_of_sketches_is_refused(tmp_path: Path) -> None:
    storage = begin(tmp_path / "s", [image(1, "dog")])
    add_shard(storage, 0, [QueryRow(0, "1")])
    write_ledger([LedgerRow(0, "1", "2", "dog")], tmp_path / "s" / "000000.parquet", LedgerRow)
    with pytest.raises(ValueError, match="no ledger of queries"):
        write(tmp_path / "o", [part(tmp_path / "s")])


@pytest.mark.parametrize("data", [b"", b"PAR1 this is none PAR1", b"\0" * 500])
def test_a_damaged_ledger_is_named(tmp_path: Path, data: bytes) -> None:
    storage = begin(tmp_path / "s", [image(1, "dog")])
    add_shard(storage, 0, [QueryRow(0, "1")])
    (tmp_path / "s" / "000000.parquet").write_bytes(data)
    with pytest.raises(ValueError, match=r"000000.parquet is no ledger that can be read .*: remove 000000.json"):
        write(tmp_path / "o", [part(tmp_path / "s")])


def test_a_ledger_of_other_types_is_named(tmp_path: Path) -> None:
    storage = begin(tmp_path / "s", [image(1, "dog"), image(2, "dog")], per_shard=1)
    add_shard(storage, 0, [QueryRow(0, "1")])
    add_shard(storage, 1, [QueryRow(1, "2")])
    path = tmp_path / "s" / "000001.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("words")
    pq.write_table(table.set_column(place, "words", pa.array(["seven"])), path)
    with pytest.raises(ValueError, match="000001.parquet was made by another version, its words are string"):
        write(tmp_path / "o", [part(tmp_path / "s")])


def test_a_shard_that_lacks_what_its_ledger_names_is_named(tmp_path: Path) -> None:
    storage = begin(tmp_path / "s", [image(1, "dog")])
    add_shard(storage, 0, [], [sample_of("dog", query_of("dog"))])
    tar = tmp_path / "s" / "000000.tar"
    whole = tar.read_bytes()
    tar.write_bytes(b"x" * len(whole))
    with pytest.raises(ValueError, match=r"000000.tar cannot be read .*: remove 000000.json"):
        write(tmp_path / "o", [part(tmp_path / "s")])
    tar.write_bytes(bytes(len(whole)))
    with pytest.raises(ValueError, match=r"000000.tar lacks 000000-00000.jpg, which its ledger names: remove"):
        write(tmp_path / "o", [part(tmp_path / "s")])
    tar.write_bytes(whole.replace(b"bbox-0", b"bbox-9"))
    with pytest.raises(ValueError, match=r"000000.tar, sample 000000-00000 has no query 'bbox-0'"):
        write(tmp_path / "o", [part(tmp_path / "s")])
    tar.write_bytes(whole.replace(b"\xff\xd8\xff", b"\0\0\0"))
    with pytest.raises(ValueError, match=r"a picture of .*000000.tar, sample 000000-00000 cannot be decoded"):
        write(tmp_path / "o", [part(tmp_path / "s")])
    assert not (tmp_path / "o" / "card.html").exists()


def test_shards_of_other_settings_are_refused(made: Path, tmp_path: Path) -> None:
    storage = begin(tmp_path / "s", [image(1, "dog")])
    add_shard(storage, 0, [QueryRow(0, "1")])
    write_settings(storage, {"made": "by another"})
    with pytest.raises(ValueError, match="000000.json was made with other settings"):
        write(tmp_path / "o", [part(tmp_path / "s")])


def test_parts_and_numbers_that_mean_nothing_are_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one part at least"):
        write(tmp_path, [])
    with pytest.raises(ValueError, match="two parts of the data card are called 'part'"):
        write(tmp_path, [part(made), part(made)])
    for fields in ({"target": -1}, {"weight": 1.5}):
        with pytest.raises(ValueError, match="a target is a number of queries"):
            write(tmp_path, [part(made, **fields)])
    with pytest.raises(ValueError, match="target is -3"):
        write(tmp_path, [part(made)], -3)
    assert list(tmp_path.glob("card.*")) == []
