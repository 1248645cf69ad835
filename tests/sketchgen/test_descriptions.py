"""Described shards: what models may change and what not, every fault counted, nothing lost or done twice."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from data_manifests.schema import Query, Sample, validate
from sketchgen import progress
from sketchgen.captioner import CaptionerConfig
from sketchgen.description import DescribeConfig, first_request
from sketchgen.descriptions import DescriptionsConfig, run_descriptions, settings_of
from sketchgen.engine import EngineConfig
from sketchgen.finished import read_finished
from sketchgen.instructions import run_instructions
from sketchgen.ledger import QueryRow
from sketchgen.output import sha256_of
from sketchgen.seed import seed_of
from sketchgen.storage import Storage
from sketchgen.tasks.config import TasksConfig
from tests.sketchgen.caption_server import Asked, describe, polish, serving, slow, status
from tests.sketchgen.stand_in import save_captioner
from tests.sketchgen.test_instructions import hashes, ledger, quiet, world


@pytest.fixture(scope="module")
def asked_about(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve scenes in six shards, with their questions."""
    out = tmp_path_factory.mktemp("in") / "instructions"
    assert run_instructions(world(out, 12, images_per_shard=2), quiet()) == 0
    return out


def config(shards: Path, url: str, out: Path, **fields: Any) -> DescriptionsConfig:
    """A run over a server, in this process, that gives up soon."""
    eyes = CaptionerConfig("server", "eyes", base_url=url, timeout=5, retries=0, patience=20)
    base = DescriptionsConfig(
        shards=str(shards), captioner=eyes, engine=EngineConfig("local", retries=0), samples_per_batch=2, out=str(out)
    )
    return replace(base, **fields)


@pytest.fixture(scope="module")
def described(asked_about: Path) -> Path:
    """The same shards after a calm run with a captioner alone."""
    out = asked_about.parent / "described"
    with serving() as (_, url):
        said(config(asked_about, url, out))
    return out


def pen(url: str) -> CaptionerConfig:
    return CaptionerConfig("server", "pen", base_url=url, timeout=5, retries=0, patience=20)


def said(settings: DescriptionsConfig, code: int = 0) -> str:
    console = Console(record=True, file=io.StringIO(), width=200)
    assert run_descriptions(settings, console) == code
    return console.export_text()


def samples(out: Path) -> dict[str, dict[str, bytes]]:
    """Files of every sample by key."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(out.glob("0*.tar")):
        with tarfile.open(path) as tar:
            for entry in tar:
                key, _, kind = entry.name.partition(".")
                found.setdefault(key, {})[kind] = tar.extractfile(entry).read()  # type: ignore[union-attr]
    return found


def records(out: Path) -> dict[str, Sample]:
    return {key: validate(files["json"]) for key, files in samples(out).items()}


def descriptions(out: Path) -> dict[tuple[str, str], Query]:
    """Questions for a description by key and query_id."""
    return {
        (key, query.query_id): query
        for key, record in records(out).items()
        for query in record.queries
        if query.task == "describe"
    }


def rows(out: Path) -> dict[tuple[str, str], QueryRow]:
    """Rows of such questions."""
    return {(row.key, row.query_id): row for row in ledger(out) if row.task == "describe"}


# --- what changes, and what does not


def test_the_open_question_is_asked_about_what_a_model_described(asked_about: Path, tmp_path: Path) -> None:
    def reply(asked: Asked) -> Any:
        return describe(asked, object="unicorn") if asked.category in ("cup", "fish", "car") else describe(asked)

    with serving(reply) as (_, url):
        said(config(asked_about, url, tmp_path, describe=DescribeConfig(also_vqa=True, tries=1)))
    before, after = records(asked_about), records(tmp_path)
    asked = 0
    for key, record in after.items():
        more = [query for query in record.queries if query.query_id.endswith("-open")]
        told = {query.row: query for query in record.queries if query.task == "describe"}
        assert [q.query_id for q in record.queries if q not in more] == [q.query_id for q in before[key].queries]
        assert {query.row for query in more} == {row for row, q in told.items() if q.answer_source == "eyes"}
        for query in more:
            assert (query.task, query.answer_source, query.boxes) == ("vqa", "eyes", [])
            assert query.answers == told[query.row].answers and query.question.endswith(("?", "."))
        asked += len(more)
    mine = [row for row in ledger(tmp_path) if row.query_id.endswith("-open")]
    assert len(mine) == asked > 5
    assert all((row.task, row.status, row.fallback, row.boxes) == ("vqa", "written", "", 0) for row in mine)
    assert len(ledger(tmp_path)) == len(ledger(asked_about)) + asked


def test_descriptions_change_and_nothing_else(asked_about: Path, described: Path) -> None:
    out = described
    text = said(config(asked_about, "http://localhost:1/v1", out))  # done already: it needs no server
    assert "Nothing is left to do" in text
    before, after = samples(asked_about), samples(out)
    assert list(before) == list(after)
    for key, files in before.items():
        assert (after[key]["jpg"], after[key]["sketches.png"]) == (files["jpg"], files["sketches.png"])
        old, new = validate(files["json"]), validate(after[key]["json"])
        assert (new.image, new.objects, new.sketches) == (old.image, old.objects, old.sketches)
        for was, now in zip(old.queries, new.queries, strict=True):
            if was.task != "describe":
                assert now == was
                continue
            assert now == was.model_copy(update={"answers": now.answers, "answer_source": "eyes"})
            assert now.answers[0].startswith(
                f"The sketch shows {'an' if was.category[0] in 'aeiou' else 'a'} {was.category}. A "
            )
            assert "[" not in now.answers[0]
    told = descriptions(out)
    for was, now in zip(ledger(asked_about), ledger(out), strict=True):
        if now.task == "describe":
            assert now.words == len(told[now.key, now.query_id].answers[0].split())
            was = replace(was, answer_source="eyes", words=now.words)
        assert now == was
    assert f"{len(told)} of {len(told)} (100.0%) in 12 samples" in text
    assert "name: queries" in (out / "README.md").read_text()
    assert sorted(path.name for path in out.glob("0*")) == sorted(path.name for path in asked_about.glob("0*"))


def test_the_photo_decides(asked_about: Path, described: Path) -> None:
    """The server names the colour that the middle of the box shows; so can we."""
    told = descriptions(described)
    files = samples(asked_about)
    for (key, _), query in told.items():
        image = Image.open(io.BytesIO(files[key]["jpg"]))
        box = [round(value) for value in query.boxes[0]]
        asked = Asked(f"One object in it is a {query.category}, at {box} (", image, {}, {})
        assert json.loads(describe(asked))["description"] in query.answers[0]
    assert len({query.answers[0].split()[6] for query in told.values()}) > 3


def test_other_readers_take_the_shards(asked_about: Path, described: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from sketchlm.shards import read_samples

    assert [raw.key for raw in read_samples(str(described))] == list(samples(asked_about))
    seen = list(datasets.load_dataset(str(described), split="train", streaming=True))
    assert {q["answer_source"] for row in seen for q in row["json"]["queries"] if q["task"] == "describe"} == {"eyes"}


def test_a_refiner_writes_the_last_word(asked_about: Path, tmp_path: Path) -> None:
    with serving(lambda asked: describe(asked) if asked.image else polish(asked)) as (server, url):
        text = said(config(asked_about, url, tmp_path / "out", refiner=pen(url)))
    told = descriptions(tmp_path / "out")
    assert {query.answer_source for query in told.values()} == {"eyes + pen"}
    assert all(" that has a dark outline." in query.answers[0] for query in told.values())
    assert f"eyes + pen {len(told)}" in text
    assert Counter(asked.body["model"] for asked in server.asked) == {"eyes": len(told), "pen": len(told)}


def test_where_the_refiner_fails_the_captioner_has_the_last_word(asked_about: Path, tmp_path: Path) -> None:
    def reply(asked: Asked) -> Any:
        if asked.image:
            return describe(asked)
        kinds = ("Here you are!", polish(asked).replace('"object": "', '"object": "not a '), status(500))
        return kinds[sum(asked.prompt.split("\nYour last")[0].encode()) % 3]

    with serving(reply) as (_, url):
        text = said(config(asked_about, url, tmp_path / "out", refiner=pen(url)))
    found = rows(tmp_path / "out")
    counts = Counter(row.fallback for row in found.values())
    assert set(counts) == {"refiner-garbage", "refiner-wrong-class", "refiner-server-error"}
    assert {row.answer_source for row in found.values()} == {"eyes"}
    assert all("with a dark outline" in query.answers[0] for query in descriptions(tmp_path / "out").values())
    for reason, count in counts.items():
        assert f"{reason} {count}" in text
    assert "template kept" not in text


# --- faults


FAULTS: dict[str, Callable[[Asked], Any]] = {
    "": describe,
    "garbage": lambda asked: describe(asked)[:-9],
    "wrong-class": lambda asked: describe(asked, object="elephant"),
    "wrong-box": lambda asked: describe(asked, box=[value + 150 for value in asked.box]),
    "box-text": lambda asked: describe(asked, description=f"A thing at {asked.box}"),
    "rate-limit": lambda asked: status(429, "slow down", retry_after="0.01"),
    "server-error": lambda asked: status(500, "out of memory"),
    "time-out": lambda asked: slow(0.7) or describe(asked),
    "request-refused": lambda asked: status(400, "no such picture"),
}


def fault_of(asked: Asked) -> str:
    """Which fault a question gets: the same each time, a third of them none."""
    kinds = [*FAULTS, "", "", ""]
    return kinds[seed_of(asked.category, asked.box) % len(kinds)]


def test_every_fault_keeps_the_template_and_is_counted(asked_about: Path, tmp_path: Path) -> None:
    given: Counter[str] = Counter()

    def reply(asked: Asked) -> Any:
        fault = fault_of(asked)
        if "Your last answer" not in asked.prompt:
            with server.lock:
                given[fault] += 1
        return FAULTS[fault](asked)

    with serving(reply) as (server, url):
        base = config(asked_about, url, tmp_path / "out")
        text = said(replace(base, captioner=replace(base.captioner, timeout=0.3, patience=100)))
    assert set(given) == set(FAULTS)
    found = rows(tmp_path / "out")
    assert Counter(row.fallback for row in found.values()) == given
    old, new = descriptions(asked_about), descriptions(tmp_path / "out")
    for place, row in found.items():
        assert new[place].answer_source == row.answer_source == ("template" if row.fallback else "eyes")
        assert (new[place].answers == old[place].answers) == bool(row.fallback)
        assert row.words == len(new[place].answers[0].split())
        assert bool(row.detail) == bool(row.fallback)
    elephants = [row for row in found.values() if row.fallback == "wrong-class"]
    assert all(row.detail == f"'elephant' where the annotation says {row.category!r}" for row in elephants)
    assert f"{given['']} of {len(found)} (" in text
    for fault, count in given.items():
        assert not fault or f"{fault} {count}" in text
    assert "named instead" in text
    assert "'elephant' where" in text
    kept = (tmp_path / "out" / "README.md").read_text()
    assert f"{given['']} of {len(found)} descriptions written by eyes" in kept


def test_what_is_asked_again_gets_right(asked_about: Path, tmp_path: Path) -> None:
    def reply(asked: Asked) -> str:
        return describe(asked) if "elephant" in asked.prompt else describe(asked, object="elephant")

    with serving(reply) as (server, url):
        said(config(asked_about, url, tmp_path / "out"))
    assert {row.answer_source for row in rows(tmp_path / "out").values()} == {"eyes"}
    assert len(server.asked) == 2 * len(rows(tmp_path / "out"))


def test_a_run_without_a_single_description_is_an_error(asked_about: Path, tmp_path: Path) -> None:
    with (
        serving(lambda asked: "A nice picture!") as (_, url),
        pytest.raises(ValueError, match=r"not one of \d+ answers was taken \(garbage \d+\): .* holds templates only"),
    ):
        run_descriptions(config(asked_about, url, tmp_path / "out"), quiet())


# --- servers that go away


def test_a_server_that_dies_ends_the_run_and_the_next_one_goes_on(
    asked_about: Path, described: Path, tmp_path: Path
) -> None:
    seen: list[str] = []

    def reply(asked: Asked) -> Any:
        seen.append(asked.prompt)
        return describe(asked) if len(seen) < 20 else status(503, "dying")

    base = config(asked_about, "", tmp_path / "out")
    with serving(reply) as (_, url):
        dying = replace(base, captioner=replace(base.captioner, base_url=url, patience=5, concurrency=2))
        text = said(dying, code=4)
    assert "ConnectionError: eyes at http://127.0.0.1:" in text
    assert "requests in a row failed (the last: server-error, 503: dying)" in text
    assert "stopped: 3 shards lost their models one after another; 4 are left to do" in text
    made = hashes(tmp_path / "out")
    assert len(made) == 2
    assert {row.answer_source for row in rows(tmp_path / "out").values()} == {"eyes"}
    with serving() as (_, url):
        said(replace(base, captioner=replace(base.captioner, base_url=url)))
    assert hashes(tmp_path / "out") == hashes(described)


def test_a_shard_too_small_to_lose_patience_is_not_done_without_a_server(asked_about: Path, tmp_path: Path) -> None:
    count = 0

    def reply(asked: Asked) -> Any:
        nonlocal count
        count += 1
        server.models = status(503)
        return status(503)

    with serving(reply) as (server, url):
        text = said(config(asked_about, url, tmp_path / "out"), code=6)
    assert count <= 16  # those under way; patience alone would wait for 20
    assert "the server refuses: 503" in text
    assert not hashes(tmp_path / "out")


def test_no_server_is_told_before_any_work_and_leaves_no_claim(asked_about: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ValueError, match=r"captioner: http://127\.0\.0\.1:\d+/v1: no server answers"):
        run_descriptions(config(asked_about, url, tmp_path / "out"), quiet())
    assert not list((tmp_path / "out").glob("0*"))
    with serving() as (_, url):
        said(config(asked_about, url, tmp_path / "out", samples_per_batch=1))


# --- promises


START = """
import pickle, sys
from rich.console import Console
from sketchgen.descriptions import run_descriptions
sys.exit(run_descriptions(pickle.loads(sys.stdin.buffer.read()), Console()))
"""


@pytest.mark.slow
def test_killed_in_mid_shard_and_resumed_is_identical(asked_about: Path, described: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    with serving(lambda asked: slow(0.05) or describe(asked)) as (server, url):
        killed = config(asked_about, url, out)
        killed = replace(killed, captioner=replace(killed.captioner, concurrency=1))
        process = subprocess.Popen([sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert process.stdin is not None
        process.stdin.write(pickle.dumps(killed))
        process.stdin.close()
        deadline = time.monotonic() + 60
        while not (list(out.glob("000000.json")) and list(out.glob(".tmp-*tar"))):
            assert time.monotonic() < deadline
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        done = len(list(out.glob("0*.json")))
        assert 1 <= done < 6
        server.reply, server.asked = describe, []
        said(killed)
        assert 0 < len(server.asked) < len(rows(out))
        assert not list(out.glob(".tmp-*"))
        assert "Nothing is left to do" in said(killed)
    assert hashes(out) == hashes(described)


@pytest.mark.slow
def test_ray_with_two_workers_equals_the_local_engine(asked_about: Path, tmp_path: Path) -> None:
    def reply(asked: Asked) -> Any:
        fault = fault_of(asked) if asked.image else ""
        return polish(asked) if not asked.image else FAULTS[fault if fault != "time-out" else ""](asked)

    with serving(reply) as (_, url):
        local = config(asked_about, url, tmp_path / "local", refiner=pen(url))
        said(local)
        said(replace(local, out=str(tmp_path / "ray"), engine=EngineConfig("ray", 2)))
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "local")


@pytest.mark.slow
def test_ray_says_that_the_server_died(asked_about: Path, tmp_path: Path) -> None:
    with serving(lambda asked: status(503, "dying")) as (_, url):
        base = config(asked_about, url, tmp_path / "out", engine=EngineConfig("ray", 2, retries=0))
        text = said(replace(base, captioner=replace(base.captioner, patience=3)), code=6)
    assert "3 requests in a row failed" in text
    assert "stopped: 3 shards lost their models" in text
    assert not hashes(tmp_path / "out")


@pytest.mark.slow
def test_a_model_in_the_worker_succeeds_where_it_was_taught_and_falls_back_where_not(tmp_path: Path) -> None:
    few = world(tmp_path / "in", 4, images_per_shard=2)
    run_instructions(few, quiet())
    ask = DescribeConfig(prompt="{category} {boxes}", tries=1)
    stored = read_finished(Storage(few.out), 0).samples
    asked = [
        (sample.key, query.query_id, first_request(sample.record, query, sample.jpeg, ask))
        for sample in stored
        for query in sample.record.queries
        if query.task == "describe"
    ][:3]
    lessons = []
    for _, _, request in asked:
        answer = {
            "object": request.category,
            "description": "a thing",
            "relations": [],
            "box": request.boxes[0],
        }
        lessons.append((request.image, request.prompt, json.dumps(answer).replace(".0", "")))
    model = tmp_path / "model"
    save_captioner(model, lessons, 100)
    config = DescriptionsConfig(
        shards=few.out, captioner=CaptionerConfig(model=str(model), max_tokens=100, batch=8, device="cpu"),
        describe=ask, engine=EngineConfig("local", retries=0), samples_per_batch=4, out=str(tmp_path / "out"),
    )  # fmt: skip
    run_descriptions(config, quiet())
    found = rows(tmp_path / "out")
    name = f"llava-{settings_of(config)['captioner']['model'][7:15]}"
    for key, query_id, request in asked:
        assert found[key, query_id].answer_source == name
        text = descriptions(tmp_path / "out")[key, query_id].answers[0]
        assert text.startswith("The sketch shows a")
        assert text.endswith(f" {request.category}. A thing.")
    fell = Counter(row.fallback for row in found.values() if row.answer_source == "template")
    assert fell and set(fell) <= {"garbage", "wrong-class", "wrong-box"}
    run_descriptions(replace(config, out=str(tmp_path / "again")), quiet())
    assert hashes(tmp_path / "again") == hashes(tmp_path / "out")
    save_captioner(model, [], 0)
    with pytest.raises(ValueError, match=r"captioner\.model: 'sha256:\w+' there, 'sha256:\w+' now"):
        run_descriptions(config, quiet())


def test_progress_counts_images_and_shows_descriptions(
    asked_about: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with serving(lambda asked: FAULTS["wrong-box" if asked.category < "f" else ""](asked)) as (_, url):
        text = said(config(asked_about, url, tmp_path / "out"))
    last = [line for line in text.splitlines() if " left · " in line][-1]
    wrong = sum(row.fallback == "wrong-box" for row in rows(tmp_path / "out").values())
    assert last.startswith("12 of 12 images · ")
    assert "descriptions/s" in last
    assert last.endswith(f"fell back {wrong}: wrong-box {wrong}")
    (log, *_) = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert log["descriptions"] == sum(key.startswith("000000") for key, _ in rows(tmp_path / "out"))
    assert set(log["seconds"]) == {"read", "caption", "refine", "write"}


@pytest.mark.parametrize(
    "describing",
    [DescribeConfig(view="crop"), DescribeConfig(unit="thousandths"), DescribeConfig(view="crop", unit="thousandths")],
)
def test_views_and_units(asked_about: Path, tmp_path: Path, describing: DescribeConfig) -> None:
    sizes = set()

    def reply(asked: Asked) -> str:
        assert asked.image is not None
        sizes.add(asked.image.size)
        assert asked.prompt.startswith("The image is {} x {} pixels".format(*asked.image.size))
        scale = (asked.image.width / 1000, asked.image.height / 1000) if describing.unit == "thousandths" else (1, 1)
        x1, y1, x2, y2 = (value * scale[n % 2] for n, value in enumerate(asked.box))
        assert -1 <= x1 < x2 <= asked.image.width + 1
        assert -1 <= y1 < y2 <= asked.image.height + 1
        return describe(asked)

    with serving(reply) as (_, url):
        said(config(asked_about, url, tmp_path / "out", describe=describing))
    assert {row.answer_source for row in rows(tmp_path / "out").values()} == {"eyes"}
    assert (len(sizes) > 10) == (describing.view == "crop")


# --- input


def test_an_unfinished_input_is_described_as_far_as_it_goes(asked_about: Path, described: Path, tmp_path: Path) -> None:
    shards = tmp_path / "in"
    shutil.copytree(asked_about, shards)
    (shards / "000003.json").rename(tmp_path / "kept")
    with serving() as (_, url):
        text = said(config(shards, url, tmp_path / "out"))
        assert "is not finished: 5 of 6 shards are. They are described now; finish it and run" in text
        assert "000003" not in hashes(tmp_path / "out")
        (tmp_path / "kept").rename(shards / "000003.json")
        assert "is not finished" not in said(config(shards, url, tmp_path / "out"))
    assert hashes(tmp_path / "out") == hashes(described)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def forget_a_query(path: Path) -> None:
    """A ledger that its record agrees with, and the tar does not."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    record = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(record | {"ledger_sha256": sha256_of(path)}))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("000002.tar", flip, "000002.tar: the tar has changed: sha256 is"),
        ("000002.parquet", flip, "000002.tar: the ledger has changed: sha256 is"),
        ("000002.parquet", forget_a_query, "shard 000002: its ledger lacks query"),
    ],
)
def test_a_damaged_shard_is_named_and_the_others_go_on(
    asked_about: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    shutil.copytree(asked_about, tmp_path / "in")
    damage(tmp_path / "in" / name)
    with serving() as (_, url):
        text = said(config(tmp_path / "in", url, tmp_path / "out"), code=1)
    assert message in text
    assert "`make instructions` again" in text
    assert len(hashes(tmp_path / "out")) == 5


def test_shards_that_are_damaged_do_not_end_the_run(asked_about: Path, tmp_path: Path) -> None:
    shutil.copytree(asked_about, tmp_path / "in")
    for shard in (1, 2, 3, 4):
        flip(tmp_path / "in" / f"00000{shard}.tar")
    with serving() as (_, url):
        text = said(config(tmp_path / "in", url, tmp_path / "out"), code=4)
    assert "stopped" not in text
    assert list(hashes(tmp_path / "out")) == ["000000", "000005"]


def test_folders_that_cannot_be_described_are_refused(asked_about: Path, tmp_path: Path) -> None:
    with serving() as (_, url):
        base = config(asked_about, url, tmp_path / "out")
        said(base)

        def refused(message: str, **fields: Any) -> None:
            with pytest.raises(ValueError, match=message):
                run_descriptions(replace(base, **fields), quiet())

        refused(r"describe\.min_iou: 0\.5 there, 0\.9 now", describe=DescribeConfig(min_iou=0.9))
        refused("refiner.model: '' there, 'pen' now", refiner=pen(url))
        refused("out and shards are both", out=str(asked_about))
        refused("is no output of `make instructions`", shards=str(tmp_path / "out"), out=str(tmp_path / "o2"))
        refused(
            r"holds no shards \(settings\.json is missing\): run `make instructions` first",
            shards=str(tmp_path / "none"),
        )
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "settings.json").write_text("{")
        refused(r"settings\.json is damaged", shards=str(tmp_path / "bad"))
        few = world(tmp_path / "few", 4, tasks=TasksConfig(names=("count", "sbir")))
        run_instructions(few, quiet())
        refused(r"holds no question for a description \(tasks count, sbir\)", shards=few.out, out=str(tmp_path / "o3"))
        shutil.copytree(asked_about, tmp_path / "begun", ignore=shutil.ignore_patterns("0*.json"))
        refused("has none of its 6 shards finished", shards=str(tmp_path / "begun"), out=str(tmp_path / "o4"))
        said(replace(base, captioner=replace(base.captioner, concurrency=1, timeout=9), engine=EngineConfig("local")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"samples_per_batch": 0}, "samples_per_batch is 0, must be at least 1"),
        ({"describe": DescribeConfig(tries=0)}, r"describe\.tries is 0, must be at least 1"),
        ({"describe": DescribeConfig(prompt="{x}")}, r"describe\.prompt holds \{x\}"),
        ({"captioner": CaptionerConfig()}, r"captioner\.model is empty"),
        ({"captioner": CaptionerConfig("server", "eyes", concurrency=0)}, r"captioner\.concurrency is 0"),
        ({"refiner": CaptionerConfig("server", "pen", patience=0)}, r"refiner\.patience is 0"),
    ],
)
def test_settings_that_mean_nothing_are_named(asked_about: Path, tmp_path: Path, fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_descriptions(config(asked_about, "http://localhost:1/v1", tmp_path / "out", **fields), quiet())


def test_dry_run_prints_the_plan_and_writes_nothing(asked_about: Path, tmp_path: Path) -> None:
    text = said(config(asked_about, "http://localhost:1/v1", tmp_path / "out", dry_run=True))
    assert "6 shards, 12 images, 12 samples, 0 shards done. Captioner eyes, refiner none" in text
    assert not os.path.exists(tmp_path / "out")
