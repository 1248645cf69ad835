"""`sketchgen verify | stats | retry`: what is damaged is named, what is retried is made anew, whole."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipelines.outputs import Retry, Stats, Verify, run_retry, run_stats, run_verify
from sketchgen.output import sha256_of
from sketchgen.run import run
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
    made = io.BytesIO()
    with tarfile.open(path) as old, tarfile.open(fileobj=made, mode="w") as new:
        for entry in old:
            data = old.extractfile(entry).read()  # type: ignore[union-attr]
            if entry.name.endswith(".json"):
                data = data.replace(b'"queries":[]', b'"queries":[1]')
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
        (
            "000001.json",
            lambda path: shutil.copy(path, path.with_name("000009.json")),
            "000009.json belongs to no shard",
        ),
    ],
)
def test_whatever_is_damaged_is_named(output: Path, name: str, damage: Callable[[Path], Any], message: str) -> None:
    import re

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
