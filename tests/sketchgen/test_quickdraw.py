"""The reader of Quick, Draw!: every usable drawing can be drawn, seeds decide, and broken lines cost nothing."""

from __future__ import annotations

import json
import os
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from data_manifests.strokes import rasterise
from sketchgen.bank import split_of
from sketchgen.banks.quickdraw import MAX_TRIES, QuickDrawBank, class_of, strokes_of
from tests.datasets import quickdraw_row, write_lines, write_quickdraw

REAL = Path(__file__).parents[3] / "shared" / "data" / "quickdraw-rnn"
TRAIN = [str(number) for number in range(100) if split_of("quickdraw", str(number)) == "train"]
VAL = [str(number) for number in range(100) if split_of("quickdraw", str(number)) == "val"]


def row(key: str, **fields: Any) -> dict[str, Any]:
    size = 40 + int(key) % 60
    return quickdraw_row(key, [[[0, size, size], [0, 0, 90]], [[10, 20], [30, 40]]]) | fields


def write(folder: Path, rows: list[Any]) -> Path:
    return write_lines(folder / "cat.ndjson", rows)


def test_all_drawings_come_about_equally_often_and_a_seed_means_one(tmp_path: Path) -> None:
    write(tmp_path, [row(key) for key in TRAIN[:20]])
    bank = QuickDrawBank(tmp_path, "train", 3.0)
    found = Counter(bank.draw("cat", seed * 7919).sketch_id for seed in range(2000))
    assert set(found) == {f"quickdraw/{key}" for key in TRAIN[:20]}
    assert min(found.values()) > 60
    one, again = bank.draw("cat", 12345), bank.draw("cat", 12345)
    assert one.sketch_id == again.sketch_id and (one.image == again.image).all()
    assert one.image.shape == (256, 256) and one.image.min() < 100 and (one.image == 255).mean() > 0.8


def test_train_and_val_never_meet(tmp_path: Path) -> None:
    write(tmp_path, [row(key) for key in (*TRAIN, *VAL)])
    assert 3 < len(VAL) < 25
    drawn = {
        split: {QuickDrawBank(tmp_path, split, 3.0).draw("cat", seed * 101).sketch_id for seed in range(3000)}
        for split in ("train", "val")
    }
    assert drawn["val"] == {f"quickdraw/{key}" for key in VAL}
    assert drawn["train"] == {f"quickdraw/{key}" for key in TRAIN}


AXIS = st.integers(-(10**9), 10**9) | st.floats(width=32, allow_nan=False, allow_infinity=False)
USELESS = st.sampled_from([
    "", "{", "[]", "null", "12", '"x"', row("1", recognized=False), row("1", recognized=None), row("1", drawing=[]),
    row("1", drawing=[[[1, 2], [3]]]), row("1", drawing=[[[], []]]), row("1", drawing="x"),
    row("1", drawing=[[["a"], [1]]]),
    row("1", drawing=[[[float("nan")], [1]]]), {"word": "cat"}, row(VAL[0]),
]) | st.text(max_size=20).map(lambda text: json.dumps(text))  # fmt: skip


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(USELESS, max_size=5), after=st.lists(USELESS, max_size=5), seed=st.integers(0, 2**63 - 1))
def test_the_one_usable_drawing_is_found_from_anywhere(
    tmp_path: Path, before: list[Any], after: list[Any], seed: int
) -> None:
    path = write(tmp_path, [*before, row(TRAIN[0]), *after])
    bank = QuickDrawBank(tmp_path, "train", 3.0)
    assert bank.draw("cat", seed).sketch_id == f"quickdraw/{TRAIN[0]}"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))  # the last line need not end
    assert bank.draw("cat", seed).sketch_id == f"quickdraw/{TRAIN[0]}"


@pytest.mark.parametrize("rows", [[], ["{"], [row("1", recognized=False)] * 3])
def test_a_class_without_a_drawing_says_so(tmp_path: Path, rows: list[Any]) -> None:
    write(tmp_path, rows)
    with pytest.raises(ValueError, match=rf"cat\.ndjson holds no recognised drawing for train in {len(rows)} lines: "):
        QuickDrawBank(tmp_path, "train", 3.0).draw("cat", 5)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(["unrecognised", "broken", "of the other split"]), max_size=60),
    seed=st.integers(0, 2**63 - 1),
)
@example(kinds=["unrecognised"] * (MAX_TRIES + 9), seed=0)
def test_the_error_says_how_many_lines_are_useless_and_why(tmp_path: Path, kinds: list[str], seed: int) -> None:
    lines = {"unrecognised": row(TRAIN[0], recognized=False), "broken": "{", "of the other split": row(VAL[0])}
    write(tmp_path, [lines[kind] for kind in kinds])
    with pytest.raises(ValueError, match="cat") as caught:
        QuickDrawBank(tmp_path, "train", 3.0).draw("cat", seed)
    seen = Counter(kinds[:MAX_TRIES])
    assert str(caught.value) == (
        f"{tmp_path}/cat.ndjson holds no recognised drawing for train in {seen.total():,} lines: "
        f"{seen['unrecognised']:,} unrecognised, {seen['broken']:,} broken, {seen['of the other split']:,} of the "
        "other split; copy it again, or remove it"
    )


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, [row(TRAIN[0])])
    bank = QuickDrawBank(tmp_path, "train", 3.0)
    path.unlink()
    with pytest.raises(ValueError, match=r"cat\.ndjson cannot be read \(No such file or directory\): copy it again"):
        bank.draw("cat", 0)


@pytest.mark.parametrize("other", ["full_simplified_cat", "full_raw_cat", "raw_cat"])
def test_two_files_of_one_class_are_both_named(tmp_path: Path, other: str) -> None:
    """One would hide the other."""
    write(tmp_path, [row(TRAIN[0])])
    write_lines(tmp_path / f"{other}.ndjson", [row(TRAIN[1])])
    with pytest.raises(ValueError, match=rf"has 'cat' twice: remove cat\.ndjson or {other}\.ndjson"):
        QuickDrawBank(tmp_path, "train", 3.0)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawing=st.lists(
        st.lists(st.tuples(AXIS, AXIS), min_size=1, max_size=4).map(lambda points: list(zip(*points, strict=True))),
        min_size=1,
        max_size=3,
    )
)
@example(drawing=[[[7], [7]], [[7, 7], [7, 7]]])
@example(drawing=[[[3e38, -3e38], [1e-45, 0.0]]])
def test_whatever_has_a_point_draws_something(tmp_path: Path, drawing: list[Any]) -> None:
    """A dot at least, so that no drawing needs to be looked at for ink."""
    write(tmp_path, [row(TRAIN[0], drawing=drawing)])
    assert QuickDrawBank(tmp_path, "train", 0.5).draw("cat", 0).image.min() < 200


def test_names_folders_and_raw_files(tmp_path: Path) -> None:
    assert class_of(Path("full_simplified_hot dog.ndjson")) == "hot dog"
    assert class_of(Path("full_raw_cat.ndjson")) == class_of(Path("cat.ndjson")) == "cat"
    with pytest.raises(ValueError, match="holds no .ndjson file"):
        QuickDrawBank(tmp_path, "train", 3.0)
    timed = strokes_of([[[1.5, 2.5], [3, 4], [0, 17]]])  # raw: with times
    assert np.array_equal(timed[0], np.array([[1.5, 3], [2.5, 4]], np.float32))
    write(tmp_path, [row(TRAIN[0])])
    with pytest.raises(ValueError, match="has no drawings of 'dog'"):
        QuickDrawBank(tmp_path, "train", 3.0).draw("dog", 1)


PIECES = (
    st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 1e39, 1e-45, None, True, "1", "", "\ud800"])
)
AXES = st.lists(PIECES | st.lists(PIECES, max_size=2), max_size=4) | PIECES
JSON = st.recursive(PIECES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner))
SOME_ROWS = st.fixed_dictionaries(
    {
        "key_id": st.sampled_from([*TRAIN[:9], *VAL]) | PIECES,
        "recognized": st.just(True) | JSON,
        "drawing": st.lists(st.lists(AXES, min_size=2, max_size=3) | JSON, max_size=3) | JSON,
    }
)
LINES = st.binary(max_size=40) | (SOME_ROWS | JSON).map(lambda value: json.dumps(value).encode())


@pytest.mark.filterwarnings("error::RuntimeWarning")
@settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, max_size=6), seed=st.integers(0, 2**63 - 1), split=st.sampled_from(["train", "val"]))
@example(lines=[json.dumps(row(TRAIN[0], drawing=[[[10**400], [1]]])).encode()], seed=0, split="train")
@example(lines=[json.dumps(row(TRAIN[0], drawing=[[[1e39], [-1e39]]])).encode()], seed=0, split="train")
def test_any_lines_give_a_drawing_or_the_one_error(tmp_path: Path, lines: list[bytes], seed: int, split: str) -> None:
    (tmp_path / "cat.ndjson").write_bytes(b"\n".join(lines))
    try:
        drawing = QuickDrawBank(tmp_path, split, 3.0).draw("cat", seed)
    except ValueError as error:
        assert str(error).startswith(f"{tmp_path}/cat.ndjson holds no recognised drawing for {split} in ")
        return
    again = QuickDrawBank(tmp_path, split, 3.0).draw("cat", seed)
    assert drawing.image.shape == (256, 256) and drawing.image.dtype == np.uint8 and drawing.image.min() < 128
    assert drawing.sketch_id == again.sketch_id and (drawing.image == again.image).all()
    assert split_of("quickdraw", drawing.sketch_id.removeprefix("quickdraw/")) == split


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.lists(st.sampled_from([*TRAIN[:12], *VAL]), unique=True, max_size=8), data=st.data())
def test_the_splits_share_out_every_recognised_drawing(tmp_path: Path, keys: list[str], data: st.DataObject) -> None:
    recognised = [key for key in keys if data.draw(st.booleans())]
    path = write(tmp_path, [row(key, recognized=key in recognised) for key in keys])
    starts = list(accumulate(map(len, path.read_bytes().splitlines(True)), initial=0))[:-1]
    found = {}
    for split in ("train", "val"):
        bank = QuickDrawBank(tmp_path, split, 3.0)
        try:
            found[split] = {bank.draw("cat", start).sketch_id for start in starts}
        except ValueError:
            found[split] = set()
    assert not found["train"] & found["val"]
    assert found["train"] | found["val"] == {f"quickdraw/{key}" for key in recognised}


NAMES = st.binary(min_size=1, max_size=30).map(
    lambda name: os.fsdecode(name.translate(None, b"/\0"))
) | st.sampled_from(
    ["full_simplified_", "full_raw_cat", "The Eiffel Tower", "._cat", "*", "[a-z]", "hot dog ", "äöü", "🐈"]
)


def is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(NAMES, min_size=1, max_size=4), folders=st.sets(NAMES, max_size=2))
def test_files_may_be_called_anything(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], folders: set[str]
) -> None:
    folder = tmp_path_factory.mktemp("names")
    for name in folders - names:
        (folder / f"{name}.ndjson").mkdir()
    paths = [write_lines(folder / f"{name}.ndjson", [row(TRAIN[0])]) for name in names]
    paths = [path for path in paths if not path.name.startswith(".")]
    wrong = [path for path in paths if not is_text(path.name)]
    classes = {class_of(path) for path in paths}
    if wrong or len(classes) < len(paths) or not paths:
        with pytest.raises(ValueError, match="is not UTF-8: rename it|twice: remove|holds no .ndjson file") as caught:
            QuickDrawBank(folder, "train", 3.0)
        assert is_text(str(caught.value))
        return
    bank = QuickDrawBank(folder, "train", 3.0)
    assert set(bank.categories) == classes
    assert {bank.draw(name, 5).sketch_id for name in bank.categories} == {f"quickdraw/{TRAIN[0]}"}


def test_raw_and_simplified_files_are_drawn_alike(tmp_path: Path) -> None:
    """The same strokes: what simplifying takes away is hardly to be seen."""
    images: dict[str, list[Any]] = {"simplified": [], "raw": []}
    for kind, found in images.items():
        write_quickdraw(tmp_path / kind, ("cat",), 20, kind, broken=False)  # type: ignore[arg-type]
        for line in (tmp_path / kind / "cat.ndjson").read_text().splitlines():
            found.append(rasterise(strokes_of(json.loads(line)["drawing"])).astype(int))
    for one, other in zip(*images.values(), strict=True):
        assert np.abs(one - other).mean() < 8 < (255 - one).mean()


@pytest.mark.skipif(not REAL.is_dir(), reason="the drawings at hand are not here")
def test_drawings_at_hand_can_all_be_drawn() -> None:
    bank = QuickDrawBank(REAL, "train", 3.0)
    assert {"dog", "bird", "bear", "bicycle", "sheep"} < set(bank.categories)
    for name in bank.categories:
        assert 0.005 < (bank.draw(name, 3).image < 128).mean() < 0.4
