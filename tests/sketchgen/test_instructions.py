"""Instruction shards: true to the contract, byte-identical however they were made, honest about bad input."""

from __future__ import annotations

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from data_manifests.schema import Sample, validate
from sketchgen import instructions, progress
from sketchgen.bank import Drawing
from sketchgen.banks import BankConfig
from sketchgen.engine import EngineConfig
from sketchgen.instructions import InstructionsConfig, is_complete, run_instructions, settings_of
from sketchgen.ledger import QueryRow, read_query_ledger
from sketchgen.output import completions, fingerprint, sha256_of
from sketchgen.seed import seed_of
from sketchgen.shapeworld import HELD_OUT_STYLE, LOOKALIKES, TRAINING_STYLES, WorldConfig
from sketchgen.source import SourceConfig
from sketchgen.storage import Storage
from sketchgen.tasks.config import TasksConfig


def world(out: Path, scenes: int = 10, **fields: Any) -> InstructionsConfig:
    """A small run over shapeworld, in this process."""
    return replace(
        InstructionsConfig(
            source=SourceConfig(name="shapeworld", world=WorldConfig(split="train", num_scenes=scenes)),
            engine=EngineConfig("local"),
            images_per_shard=4,
            out=str(out),
        ),
        **fields,
    )


def quiet() -> Console:
    return Console(file=io.StringIO())


def said(config: InstructionsConfig) -> str:
    console = Console(record=True, file=io.StringIO(), width=200)
    run_instructions(config, console)
    return console.export_text()


def hashes(out: Path) -> dict[str, tuple[str, str]]:
    """sha256 of the tar and the ledger of every shard, from the files themselves."""
    return {
        path.stem: (sha256_of(path), sha256_of(path.with_suffix(".parquet"))) for path in sorted(out.glob("0*.tar"))
    }


def ledger(out: Path) -> list[QueryRow]:
    return [row for path in sorted(out.glob("0*.parquet")) for row in read_query_ledger(path)]


def samples(out: Path) -> dict[str, tuple[Sample, np.ndarray, Image.Image]]:
    """By key: the record, its strip [rows * 256, 256] and the photo."""
    import webdataset as wds

    found = {}
    for sample in wds.WebDataset([str(p) for p in sorted(out.glob("0*.tar"))], shardshuffle=False, empty_check=False):
        strip = np.asarray(Image.open(io.BytesIO(sample["sketches.png"])))
        record = validate(sample["json"], strip_height=strip.shape[0])
        found[sample["__key__"]] = (record, strip, Image.open(io.BytesIO(sample["jpg"])))
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    assert run_instructions(world(out), quiet()) == 0
    return out


# --- what is in them


def test_shards_ledger_card_and_records(made: Path) -> None:
    assert {f"00000{n}.{kind}" for n in range(3) for kind in ("tar", "parquet", "json")} < set(os.listdir(made))
    records = completions(Storage(str(made)), fingerprint(settings_of(world(made))))
    assert {n: (r.tar_sha256, r.ledger_sha256) for n, r in records.items()} == {
        int(n): pair for n, pair in hashes(made).items()
    }
    assert sum(r.images for r in records.values()) == 10
    assert sum(r.written for r in records.values()) == sum(row.status == "written" for row in ledger(made))
    card = (made / "README.md").read_text()
    assert "dataset_info:" in card
    assert "name: queries" in card


def test_every_sample_keeps_the_contract(made: Path) -> None:
    for record, strip, photo in samples(made).values():
        assert strip.dtype == np.uint8
        assert strip.shape == (256 * len(record.sketches), 256)
        assert photo.size == (record.image.width, record.image.height)
        for row in range(len(record.sketches)):
            drawn = strip[256 * row : 256 * (row + 1)]
            assert 0.003 < (drawn < 128).mean() < 0.5
        present = {o.category for o in record.objects}
        drawn_classes = [s.category for s in record.sketches]
        assert present <= set(drawn_classes)
        assert len(set(drawn_classes)) == len(drawn_classes) == 2 * len(present)
        assert {s.style for s in record.sketches} <= set(TRAINING_STYLES)
        assert all(s.object_id == "" for s in record.sketches)
        assert all(o.mask.size == [record.image.height, record.image.width] for o in record.objects)
        assert {o.status for o in record.objects} == {"written"}
        assert Counter(q.match for q in record.queries if q.task == "sbir") == {0: len(present), 1: len(present)}


def test_half_of_what_is_not_there_looks_like_what_is(made: Path) -> None:
    like = total = 0
    for record, _, _ in samples(made).values():
        present = {o.category for o in record.objects}
        twins = {twin for name in present for twin in LOOKALIKES.get(name, ())}
        absent = {s.category for s in record.sketches} - present
        like += len(absent & twins)
        total += len(absent)
    assert abs(like - total / 2) <= len(samples(made)) / 2


def test_the_ledger_has_each_query_once(made: Path) -> None:
    rows = ledger(made)
    asked = {
        (key, q.query_id, q.task, q.category, q.row, record.sketches[q.row].sketch_id, record.image.id)
        for key, (record, _, _) in samples(made).items()
        for q in record.queries
    }
    assert {(r.key, r.query_id, r.task, r.category, r.row, r.sketch_id, r.image_id) for r in rows} == asked
    assert len(rows) == len(asked)
    assert {(r.status, r.reason) for r in rows} == {("written", "")}


def test_all_tasks_are_asked(made: Path) -> None:
    assert {row.task for row in ledger(made)} == {"describe", "bbox", "count", "vqa", "sbir"}


def test_no_sketch_occurs_twice(made: Path) -> None:
    drawn = [s.sketch_id for record, _, _ in samples(made).values() for s in record.sketches]
    assert len(drawn) == len(set(drawn))


def test_the_card_lets_datasets_read_the_shards(made: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = list(datasets.load_dataset(str(made), split="train", streaming=True))
    assert len(rows) == 10
    assert rows[0]["json"]["queries"][0]["task"] == "describe"


# --- promises


def test_one_seed_one_result_and_another_seed_another(made: Path, tmp_path: Path) -> None:
    run_instructions(world(tmp_path / "again"), quiet())
    assert hashes(tmp_path / "again") == hashes(made)
    run_instructions(world(tmp_path / "other", seed=1), quiet())
    assert not set(hashes(tmp_path / "other").values()) & set(hashes(made).values())


def test_the_second_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    config = world(tmp_path / "out", scenes=4)
    assert not is_complete(config)
    run_instructions(config, quiet())
    assert is_complete(config)
    before = hashes(tmp_path / "out")
    assert "Nothing is left to do" in said(config)
    (tmp_path / "out" / "000000.tar").unlink()
    assert not is_complete(config)
    run_instructions(config, quiet())
    assert hashes(tmp_path / "out") == before


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    text = said(world(tmp_path / "out", dry_run=True))
    assert "10 images" in text
    assert "3 shards" in text
    assert not (tmp_path / "out").exists()


def test_the_summary_counts_what_was_asked(tmp_path: Path) -> None:
    text = said(world(tmp_path / "out", scenes=4))
    rows = ledger(tmp_path / "out")
    assert f"{len(rows):,} queries in 4 samples" in text
    assert f"sbir {sum(row.task == 'sbir' for row in rows)}" in text


def test_progress_counts_images_and_shows_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    text = said(world(tmp_path / "out", scenes=8))
    last = [line for line in text.splitlines() if " left · " in line][-1]
    assert last.startswith("8 of 8 images · ")
    assert "images/s" in last
    assert "queries/s" in last
    (log, *_) = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert log["queries"] > 20
    assert set(log["seconds"]) == {"read", "facts", "sketch", "ask", "write"}


def test_a_folder_made_with_other_settings_is_refused_by_field(tmp_path: Path) -> None:
    config = world(tmp_path / "out", scenes=4)
    run_instructions(config, quiet())
    other = replace(config, seed=3, tasks=TasksConfig(names=("sbir",), zero_rate=0.5))
    with pytest.raises(ValueError, match="other settings") as caught:
        run_instructions(other, quiet())
    assert "seed: 0 there, 3 now" in str(caught.value)
    assert "tasks.zero_rate: 0.15 there, 0.5 now" in str(caught.value)
    assert run_instructions(replace(config, engine=EngineConfig("local", workers=5)), quiet()) == 0


def test_only_the_tasks_that_are_named(tmp_path: Path) -> None:
    run_instructions(world(tmp_path / "out", scenes=4, tasks=TasksConfig(names=("count", "bbox"))), quiet())
    assert {row.task for row in ledger(tmp_path / "out")} == {"count", "bbox"}


START = """
import pickle, sys
from rich.console import Console
from sketchgen.instructions import run_instructions
sys.exit(run_instructions(pickle.loads(sys.stdin.buffer.read()), Console()))
"""


@pytest.mark.slow
def test_killed_in_mid_shard_and_resumed_is_identical(tmp_path: Path) -> None:
    straight = world(tmp_path / "straight", scenes=60, images_per_shard=20)
    run_instructions(straight, quiet())
    killed = replace(straight, out=str(tmp_path / "killed"))
    process = subprocess.Popen([sys.executable, "-c", START], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps(killed))
    process.stdin.close()
    deadline = time.monotonic() + 60
    out = tmp_path / "killed"
    while not (list(out.glob("000000.json")) and list(out.glob(".tmp-*tar"))):
        assert time.monotonic() < deadline
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(out.glob("0*.json"))) < 3
    assert run_instructions(killed, quiet()) == 0
    assert hashes(out) == hashes(tmp_path / "straight")


@pytest.mark.slow
def test_ray_with_two_workers_equals_the_local_engine(made: Path, tmp_path: Path) -> None:
    assert run_instructions(world(tmp_path / "ray", engine=EngineConfig("ray", 2)), quiet()) == 0
    assert hashes(tmp_path / "ray") == hashes(made)


# --- what is refused


def test_the_held_out_style_never_gets_into_training(tmp_path: Path) -> None:
    styles = (*TRAINING_STYLES, HELD_OUT_STYLE)
    with pytest.raises(ValueError, match="kept for evaluation"):
        run_instructions(world(tmp_path / "out", bank=BankConfig(split="train", styles=styles)), quiet())
    assert not (tmp_path / "out").exists()


def test_scenes_and_sketches_are_of_one_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"source\.world\.split is 'train' and bank\.split is 'val'"):
        run_instructions(world(tmp_path / "out", bank=BankConfig(split="val")), quiet())


def test_the_held_out_style_is_there_for_evaluation(made: Path, tmp_path: Path) -> None:
    source = SourceConfig(name="shapeworld", world=WorldConfig(split="val", num_scenes=4))
    bank = BankConfig(split="val", styles=(HELD_OUT_STYLE,))
    run_instructions(world(tmp_path / "out", source=source, bank=bank), quiet())
    unseen = samples(tmp_path / "out").values()
    assert {s.style for record, _, _ in unseen for s in record.sketches} == {HELD_OUT_STYLE}
    seen = {s.sketch_id for record, _, _ in samples(made).values() for s in record.sketches}
    assert not seen & {s.sketch_id for record, _, _ in unseen for s in record.sketches}
    images = {record.image.id for record, _, _ in samples(made).values()}
    assert not images & {record.image.id for record, _, _ in unseen}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"images_per_shard": 0}, "images_per_shard is 0, must be at least 1"),
        ({"tasks": TasksConfig(max_rows=50)}, r"tasks\.max_rows is 50, must be from 2 to 32"),
        ({"bank": BankConfig(styles=("scribble",))}, "has no style 'scribble'"),
        ({"bank": BankConfig(styles=())}, r"bank\.styles is empty"),
        ({"out": "nosuch://x"}, "cannot open the output folder nosuch://x"),
    ],
)
def test_settings_that_mean_nothing_are_named(tmp_path: Path, fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run_instructions(replace(world(tmp_path / "out"), **fields), quiet())


# --- any source: photos of a COCO folder, and a bank that knows few classes


class BallBank:
    """Draws a bar whose length tells the class."""

    categories = ("ball", "cup", "dog")

    def lookalikes(self, category: str) -> tuple[str, ...]:
        return ("dog",) if category == "ball" else ()

    def draw(self, category: str, seed: int) -> Drawing:
        image = np.full((256, 256), 255, np.uint8)
        image[100:140, 20 : 60 + 40 * self.categories.index(category)] = 0
        return Drawing(f"bars/{category}/{seed}", category, "bars", "bar", "bars-1", image)


@pytest.fixture
def photos(coco_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run over a COCO folder with BallBank; returns samples and ledger."""
    monkeypatch.setattr(instructions, "build_bank", lambda config: BallBank())

    def make(*args: Any, spoil: tuple[str, ...] = (), **kwargs: Any):
        annotations, images = coco_folder(*args, **kwargs)
        data = json.loads(annotations.read_text())
        data["categories"] += [{"id": 1, "name": "cup"}, {"id": 2, "name": "dog"}]  # looked for, and in no photo
        annotations.write_text(json.dumps(data))
        for name in spoil:
            (images / name).write_bytes(b"")
        config = InstructionsConfig(
            source=SourceConfig("coco", annotations=str(annotations), images=str(images)),
            engine=EngineConfig("local"),
            images_per_shard=4,
            out=str(tmp_path / "out"),
        )
        run_instructions(config, quiet())
        return samples(tmp_path / "out"), ledger(tmp_path / "out")

    return make


def test_a_class_that_the_bank_lacks_is_a_row_with_its_reason(photos) -> None:
    bat = {"id": 1, "image_id": 1, "category_id": 9, "bbox": [5, 5, 20, 20]}
    found, rows = photos(2, extra=[bat])
    assert [(r.image_id, r.category, r.reason, r.detail) for r in rows if r.status == "rejected"] == [
        ("1", "bat", "class-not-drawn", "the bank has no 'bat'")
    ]
    (first, *_), *_ = found.values()
    assert {o.category for o in first.objects} == {"ball", "bat"}
    assert {s.category for s in first.sketches} <= {"ball", "cup", "dog"}


def test_an_image_that_gives_nothing_is_a_row_with_its_reason(photos) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["annotations"][2]["category_id"] = 9
        data["annotations"][3]["iscrowd"] = 1

    found, rows = photos(5, edit=edit, spoil=("0002.jpg",))
    assert {(r.image_id, r.reason) for r in rows if r.status == "rejected"} == {
        ("2", "image-unreadable"), ("3", "class-not-drawn"),
    }  # fmt: skip
    assert {record.image.id for record, _, _ in found.values()} == {"1", "5"}


def test_the_photo_keeps_its_bytes_and_the_mask_is_the_annotation(photos, tmp_path: Path) -> None:
    import tarfile

    found, _ = photos(1)
    ((key, (record, _, _)),) = found.items()
    with tarfile.open(tmp_path / "out" / "000000.tar") as tar:
        stored = tar.extractfile(f"{key}.jpg").read()
    assert stored == (tmp_path / "images" / "0001.jpg").read_bytes()
    from pycocotools import mask as coco_mask

    bits = coco_mask.decode(record.objects[0].mask.model_dump())
    assert bits.shape == (120, 160)
    assert 4500 < bits.sum() < 5200
    assert record.image.license == "CC0"


def test_a_run_without_one_query_is_an_error(photos) -> None:
    def edit(data: dict[str, Any]) -> None:
        for annotation in data["annotations"]:
            annotation["category_id"] = 9

    with pytest.raises(ValueError, match=r"not one query was written \(class-not-drawn 3\)"):
        photos(3, edit=edit)


def test_seeds_differ_by_every_part_and_stay() -> None:
    assert seed_of(0, "a", "b") == 4286416307407407933
    assert len({seed_of(0, "a", "b"), seed_of(0, "ab"), seed_of(0, "a", "b", ""), seed_of(1, "a", "b")}) == 4
    assert json.dumps(seed_of("x")).isdigit()
