"""Sources without boxes: PixMo-Count, VQAv2 and Sketchy's photos, as they are read and as they are asked about."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from data_manifests.schema import validate
from sketchgen import instruction_worker
from sketchgen.banks import BankConfig
from sketchgen.banks.sketchy import photo_of
from sketchgen.downloads import Downloads
from sketchgen.engine import EngineConfig
from sketchgen.instructions import InstructionsConfig, run_instructions
from sketchgen.source import SourceConfig
from sketchgen.sources import categories_of, read_batches, read_source, source_fingerprint
from sketchgen.sources.vqav2 import EVALUATED
from sketchgen.tasks.asking import OWN_QUESTION
from sketchgen.tasks.config import TasksConfig
from tests.datasets import write_coco, write_pixmo_count, write_quickdraw, write_sketchy, write_vqav2
from tests.sketchgen.test_instructions import ledger, samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def quickdraw(folder: Path) -> BankConfig:
    write_quickdraw(folder / "quickdraw")
    return BankConfig("quickdraw", root=str(folder / "quickdraw"))


@pytest.fixture(scope="module")
def sketchy(folder: Path) -> Path:
    write_sketchy(folder / "sketchy")
    return folder / "sketchy"


@pytest.fixture(scope="module")
def pixmo(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder, its photos served on loopback, and the fate of each URL."""
    root = folder / "pixmo_count"
    (root / "web").mkdir(parents=True)
    handler = partial(_Quiet, directory=str(root / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield root, write_pixmo_count(root, base_url=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def config(source: SourceConfig, bank: BankConfig, task: Any, out: Path, **tasks: Any) -> InstructionsConfig:
    return InstructionsConfig(
        source, bank, tasks=TasksConfig(names=(task,), **tasks), engine=EngineConfig("local"), out=str(out)
    )


def quiet() -> Console:
    return Console(file=io.StringIO())


# --- PixMo-Count


def test_every_count_is_a_question_and_every_rotten_link_a_row(
    pixmo: tuple[Path, dict[str, str]], quickdraw: BankConfig, tmp_path: Path
) -> None:
    root, fates = pixmo
    source = SourceConfig("pixmo_count", root=str(root))
    images = {image.image_id: image for image in read_images(source)}
    assert {"rotten", "changed"} <= set(fates.values())
    assert run_instructions(config(source, quickdraw, "count", tmp_path), quiet()) == 0
    rows = ledger(tmp_path)
    fate_of = {image.image_id: fates[image.file.rsplit("#", 1)[0]] for image in images.values()}
    asked = {row.image_id for row in rows if row.status == "written"}
    assert asked and all(fate_of[image] in ("served", "cached", "kept", "torn") for image in asked)
    reasons = {row.image_id: row.reason for row in rows if row.reason.startswith("image-")}
    for image, fate in fate_of.items():
        if fate in ("rotten", "changed") and image in reasons:
            assert reasons[image] == {"rotten": "image-gone", "changed": "image-changed"}[fate]
    assert set(reasons.values()) == {"image-gone", "image-changed"}
    assert not asked & set(reasons) and asked | set(reasons) <= set(images)
    truth = {(i.image_id, q.category): q.count for i in images.values() for q in i.asked}
    for record, _, _ in samples(tmp_path).values():
        assert record.objects == []
        for query in record.queries:
            assert query.answer_source == "annotation"
            assert query.count in {count for (image, _), count in truth.items() if image == record.image.id}
            assert record.sketches[query.row].category == query.category


def read_images(source: SourceConfig) -> Iterator[Any]:
    from sketchgen.index import images_of

    for batch in read_batches(source):
        yield from images_of(batch)


def test_photos_are_fetched_once_for_all_runs(
    pixmo: tuple[Path, dict[str, str]], quickdraw: BankConfig, tmp_path: Path
) -> None:
    root, _ = pixmo
    source = SourceConfig("pixmo_count", root=str(root))
    assert run_instructions(config(source, quickdraw, "count", tmp_path / "first"), quiet()) == 0
    (root / "web").rename(root / "gone")
    try:
        assert run_instructions(config(source, quickdraw, "count", tmp_path / "second"), quiet()) == 0
    finally:
        (root / "gone").rename(root / "web")
    written = [{r.image_id for r in ledger(tmp_path / name) if r.status == "written"} for name in ("first", "second")]
    assert written[0] == written[1]


def test_a_small_part_of_many_photos_fetches_no_more_than_it_needs(
    pixmo: tuple[Path, dict[str, str]], quickdraw: BankConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instruction_worker, "FETCHED_AT_ONCE", 2)
    read: list[str] = []
    fetch = Downloads.read

    def counted(self: Downloads, url: str, sha256: str) -> bytes:
        read.append(url)
        return fetch(self, url, sha256)

    monkeypatch.setattr(Downloads, "read", counted)
    source = SourceConfig("pixmo_count", root=str(pixmo[0]))
    one = config(source, quickdraw, "count", tmp_path)
    assert run_instructions(replace(one, size=1), quiet()) == 0
    rows = ledger(tmp_path)
    assert sum(row.status == "written" for row in rows) == 1
    assert Counter(row.reason for row in rows)["not-needed"] >= 5
    assert len(read) <= 1 + sum(row.reason.startswith("image-") for row in rows) + 3


def test_evaluation_has_no_points_and_is_counted_all_the_same(pixmo: tuple[Path, dict[str, str]]) -> None:
    images = list(read_images(SourceConfig("pixmo_count", root=str(pixmo[0]), split="val")))
    assert images and all(2 <= query.count <= 10 for image in images for query in image.asked)
    train = {image.image_id for image in read_images(SourceConfig("pixmo_count", root=str(pixmo[0])))}
    assert not train & {image.image_id for image in images}


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "image_url": st.sampled_from(["http://a/1", "http://a/2", ""]),
            "image_sha256": st.sampled_from(["a" * 64, "b" * 64, "../x"]),
            "count": st.none() | st.integers(-3, 12),
            "points": st.none() | st.integers(0, 12).map(lambda n: {"x": [1.0] * n, "y": [2.0] * n}),
            "label": st.sampled_from(["dogs", "cats", " ", "dog (big)"]),
        }
    ),
    max_size=12,
)


@settings(max_examples=80)
@given(rows=ROWS)
def test_any_rows_of_pixmo_are_read_or_have_a_reason(tmp_path_factory: pytest.TempPathFactory, rows: Any) -> None:
    root = tmp_path_factory.mktemp("pixmo")
    (root / "data").mkdir()
    points = pa.struct([("x", pa.list_(pa.float32())), ("y", pa.list_(pa.float32()))])
    schema = pa.schema(
        [("image_url", pa.string()), ("image_sha256", pa.string()), ("count", pa.int32()), ("points", points),
         ("label", pa.string())]
    )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, schema), root / "data" / "train-00000-of-00001.parquet")
    source = SourceConfig("pixmo_count", root=str(root))
    images = list(read_images(source))
    assert [image.image_id for image in images] == list(dict.fromkeys(row["image_sha256"] for row in rows))
    for image in images:
        mine = [row for row in rows if row["image_sha256"] == image.image_id]
        assert {q.category for q in image.asked} == {row["label"].strip() for row in mine}
        for query in image.asked:
            same = [row for row in mine if row["label"].strip() == query.category]
            clean = {row["count"] for row in same}
            if not query.reason:
                assert clean == {query.count} and query.count >= 0 and query.category
                assert all(row["points"] is None or len(row["points"]["x"]) == query.count for row in same)
    assert source_fingerprint(source) == source_fingerprint(source)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: [path.unlink() for path in (root / "data").iterdir()], "does not look like pixmo_count"),
        (lambda root: (root / "data" / "train-0.parquet").write_bytes(b"PAR1 no"), "cannot be read as pixmo_count"),
        (
            lambda root: pq.write_table(pa.table({"label": ["x"]}), root / "data" / "train-0.parquet"),
            "no column 'image_url'",
        ),
    ],
)
def test_a_folder_that_is_no_pixmo_is_an_error(tmp_path: Path, spoil: Callable[[Path], Any], message: str) -> None:
    write_pixmo_count(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=message):
        list(read_images(SourceConfig("pixmo_count", root=str(tmp_path))))


# --- VQAv2


@pytest.fixture(scope="module")
def vqa(folder: Path) -> Path:
    """VQAv2 beside COCO 2017; its val of 2014 holds photos that COCO 2017 trains on."""
    ids = {split: write_coco(folder / "coco", split) for split in ("train", "val")}
    write_vqav2(folder / "vqav2", "train", ids["train"][:-3])
    write_vqav2(folder / "vqav2", "val", [*ids["val"], *ids["train"][-3:]])
    return folder / "vqav2"


def test_ordinary_questions_keep_their_words_and_all_ten_answers(
    vqa: Path, quickdraw: BankConfig, tmp_path: Path
) -> None:
    source = SourceConfig("vqav2", root=str(vqa))
    assert run_instructions(config(source, quickdraw, "vqa", tmp_path), quiet()) == 0
    asked = json.loads((vqa / "v2_OpenEnded_mscoco_train2014_questions.json").read_text())["questions"]
    said = json.loads((vqa / "v2_mscoco_train2014_annotations.json").read_text())["annotations"]
    answers = {row["question_id"]: row for row in said}
    found = {}
    for record, strip, _ in samples(tmp_path).values():
        assert record.sketches == [] and strip.shape == (256, 256) and (strip == 255).all()
        for query in record.queries:
            assert (query.task, query.row, query.answer_source) == ("vqa", -1, "annotation")
            found[int(query.query_id.removeprefix("vqa-"))] = (record.image.id, query.question, query.answers)
    assert len(found) == len(asked)
    for row in asked:
        truth = answers[row["question_id"]]
        ten = [answer["answer"] for answer in truth["answers"]]
        expected = (str(row["image_id"]), row["question"], [truth["multiple_choice_answer"], *ten])
        assert found[row["question_id"]] == expected
        assert len(ten) == 10


def test_no_photo_that_is_trained_on_is_evaluated(vqa: Path) -> None:
    """VQAv2's val is COCO's of 2014, and most of that is in COCO's train of 2017."""
    images = list(read_images(SourceConfig("vqav2", root=str(vqa), split="val")))
    trained = {path.stem.lstrip("0") for path in (vqa.parent / "coco" / "train2017").glob("*.jpg")}
    evaluated = {image.image_id for image in images if any(not query.reason for query in image.asked)}
    assert evaluated and not evaluated & trained
    assert {q.reason for image in images if image.image_id in trained for q in image.asked} == {EVALUATED}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["answer", "x"]), inner, max_size=2),
    max_leaves=5,
)
PLACES = [
    *(("questions", name) for name in ("image_id", "question", "question_id")),
    *(("annotations", name) for name in ("question_id", "multiple_choice_answer", "answers")),
]


@settings(max_examples=100)
@given(place=st.sampled_from(PLACES), value=JSON)
def test_any_value_in_any_field_of_vqav2_gives_questions_or_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, str], value: Any
) -> None:
    root = tmp_path_factory.mktemp("vqav2")
    write_vqav2(root, "train", [9])
    kind = "OpenEnded_mscoco_train2014_questions" if place[0] == "questions" else "mscoco_train2014_annotations"
    path = root / f"v2_{kind}.json"
    data = json.loads(path.read_text())
    data[place[0]][0][place[1]] = value
    path.write_text(json.dumps(data))
    try:
        images = list(read_images(SourceConfig("vqav2", root=str(root))))
    except ValueError as error:
        assert "v2_" in str(error)
        return
    for image in images:
        assert all(q.reason or (q.question and q.answers and q.answers[0]) for q in image.asked)


# --- Sketchy's photos


def test_photos_and_drawings_of_one_split_are_paired(sketchy: Path, quickdraw: BankConfig, tmp_path: Path) -> None:
    own = BankConfig("sketchy", root=str(sketchy))
    seen: dict[str, tuple[set[str], set[str]]] = {}
    for split in ("train", "val"):
        source = SourceConfig("sketchy", root=str(sketchy), split=split)
        one = config(source, replace(own, split=split), "sbir", tmp_path / split)  # type: ignore[arg-type]
        assert run_instructions(one, quiet()) == 0
        records = [record for record, _, _ in samples(tmp_path / split).values()]
        drawings = {photo_of(Path(s.sketch_id)) for record in records for s in record.sketches}
        seen[split] = ({record.image.id for record in records}, drawings)
        answers = Counter(q.match for record in records for q in record.queries)
        assert answers[0] == answers[1] > 0
        for record in records:
            assert {o.status for o in record.objects} == {"crowd"}  # where it is, nobody knows: no box, no count of it
            [shown] = {o.category for o in record.objects}
            assert all((q.category == shown) == (q.match == 1) for q in record.queries)
    photos, drawings = zip(*seen.values(), strict=True)
    assert not photos[0] & photos[1] and not drawings[0] & drawings[1]
    assert not photos[0] & drawings[1] and not drawings[0] & photos[1]


def test_the_very_photo_is_told_from_others_of_its_class(sketchy: Path, tmp_path: Path) -> None:
    source, bank = SourceConfig("sketchy", root=str(sketchy)), BankConfig("sketchy", root=str(sketchy))
    assert run_instructions(config(source, bank, "sbir", tmp_path, own=1.0), quiet()) == 0
    for record, _, _ in samples(tmp_path).values():
        assert len({s.category for s in record.sketches}) == 1
        for query in record.queries:
            sketch = record.sketches[query.row]
            is_own = photo_of(Path(sketch.sketch_id)) == record.image.id
            assert (query.match == 1) == is_own == bool(sketch.object_id)
            assert query.question == OWN_QUESTION
            assert query.query_id.endswith("own" if is_own else "other")


def test_classes_of_a_zero_shot_protocol_are_nowhere_in_training(sketchy: Path, tmp_path: Path) -> None:
    bank = BankConfig("sketchy", root=str(sketchy))
    one = config(SourceConfig("sketchy", root=str(sketchy)), bank, "sbir", tmp_path)
    assert run_instructions(replace(one, unseen="shen-25"), quiet()) == 0
    kept_out = {"cup", "teddy bear"}
    assert kept_out <= set(categories_read(one))
    for record, _, _ in samples(tmp_path).values():
        named = {o.category for o in record.objects} | {s.category for s in record.sketches}
        assert not named & kept_out
    assert {row.category for row in ledger(tmp_path) if row.reason == "class-unseen"} == kept_out
    evaluation = replace(one.source, split="val"), replace(bank, split="val")
    val = replace(one, source=evaluation[0], bank=evaluation[1], unseen="shen-25", out=str(tmp_path / "val"))
    assert run_instructions(val, quiet()) == 0
    assert kept_out <= {s.category for record, _, _ in samples(tmp_path / "val").values() for s in record.sketches}


def categories_read(one: InstructionsConfig) -> set[str]:
    from data_manifests.vocabulary import vocabulary

    return {vocabulary().read(name, one.source.name).name for name in categories_of(one.source)}


def test_unseen_classes_are_not_named_in_ordinary_questions_either(
    vqa: Path, quickdraw: BankConfig, tmp_path: Path
) -> None:
    one = config(SourceConfig("vqav2", root=str(vqa)), quickdraw, "vqa", tmp_path)
    assert run_instructions(replace(one, unseen="shen-25"), quiet()) == 0
    said = [
        " ".join((query.question, *query.answers)).lower()
        for record, _, _ in samples(tmp_path).values()
        for query in record.queries
    ]
    assert said and not any(name in text.split() for text in said for name in ("horse", "cup", "umbrella", "horses"))


# --- all of them


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("pixmo_count", "bbox", "knows counts, which do not answer bbox"),
        ("vqav2", "sbir", "knows questions, which do not answer sbir"),
        ("sketchy", "count", "knows classes, which do not answer count"),
    ],
)
def test_a_source_is_asked_only_for_what_it_knows(
    quickdraw: BankConfig, tmp_path: Path, name: str, task: str, message: str
) -> None:
    source = SourceConfig(name, root=str(tmp_path))
    with pytest.raises(ValueError, match=message):
        run_instructions(config(source, quickdraw, task, tmp_path / "out"), quiet())


@pytest.mark.parametrize("name", ["pixmo_count", "vqav2", "sketchy"])
def test_a_source_without_its_folder_says_how_to_get_it(quickdraw: BankConfig, tmp_path: Path, name: str) -> None:
    task = {"pixmo_count": "count", "vqav2": "vqa", "sketchy": "sbir"}[name]
    for root in ("", str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(ValueError, match=r"source\.root|does not look like|source\.images"):
            run_instructions(config(SourceConfig(name, root=root), quickdraw, task, tmp_path / "out"), quiet())


def test_records_are_true_to_the_contract(sketchy: Path, quickdraw: BankConfig, tmp_path: Path) -> None:
    assert (
        run_instructions(config(SourceConfig("sketchy", root=str(sketchy)), quickdraw, "sbir", tmp_path), quiet()) == 0
    )
    for record, strip, _ in samples(tmp_path).values():
        validate(record.model_dump(by_alias=True), strip_height=strip.shape[0])
    assert list(read_source(SourceConfig("sketchy", root=str(sketchy))))
