"""The order of training samples: pure, complete, mixed by weight, and never to change by itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchlm.mixture import BLOCK, Dealing, Order, PartOrder, permutation, read_mixture
from tests.sketchlm import write_shards

GOLDEN_PERMUTATION = [8, 3, 5, 4, 1, 9, 7, 2, 6, 0]
GOLDEN_PLACES = [
    (0, 0, 0, 2),
    (1, 0, 0, 3),
    (0, 0, 1, 1),
    (0, 0, 1, 0),
    (0, 1, 1, 0),
    (0, 1, 1, 1),
    (0, 2, 0, 2),
    (1, 0, 0, 2),
    (0, 2, 0, 1),
    (0, 2, 0, 0),
]
COUNTS = st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any)


def test_golden_order() -> None:
    """A saved position means this order: if it must change, raise ORDER_VERSION in sketchlm.loader."""
    assert permutation(10, 1, "a").tolist() == GOLDEN_PERMUTATION
    order = Order([[3, 2], [4]], [0.75, 0.25], Dealing(seed=5, window=1, rank=1, world=2))
    places = [order.place(number) for number in range(10)]
    assert [(p.part, p.epoch, p.shard, p.index) for p in places] == GOLDEN_PLACES


@settings(deadline=None)
@given(
    counts=COUNTS,
    world=st.integers(1, 5),
    window=st.integers(1, 4),
    seed=st.integers(0, 2**32),
    shuffle=st.booleans(),
    epoch=st.integers(0, 11),
)
def test_the_ranks_together_read_each_sample_once_an_epoch(
    counts: list[int], world: int, window: int, seed: int, shuffle: bool, epoch: int
) -> None:
    total, seen = sum(counts), []
    for rank in range(world):
        order = PartOrder(counts, 0, Dealing(seed, shuffle, window, rank, world))
        # a rank reads as many samples as there are in `world` epochs
        cycle = epoch // world * total
        places = [order.place(position) for position in range(cycle, cycle + total)]
        assert [place[0] for place in places] == sorted(place[0] for place in places)
        seen += [place[1:] for place in places if place[0] == epoch]
    assert sorted(seen) == [(shard, index) for shard, count in enumerate(counts) for index in range(count)]


def test_one_rank_without_shuffling_reads_from_first_to_last() -> None:
    order = PartOrder([2, 0, 3], 0, Dealing(shuffle=False))
    assert [order.place(n) for n in range(6)] == [(0, 0, 0), (0, 0, 1), (0, 2, 0), (0, 2, 1), (0, 2, 2), (1, 0, 0)]


def test_seeds_and_epochs_and_ranks_differ() -> None:
    def first(seed: int, start: int) -> list[tuple[int, int]]:
        order = PartOrder([50] * 4, 0, Dealing(seed))
        return [order.place(position)[1:] for position in range(start, start + 200)]

    assert first(0, 0) == first(0, 0)
    assert first(0, 0) != first(1, 0)
    assert first(0, 0) != first(0, 200)
    assert sorted(first(0, 0)) == sorted(first(0, 200))


def test_a_window_bounds_what_is_mixed_and_mixes_all_of_it() -> None:
    order = PartOrder([20] * 12, 0, Dealing(window=3))
    shards = [order.place(position)[1] for position in range(240)]
    for start in range(0, 240, 60):
        window = shards[start : start + 60]
        assert len(set(window)) == 3
        assert window != sorted(window, key=window.index)  # not one shard after the other


@pytest.mark.parametrize("world", [1, 2, 8])
def test_each_rank_reads_only_its_share_of_the_shards(world: int) -> None:
    for rank in range(world):
        order = PartOrder([10] * 40, 0, Dealing(rank=rank, world=world))
        share = [order.place(position) for position in range(400 // world)]
        assert len({shard for _, shard, _ in share}) <= 40 // world + 1


@pytest.mark.parametrize("world", [1, 3, 8])
@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.7, 0.2, 0.1], [0.9, 0.095, 0.005]])
def test_shares_follow_the_weights_on_every_rank(weights: list[float], world: int) -> None:
    for rank in {0, world - 1}:
        order = Order([[30], [7, 7], [100]][: len(weights)], weights, Dealing(seed=3, rank=rank, world=world))
        seen = Counter(order.place(number).part for number in range(10_000))
        for part, weight in enumerate(weights):
            assert seen[part] == pytest.approx(10_000 * weight, abs=5)  # the contract says 100
        blocks = Counter(order.place(number).part for number in range(5 * BLOCK, 6 * BLOCK))
        for part, weight in enumerate(weights):
            assert blocks[part] == pytest.approx(BLOCK * weight, abs=1)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=4), st.integers(1, 4), st.data())
def test_each_part_keeps_its_own_order_and_epochs(shares: list[int], world: int, data: st.DataObject) -> None:
    weights = [share / sum(shares) for share in shares]
    dealing = Dealing(seed=7, rank=data.draw(st.integers(0, world - 1)), world=world)
    counts = [[3 + part, 5] for part in range(len(shares))]
    start = data.draw(st.integers(0, 10**6))
    places = [Order(counts, weights, dealing).place(start + number) for number in range(300)]
    before = Counter(place.part for place in map(Order(counts, weights, dealing).place, range(start % 700)))
    again = [Order(counts, weights, dealing).place(start % 700 + number) for number in range(100)]
    for part, count in enumerate(counts):
        alone = PartOrder(count, part, dealing)
        ours = [(place.epoch, place.shard, place.index) for place in again if place.part == part]
        assert ours == [alone.place(before[part] + number) for number in range(len(ours))]
    order = Order(counts, weights, dealing)
    assert [order.place(start + number) for number in reversed(range(300))] == places[::-1]  # pure: no memory


def test_a_folder_is_a_mixture_of_one_part(tmp_path: Path) -> None:
    write_shards(tmp_path / "a", [2])
    folders, weights = read_mixture(str(tmp_path / "a"))
    assert [folder.url for folder in folders] == [str(tmp_path / "a")]
    assert weights == [1.0]


def test_a_manifest_names_parts_and_weights(tmp_path: Path) -> None:
    for name in "ab":
        write_shards(tmp_path / name, [2])
    manifest = tmp_path / "mixture.yaml"
    parts = "".join(f"- {{shards: {tmp_path}/{name}, weight: {weight}}}\n" for name, weight in (("a", 0.9), ("b", 0.1)))
    manifest.write_text("name: both\nparts:\n" + parts)
    folders, weights = read_mixture(str(manifest))
    assert [folder.url for folder in folders] == [f"{tmp_path}/a", f"{tmp_path}/b"]
    assert weights == [0.9, 0.1]
    manifest.write_text(manifest.read_text().replace("0.1", "0.2"))
    with pytest.raises(ValueError, match=r"sum to 1\.1"):
        read_mixture(str(manifest))


@pytest.mark.parametrize(
    ("where", "message"),
    [("", "`shards` is empty"), ("nowhere.yaml", "cannot read the mixture nowhere.yaml"), ("nowhere", "nowhere")],
)
def test_what_is_not_there_is_named(where: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_mixture(where)
