"""Whole runs: byte-identical however they went, resumed, refused, and honest about bad input."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from data_manifests.schema import validate
from sketchgen.config import RunConfig, settings_of
from sketchgen.engine import EngineConfig
from sketchgen.ledger import read_ledger
from sketchgen.output import completions, fingerprint, locked
from sketchgen.plan import read_plan
from sketchgen.report import ReportConfig
from sketchgen.run import run
from sketchgen.segmenter import SegmenterConfig
from sketchgen.sketcher import SketcherConfig
from sketchgen.source import SourceConfig
from sketchgen.storage import Storage
from sketchgen.worker import DrawConfig


def config(folder: tuple[Path, Path], out: Path, **fields: Any) -> RunConfig:
    """A run without learned models: the sources' own masks, edges only."""
    return replace(
        RunConfig(
            source=SourceConfig("coco", annotations=str(folder[0]), images=str(folder[1])),
            segmenter=SegmenterConfig("annotation"),
            sketcher=SketcherConfig("none"),
            draw=DrawConfig(images_per_batch=2),
            engine=EngineConfig("local"),
            report=ReportConfig(previews=4),
            images_per_shard=3,
            out=str(out),
        ),
        **fields,
    )


def quiet() -> Console:
    return Console(file=io.StringIO())


def said(settings: RunConfig) -> str:
    console = Console(record=True, file=io.StringIO(), width=200)
    run(settings, console)
    return console.export_text()


def hashes(out: Path) -> dict[str, tuple[str, str]]:
    """sha256 of the tar and the ledger of every shard, from the files themselves."""
    from sketchgen.output import sha256_of

    return {
        path.stem: (sha256_of(path), sha256_of(path.with_suffix(".parquet"))) for path in sorted(out.glob("0*.tar"))
    }


def ledger(out: Path) -> list[Any]:
    return [row for path in sorted(out.glob("0*.parquet")) for row in read_ledger(path)]


def samples(out: Path) -> list[dict[str, Any]]:
    import webdataset as wds

    urls = [str(path) for path in sorted(out.glob("0*.tar"))]
    return list(wds.WebDataset(urls, shardshuffle=False, empty_check=False))


def test_a_run_writes_shards_ledger_card_and_report(coco_folder, tmp_path: Path) -> None:
    settings = config(coco_folder(7), tmp_path / "out")
    assert run(settings, quiet()) == 0
    out = tmp_path / "out"
    assert {f"00000{n}.{kind}" for n in range(3) for kind in ("tar", "parquet", "json")} < set(os.listdir(out))
    rows = ledger(out)
    assert sorted(row.object_id for row in rows) == [str(101 + n) for n in range(7)]
    assert {row.status for row in rows} == {"written"}
    for sample in samples(out):
        height = Image.open(io.BytesIO(sample["sketches.png"])).height
        record = validate(sample["json"], strip_height=height)
        assert record.objects[0].category == "ball"
        assert record.objects[0].mask.size == [120, 160]
    report = (out / "report.html").read_text()
    assert report.count('<img src="data:image/jpeg;base64,') == 7
    assert "http://" not in report
    assert "https://" not in report
    records = completions(Storage(str(out)), fingerprint(settings_of(settings)))
    assert {n: (r.tar_sha256, r.ledger_sha256) for n, r in records.items()} == {
        int(n): pair for n, pair in hashes(out).items()
    }


def test_the_second_run_has_nothing_left_to_do(coco_folder, tmp_path: Path) -> None:
    settings = config(coco_folder(), tmp_path / "out")
    run(settings, quiet())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("0*")}
    assert "Nothing is left to do" in said(settings)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("0*")}


def test_dry_run_prints_the_plan_and_writes_nothing(coco_folder, tmp_path: Path) -> None:
    text = said(config(coco_folder(7), tmp_path / "out", dry_run=True))
    assert "7 images, 7 instances planned" in text
    assert "3 shards" in text
    assert not (tmp_path / "out").exists()


def test_a_folder_made_with_other_settings_is_refused_by_field(coco_folder, tmp_path: Path) -> None:
    settings = config(coco_folder(), tmp_path / "out")
    run(settings, quiet())
    other = replace(settings, images_per_shard=1, segmenter=SegmenterConfig("grabcut"))
    with pytest.raises(ValueError, match="other settings") as caught:
        run(other, quiet())
    assert "images_per_shard: 3 there, 1 now" in str(caught.value)
    assert "segmenter.name: 'annotation' there, 'grabcut' now" in str(caught.value)
    # neither the engine nor moved files are other settings
    assert run(replace(settings, engine=EngineConfig("local", workers=5)), quiet()) == 0


def test_a_source_that_cannot_be_read_leaves_no_claim_on_the_folder(coco_folder, tmp_path: Path) -> None:
    folder = coco_folder()
    whole = folder[0].read_text()
    folder[0].write_text(whole[:-20])
    settings = config(folder, tmp_path / "out")
    with pytest.raises(ValueError, match="not valid JSON"):
        run(settings, quiet())
    folder[0].write_text(whole)
    assert run(settings, quiet()) == 0


def test_a_wrong_folder_of_images_is_an_error_before_anything_is_recorded(coco_folder, tmp_path: Path) -> None:
    annotations, images = coco_folder()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="right folder"):
        run(config((annotations, tmp_path / "empty"), tmp_path / "out"), quiet())
    assert run(config((annotations, images), tmp_path / "out"), quiet()) == 0
    assert {row.status for row in ledger(tmp_path / "out")} == {"written"}


def test_images_may_move_between_two_runs_and_the_bytes_stay(coco_folder, tmp_path: Path) -> None:
    folder = coco_folder(4)
    (folder[1] / "0002.jpg").unlink()
    run(config(folder, tmp_path / "straight"), quiet())
    run(config(folder, tmp_path / "moved"), quiet())
    (tmp_path / "moved" / "000001.json").unlink()
    folder[1].rename(tmp_path / "elsewhere")
    assert run(config((folder[0], tmp_path / "elsewhere"), tmp_path / "moved"), quiet()) == 0
    assert hashes(tmp_path / "moved") == hashes(tmp_path / "straight")


def test_a_shard_whose_tar_is_gone_is_made_again(coco_folder, tmp_path: Path) -> None:
    settings = config(coco_folder(4), tmp_path / "out")
    run(settings, quiet())
    before = hashes(tmp_path / "out")
    (tmp_path / "out" / "000000.tar").unlink()
    run(settings, quiet())
    assert hashes(tmp_path / "out") == before


def test_a_folder_with_other_files_is_not_touched(coco_folder, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "README.md").write_text("mine")
    with pytest.raises(ValueError, match=r"not empty and no output of sketchgen \(it holds README\.md\)"):
        run(config(coco_folder(), home), quiet())
    assert (home / "README.md").read_text() == "mine"


def test_settings_of_a_run_that_made_nothing_can_be_mended(coco_folder, tmp_path: Path) -> None:
    settings = config(coco_folder(), tmp_path / "out")
    missing = replace(settings, segmenter=SegmenterConfig("boxseg", checkpoint="nowhere.safetensors"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(missing, quiet())
    assert run(settings, quiet()) == 0


def test_a_box_thinner_than_what_is_stored_costs_no_shard(coco_folder, tmp_path: Path) -> None:
    thin = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 10, 0.003, 50]}
    folder = coco_folder(2, extra=[thin])
    assert run(config(folder, tmp_path / "out"), quiet()) == 0
    assert {row.object_id: row.reason for row in ledger(tmp_path / "out")} == {"101": "", "102": ""}
    assert read_plan(Storage(str(tmp_path / "out"))).left_out == {"box-small": 1}
    assert [len(json.loads(sample["json"])["objects"]) for sample in samples(tmp_path / "out")] == [1, 1]


def test_a_run_length_encoding_that_claims_another_size_is_not_unpacked(coco_folder, tmp_path: Path) -> None:
    bomb = {"size": [50_000, 50_000], "counts": [0, 2_500_000_000]}
    folder = coco_folder(1, edit=lambda data: data["annotations"][0].update(segmentation=bomb))
    settings = config(folder, tmp_path / "out")
    small = replace(settings, draw=replace(settings.draw, photo=replace(settings.draw.photo, max_side=100)))
    with pytest.raises(ValueError, match=r"not one sketch was written \(mask-empty 1\).*report\.html"):
        run(small, quiet())
    assert [row.reason for row in ledger(tmp_path / "out")] == ["mask-empty"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threads": 0}, "threads is 0, must be at least 1"),
        ({"images_per_shard": 0}, "images_per_shard is 0"),
        ({"engine": EngineConfig("local", retries=-1)}, r"engine\.retries is -1"),
        ({"out": "nosuch://x"}, "cannot open the output folder nosuch://x"),
    ],
)
def test_settings_that_mean_nothing_are_named(coco_folder, tmp_path: Path, fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(replace(config(coco_folder(1), tmp_path / "out"), **fields), quiet())


def test_two_runs_cannot_share_a_folder(coco_folder, tmp_path: Path) -> None:
    settings = config(coco_folder(), tmp_path / "out")
    with locked(Storage(settings.out)), pytest.raises(ValueError, match="another run is writing"):
        run(settings, quiet())


def test_bad_input_becomes_ledger_rows_and_the_rest_goes_on(coco_folder, tmp_path: Path) -> None:
    nan = float("nan")
    boxes = [
        [nan, 0, 9, 9],
        [5, 5, 0, 9],
        [500, 500, 50, 50],
        [50, 50, -20, -20],
        [0, 0, 5, 5],
        [30, 20, 80, 80],
    ]
    extra = [
        {"id": n, "image_id": 1, "category_id": 7, "bbox": box, "segmentation": [[1, 2]]} for n, box in enumerate(boxes)
    ]
    folder = coco_folder(8, extra=extra)
    images = folder[1]
    (images / "0002.jpg").unlink()
    (images / "0003.jpg").write_bytes(b"")
    whole = (images / "0004.jpg").read_bytes()
    (images / "0004.jpg").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(images / "0005.jpg")
    Image.open(images / "0006.jpg").convert("CMYK").save(images / "0006.jpg")
    Image.open(images / "0007.jpg").resize((80, 60)).save(images / "0007.jpg", format="PNG")
    assert run(config(folder, tmp_path / "out"), quiet()) == 0
    reasons = {row.object_id: row.reason for row in ledger(tmp_path / "out")}
    assert reasons == {
        "101": "", "102": "image-missing", "103": "image-unreadable",
        "104": "image-unreadable", "105": "box-small", "106": "", "107": "", "108": "",
    }  # fmt: skip
    left_out = {"box-invalid": 1, "box-empty": 2, "box-outside": 1, "box-small": 1, "duplicate": 1}
    assert read_plan(Storage(str(tmp_path / "out"))).left_out == left_out
    details = {row.object_id: row.detail for row in ledger(tmp_path / "out")}
    assert details["102"] == "0002.jpg does not exist"
    assert "0 bytes" in details["103"]


def test_more_objects_than_a_strip_holds_become_several_samples(coco_folder, tmp_path: Path) -> None:
    extra = [
        {"id": n, "image_id": 1, "category_id": 9, "bbox": [n, n, 60, 60 - n % 3],
         "segmentation": [[n, n, n + 60, n, n + 60, n + 55, n, n + 55]]}
        for n in range(40)
    ]  # fmt: skip
    folder = coco_folder(1, extra=extra)
    settings = config(folder, tmp_path / "out")
    checks = replace(settings.draw.checks, duplicate_iou=1.1)
    run(replace(settings, draw=replace(settings.draw, checks=checks)), quiet())
    records = [validate(sample["json"]) for sample in samples(tmp_path / "out")]
    assert [len(record.sketches) for record in records] == [32, 9]
    assert all(len(record.objects) == 41 for record in records)
    places = {(row.key, row.row) for row in ledger(tmp_path / "out")}
    assert len(places) == 41


def test_a_full_disk_is_reported_and_nothing_is_half_written(coco_folder, tmp_path: Path) -> None:
    """A worker that cannot write fails its shard; the run names it and exits with an error."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        text = said(config(coco_folder(6), small / "out"))
        assert "shard 000000 failed: OSError: [Errno 28]" in text
        assert not list((small / "out").glob("0*.json"))
        assert not list((small / "out").rglob(".tmp-*"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


RUN = """
import sys, pickle
from rich.console import Console
from sketchgen.run import run
sys.exit(run(pickle.loads(sys.stdin.buffer.read()), Console()))
"""


def start(settings: RunConfig) -> subprocess.Popen:
    import pickle

    process = subprocess.Popen([sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    process.stdin.write(pickle.dumps(settings))
    process.stdin.close()
    return process


@pytest.mark.slow
def test_killed_in_mid_shard_and_resumed_is_identical(coco_folder, tmp_path: Path) -> None:
    folder = coco_folder(60)
    straight = config(folder, tmp_path / "straight", images_per_shard=20)
    run(straight, quiet())
    killed = replace(straight, out=str(tmp_path / "killed"))
    process = start(killed)
    deadline = time.monotonic() + 120
    # a finished shard and a tar in the making: the middle of a shard
    while not (list((tmp_path / "killed").glob("000000.json")) and list((tmp_path / "killed").glob(".tmp-*tar"))):
        assert time.monotonic() < deadline
        assert process.poll() is None, "ended before it could be killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list((tmp_path / "killed").glob("0*.json"))) < 3
    assert run(killed, quiet()) == 0
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "straight")
    assert not list((tmp_path / "killed").glob(".tmp-*"))


@pytest.mark.slow
def test_ray_with_one_and_two_workers_equals_the_local_engine(coco_folder, tmp_path: Path) -> None:
    folder = coco_folder(12)
    local = config(folder, tmp_path / "local")
    run(local, quiet())
    for workers in (1, 2):
        out = tmp_path / f"ray{workers}"
        assert run(replace(local, engine=EngineConfig("ray", workers), out=str(out)), quiet()) == 0
        assert hashes(out) == hashes(tmp_path / "local")


def test_the_config_beside_the_output_is_complete(coco_folder, tmp_path: Path) -> None:
    settings = config(coco_folder(), tmp_path / "out")
    run(settings, quiet())
    saved = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert saved == json.loads(json.dumps(settings_of(settings)))
    assert saved["draw"]["checks"]["min_side"] == 24
