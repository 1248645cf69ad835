"""The reader of Quick, Draw!: every usable drawing can be drawn, seeds decide, and broken lines cost nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sketchgen.bank import split_of
from sketchgen.banks.quickdraw import QuickDrawBank, class_of, strokes_of

REAL = Path(__file__).parents[3] / "shared" / "data" / "quickdraw-rnn"
TRAIN = [str(number) for number in range(100) if split_of("quickdraw", str(number)) == "train"]
VAL = [str(number) for number in range(100) if split_of("quickdraw", str(number)) == "val"]


def row(key: str, **fields: Any) -> dict[str, Any]:
    size = 40 + int(key) % 60
    drawing = [[[0, size, size], [0, 0, 90]], [[10, 20], [30, 40]]]
    return {"word": "cat", "countrycode": "DE", "timestamp": "t", "recognized": True, "key_id": key, "drawing": drawing} | fields  # fmt: skip  # noqa: E501


def write(folder: Path, rows: list[Any], name: str = "cat") -> Path:
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    path = folder / f"{name}.ndjson"
    path.write_text("".join(line + "\n" for line in lines))
    return path


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
    with pytest.raises(ValueError, match=r"cat\.ndjson holds no recognised drawing for train"):
        QuickDrawBank(tmp_path, "train", 3.0).draw("cat", 5)


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


@pytest.mark.skipif(not REAL.is_dir(), reason="the drawings at hand are not here")
def test_drawings_at_hand_can_all_be_drawn() -> None:
    bank = QuickDrawBank(REAL, "train", 3.0)
    assert {"dog", "bird", "bear", "bicycle", "sheep"} < set(bank.categories)
    for name in bank.categories:
        assert 0.005 < (bank.draw(name, 3).image < 128).mean() < 0.4
