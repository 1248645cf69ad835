"""The Pix2Pix trainer, its teacher, and its figures, on pairs made here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipelines.train_sketcher import pix2pix
from sketchgen.instance import Mask
from sketchgen.sketchers.pix2pix import CHANNELS, load_generator
from sketchgen.training.hed import Hed, hed_edges, load_hed, photo_pairs, suppress, teach, teacher_lines
from sketchgen.training.openmoji import Pair, ink_lines
from sketchgen.training.sketcher import (
    Material,
    PatchDiscriminator,
    Run,
    SketcherTraining,
    draw_batch,
    load_pairs,
    relit,
    save_pairs,
    train,
    vary,
)
from sketchgen.training.sketcher_figures import held_out_crops, stroke_figures


def square_pair(name: str = "square", side: int = 256) -> Pair:
    mask = np.zeros((side, side), np.uint8)
    mask[40:200, 60:220] = 1
    rgb = np.full((side, side, 3), 255, np.uint8)
    rgb[40:200, 60:140], rgb[40:200, 140:220] = (200, 60, 40), (40, 90, 160)
    lines = np.zeros((side, side), np.bool_)
    lines[40, 60:220] = lines[199, 60:220] = lines[40:200, 60] = lines[40:200, 219] = lines[40:200, 140] = True
    return Pair(name, rgb, mask > 0, ink_lines(lines, 2.4))


MATERIAL = Material([square_pair()], [square_pair("photo")])


def tiny(out: Path) -> SketcherTraining:
    return replace(pix2pix(), out=out, steps=4, batch=2, window=64, adversary_from=0.25, whole_from=1.0)


def test_recipe_is_a_complete_config() -> None:
    config = pix2pix()
    assert isinstance(config, SketcherTraining)
    assert config.input == "both"
    assert config.l1_weight > 0
    assert config.adversary_weight > 0


def test_variation_keeps_strokes_on_the_object() -> None:
    for seed in range(5):
        pair = vary(square_pair(), np.random.default_rng(seed))
        border = cv2.morphologyEx(pair.mask.view(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5))) > 0
        assert (pair.target[border] < 128).mean() > 0.3
        assert (pair.rgb[~pair.mask] == 255).all()
        ink = (pair.target < 128).sum() / (square_pair().target < 128).sum()
        assert 0.6 < ink < 1.4, "interpolation must not pale or fatten strokes"


def test_relighting_leaves_geometry_and_white_alone() -> None:
    pair = square_pair()
    other = relit(pair, np.random.default_rng(0))
    assert other.target is pair.target
    assert (other.rgb[~pair.mask] == 255).all()
    assert (other.rgb[pair.mask] != pair.rgb[pair.mask]).any()


@pytest.mark.parametrize(("step", "side", "count"), [(0, 128, 12), (5599, 256, 4)])
def test_batch_shapes_and_ranges(step: int, side: int, count: int) -> None:
    config = pix2pix()
    x, ink = draw_batch(np.random.default_rng(0), MATERIAL, config, step)
    assert x.shape == (count, CHANNELS["both"], side, side)
    assert ink.shape == (count, 1, side, side)
    assert ink.min() >= 0
    assert ink.max() <= 1
    assert ink.mean() > 0.005
    assert x.abs().max() <= 1


def test_discriminator_judges_overlapping_patches() -> None:
    judge = PatchDiscriminator(5)
    x, ink = torch.rand(1, 5, 128, 128), torch.rand(1, 1, 128, 128, requires_grad=True)
    verdict = judge(x, ink)
    assert verdict.shape == (1, 1, 15, 15)
    first, second = judge(x, ink), judge(torch.rand(1, 5, 128, 128), ink)
    assert not torch.allclose(first, second), "it is conditional"


def test_adversary_joins_when_it_is_said_to(tmp_path: Path) -> None:
    run = Run(tiny(tmp_path))
    before = [parameter.clone() for parameter in run.judge.parameters()]
    batch = draw_batch(np.random.default_rng(0), MATERIAL, run.config, 0)
    assert set(run.update(*batch)) == {"l1"}
    assert all(torch.equal(old, new) for old, new in zip(before, run.judge.parameters(), strict=True))
    assert set(run.update(*batch)) == {"l1", "judge", "fooled"}
    assert not all(torch.equal(old, new) for old, new in zip(before, run.judge.parameters(), strict=True))


def tiny_package(folder: Path, names: list[str]) -> Path:
    svg = (
        '<svg viewBox="0 0 72 72" xmlns="http://www.w3.org/2000/svg">'
        '<g id="color"><path fill="#d22" d="M16 16h20v40h-20z"/>'
        '<path fill="#fe2" d="M36 16h20v40h-20z"/></g><g id="line"><path fill="none" stroke="#000" stroke-width="2" '
        'd="M16 16h40v40h-40zM36 16v40"/></g></svg>'
    )
    (folder / "data").mkdir(parents=True)
    (folder / "color" / "svg").mkdir(parents=True)
    rows = []
    for number, name in enumerate(names):
        code = f"1F{number:03d}"
        rows.append({"hexcode": code, "annotation": name, "group": "objects", "subgroups": "tool", "skintone": ""})
        (folder / "color" / "svg" / f"{code}.svg").write_text(svg)
    (folder / "data" / "openmoji.json").write_text(json.dumps(rows))
    return folder


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    package = str(tiny_package(tmp_path / "package", ["cat", "dog", "banana"]))  # banana is held out

    class KilledError(Exception):
        pass

    def kill(step: int, figures: dict[str, float]) -> None:
        if step == 3:
            raise KilledError

    whole = replace(tiny(tmp_path / "a"), openmoji=package, checkpoint_every=2)
    broken = replace(whole, out=tmp_path / "b")
    train(whole)
    with pytest.raises(KilledError):
        train(broken, kill)
    train(broken)
    one, _ = load_generator(tmp_path / "a" / "pix2pix.safetensors")
    other, _ = load_generator(tmp_path / "b" / "pix2pix.safetensors")
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    run = Run(replace(tiny(tmp_path), steps=60, adversary_from=0.5, batch=4, lr=1e-2))
    batch = draw_batch(np.random.default_rng(0), MATERIAL, run.config, 0)
    losses = [run.update(*batch)["l1"] for _ in range(50)]
    assert np.mean(losses[-5:]) < 0.4 * np.mean(losses[:5])


def test_training_without_drawings_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="npm pack openmoji@17"):
        train(tiny(tmp_path))


def test_pairs_survive_their_file(tmp_path: Path) -> None:
    save_pairs([square_pair("a"), square_pair("b")], tmp_path / "p.npz")
    loaded = load_pairs(tmp_path / "p.npz")
    assert [pair.name for pair in loaded] == ["a", "b"]
    assert all((pair.rgb == square_pair().rgb).all() and (pair.target == square_pair().target).all() for pair in loaded)
    assert loaded[0].mask.dtype == np.bool_


# --- teacher ---------------------------------------------------------------------------------------


def ridge(side: int = 96) -> np.ndarray:
    """A soft diagonal line, as thick as HED's."""
    rows, cols = np.indices((side, side))
    return np.exp(-(((rows - cols) / 4.0) ** 2)).astype(np.float32)


def test_suppression_leaves_the_crest() -> None:
    kept = np.argwhere(suppress(ridge())[10:-10, 10:-10] > 0.2)
    assert len(kept) > 70
    assert np.abs(kept[:, 0] - kept[:, 1]).max() <= 1


def test_teacher_lines_are_thin_inside_and_closed_at_the_border() -> None:
    mask = np.zeros((96, 96), np.bool_)
    mask[10:86, 10:86] = True
    lines = teacher_lines(ridge(), mask, low=0.1, high=0.3, border=5, length=14)
    assert lines[10, 10:86].all(), "the border of the mask is a line"
    assert not lines[~mask].any()
    inner = np.argwhere(lines[16:80, 16:80])
    assert np.abs(inner[:, 0] - inner[:, 1]).max() <= 2
    assert 50 <= len(inner) <= 140
    faint = teacher_lines(0.2 * ridge(), mask, low=0.1, high=0.3, border=5, length=14)
    assert not faint[16:80, 16:80].any(), "below the high threshold"


def test_hed_layout() -> None:
    with torch.inference_mode():
        assert Hed()(torch.zeros(1, 3, 50, 37)).shape == (1, 1, 50, 37)
    assert sum(p.numel() for p in Hed().parameters()) == 14_716_171


def test_hed_finds_the_edge_of_a_square() -> None:
    pytest.importorskip("h5py")
    picture = np.full((96, 128, 3), (190, 180, 170), np.uint8)
    picture[24:72, 40:88] = (60, 40, 30)
    edges = hed_edges(load_hed(), picture)
    assert edges.shape == (96, 128)
    assert edges[48, 36:44].max() > 0.5
    assert edges[40:56, 56:72].max() < 0.3
    pair = teach(load_hed(), picture, Mask(20, 10, np.ones((70, 90), np.bool_)), 128, "p")
    assert pair.rgb.shape == (128, 128, 3)
    # left side of the square: 20 px into a mask of 90, drawn at 112 px behind a margin of 8
    column = round(8 + 20 * 112 / 90)
    assert pair.target[64, column - 4 : column + 5].min() < 100


@pytest.fixture
def coco_folder(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for image_id in (3, 4):
        picture = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (128, 96), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(tmp_path / f"{image_id}.png"), picture)
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": 128, "height": 96})
        polygon = [10.0, 10.0, 100.0, 10.0, 100.0, 80.0, 10.0, 80.0]
        shared = {"image_id": image_id, "category_id": 1, "iscrowd": 0}
        annotations.append({"id": image_id, "bbox": [10, 10, 90, 70], "segmentation": [polygon], **shared})
        small = [1.0, 1.0, 9.0, 1.0, 9.0, 9.0, 1.0, 9.0]
        annotations.append({"id": 10 + image_id, "bbox": [1, 1, 8, 8], "segmentation": [small], **shared})
    path = tmp_path / "instances.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]})
    )
    return path, tmp_path


def test_photos_are_split_by_image_id(coco_folder: tuple[Path, Path]) -> None:
    pytest.importorskip("h5py")
    trained = [pair.name for pair in photo_pairs(*coco_folder, side=64, held_out=False)]
    held_out = [pair.name for pair in photo_pairs(*coco_folder, side=64, held_out=True)]
    assert (trained, held_out) == (["4/4"], ["3/3"])
    assert len(list(held_out_crops(*coco_folder, side=64))) == 1


# --- figures ---------------------------------------------------------------------------------------


def test_stroke_figures_by_hand() -> None:
    mask = np.zeros((60, 60), np.bool_)
    mask[10:50, 10:50] = True
    drawn = np.full((60, 60), 255, np.uint8)
    drawn[30, 20:40] = 0  # an inner stroke of 20
    drawn[11, 11:16] = 0  # a speck of 5 at the rim
    ink, inner, specks, blank = stroke_figures(drawn, mask)
    assert ink == pytest.approx(25 / 1600)
    assert inner == pytest.approx(20 / 28**2, rel=0.1)
    assert (specks, blank) == (1.0, 0.0)
    assert stroke_figures(np.full((60, 60), 255, np.uint8), mask) == (0.0, 0.0, 0.0, 1.0)
