"""Pairs from OpenMoji, on a tiny package made here."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from sketchgen.training.openmoji import (
    Drawing,
    drawing_pair,
    ink_lines,
    is_held_out,
    make_pair,
    read_openmoji,
    shade,
    split_layers,
)

pytest.importorskip("resvg_py")

BOX = """<svg id="emoji" viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">
  <g id="color"><path fill="#d22f27" d="M16 16h20v40h-20z"/><path fill="#fcea2b" d="M36 16h20v40h-20z"/></g>
  <g id="line" fill="none" stroke="#000" stroke-width="2">
    <path d="M16 16h40v40h-40z"/><path d="M36 16v40"/>{extra}
  </g>
</svg>"""
UNSEEN = '<path d="M20 46h12"/>'  # a line where no colour changes
EYE = '<circle cx="26" cy="26" r="2.2" fill="#000" stroke="none"/>'


def row(hexcode: str, name: str, group: str = "objects", subgroup: str = "tool", skin: str = "") -> dict[str, str]:
    return {"hexcode": hexcode, "annotation": name, "group": group, "subgroups": subgroup, "skintone": skin}


ROWS = [
    row("1F528", "hammer"),
    row("1F408", "cat", "animals-nature", "animal-mammal"),
    row("1F408-200D-2B1B", "black cat", "animals-nature", "animal-mammal"),
    row("1F9D1-200D-1F373", "cook", "people-body", "person-role"),
    row("1F469-200D-1F373", "woman cook", "people-body", "person-role"),
    row("1F9D1-1F3FB", "person: light skin", "people-body", "person", "1"),
    row("1F1E6", "flag", "flags", "country-flag"),
    row("1F600", "grinning face", "smileys-emotion", "face-smiling"),
    row("1F999", "without a file", "animals-nature", "animal-mammal"),
]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "package"
    (root / "data").mkdir(parents=True)
    (root / "color" / "svg").mkdir(parents=True)
    (root / "data" / "openmoji.json").write_text(json.dumps(ROWS))
    for entry in ROWS[:-1]:
        (root / "color" / "svg" / f"{entry['hexcode']}.svg").write_text(BOX.format(extra=""))
    return root


def drawing(extra: str = "") -> Drawing:
    return Drawing("box", *split_layers(BOX.format(extra=extra).encode()))


def test_concrete_things_only_and_no_drawing_twice(package: Path) -> None:
    assert [item.name for item in read_openmoji(package)] == ["cat", "hammer", "cook"]


def test_tarball_equals_folder(package: Path, tmp_path: Path) -> None:
    path = tmp_path / "openmoji-17.0.0.tgz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(package, "package")
    assert list(read_openmoji(path)) == list(read_openmoji(package))
    assert list(read_openmoji(tmp_path)) == list(read_openmoji(package)), "the folder around `package` will do"


def test_missing_wrong_and_broken_packages_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="npm pack openmoji@17"):
        list(read_openmoji(tmp_path / "nowhere.tgz"))
    with pytest.raises(ValueError, match="npm pack openmoji@17"):
        list(read_openmoji(tmp_path))
    (tmp_path / "broken.tgz").write_bytes(b"not a tarball")
    with pytest.raises(ValueError, match=r"broken\.tgz"):
        list(read_openmoji(tmp_path / "broken.tgz"))
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w:gz").close()
    (tmp_path / "empty.tgz").write_bytes(empty.getvalue())
    with pytest.raises(ValueError, match=r"data/openmoji\.json"):
        list(read_openmoji(tmp_path / "empty.tgz"))


def test_split_keeps_lines_out_of_the_picture() -> None:
    item = drawing()
    assert "stroke" not in item.picture
    assert "#d22f27" in item.picture
    assert "#d22f27" not in item.lines
    assert "M36 16v40" in item.lines


def test_pair_fills_the_square_like_a_crop_of_a_photo() -> None:
    pair = drawing_pair(drawing(), 256)
    assert pair is not None
    rows = np.flatnonzero(pair.mask.any(axis=1))
    assert abs(rows[0] - 8) <= 1
    assert abs(rows[-1] - 247) <= 1
    assert (pair.rgb[~pair.mask] == 255).all()


def test_target_has_thin_outline_and_inner_line() -> None:
    pair = drawing_pair(drawing(), 256)
    assert pair is not None
    middle = pair.target[100] < 128
    crossings = np.flatnonzero(np.diff(middle.astype(int)) == 1) + 1
    assert np.abs(crossings - np.array([8, 128, 248])).max() <= 3
    assert middle.sum() <= 3 * 4, "strokes are 2 to 4 pixels wide, whatever the drawing's own width"


@pytest.mark.parametrize("reach", [-0.8, 0.0, 0.8])
def test_colours_end_under_the_middle_of_the_lines(reach: float) -> None:
    svg = BOX.format(extra="").replace(
        '<path fill="#d22f27" d="M16 16h20', f'<path fill="#d22f27" d="M16 16h{20 + reach}'
    )
    svg = svg.replace('d="M36 16h20v40h-20z"/></g>', f'd="M{36 + reach} 16h{20 - reach}v40h-{20 - reach}z"/></g>')
    pair = drawing_pair(Drawing("box", *split_layers(svg.encode())), 256)
    assert pair is not None
    red = pair.rgb[128, :, 1] < 150
    assert abs(int(np.flatnonzero(red)[-1]) - 128) <= 1, "whatever side of the line the file lets them meet on"


def test_lines_without_support_are_dropped() -> None:
    pair, plain = drawing_pair(drawing(UNSEEN), 256), drawing_pair(drawing(), 256)
    assert pair is not None
    assert plain is not None
    assert (pair.target == plain.target).mean() > 0.999


def test_filled_dots_are_in_the_picture_and_in_the_target() -> None:
    pair = drawing_pair(drawing(EYE), 256)
    assert pair is not None
    y = x = round(8 + (26 - 16) * 240 / 40)
    assert pair.rgb[y, x].max() < 60
    assert pair.target[y, x] == 0


def test_drawing_of_invisible_lines_makes_no_pair() -> None:
    scribble = "".join(f'<path d="M20 {y}h12M40 {y}h12"/>' for y in range(19, 55, 3))
    assert drawing_pair(drawing(scribble), 256) is None


def test_shading_changes_pixels_of_the_object_only() -> None:
    pair = drawing_pair(drawing(), 128)
    assert pair is not None
    shaded, again = shade(pair, np.random.default_rng(3)), shade(pair, np.random.default_rng(3))
    other = shade(pair, np.random.default_rng(4))
    assert (shaded.rgb == again.rgb).all()
    assert (shaded.rgb[pair.mask] != other.rgb[pair.mask]).mean() > 0.5
    assert (shaded.rgb[~pair.mask] == 255).all()
    assert (shaded.target == pair.target).all()
    assert shaded.rgb[pair.mask].std() > 5


def test_split_by_name_is_fixed_and_about_a_tenth() -> None:
    names = [f"thing {number}" for number in range(2000)]
    assert 0.07 < np.mean([is_held_out(name) for name in names]) < 0.13
    # a changed hash would move drawings between the halves, and shipped weights would be judged on what they saw
    assert [name for name in ("cat", "dog", "banana", "zebra", "violin", "cow") if is_held_out(name)] == [
        "banana",
        "violin",
        "cow",
    ]


def test_make_pair_centres_on_white() -> None:
    pair = make_pair("p", np.zeros((4, 8, 3), np.uint8), np.ones((4, 8), np.bool_), np.zeros((4, 8), np.uint8), 8)
    assert pair.mask.sum(axis=1).tolist() == [0, 0, 8, 8, 8, 8, 0, 0]
    assert (pair.rgb[~pair.mask] == 255).all()
    assert (pair.target[~pair.mask] == 255).all()


def test_ink_lines_width() -> None:
    lines = np.zeros((21, 21), np.bool_)
    lines[10] = True
    ink = (255 - ink_lines(lines, 3.0)[:, 5].astype(float)) / 255
    assert ink.sum() == pytest.approx(3.0, abs=0.25)
    assert (ink_lines(np.zeros((5, 5), np.bool_), 3.0) == 255).all()
