"""`sketchgen verify | stats | retry`: what is damaged is named, what is retried is made anew, whole."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from pipelines.outputs import Retry, Stats, Verify, run_retry, run_stats, run_verify
from sketchgen import source
from sketchgen.banks import BankConfig
from sketchgen.descriptions import run_descriptions
from sketchgen.instructions import run_instructions
from sketchgen.ledger import QueryRow, schema_of
from sketchgen.output import sha256_of
from sketchgen.run import run
from sketchgen.shapeworld import WorldConfig, render
from sketchgen.shapeworld.scene import scene_file
from sketchgen.source import SourceConfig
from sketchgen.tasks.config import TasksConfig
from tests.datasets import write_sketchy, write_vqav2
from tests.sketchgen import test_descriptions, test_instructions
from tests.sketchgen.caption_server import describe, serving
from tests.sketchgen.test_run import config, hashes, ledger, quiet


@pytest.fixture
def output(coco_folder, tmp_path: Path) -> Path:
    """A finished run of three shards; image 2 has no photo."""
    extra = [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 30, 30], "iscrowd": 1}]
    folder = coco_folder(7, extra=extra)
    (folder[1] / "0002.jpg").rename(tmp_path / "kept.jpg")
    assert run(config(folder, tmp_path / "out"), quiet()) == 0
    return tmp_path / "out"


def said(command: Any, do: Callable[[Any, Console], int]) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=300)
    code = do(command, console)
    return code, console.file.getvalue()  # type: ignore[attr-defined]


def test_a_sound_output_is_said_to_be_so(output: Path) -> None:
    code, text = said(Verify(str(output)), run_verify)
    assert code == 0
    assert "all is well: 3 shards, every instance of 7 planned in a ledger once, 1 rows" in text


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-512])


def lose_a_row(path: Path) -> None:
    """A ledger of its own making: the record agrees with it, the plan does not."""
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    renew(path, ledger_sha256=sha256_of(path), written=table.num_rows - 1)


def renew(path: Path, **fields: Any) -> None:
    record = path.with_suffix(".json")
    record.write_text(json.dumps(json.loads(record.read_text()) | fields))


def rewrite_json(path: Path) -> None:
    """A sample whose json is not as the contract says, in a tar that its record agrees with."""
    rewrite(path, lambda name, data: data.replace(b'"queries":[]', b'"queries":[1]'))


def rewrite(path: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Each member changed, given its name; None takes it out; and a record that agrees with the tar."""
    made = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=made, mode="w") as new:
        for entry in old:
            data = change(entry.name, old.extractfile(entry).read())  # type: ignore[union-attr]
            if data is not None:
                entry.size = len(data)
                new.addfile(entry, io.BytesIO(data))
    path.write_bytes(made.getvalue())
    renew(path, tar_sha256=sha256_of(path), tar_bytes=path.stat().st_size)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("000001.tar", flip, "000001.tar its bytes have changed"),
        ("000001.tar", cut, "000001.tar has .* bytes, had"),
        ("000001.tar", Path.unlink, "000001.tar is missing"),
        ("000001.tar", rewrite_json, r"000001.tar sample 000001-00000: shard contract: queries\.0"),
        ("000001.parquet", Path.unlink, "000001.parquet is missing"),
        ("000001.parquet", flip, "000001.parquet its bytes have changed"),
        ("000001.parquet", lose_a_row, "000001.parquet lacks 1 planned instances, the first is 104"),
        ("000001.json", Path.unlink, "000001.json is missing: this shard is not made yet"),
        ("000001.json", cut, "000001.json is no completion record"),
        ("000001.json", lambda path: shutil.copy(path.with_name("000002.json"), path), "is the record of shard 2"),
        ("000001.json", lambda path: renew(path, fingerprint="x"), "was made with settings x, those of the folder are"),
        (
            "000001.json",
            lambda path: shutil.copy(path, path.with_name("000009.json")),
            "000009.json belongs to no shard",
        ),
    ],
)
def test_whatever_is_damaged_is_named(output: Path, name: str, damage: Callable[[Path], Any], message: str) -> None:
    damage(output / name)
    code, text = said(Verify(str(output)), run_verify)
    assert code >= 1
    assert re.search(message, text), text
    assert "000000." not in text


def test_retry_makes_the_shards_of_a_reason_anew(output: Path, tmp_path: Path) -> None:
    before = hashes(output)
    assert {row.reason for row in ledger(output)} == {"", "image-missing"}
    (tmp_path / "kept.jpg").rename(tmp_path / "images" / "0002.jpg")
    code, text = said(Retry(str(output), ("image-missing",), dry_run=True), run_retry)
    assert (code, hashes(output)) == (0, before)
    assert "1 shards hold such rows: 000000" in text
    code, text = said(Retry(str(output), ("image-missing",)), run_retry)
    assert code == 0
    assert {row.reason for row in ledger(output)} == {""}
    after = hashes(output)
    assert {name for name in before if before[name] != after[name]} == {"000000"}
    assert said(Verify(str(output)), run_verify)[0] == 0
    assert "0 shards hold such rows" in said(Retry(str(output), ("image-missing",)), run_retry)[1]


def test_stats_add_up(output: Path) -> None:
    code, text = said(Stats(str(output)), run_stats)
    assert code == 0
    for words in (
        "3 of 3 done",
        "7 instances of 7 images",
        "1 (crowd 1)",
        "6 sketches",
        "image-missing",
        "0002.jpg does",
    ):
        assert words in text


def test_a_folder_that_is_no_output_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for do, command in ((run_verify, Verify), (run_stats, Stats)):
        with pytest.raises((ValueError, FileNotFoundError), match=r"plan\.parquet|no output"):
            do(command(str(tmp_path / "empty")), quiet())  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"run\.json"):
        run_retry(Retry(str(tmp_path / "empty"), ("x",)), quiet())


def test_the_config_of_a_run_comes_back_as_it_was(coco_folder, tmp_path: Path) -> None:
    from sketchgen.config import RunConfig, checked
    from sketchgen.output import read_config
    from sketchgen.storage import Storage

    settings = replace(config(coco_folder(), tmp_path / "out"), threads=2)
    run(settings, quiet())
    assert read_config(Storage(settings.out), RunConfig) == checked(settings)


# --- shards of queries

WRONG = {"object": "elephant"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sixteen scenes in four shards, each third unreadable, as `make instructions` leaves them and described; answers
    about a car name an elephant."""
    folder = tmp_path_factory.mktemp("asked")
    lost = {scene_file(WorldConfig(), number) for number in range(0, 16, 3)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "render", lambda world, file: b"" if file in lost else render(world, file))
        assert run_instructions(test_instructions.world(folder / "instructions", 16), quiet()) == 0
    with serving(lambda asked: describe(asked, **WRONG if asked.category == "car" else {})) as (_, url):
        assert (
            run_descriptions(test_descriptions.config(folder / "instructions", url, folder / "described"), quiet()) == 0
        )
    return {"instructions": folder / "instructions", "described": folder / "described"}


@pytest.fixture(params=["instructions", "described"])
def queries(asked: dict[str, Path], request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of either, to be damaged."""
    return shutil.copytree(asked[request.param], tmp_path / "queries")


def test_sound_shards_of_queries_are_said_to_be_so(queries: Path) -> None:
    code, text = said(Verify(str(queries)), run_verify)
    assert code == 0, text
    assert "4 shards, every image of 16 planned in a ledger, every query in sample and ledger once, 0 rows" in text


@pytest.mark.parametrize(
    ("name", "task", "own"), [("sketchy", "sbir", 0.0), ("sketchy", "sbir", 1.0), ("vqav2", "vqa", 0.0)]
)
def test_sources_that_know_no_boxes_are_verified_as_well(tmp_path: Path, name: str, task: Any, own: float) -> None:
    write_sketchy(tmp_path / "sketchy", ("cat", "cup"), 4, 2)
    write_vqav2(tmp_path / "vqav2", "train", range(6))
    bank = BankConfig("sketchy", root=str(tmp_path / "sketchy"))
    made = test_instructions.world(
        tmp_path / "out",
        source=SourceConfig(name, root=str(tmp_path / name)),
        bank=bank,
        tasks=TasksConfig(names=(task,), own=own),
    )
    assert run_instructions(made, quiet()) == 0
    code, text = said(Verify(str(tmp_path / "out")), run_verify)
    assert code == 0 and "all is well" in text, text
    code, text = said(Stats(str(tmp_path / "out")), run_stats)
    assert re.search(rf"\n  {task} +[1-9]", text) and ("questions of 6 images" in text) == (name == "vqav2")


def edit_ledger(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """Other rows, and a record that agrees with them."""
    rows = change(pq.read_table(path).to_pylist())
    pq.write_table(pa.Table.from_pylist(rows, schema_of(QueryRow)), path)
    written = sum(row["status"] == "written" for row in rows)
    renew(path, ledger_sha256=sha256_of(path), written=written, rejected=len(rows) - written)


def rows_where(test: Callable[[dict[str, Any]], bool], **fields: Any) -> Callable[[Path], None]:
    """Damage: the first such row is left out, or gets these fields."""

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        place = next(number for number, row in enumerate(rows) if test(row))
        return [*rows[:place], *([rows[place] | fields] if fields else []), *rows[place + 1 :]]

    return lambda path: edit_ledger(path, change)


def is_written(row: dict[str, Any]) -> bool:
    return row["status"] == "written"


def is_refused(row: dict[str, Any]) -> bool:
    return row["status"] == "rejected"


def of_one_image(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["image_id"] == rows[0]["image_id"]]


def records_where(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    """Damage: fields of the first sample of a shard."""

    def edit(name: str, data: bytes) -> bytes:
        return json.dumps(record | change(record)).encode() if (record := first(name, data)) else data

    def first(name: str, data: bytes) -> dict[str, Any]:
        return json.loads(data) if name.endswith("-00000.json") else {}

    return lambda path: rewrite(path, edit)


def without_first(name: str, data: bytes) -> bytes | None:
    return None if "-00000." in name else data


def half(path: Path) -> None:
    """Cut in the middle of a member, and a record that agrees."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 1024 * 512 + 100])
    renew(path, tar_sha256=sha256_of(path), tar_bytes=path.stat().st_size)


QUERY_DAMAGES: list[tuple[str, Callable[[Path], Any], str]] = [
    ("000001.tar", flip, "000001.tar its bytes have changed"),
    ("000001.tar", cut, "000001.tar has .* bytes, had"),
    ("000001.tar", Path.unlink, "000001.tar is missing"),
    ("000001.tar", half, r"000001.tar cannot be read to its end \(unexpected end of data\)"),
    ("000001.tar", records_where(lambda record: {"queries": [1]}), r"sample 000001-00000: shard contract: queries\.0"),
    (
        "000001.tar",
        records_where(lambda record: {"queries": []}),
        "holds 1 samples without a query, the first is 00000",
    ),
    (
        "000001.tar",
        records_where(lambda record: {"queries": record["queries"][1:]}),
        "has 1 queries too few: the ledger has more, the first is .* of sample 000001-00000",
    ),
    (
        "000001.tar",
        records_where(lambda record: {"queries": [record["queries"][0], *record["queries"]]}),
        "has 1 queries that the ledger lacks, the first .*\n.*has 1 queries whose id their sample has twice, the first",
    ),
    (
        "000001.tar",
        records_where(lambda record: {"queries": [record["queries"][0] | {"query_id": "x"}, *record["queries"][1:]]}),
        "has 1 queries that the ledger lacks, the first is x of sample 000001-00000",
    ),
    (
        "000001.tar",
        records_where(lambda record: {"image": record["image"] | {"width": 999}, "objects": []}),
        "sample 000001-00000: its photo is",
    ),
    (
        "000001.tar",
        records_where(lambda record: {"image": record["image"] | {"id": "nobody"}}),
        "facts, the first is of query .* of sample 000001-00000: image_id is 'nobody', the ledger says",
    ),
    ("000001.tar", lambda path: rewrite(path, without_first), "holds . sound samples, the record counts"),
    ("000001.parquet", Path.unlink, "000001.parquet is missing"),
    ("000001.parquet", flip, "000001.parquet its bytes have changed"),
    (
        "000001.parquet",
        lambda path: edit_ledger(path, lambda rows: rows[len(of_one_image(rows)) :]),
        "000001.parquet lacks 1 planned images, the first is",
    ),
    (
        "000001.parquet",
        rows_where(is_refused, image_id="nobody"),
        "000001.parquet has rows of 1 images that are not planned, the first is nobody",
    ),
    ("000001.parquet", rows_where(is_refused), "000001.parquet lacks 1 planned images, the first is"),
    ("000001.parquet", rows_where(is_written), "000001.tar has 1 queries that the ledger lacks, the first is"),
    (
        "000001.parquet",
        lambda path: edit_ledger(path, lambda rows: [rows[0], *rows]),
        "000001.tar has 1 queries too few: the ledger has more, the first is",
    ),
    (
        "000001.parquet",
        rows_where(is_written, row=31),
        "in 1 facts, the first is of query .*: row is .*, the ledger says 31",
    ),
    ("000001.parquet", rows_where(is_written, task="x"), "in 1 facts, the first is of query .*: task is .*says 'x'"),
    ("000001.parquet", rows_where(is_written, reason="x"), "has 1 rows that contradict themselves, the first of image"),
    ("000001.parquet", rows_where(is_refused, reason=""), "has 1 rows that contradict themselves, the first of image"),
    (
        "000001.parquet",
        rows_where(is_refused, status="lost"),
        "has 1 rows that contradict themselves, the first of image",
    ),
    (
        "000001.parquet",
        rows_where(is_refused, shard=2),
        "has 1 rows that contradict themselves, .*: shard 2, 'rejected'",
    ),
    ("000001.json", Path.unlink, "000001.json is missing: this shard is not made yet"),
    ("000001.json", cut, "000001.json is no completion record"),
    ("000001.json", lambda path: shutil.copy(path.with_name("000002.json"), path), "is the record of shard 2"),
    ("000001.json", lambda path: shutil.copy(path, path.with_name("000009.json")), "000009.json belongs to no shard"),
    ("000001.json", lambda path: renew(path, images=3), "000001.parquet is of 4 images, the record counts 3"),
    ("000001.json", lambda path: renew(path, written=0), "written and . rejected rows, the record counts 0 and"),
    ("000001.json", lambda path: renew(path, fingerprint="x"), "was made with settings x, those of the folder are"),
]


@pytest.mark.parametrize(("name", "damage", "message"), QUERY_DAMAGES)
def test_whatever_is_damaged_in_shards_of_queries_is_named(
    queries: Path, name: str, damage: Callable[[Path], Any], message: str
) -> None:
    damage(queries / name)
    code, text = said(Verify(str(queries)), run_verify)
    assert code >= 1
    assert re.search(message, text), text
    assert not re.search(r"00000[023]\.", text)


def test_a_ledger_of_another_kind_is_named(queries: Path, output: Path) -> None:
    shutil.copy(output / "000001.parquet", queries / "000001.parquet")
    renew(queries / "000001.parquet", ledger_sha256=sha256_of(queries / "000001.parquet"))
    code, text = said(Verify(str(queries)), run_verify)
    assert code == 1 and "000001.parquet is no ledger of such shards" in text
    with pytest.raises(ValueError, match=r"000001\.parquet is no ledger of queries that can be read"):
        run_stats(Stats(str(queries)), quiet())
    (queries / "000001.parquet").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"000001\.parquet is no ledger of queries that can be read"):
        run_stats(Stats(str(queries)), quiet())


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff"])
def test_settings_that_are_damaged_are_named(queries: Path, data: bytes) -> None:
    (queries / "settings.json").write_bytes(data)
    for do, command in ((run_verify, Verify), (run_stats, Stats)):
        with pytest.raises(ValueError, match=r"settings\.json is damaged .*: copy it again"):
            do(command(str(queries)), quiet())  # type: ignore[operator]
    (queries / "settings.json").unlink()
    with pytest.raises(ValueError, match=r"holds no settings\.json: it is no output of sketchgen"):
        run_verify(Verify(str(queries)), quiet())


FACTS = [
    "image_id", "query_id", "task", "category", "key", "row", "sketch_id", "sketch_source", "count", "boxes", "words",
    "answer_source", "status", "shard",
]  # fmt: skip


@settings(max_examples=60)
@given(name=st.sampled_from(FACTS), place=st.integers(0, 10**6), number=st.integers(-3, 99), kind=st.booleans())
def test_no_fact_of_a_written_query_can_change_unseen(
    asked: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, name: str, place: int, number: int, kind: bool
) -> None:
    folder = tmp_path_factory.mktemp("facts") / "out"
    shutil.copytree(asked["described" if kind else "instructions"], folder)

    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        row = [row for row in rows if row["status"] == "written"][place % written]
        row[name] = f"{row[name]}?" if isinstance(row[name], str) else row[name] + (number or 1)
        return rows

    written = json.loads((folder / "000002.json").read_text())["written"]
    edit_ledger(folder / "000002.parquet", change)
    code, text = said(Verify(str(folder)), run_verify)
    assert code >= 1 and "000002." in text, text


def test_stats_of_queries_add_up(asked: dict[str, Path]) -> None:
    rows = test_instructions.ledger(asked["instructions"])
    written, refused = [row for row in rows if is_written(vars(row))], [row for row in rows if row.reason]
    assert refused
    code, text = said(Stats(str(asked["instructions"])), run_stats)
    assert code == 0
    found = dict(re.findall(r"^ *(\S.*?)  +(.*?) *$", text, re.MULTILINE))
    assert found["shards"] == "4 of 4 done" and found["planned"].endswith("instances of 16 images")
    assert found["written"] == f"{len(written)} queries in {len({row.key for row in written})} samples"
    for task in ("describe", "bbox", "count", "vqa", "sbir"):
        assert int(found[task]) == sum(row.task == task for row in written) > 0
    assert found["not asked"] == str(len(refused))
    assert found["image-unreadable"] == f"{len(refused)}, e.g. {refused[0].detail}"
    sizes = sum(path.stat().st_size for path in asked["instructions"].glob("0*.tar"))
    assert found["bytes"] == f"{sizes:,} of shards"
    assert "answer not taken" not in text


def test_stats_of_described_shards_say_which_answers_were_not_taken(asked: dict[str, Path]) -> None:
    rows = [row for row in test_instructions.ledger(asked["described"]) if row.fallback]
    code, text = said(Stats(str(asked["described"])), run_stats)
    assert code == 0
    assert re.search(rf"answer not taken +{len(rows)} *\n", text)
    for reason in {row.fallback for row in rows}:
        number = sum(row.fallback == reason for row in rows)
        assert re.search(rf"\n  {reason} +{number}, e\.g\. ", text), text
    assert "wrong-class" in text and "'elephant' where the annotation says" in text


def test_descriptions_are_not_retried(asked: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="is of `make describe`, which refuses nothing: remove the .json of shards"):
        run_retry(Retry(str(asked["described"]), ("wrong-class",)), quiet())
