"""OpenMoji as a bank, on a package of a few drawings made here: what is a class, what is drawn, what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sketchgen.bank import split_of
from sketchgen.banks import BankConfig, bank_settings, build_bank
from sketchgen.banks.openmoji import MARGIN, OpenMojiBank

pytest.importorskip("resvg_py")

SVG = '<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">{}</svg>'
BAR = '<path fill="none" stroke="#000" stroke-width="2" d="M16 30h40v12h-40z"/>'
TRAIN = [code for code in (f"1F4{n:02X}" for n in range(60)) if split_of("openmoji", code) == "train"]
VAL = [code for code in (f"1F4{n:02X}" for n in range(60)) if split_of("openmoji", code) == "val"]


def row(code: str, name: str, group: str = "objects", **fields: Any) -> dict[str, Any]:
    return {"hexcode": code, "annotation": name, "group": group, "skintone": ""} | fields


def write(folder: Path, rows: list[dict[str, Any]], svg: str = SVG.format(BAR)) -> Path:
    """A package of these emojis, the same drawing for each; returns the folder of the drawings."""
    lines = folder / "package" / "black" / "svg"
    for place in (lines, folder / "package" / "data"):
        place.mkdir(parents=True, exist_ok=True)
    (folder / "package" / "data" / "openmoji.json").write_text(json.dumps(rows))
    for entry in rows:
        (lines / f"{entry['hexcode']}.svg").write_text(svg)
    return lines


def test_classes_are_what_a_photo_shows_and_splits_share_no_drawing(tmp_path: Path) -> None:
    rows = [
        row(TRAIN[0], "hammer"), row(VAL[0], "hammer"), row(TRAIN[1], "cat", "animals-nature"),
        row(TRAIN[2], "flag", "flags"), row("1F600", "grinning face", "smileys-emotion"),
        row("1F9D1-1F3FB", "person", "people-body", skintone="1"),
        row("1F408-200D-2B1B", "black cat", "animals-nature"),
    ]  # fmt: skip
    lines = write(tmp_path, [*rows, row(TRAIN[3], "without a file")])
    (lines / f"{TRAIN[3]}.svg").unlink()
    for root in (tmp_path, tmp_path / "package"):
        banks = {split: OpenMojiBank(root, split) for split in ("train", "val")}
        assert banks["train"].categories == ("cat", "hammer") and banks["val"].categories == ("hammer",)
        for split, code in (("train", TRAIN[0]), ("val", VAL[0])):
            assert {banks[split].draw("hammer", seed).sketch_id for seed in range(5)} == {f"openmoji/{code}"}
    with pytest.raises(ValueError, match="has no drawings of 'flag'"):
        banks["train"].draw("flag", 0)


def test_lines_are_centred_and_keep_their_shape(tmp_path: Path) -> None:
    write(tmp_path, [row(TRAIN[0], "bar")])
    drawing = build_bank(BankConfig("openmoji", root=str(tmp_path))).draw("bar", 3)
    dark = drawing.image < 255
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    assert (columns[0], columns[-1]) == (MARGIN, 255 - MARGIN)
    assert rows[0] + rows[-1] in (254, 255, 256)
    assert abs(len(rows) / (columns[-1] - columns[0]) - 14 / 42) < 0.02  # with the width of the line
    assert drawing.image.shape == (256, 256) and drawing.image.dtype == np.uint8 and drawing.image[128, 128] == 255


@pytest.mark.parametrize(
    "lines",
    [
        "",
        '<path d="M20 20h30" stroke="none" fill="none"/>',
        '<path d="M20 20h30" stroke="#000" opacity="0"/>',
        '<path d="M900 900h30" stroke="#000"/>',
    ],
)
def test_an_emoji_that_draws_nothing_is_an_error(tmp_path: Path, lines: str) -> None:
    write(tmp_path, [row(TRAIN[0], "nothing")], SVG.format(lines))
    with pytest.raises(ValueError, match=rf"{TRAIN[0]}\.svg draws nothing: copy it again, or remove it"):
        OpenMojiBank(tmp_path, "train").draw("nothing", 0)


def test_a_file_that_is_gone_or_no_text_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, [row(TRAIN[0], "bar")]) / f"{TRAIN[0]}.svg"
    bank = OpenMojiBank(tmp_path, "train")
    path.write_bytes(b"<svg>\xff</svg>")
    with pytest.raises(
        ValueError, match=r"\.svg is no drawing that can be read: UnicodeDecodeError: .*; copy it again"
    ):
        bank.draw("bar", 0)
    path.unlink()
    with pytest.raises(ValueError, match=r"\.svg is no drawing that can be read: FileNotFoundError: .*; copy it again"):
        bank.draw("bar", 0)


def test_hidden_files_are_no_drawings_and_other_names_are_errors(tmp_path: Path) -> None:
    lines = write(tmp_path, [row(TRAIN[0], "bar"), row(f"._{TRAIN[0]}", "bar")])
    config = BankConfig("openmoji", root=str(tmp_path))
    before = bank_settings(config)
    assert OpenMojiBank(tmp_path, split_of("openmoji", f"._{TRAIN[0]}")).draw("bar", 1).sketch_id[9:] == TRAIN[0]
    (lines / "._x.svg").touch()
    assert bank_settings(config) == before
    (lines / os.fsdecode(b"\xff.svg")).touch()
    with pytest.raises(ValueError, match=r"svg/\\udcff\.svg is not UTF-8: rename it"):
        build_bank(config)


def test_a_package_without_drawings_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"is not the openmoji package .*: get the package with `npm pack openmoji@17`"
    ):
        OpenMojiBank(tmp_path, "train")
    write(tmp_path, [row(VAL[0], "hammer")])
    with pytest.raises(ValueError, match=r"holds no black/svg/\*\.svg for train: get the package"):
        OpenMojiBank(tmp_path, "train")


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "hexcode": st.sampled_from([*TRAIN[:3], *VAL[:3], "../x", "\ud800", "a\0b", "x" * 300, 7, None, []]),
        "annotation": st.sampled_from(["hammer", "cat", "\udfff", "", 7, None]),
        "group": st.sampled_from(["objects", "flags", None, []]),
        "skintone": st.sampled_from(["", "1", None]),
    },
)
JSON = st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    listed=st.binary(max_size=40) | (st.lists(FIELDS, max_size=4) | JSON).map(lambda rows: json.dumps(rows).encode())
)
@example(listed=b"[" * 100_000)
@example(listed=json.dumps([row("\ud800", "cat")]).encode())
@example(listed=json.dumps([row(TRAIN[0], "\ud800")]).encode())
def test_any_list_of_emojis_gives_drawings_or_the_one_error(tmp_path: Path, listed: bytes) -> None:
    write(tmp_path, [row(code, "cat") for code in (*TRAIN[:3], *VAL[:3])])
    (tmp_path / "package" / "data" / "openmoji.json").write_bytes(listed)
    for split in ("train", "val"):
        try:
            bank = OpenMojiBank(tmp_path, split)
        except ValueError as error:
            assert str(error).startswith(str(tmp_path)) and "get the package with" in str(error)
            continue
        for name in bank.categories:
            drawing = bank.draw(name, 0)
            assert drawing.image.min() < 128 and f"{name}{drawing.sketch_id}".encode()


WHOLE = SVG.format(BAR).encode()


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A drawing with some bytes changed, or cut short."""
    data = bytearray(WHOLE)
    places = st.integers(0, len(data) - 1)
    for place, value in draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=5)):
        data[place] = value
    return bytes(data[: draw(st.just(len(data)) | places)])


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(svg=damaged())
@example(svg=b"")
@example(svg=WHOLE.replace(b"72 72", b"0 0"))
@example(svg=WHOLE.replace(b"72 72", b"72 9e9"))
@example(svg=WHOLE.replace(b"M16", b"M1e38"))
def test_any_bytes_are_a_drawing_or_the_one_error(tmp_path: Path, svg: bytes) -> None:
    path = write(tmp_path, [row(TRAIN[0], "bar")]) / f"{TRAIN[0]}.svg"
    path.write_bytes(svg)
    try:
        image = OpenMojiBank(tmp_path, "train").draw("bar", 0).image
    except ValueError as error:
        assert str(error).startswith((f"{path} is no drawing that can be read: ", f"{path} draws nothing: "))
        return
    assert image.shape == (256, 256) and image.dtype == np.uint8 and image.min() < 255
