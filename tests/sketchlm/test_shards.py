"""Reading shards: what is found, that it equals what `webdataset` reads, and what each damage is told."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest
import webdataset as wds
from hypothesis import given, settings
from hypothesis import strategies as st

from data_manifests.schema import Completion
from sketchlm.shards import RawSample, Shard, ShardError, check_bytes, index_tar, read_folder, read_sample
from tests.sketchlm import completion_of, record_of, sample_of, tar_of, write_shard, write_shards

Files = dict[str, bytes]


def shard_of(path: Path, tar: bytes, samples: int) -> Shard:
    """A shard whose record fits the bytes."""
    path.write_bytes(tar)
    return Shard(str(path), Completion.model_validate(completion_of(0, tar, samples)))


def read_all(path: Path, shard: Shard) -> list[RawSample]:
    """Every sample, checksum included."""
    check_bytes(path, shard)
    return [read_sample(path, shard.url, entry) for entry in index_tar(path, shard)]


def test_samples_equal_those_of_a_plain_webdataset_reader(tmp_path: Path) -> None:
    write_shards(tmp_path, [3, 4])
    shards = read_folder(str(tmp_path)).shards
    ours = [sample for shard in shards for sample in read_all(Path(shard.url), shard)]
    theirs = wds.WebDataset([shard.url for shard in shards], shardshuffle=False, empty_check=False)
    plain = [(s["__key__"], s["__url__"], s["jpg"], s["sketches.png"], json.loads(s["json"])) for s in theirs]
    assert [(s.key, s.url, s.jpg, s.strip, s.record.model_dump(by_alias=True)) for s in ours] == plain
    assert len(ours) == 7


def test_a_tar_without_a_completion_record_did_not_happen(tmp_path: Path) -> None:
    write_shards(tmp_path, [1, 1, 1])
    (tmp_path / "000001.json").unlink()
    (tmp_path / "settings.json").write_text("{}")
    folder = read_folder(f"{tmp_path}/")
    assert [shard.url for shard in folder.shards] == [f"{tmp_path}/000000.tar", f"{tmp_path}/000002.tar"]
    assert folder.unfinished == ("000001",)


def test_a_remote_folder_reads_like_a_local_one(tmp_path: Path) -> None:
    write_shards(tmp_path, [1, 2])
    url = f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").put(str(tmp_path), f"/{tmp_path.name}", recursive=True)
    remote, local = read_folder(url), read_folder(str(tmp_path))
    assert [shard.record for shard in remote.shards] == [shard.record for shard in local.shards]
    assert remote.shards[1].url == f"{url}/000001.tar"


def test_folders_without_finished_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no finished shard: make some"):
        read_folder(str(tmp_path))
    (tmp_path / "000000.tar").touch()
    with pytest.raises(ValueError, match=r"\(1 without a completion record: not finished\)"):
        read_folder(str(tmp_path))
    with pytest.raises(ValueError, match=r"one file of shards: give the folder that holds it"):
        read_folder(str(tmp_path / "000000.tar"))
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match=r"give one of its folders, .*/mine say"):
        read_folder(str(tmp_path))
    with pytest.raises(ValueError, match="there is no folder of shards .*nowhere"):
        read_folder(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="cannot read the shards of 'what://ever'"):
        read_folder("what://ever")


@pytest.mark.parametrize("version", [2, 0, "1", None])
def test_another_schema_version_is_refused(tmp_path: Path, version: Any) -> None:
    path = write_shard(tmp_path, 0, {"a": sample_of("a")}).with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": version}))
    with pytest.raises(ValueError, match=rf"000000\.json: field `schema` is {version!r}, this sketchlm reads 1"):
        read_folder(str(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", '{"schema": 1}', "\x00", '{"no": "schema"}', "[" * 100_000])
def test_a_broken_completion_record_is_reported_by_name(tmp_path: Path, text: str) -> None:
    write_shards(tmp_path, [1, 1])
    (tmp_path / "000001.json").write_text(text)
    folder = read_folder(str(tmp_path))
    assert len(folder.shards) == 1
    assert str(folder.broken[f"{tmp_path}/000001.json"]).startswith(f"{tmp_path}/000001.json: is no completion record")


def test_a_record_of_another_shard_is_reported(tmp_path: Path) -> None:
    write_shards(tmp_path, [1, 1])
    (tmp_path / "000007.json").write_text((tmp_path / "000001.json").read_text())
    assert "record of shard 1" in str(read_folder(str(tmp_path)).broken[f"{tmp_path}/000007.json"])


def edited(change: Callable[[dict[str, Any]], None], rows: int = 1) -> Files:
    """A sample whose json was changed."""
    record = record_of("x", rows)
    change(record)
    return sample_of("x", rows) | {"json": json.dumps(record).encode()}


def picture(suffix: str, array: np.ndarray) -> bytes:
    return bytes(cv2.imencode(suffix, array)[1])


GREY = np.full((256, 256), 255, np.uint8)
SAMPLES: dict[str, tuple[Files, str]] = {
    "no json": ({k: v for k, v in sample_of("x").items() if k != "json"}, "has no json"),
    "no photo, no strip": ({"json": sample_of("x")["json"]}, r"has no jpg and no sketches\.png"),
    "json cut": (sample_of("x") | {"json": b'{"schema": 1'}, "shard contract"),
    "json no utf-8": (sample_of("x") | {"json": b"\xff\xfe"}, "shard contract"),
    "box outside": (edited(lambda r: r["objects"][0].update(box=[0.0, 0.0, 99.0, 9.0])), "not inside the image"),
    "query without its row": (edited(lambda r: r["queries"][0].update(row=1)), "asks row 1 of 1 sketches"),
    "unknown task": (edited(lambda r: r["queries"][0].update(task="guess")), "queries.0.task"),
    "another schema": (edited(lambda r: r.update(schema=2)), "schema"),
    "strip too short": (edited(lambda r: None, 2) | {"sketches.png": picture(".png", GREY)}, "2 sketches need 512"),
    "strip too wide": (sample_of("x") | {"sketches.png": picture(".png", np.tile(GREY, 2))}, "512 px wide"),
    "strip in colour": (sample_of("x") | {"sketches.png": picture(".png", np.dstack([GREY] * 3))}, "colour type 2"),
    "strip no png": (sample_of("x") | {"sketches.png": sample_of("x")["jpg"]}, "no PNG"),
    "strip empty": (sample_of("x") | {"sketches.png": b""}, "0 bytes"),
    "photo no jpeg": (sample_of("x") | {"jpg": sample_of("x")["sketches.png"]}, "no JPEG"),
    "photo empty": (sample_of("x") | {"jpg": b""}, "no JPEG"),
    "photo of another size": (sample_of("x") | {"jpg": picture(".jpg", GREY)}, r"its photo is \(256, 256\)"),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_broken_sample_is_named_and_its_neighbours_stay(tmp_path: Path, name: str) -> None:
    files, message = SAMPLES[name]
    path = tmp_path / "000000.tar"
    shard = shard_of(path, tar_of({"a-0": sample_of("a"), "a-1": files, "a-2": sample_of("b")}), 3)
    check_bytes(path, shard)
    first, second, third = index_tar(path, shard)
    assert read_sample(path, shard.url, first).record.image.id == "a"
    assert read_sample(path, shard.url, third).record.image.id == "b"
    with pytest.raises(ShardError, match=rf"000000\.tar: sample a-1: .*{message}.*broken='skip'"):
        read_sample(path, shard.url, second)


def member(name: str, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar of one file of one byte, without the blocks that end it."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, 1
    return info.tobuf() + b"x".ljust(512, b"\0")


END = bytes(1024)
TARS: dict[str, tuple[bytes, str]] = {
    "one sample less": (tar_of({"a": sample_of("a")}), "holds 1 samples, its completion record counts 2"),
    "apart": (member("a.jpg") + member("b.jpg") + member("a.json") + END, "'a' do not lie together"),
    "twice": (member("a.jpg") + member("a.jpg") + member("b.jpg") + END, r"'a\.jpg' twice"),
    "no end": (member("a.jpg") + member("b.jpg"), "no sound tar at byte 2048"),
    "cut in a file": (tar_of({"a": sample_of("a"), "b": sample_of("b")})[:1500], r"ends within 'a\.jpg'"),
    "no tar": (b"?" * 2048, "no sound tar at byte 0"),
    "empty": (b"", "no sound tar at byte 0"),
    "a link": (member("a.jpg", tarfile.SYMTYPE) + END, r"'a\.jpg' is no plain file"),
}


@pytest.mark.parametrize("name", TARS)
def test_a_broken_tar_is_named(tmp_path: Path, name: str) -> None:
    tar, message = TARS[name]
    path = tmp_path / "000000.tar"
    shard = shard_of(path, tar, 2)
    with pytest.raises(ShardError, match=rf"000000\.tar: .*{message}.*broken='skip'"):
        index_tar(path, shard)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_read_as_tarfile_reads_them(tmp_path: Path, form: int) -> None:
    path = tmp_path / "000000.tar"
    names = ["a.jpg", "a.json", "ü/b.jpg", "c" * 96 + ".jpg", "d" * 70 + "/" + "e" * 70 + ".jpg"]
    if form != tarfile.USTAR_FORMAT:
        names.pop()  # only ustar splits long names; the others give them entries of their own
    with tarfile.open(path, "w", format=form) as tar:
        for size, name in enumerate(names[:2] if form == tarfile.PAX_FORMAT else names):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 500 * size, 1_700_000_000
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    with tarfile.open(path) as tar:
        theirs = {member.name: (member.offset_data, member.size) for member in tar}
    shard = shard_of(path, path.read_bytes(), len({name.partition(".")[0] for name in theirs}))
    ours = {f"{entry.key}.{name}": span for entry in index_tar(path, shard) for name, span in entry.spans.items()}
    assert ours == theirs


def test_files_of_no_sample_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "000000.tar"
    tar = member("README") + tar_of({"d/a": sample_of("a") | {"txt": b"caption"}})
    shard = shard_of(path, tar, 1)
    (sample,) = read_all(path, shard)
    assert sample.key == "d/a"


def test_a_changed_byte_and_a_cut_are_seen_before_anything_is_read(tmp_path: Path) -> None:
    path = tmp_path / "000000.tar"
    tar = tar_of({"a": sample_of("a")})
    shard = shard_of(path, tar, 1)
    path.write_bytes(tar[:700] + bytes([tar[700] ^ 1]) + tar[701:])
    with pytest.raises(ShardError, match=r"000000\.tar: its bytes have changed: sha256 is"):
        check_bytes(path, shard)
    path.write_bytes(tar[:-512])
    with pytest.raises(ShardError, match=rf"has {len(tar) - 512} bytes, {len(tar)} when it was made"):
        index_tar(path, shard)
    path.unlink()
    with pytest.raises(ShardError, match=r"cannot be read .*No such file"):
        check_bytes(path, shard)


def outcome(path: Path, shard: Shard) -> list[RawSample | str]:
    """What reading gives for each sample; anything but a ShardError escapes."""
    try:
        entries = index_tar(path, shard)
    except ShardError:
        return ["shard"] * shard.record.samples
    found: list[RawSample | str] = []
    for entry in entries:
        try:
            found.append(read_sample(path, shard.url, entry))
        except ShardError:
            found.append(entry.key)
    return found


WHOLE = tar_of({f"a-{index}": sample_of(f"{index}", rows=index) for index in (1, 2, 3)})
POSITION = st.integers(0, len(WHOLE) - 1)


@settings(max_examples=100, deadline=None)
@given(flips=st.lists(st.tuples(POSITION, st.integers(1, 255)), min_size=1, max_size=6))
def test_flipped_bytes_never_crash_and_never_lose_a_sample(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.tar"
    shard = shard_of(path, WHOLE, 3)
    whole = outcome(path, shard)
    data = bytearray(WHOLE)
    for position, change in flips:
        data[position] ^= change
    path.write_bytes(data)
    found = outcome(path, shard)  # the checksum left out: what passes the other checks
    assert len(found) == 3
    touched = {position for position, _ in flips if data[position] != WHOLE[position]}
    for entry, before, after in zip(index_tar_of_whole(path), whole, found, strict=True):
        spans = [range(offset - 512, offset + size) for offset, size in entry.spans.values()]
        if not any(position in span for position in touched for span in spans) and "shard" not in found:
            assert after == before
    if touched:
        with pytest.raises(ShardError, match="bytes have changed"):
            check_bytes(path, shard)


def index_tar_of_whole(path: Path) -> list[Any]:
    """Entries of the undamaged tar."""
    whole = path.with_name("whole.tar")
    return index_tar(whole, shard_of(whole, WHOLE, 3))


@settings(max_examples=100, deadline=None)
@given(end=POSITION)
def test_a_cut_tar_is_seen_wherever_it_is_cut(tmp_path_factory: pytest.TempPathFactory, end: int) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.tar"
    shard = shard_of(path, WHOLE[:end], 3)  # even if its record was made of the cut file
    found = outcome(path, shard)
    content = len(WHOLE.rstrip(b"\0"))
    assert found == ["shard"] * 3 or (end > content and all(isinstance(sample, RawSample) for sample in found))


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=3000), samples=st.integers(0, 3))
def test_random_bytes_are_no_shard(tmp_path_factory: pytest.TempPathFactory, data: bytes, samples: int) -> None:
    path = tmp_path_factory.getbasetemp() / "random.tar"
    assert len(outcome(path, shard_of(path, data, samples))) == samples


@settings(max_examples=100, deadline=None)
@given(
    st.fixed_dictionaries({}, optional={name: st.binary(max_size=60) | st.just(sample_of("1")[name])
                                        for name in ("jpg", "sketches.png", "json")})
)  # fmt: skip
def test_random_files_in_a_sound_tar_are_a_broken_sample(
    tmp_path_factory: pytest.TempPathFactory, files: Files
) -> None:
    path = tmp_path_factory.getbasetemp() / "files.tar"
    found = outcome(path, shard_of(path, tar_of({"a": files | {"txt": b""}, "b": sample_of("1")}), 2))
    assert isinstance(found[1], RawSample)
    if isinstance(found[0], RawSample):
        assert {"jpg": found[0].jpg, "sketches.png": found[0].strip} == {k: v for k, v in files.items() if k != "json"}
