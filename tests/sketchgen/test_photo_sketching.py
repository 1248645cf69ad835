"""The Photo-Sketching generator against a plain one, built here from the published description."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sketchgen.crop import Crop
from sketchgen.sketcher import SketcherConfig
from sketchgen.sketchers import build_sketcher
from sketchgen.sketchers.photo_sketching import PhotoSketcher, PhotoSketchingGenerator, load_photo_sketching


class PlainBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(256, 256, 3, bias=False), nn.BatchNorm2d(256), nn.ReLU(), nn.Dropout(0.0),
            nn.ReflectionPad2d(1), nn.Conv2d(256, 256, 3, bias=False), nn.BatchNorm2d(256),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv_block(x)


class Plain(nn.Module):
    """resnet_9blocks with BatchNorm2d, used in training mode as the published test script does."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, 64, 7, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        ]
        for width in (64, 128):
            layers += [nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()]
        layers += [PlainBlock() for _ in range(9)]
        for width in (256, 128):
            up = nn.ConvTranspose2d(width, width // 2, 3, 2, 1, output_padding=1, bias=False)
            layers += [up, nn.BatchNorm2d(width // 2), nn.ReLU()]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(64, 1, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


@pytest.fixture(scope="module")
def plain() -> Plain:
    torch.manual_seed(0)
    model = Plain().train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
    return model


@pytest.fixture(scope="module")
def checkpoint(plain: Plain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "latest_net_G.pth"
    torch.save(plain.state_dict(), path)
    return path


def crops() -> list[Crop]:
    rng = np.random.default_rng(0)
    shapes = ((256, 120), (90, 256), (256, 256))
    return [
        Crop(rng.integers(0, 256, (h // 8 + 1, w // 8 + 1, 3), np.uint8).repeat(8, 0).repeat(8, 1)[:h, :w].copy(),
             np.ones((h, w), np.bool_))
        for h, w in shapes
    ]  # fmt: skip


def test_published_layout() -> None:
    state = PhotoSketchingGenerator().state_dict()
    assert len(state) == 117
    assert sum(p.numel() for p in PhotoSketchingGenerator().parameters()) == 11_377_153
    shapes = {key.removeprefix("model."): tuple(value.shape) for key, value in state.items()}
    assert shapes["1.weight"] == (64, 3, 7, 7)
    assert shapes["7.weight"] == (256, 128, 3, 3)
    assert shapes["8.running_var"] == (256,)
    assert shapes["18.conv_block.6.weight"] == (256, 256, 3, 3)
    assert shapes["18.conv_block.7.bias"] == (256,)
    assert shapes["19.weight"] == (256, 128, 3, 3)
    assert shapes["26.weight"] == (1, 64, 7, 7)
    assert shapes["26.bias"] == (1,)


def test_equals_batch_norm_of_a_batch_of_one(plain: Plain, checkpoint: Path) -> None:
    ours = load_photo_sketching(checkpoint)
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        singles = torch.cat([plain(x[:1]), plain(x[1:])])
        # the same operations in another order: float32 noise, 1e-5 measured
        torch.testing.assert_close(ours(x), singles, atol=1e-4, rtol=0)
        assert not torch.allclose(plain(x), singles, atol=1e-2), "statistics of the batch must matter here"


@pytest.mark.slow
def test_sketch_equals_the_published_script(plain: Plain, checkpoint: Path) -> None:
    sketcher = build_sketcher(SketcherConfig("photo-sketching", str(checkpoint), batch=3, device="cpu"))
    for crop, strokes in zip(crops()[:2], sketcher.sketch(crops()[:2]), strict=True):
        squeezed = Image.fromarray(crop.rgb).resize((256, 256), Image.Resampling.BICUBIC)
        x = (torch.from_numpy(np.array(squeezed)).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5
        with torch.no_grad():
            ink = ((plain(x)[0, 0] + 1) / 2 * 255).numpy().astype(np.uint8)
        size = crop.mask.shape[::-1]
        wanted = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC))
        assert strokes.shape == crop.mask.shape
        assert strokes.dtype == np.uint8
        # truncation turns float noise into one grey value at most
        assert np.abs(strokes.astype(int) - wanted).max() <= 1
        assert strokes.std() > 5


@pytest.mark.slow
def test_batch_equals_single(checkpoint: Path) -> None:
    config = SketcherConfig("photo-sketching", str(checkpoint), batch=2, device="cpu")
    sketcher = PhotoSketcher(config)
    apart = [sketcher.sketch([crop])[0] for crop in crops()[:2]]
    for one, other in zip(sketcher.sketch(crops()[:2]), apart, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_module_prefix_and_missing_counters_are_fine(plain: Plain, tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in plain.state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "g.pth")
    loaded = load_photo_sketching(tmp_path / "g.pth")
    torch.testing.assert_close(loaded.model[26].weight, plain.model[26].weight)


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
def test_other_layouts_are_refused(plain: Plain, tmp_path: Path, change: str) -> None:
    state = dict(plain.state_dict())
    if change == "missing":
        del state["model.26.bias"]
    elif change == "unexpected":
        state["model.27.weight"] = torch.zeros(1)
    else:
        state["model.26.weight"] = torch.zeros(3, 64, 7, 7)
    torch.save(state, tmp_path / "g.pth")
    with pytest.raises(ValueError, match="not the Photo-Sketching generator"):
        load_photo_sketching(tmp_path / "g.pth")


def test_broken_and_malicious_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    torch.save({"model": Path("code that weights_only refuses")}, tmp_path / "pickle.pth")
    for name in ("empty.pth", "pickle.pth"):
        with pytest.raises(ValueError, match=r"mtli/PhotoSketch.*train-sketcher"):
            load_photo_sketching(tmp_path / name)


@pytest.mark.parametrize("checkpoint", ["", "nowhere/latest_net_G.pth"])
def test_without_weights_says_where_to_get_them(checkpoint: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"mtli/PhotoSketch.*make train-sketcher"):
        build_sketcher(SketcherConfig("photo-sketching", checkpoint))


def test_licence_is_logged_when_loading(checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load_photo_sketching(checkpoint)
    assert [record for record in caplog.records if "CC BY-NC-SA 4.0" in record.message].__len__() == 1
