"""The loader: one order whatever reads it, back to any position exactly, and nothing lost in silence."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchlm.loader import Loader, LoaderConfig, RawSample, ShardError
from sketchlm.shelf import FOLDER
from tests.sketchlm import sample_of, tar_of, write_shard, write_shards


@dataclass(frozen=True)
class Item:
    """One query; its length comes from the sample's own draw."""

    name: str
    draw: int
    length: int


Batch = list[Item]


def decode(sample: RawSample, draw: int) -> list[Item]:
    """An item for each query."""
    lengths = random.Random(draw)
    return [Item(f"{sample.record.image.id}.{q.query_id}", draw, lengths.randint(1, 9)) for q in sample.record.queries]


def loader_of(where: Path | str, rank: int = 0, world: int = 1, decode: Any = decode, **settings: Any) -> Loader:
    return Loader(LoaderConfig(str(where), **{"batch_size": 4, **settings}), decode, list, rank, world)


def take(loader: Loader[Item, Batch], batches: int) -> list[Batch]:
    """The next batches; the iterator is closed behind them."""
    with closing(iter(loader)) as stream:
        return list(islice(stream, batches))


def names(batches: list[Batch]) -> list[str]:
    return [item.name for batch in batches for item in batch]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four shards of 5 + 0 + 9 + 3 samples, 1-3 items each: 33 items."""
    write_shards(tmp_path / "a", [5, 0, 9, 3])
    return tmp_path / "a"


@pytest.fixture
def mixture(tmp_path: Path, folder: Path) -> Path:
    """Three quarters of that folder, and one quarter of two small shards."""
    write_shards(tmp_path / "b", [2, 2], name="t")
    path = tmp_path / "mixture.yaml"
    path.write_text(
        f"name: m\nparts:\n- {{shards: {folder}, weight: 0.75}}\n- {{shards: {tmp_path}/b, weight: 0.25}}\n"
    )
    return path


def flip(path: Path) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)


def test_a_batch_holds_consecutive_items_and_a_sample_stays_together(folder: Path) -> None:
    loader = loader_of(folder, shuffle=False)
    assert loader.num_samples == 17
    first = take(loader, 2)
    assert names(first) == ["s0-0.0", "s0-1.0", "s0-1.1", "s0-2.0", "s0-2.1", "s0-2.2", "s0-3.0", "s0-4.0"]
    assert [len(batch) for batch in first] == [4, 4]


def test_each_item_once_an_epoch_and_each_epoch_in_a_new_order(folder: Path) -> None:
    epochs = take(loader_of(folder, batch_size=3), 22)
    first, second = names(epochs[:11]), names(epochs[11:])
    assert len(set(first)) == 33
    assert sorted(first) == sorted(second)
    assert first != second
    draws = [{item.name: item.draw for batch in epochs[start : start + 11] for item in batch} for start in (0, 11)]
    assert all(draws[0][name] != draws[1][name] for name in first)  # chance is drawn anew
    assert names(take(loader_of(folder, seed=1, batch_size=3), 11)) != first


@pytest.mark.parametrize("workers", [0, 2])
def test_all_ranks_together_read_each_sample_once_an_epoch(folder: Path, workers: int) -> None:
    seen: Counter[str] = Counter()
    for rank in range(3):  # 17 samples: uneven; over three epochs each rank reads 17
        loader = loader_of(folder, rank, 3, decode=one_of_sample, batch_size=1, workers=workers)
        seen.update(names(take(loader, 17)))
    assert len(seen) == 17
    assert set(seen.values()) == {3}


def one_of_sample(sample: RawSample, draw: int) -> list[Item]:
    """One item a sample."""
    return decode(sample, draw)[:1]


STREAMS: list[tuple[str, dict[str, Any]]] = [
    ("folder", {}),
    ("folder", {"batch_size": 5, "shuffle": False, "window": 1}),
    ("folder", {"tokens_per_batch": 30}),
    ("folder", {"rank": 1, "world": 2, "tokens_per_batch": 23, "seed": 4}),
    ("mixture", {"batch_size": 3}),
    ("mixture", {"rank": 0, "world": 2, "tokens_per_batch": 40}),
]


@pytest.mark.parametrize(("where", "settings"), STREAMS)
def test_workers_do_not_change_the_stream(where: str, settings: dict[str, Any], request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(where)
    alone = loader_of(path, **settings)
    expected = take(alone, 30)
    for workers in (1, 2):
        loader = loader_of(path, workers=workers, **settings)
        assert take(loader, 30) == expected
        assert loader.state_dict() == alone.state_dict()  # what was prefetched is not consumed


@pytest.mark.parametrize(("where", "settings"), STREAMS)
def test_resuming_after_any_batch_goes_on_exactly(
    where: str, settings: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(where)
    whole = take(loader_of(path, **settings), 40)  # several epochs
    loader = loader_of(path, **settings)
    with closing(iter(loader)) as stream:
        for done in range(1, 30):
            assert next(stream) == whole[done - 1]
            if done % 3:
                continue
            resumed = loader_of(path, **settings)
            resumed.load_state_dict(json.loads(json.dumps(loader.state_dict())))
            assert take(resumed, 3) == whole[done : done + 3]


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 0), (0, 2)])
@pytest.mark.parametrize(("where", "settings"), [STREAMS[0], STREAMS[3], STREAMS[5]])
def test_resuming_with_other_numbers_of_workers(
    where: str, settings: dict[str, Any], before: int, after: int, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(where)
    whole = take(loader_of(path, **settings), 40)
    for done in (1, 17):
        first = loader_of(path, workers=before, **settings)
        take(first, done)
        second = loader_of(path, workers=after, **settings)
        second.load_state_dict(first.state_dict())
        assert take(second, 9) == whole[done : done + 9]


def test_a_second_iterator_goes_on_where_the_first_was_left(folder: Path) -> None:
    loader = loader_of(folder)
    assert take(loader, 3) + take(loader, 5) == take(loader_of(folder), 8)


def test_a_budget_closes_a_batch_before_it_would_be_exceeded(folder: Path) -> None:
    batches = take(loader_of(folder, tokens_per_batch=30), 40)
    for batch, following in pairwise(batches):
        longest = max(item.length for item in batch)
        assert len(batch) * longest <= 30
        assert (len(batch) + 1) * max(longest, following[0].length) > 30
    assert names(batches)[:64] == names(take(loader_of(folder), 16))


def test_an_item_beyond_the_budget_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"sample 0000.* is 9 tokens long, a batch may have 8: .*at least 9"):
        take(loader_of(folder, tokens_per_batch=8), 100)


def test_shares_follow_the_manifest(mixture: Path) -> None:
    seen = Counter(name[0] for name in names(take(loader_of(mixture, decode=one_of_sample), 300)))
    assert seen["t"] == pytest.approx(300, abs=6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "  seed: 0 there, 1 here"),
        ({"window": 2}, "  window: 4 there, 2 here"),
        ({"shuffle": False}, "  shuffle: True there, False here"),
        ({"world": 2}, "  world: 1 there, 2 here"),
        ({"world": 2, "rank": 1}, "  rank: 0 there, 1 here"),
    ],
)
def test_a_state_of_another_order_is_refused(folder: Path, change: dict[str, Any], message: str) -> None:
    state = loader_of(folder).state_dict()
    with pytest.raises(ValueError, match=message):
        loader_of(folder, **change).load_state_dict(state)


def test_a_state_of_other_shards_is_refused(folder: Path, mixture: Path) -> None:
    state = loader_of(folder).state_dict()
    with pytest.raises(ValueError, match=r"part 0 weight: 1\.0 there, 0\.75 here\n  part 1 weight: '\(absent\)'"):
        loader_of(mixture).load_state_dict(state)
    write_shard(folder, 3, {"000003-00000": sample_of("new")})
    with pytest.raises(ValueError, match=r"part 0 samples: 17 there, 15 here\n  part 0 content: '"):
        loader_of(folder).load_state_dict(state)


@pytest.mark.parametrize("state", [{}, {"sample": -1, "item": 0, "order": {}}, {"sample": 0, "item": 0, "order": 1},
                                   {"sample": "x", "item": 0, "order": {}}])  # fmt: skip
def test_what_is_no_state_is_refused(folder: Path, state: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no state of a loader"):
        loader_of(folder).load_state_dict(state)


def test_a_moved_folder_and_another_batch_size_are_the_same_order(folder: Path) -> None:
    loader = loader_of(folder)
    before = take(loader, 2)
    folder.rename(folder.with_name("moved"))
    moved = loader_of(folder.with_name("moved"), batch_size=8)
    moved.load_state_dict(loader.state_dict())
    assert names(before + take(moved, 3)) == names(take(loader_of(folder.with_name("moved")), 8))


def test_a_state_of_other_items_is_refused(folder: Path) -> None:
    loader = loader_of(folder, shuffle=False, batch_size=2)
    take(loader, 1)  # after the first of two items of the second sample
    other = loader_of(folder, shuffle=False, decode=one_of_sample)
    other.load_state_dict(loader.state_dict() | {"item": 2})
    with pytest.raises(ValueError, match=r"at item 2 of .*000000\.tar: sample 000000-00001, of which 1 are"):
        take(other, 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_shard_stops_when_its_turn_comes(folder: Path, workers: int) -> None:
    whole = take(loader_of(folder, shuffle=False), 8)
    flip(folder / "000002.tar")
    loader = loader_of(folder, shuffle=False, workers=workers)
    with closing(iter(loader)) as stream:
        assert [next(stream), next(stream)] == whole[:2]
        with pytest.raises(ShardError, match=rf"^{folder}/000002\.tar: its bytes have changed.*broken='skip'"):
            next(stream)
    assert loader.state_dict()["sample"] == 4  # an item of it was left for the batch that never came


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_shard_is_skipped_and_counted(folder: Path, workers: int, caplog: pytest.LogCaptureFixture) -> None:
    flip(folder / "000002.tar")
    loader = loader_of(folder, broken="skip", workers=workers, decode=one_of_sample, batch_size=1)
    with caplog.at_level(logging.WARNING):
        seen = Counter(names(take(loader, 16)))  # 8 of 17 samples are left
    assert set(seen.values()) == {2}
    assert set(seen) == {f"s0-{i}.0" for i in range(5)} | {f"s3-{i}.0" for i in range(3)}
    ((place, reason),) = loader.skipped.items()
    assert place == f"{folder}/000002.tar"
    assert reason.startswith(f"{place}: its bytes have changed")
    assert loader.num_skipped in range(9, 28)  # the thread may be ahead, in the third epoch
    assert len([r for r in caplog.records if "skipped" in r.message]) == 1  # rate-limited


def test_a_broken_sample_costs_only_itself(tmp_path: Path) -> None:
    samples = {f"k{index}": sample_of(f"{index}") for index in range(4)}
    samples["k2"]["json"] = b"{}"
    write_shard(tmp_path, 0, samples)
    loader = loader_of(tmp_path, broken="skip")
    assert Counter(names(take(loader, 3))) == {"0.0": 4, "1.0": 4, "3.0": 4}
    assert list(loader.skipped) == [f"{tmp_path}/000000.tar: sample k2"]
    with pytest.raises(ShardError, match=r"000000\.tar: sample k2: shard contract: schema: Field required"):
        take(loader_of(tmp_path), 3)


def test_a_missing_tar_and_an_unread_record_follow_the_recipe_too(folder: Path) -> None:
    (folder / "000002.tar").unlink()
    (folder / "000003.json").write_text("{")
    with pytest.raises(ShardError, match=r"000003\.json: is no completion record"):
        loader_of(folder)
    loader = loader_of(folder, broken="skip")
    assert loader.unfinished == []
    assert {name[:2] for name in names(take(loader, 5))} == {"s0"}
    assert set(loader.skipped) == {f"{folder}/000003.json", f"{folder}/000002.tar"}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_is_damaged_is_read_or_counted(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    write_shards(folder, [2, 3, 1])
    for path in data.draw(st.sets(st.sampled_from(sorted(folder.iterdir())), max_size=3)):
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        cut, change = data.draw(st.booleans()), data.draw(st.integers(1, 255))
        path.write_bytes(whole[:at] if cut else whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :])
    verify = data.draw(st.booleans())
    seen = set()
    try:
        loader = loader_of(folder, verify=verify, broken="skip", decode=one_of_sample, batch_size=1, shuffle=False)
        for (item,) in loader:
            if loader.state_dict()["sample"] > loader.num_samples:
                break
            seen.add(item.name)
    except ValueError as error:  # nothing is left, or another version
        assert re.search("holds a question|hold no sample|field `schema`", str(error))
        return
    for shard, count in enumerate([2, 3, 1]):
        for index in range(count):
            tar = f"{folder}/{shard:06d}.tar"
            places = {tar, tar.replace(".tar", ".json"), f"{tar}: sample {shard:06d}-{index:05d}"}
            # one_of_sample names what it read; with changed bytes let through, the name may be another
            assert f"s{shard}-{index}.0" in seen or places & loader.skipped.keys() or not verify


def test_without_verification_only_the_checksum_is_left_out(folder: Path) -> None:
    flip(folder / "000002.tar")  # within a photo: its headers and its size are whole
    loader = loader_of(folder, verify=False, broken="skip")
    take(loader, 20)
    assert loader.skipped == {}
    (folder / "000002.tar").write_bytes(tar_of({}))
    take(loader, 20)
    assert "bytes, " in loader.skipped[f"{folder}/000002.tar"]


def test_decode_may_call_a_sample_broken(folder: Path) -> None:
    def picky(sample: RawSample, draw: int) -> list[Item]:
        if sample.record.image.id == "s2-4":
            raise ShardError("the photo cannot be decoded")
        return decode(sample, draw)

    loader = loader_of(folder, decode=picky, broken="skip", workers=1)
    take(loader, 10)
    assert loader.skipped == {f"{folder}/000002.tar: sample 000002-00004": "the photo cannot be decoded"}


def fail(error: Callable[[], Exception]) -> Callable[[RawSample, int], list[Item]]:
    def failing(sample: RawSample, draw: int) -> list[Item]:
        if sample.record.image.id == "s2-4":
            raise error()
        return decode(sample, draw)

    return failing


class OddError(Exception):
    """Cannot be pickled and made again: it wants two arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_decode_arrives_with_its_own_message(folder: Path, workers: int) -> None:
    loader = loader_of(folder, decode=fail(lambda: KeyError("what went wrong")), broken="skip", workers=workers)
    with pytest.raises(KeyError, match="what went wrong") as caught:
        take(loader, 10)
    assert f"at {folder}/000002.tar: sample 000002-00004" in "".join(caught.value.__notes__)
    if workers:
        assert "in failing" in "".join(caught.value.__notes__)  # the worker's traceback
        with pytest.raises(RuntimeError, match="OddError: what went wrong"):
            take(loader_of(folder, decode=fail(lambda: OddError("what went wrong", "")), workers=2), 10)


def test_items_that_cannot_leave_a_worker_are_an_error_and_not_a_hang(folder: Path) -> None:
    with pytest.raises(Exception, match=r"(?s)DataLoader worker.*pickle"):
        take(loader_of(folder, decode=lambda sample, draw: [lambda: None], workers=1), 1)


@pytest.mark.slow
def test_a_killed_worker_is_an_error_and_not_a_hang(folder: Path) -> None:
    def kill(sample: RawSample, draw: int) -> list[Item]:
        if sample.record.image.id == "s2-4":
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(sample, draw)

    start = time.monotonic()
    with pytest.raises(RuntimeError, match="DataLoader worker .*(killed by signal|exited unexpectedly)"):
        take(loader_of(folder, decode=kill, workers=2), 10)
    assert time.monotonic() - start < 15


def test_shards_that_hold_nothing_for_this_stage_are_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"none of 17 samples .* that this stage asks\. .*`make instructions`"):
        take(loader_of(folder, decode=lambda sample, draw: []), 1)


def test_settings_that_cannot_be_are_refused(folder: Path, tmp_path: Path) -> None:
    for name, value in {"window": 0, "workers": -1, "prefetch": 0, "tokens_per_batch": -1, "batch_size": 0}.items():
        with pytest.raises(ValueError, match=f"loader.{name} is {value}, must be at least"):
            loader_of(folder, **{name: value})
    with pytest.raises(ValueError, match="loader.broken is 'no', must be 'stop' or 'skip'"):
        loader_of(folder, broken="no")
    with pytest.raises(ValueError, match="`shards` is empty"):
        loader_of("")
    write_shards(tmp_path / "none", [0, 0])
    with pytest.raises(ValueError, match="its 2 finished shards hold no sample"):
        loader_of(tmp_path / "none")


def test_unfinished_shards_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "000003.json").unlink()
    with caplog.at_level(logging.WARNING):
        loader = loader_of(folder)
    assert loader.unfinished == [f"{folder}/000003.tar"]
    assert loader.num_samples == 14
    assert "1 tars without a completion record are left out" in caplog.text


def test_the_global_random_state_is_left_alone(folder: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for workers in (0, 2):
        take(loader_of(folder, workers=workers), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_closing_the_iterator_ends_the_workers(folder: Path) -> None:
    before = set(multiprocessing.active_children())
    stream = iter(loader_of(folder, workers=2))
    next(stream)
    workers = set(multiprocessing.active_children()) - before
    assert len(workers) == 2
    stream.close()
    assert not workers & set(multiprocessing.active_children())


@pytest.mark.slow
def test_signals_to_the_whole_job_leave_the_workers_alone(folder: Path) -> None:
    expected = take(loader_of(folder), 40)
    with closing(iter(loader_of(folder, workers=2))) as stream:
        before = [next(stream)]
        for child in multiprocessing.active_children():
            subprocess.run(["kill", "-TERM", str(child.pid)], check=True)
            subprocess.run(["kill", "-INT", str(child.pid)], check=True)
        assert before + list(islice(stream, 39)) == expected
        workers = multiprocessing.active_children()
        for child in workers:
            child.terminate()  # the main process can still end them
        with pytest.raises(RuntimeError, match="DataLoader worker"):
            list(islice(stream, 1000))


@pytest.mark.slow
def test_a_process_that_leaves_the_iterator_open_ends_by_itself(folder: Path) -> None:
    code = (
        "from tests.sketchlm.test_loader import *\n"
        f"stream = iter(loader_of({str(folder)!r}, workers=2)); next(stream); print('left open')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (0, "left open", "")


@pytest.fixture
def remote(folder: Path) -> Iterator[str]:
    """The folder's shards in an in-memory file system."""
    store = fsspec.filesystem("memory")
    store.put(str(folder), "/remote", recursive=True)
    yield "memory://remote"
    store.rm("/remote", recursive=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_remote_shards_give_the_same_stream_and_leave_nothing(
    remote: str, folder: Path, tmp_path: Path, workers: int
) -> None:
    loader = loader_of(remote, workers=workers, cache=str(tmp_path / "cache"))
    assert take(loader, 20) == take(loader_of(folder), 20)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_remote_damage_is_named_by_its_url(remote: str, tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.pipe("/remote/000002.tar", store.cat("/remote/000002.tar")[:-1])
    store.rm("/remote/000003.tar")
    loader = loader_of(remote, broken="skip", cache=str(tmp_path))
    take(loader, 10)
    assert "bytes, " in loader.skipped["memory://remote/000002.tar"]
    assert "cannot be fetched (FileNotFoundError" in loader.skipped["memory://remote/000003.tar"]


def test_the_window_bounds_the_shards_on_disk(tmp_path: Path) -> None:
    write_shards(tmp_path / "many", [2000 // 40] * 40)
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / "many"), "/many", recursive=True)
    loader = loader_of("memory://many", window=2, cache=str(tmp_path / "cache"), decode=one_of_sample, batch_size=50)
    most = 0
    with closing(iter(loader)) as stream:
        for _ in range(40):
            next(stream)
            most = max(most, len(list((tmp_path / "cache").glob(f"{FOLDER}*/*.tar"))))
    store.rm("/many", recursive=True)
    assert most <= 2 * 2 + 512 // 50 + 1  # the window and the next, and what lies within the horizon


def test_what_a_killed_process_left_in_the_cache_is_removed(remote: str, tmp_path: Path) -> None:
    (tmp_path / f"{FOLDER}dead").mkdir()
    (tmp_path / f"{FOLDER}dead" / "0.tar").touch()
    with closing(iter(loader_of(remote, cache=str(tmp_path)))) as first:
        next(first)
        (alive,) = tmp_path.glob(f"{FOLDER}*")
        assert alive.name != f"{FOLDER}dead"
        take(loader_of(remote, cache=str(tmp_path)), 2)
        assert alive.exists()  # it belongs to a loader that lives


def test_a_cache_that_cannot_be_made_is_one_clear_error(remote: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot keep remote shards in .*file.*give another cache"):
        take(loader_of(remote, cache=str(tmp_path / "file")), 1)


def test_a_checksum_is_taken_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    monkeypatch.setattr("sketchlm.shelf.check_bytes", lambda path, shard: checked.append(path.name))
    loader = loader_of(folder, window=1)
    take(loader, 40)
    assert sorted(checked) == ["000000.tar", "000002.tar", "000003.tar"]
