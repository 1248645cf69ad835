"""Our sketcher: the network, its file, what surrounds it, and the shipped weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sketchgen.crop import Crop
from sketchgen.sketcher import SketcherConfig
from sketchgen.sketchers import build_sketcher
from sketchgen.sketchers.pix2pix import (
    CHANNELS,
    Generator,
    GeneratorConfig,
    GeneratorInput,
    Pix2PixSketcher,
    edge_map,
    finish,
    fused,
    generator_input,
    load_generator,
    save_generator,
)
from sketchgen.weights import shipped


def random_generator(config: GeneratorConfig) -> Generator:
    """Random weights, and statistics that are not those of a fresh network."""
    torch.manual_seed(0)
    model = Generator(config)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def disc(height: int, width: int, seed: int = 0) -> Crop:
    """An ellipse, its left half dark and its right half bright, with a little noise."""
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (max(1, width // 2 - 8), max(1, height // 2 - 8)), 0, 0, 360, 1, -1)
    mask[height // 2, width // 2] = 1
    rgb = np.full((height, width, 3), 180.0)
    rgb[:, : width // 2] = (60, 50, 90)
    rgb += np.random.default_rng(seed).normal(0, 4, rgb.shape)
    return Crop(np.where(mask[..., None] > 0, np.clip(rgb, 0, 255), 255).astype(np.uint8), mask > 0)


@pytest.fixture(scope="module")
def sketcher() -> Pix2PixSketcher:
    return Pix2PixSketcher(SketcherConfig(device="cpu", batch=2))


@pytest.mark.parametrize("kind", ["rgb", "edges", "both"])
def test_file_round_trip(tmp_path: Path, kind: GeneratorInput) -> None:
    config = GeneratorConfig(input=kind, widths=(8, 8, 16, 16), blocks=1, side=64)
    model = random_generator(config)
    save_generator(model, config, tmp_path / "g.safetensors")
    loaded, found = load_generator(tmp_path / "g.safetensors")
    assert found == config
    x = torch.rand(2, CHANNELS[kind], 64, 64)
    with torch.no_grad():
        # half precision of the weights
        torch.testing.assert_close(loaded(x), model(x), atol=0.02, rtol=0.02)
    crop = disc(64, 40)
    drawn = Pix2PixSketcher(SketcherConfig(checkpoint=str(tmp_path / "g.safetensors"), device="cpu")).sketch([crop])
    assert drawn[0].shape == (64, 40)
    assert generator_input(crop.rgb, crop.mask, kind).shape == (CHANNELS[kind], 64, 40)


def test_folding_the_normalisation_changes_nothing() -> None:
    config = GeneratorConfig(side=64)
    x = torch.rand(1, 5, 64, 64)
    with torch.no_grad():
        plain = random_generator(config)(x)
        folded = fused(random_generator(config))
        assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
        torch.testing.assert_close(folded(x), plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("damage", ["truncated", "empty", "keys", "metadata"])
def test_other_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "g.safetensors"
    config = GeneratorConfig(widths=(8, 8, 8, 8), blocks=1)
    save_generator(Generator(config), config, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "keys":
        save_file({"x": torch.zeros(1)}, path, metadata={"config": '{"input": "both", "widths": [8, 8, 8, 8]}'})
    else:
        save_file(load_file(path), path)
    with pytest.raises(ValueError, match=r"g\.safetensors does not hold weights of the pix2pix sketcher"):
        load_generator(path)


def test_missing_file_names_the_remedy() -> None:
    with pytest.raises(FileNotFoundError, match="make train-sketcher"):
        build_sketcher(SketcherConfig(checkpoint="nowhere.safetensors"))


def test_edge_map_sees_inner_edges_but_not_the_mask() -> None:
    crop = disc(200, 200)
    edges = edge_map(crop.rgb, crop.mask)
    ring = crop.mask & ~(cv2.erode(crop.mask.view(np.uint8), np.ones((5, 5))) > 0)
    ring[:, 90:110] = False
    assert edges[100, 98:103].max() > 0.9
    assert edges[ring].mean() < 0.15
    assert edges[~crop.mask].max() == 0
    assert edges.min() >= 0
    assert edges.max() <= 1


def test_edge_map_of_flat_or_empty_crops_is_blank() -> None:
    flat = np.full((50, 50, 3), 120, np.uint8)
    assert edge_map(flat, np.ones((50, 50), np.bool_)).max() < 0.01
    assert edge_map(flat, np.zeros((50, 50), np.bool_)).max() == 0


def test_edge_map_does_not_depend_on_contrast() -> None:
    crop = disc(120, 120)
    grey = np.where(crop.mask[..., None], crop.rgb // 2, 255).astype(np.uint8)
    np.testing.assert_allclose(edge_map(grey, crop.mask)[60, 58:63], edge_map(crop.rgb, crop.mask)[60, 58:63], atol=0.1)


def test_finish_keeps_strokes_and_drops_specks_and_fog() -> None:
    ink = np.zeros((60, 60), np.float32)
    ink[10:12, 5:45] = 0.9
    ink[10:12, 45:55] = 0.6  # fades, but belongs to a sure stroke
    ink[25:28, 5:15] = 0.9  # a speck
    ink[40:45, 5:55] = 0.6  # fog
    drawn = finish(ink)
    assert drawn.dtype == np.uint8
    assert (drawn[10:12, 5:45] == 0).all()
    assert (drawn[10:12, 46:55] < 160).all()
    assert (drawn[20:] == 255).all()


@pytest.mark.parametrize("shape", [(256, 90), (30, 256), (256, 256), (500, 320), (3, 17)])
def test_strokes_have_the_size_of_their_crop(sketcher: Pix2PixSketcher, shape: tuple[int, int]) -> None:
    (drawn,) = sketcher.sketch([disc(*shape)])
    assert drawn.shape == shape
    assert drawn.dtype == np.uint8


def test_crop_that_is_white_all_over(sketcher: Pix2PixSketcher) -> None:
    white = Crop(np.full((40, 60, 3), 255, np.uint8), np.zeros((40, 60), np.bool_))
    assert (sketcher.sketch([white])[0] == 255).mean() > 0.99


def test_nothing_in_nothing_out(sketcher: Pix2PixSketcher) -> None:
    assert sketcher.sketch([]) == []


def test_batch_equals_single(sketcher: Pix2PixSketcher) -> None:
    crops = [disc(256, 120, 1), disc(90, 256, 2), disc(256, 256, 3)]
    for together, crop in zip(sketcher.sketch(crops), crops, strict=True):
        apart = sketcher.sketch([crop])[0].astype(int)
        # float noise may move a grey value by one step
        assert np.abs(together - apart).max() <= 2


def test_shipped_weights_are_small() -> None:
    assert shipped("pix2pix").stat().st_size <= 5e6
    assert {str(value.dtype) for value in load_file(shipped("pix2pix")).values()} == {"torch.float16"}
    assert load_generator(shipped("pix2pix"))[1].input == "both"
    assert Pix2PixSketcher.style == "pix2pix"


def test_shipped_weights_draw_the_inner_contour(sketcher: Pix2PixSketcher) -> None:
    crop = disc(256, 256)
    drawn = sketcher.sketch([crop])[0]
    inner = drawn[40:216, 120:136].min(axis=1)
    assert (inner < 100).mean() > 0.9, "the line between the two halves"
    away = np.concatenate([drawn[60:196, 40:110].ravel(), drawn[60:196, 146:216].ravel()])
    assert (away > 200).mean() > 0.98, "flat parts stay white"
    far = cv2.dilate(crop.mask.view(np.uint8), np.ones((9, 9))) == 0
    assert (drawn[far] == 255).all()
