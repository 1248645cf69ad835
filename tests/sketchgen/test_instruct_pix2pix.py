"""The diffusion sketcher: real pipelines of diffusers at random weights, small, built and saved here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from sketchgen.crop import Crop
from sketchgen.seed import seed_of
from sketchgen.sketcher import DiffusionConfig, SketcherConfig
from sketchgen.sketchers import build_sketcher
from sketchgen.sketchers.instruct_pix2pix import InstructPix2PixSketcher, to_strokes

SIDE = 32
CONFIG = SketcherConfig("instruct-pix2pix", batch=2, device="cpu", diffusion=DiffusionConfig(steps=2))


def parts(channels: int, folder: Path) -> dict[str, Any]:
    """All that a pipeline of Stable Diffusion is made of; channels: what its U-Net takes."""
    torch.manual_seed(0)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    blocks = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    return {
        "tokenizer": CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words), hidden_size=32, intermediate_size=32, num_attention_heads=4, num_hidden_layers=1,
                bos_token_id=len(words) - 2, eos_token_id=len(words) - 1, pad_token_id=1,
            )
        ),
        "unet": diffusers.UNet2DConditionModel(
            sample_size=SIDE // 2, in_channels=channels, out_channels=4, block_out_channels=(32, 64),
            layers_per_block=1, down_block_types=blocks[0], up_block_types=blocks[1], cross_attention_dim=32,
            norm_num_groups=8, attention_head_dim=8,
        ),
        "vae": diffusers.AutoencoderKL(
            block_out_channels=(16, 32), norm_num_groups=8, down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
        ),
        "scheduler": diffusers.EulerAncestralDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("instruct")
    pipeline = diffusers.StableDiffusionInstructPix2PixPipeline(**parts(8, folder / "words"))
    pipeline.save_pretrained(folder / "pipeline")
    return str(folder / "pipeline")


@pytest.fixture(scope="module")
def crops() -> list[Crop]:
    random = np.random.default_rng(0)
    made = []
    for number, (height, width) in enumerate([(40, 24), (24, 40), (33, 33)]):
        mask = np.zeros((height, width), np.bool_)
        mask[3:-3, 3:-3] = True
        rgb = np.where(mask[..., None], random.integers(0, 256, (height, width, 3)), 255).astype(np.uint8)
        made.append(Crop(rgb, mask, ("cat", "dog", "bus")[number], f"photo-{number}"))
    return made


@pytest.fixture(scope="module")
def sketcher(checkpoint: str) -> InstructPix2PixSketcher:
    built = build_sketcher(replace(CONFIG, checkpoint=checkpoint))
    assert isinstance(built, InstructPix2PixSketcher)
    return built


def near(ours: list[np.ndarray], theirs: list[np.ndarray]) -> bool:
    """The same drawings but for the last bit of a float, which a batch of another size changes."""
    return all(
        one.shape == other.shape and np.abs(one.astype(int) - other.astype(int)).max() <= 1
        for one, other in zip(ours, theirs, strict=True)
    )


def test_it_draws_what_the_bare_pipeline_draws(
    sketcher: InstructPix2PixSketcher, checkpoint: str, crops: list[Crop]
) -> None:
    bare = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(checkpoint, safety_checker=None)
    crop = crops[0]
    drawn = bare(
        CONFIG.diffusion.prompt,
        image=ImageOps.pad(Image.fromarray(crop.rgb), (SIDE, SIDE), Image.Resampling.BICUBIC, "white"),
        num_inference_steps=2,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        generator=torch.Generator().manual_seed(seed_of(CONFIG.diffusion.seed, "photo-0")),
    ).images[0]
    wanted = to_strokes(np.asarray(drawn), crop.mask)
    assert wanted.min() == 0 and len(np.unique(wanted)) > 20  # not an empty sheet
    assert near(sketcher.sketch(crops)[:1], [wanted])


def test_reruns_are_the_same_to_the_byte_and_no_drawing_depends_on_its_neighbours(
    sketcher: InstructPix2PixSketcher, crops: list[Crop]
) -> None:
    first = sketcher.sketch(crops)
    assert all((one == other).all() for one, other in zip(first, sketcher.sketch(crops), strict=True))
    assert near(sketcher.sketch(crops[::-1])[::-1], first)
    assert [drawn.shape for drawn in first] == [crop.mask.shape for crop in crops]
    assert sketcher.sketch([]) == []


def test_key_seed_and_class_decide_the_drawing(
    sketcher: InstructPix2PixSketcher, checkpoint: str, crops: list[Crop]
) -> None:
    crop = crops[0]
    assert not near(sketcher.sketch([replace(crop, key="another")]), sketcher.sketch([crop]))
    assert near(sketcher.sketch([replace(crop, category="dog")]), sketcher.sketch([crop]))  # no {category} in it
    named = replace(CONFIG, checkpoint=checkpoint, diffusion=DiffusionConfig("sketch of a {category}", steps=2))
    by_class = build_sketcher(named)
    assert not near(by_class.sketch([replace(crop, category="dog")]), by_class.sketch([crop]))
    seeded = build_sketcher(replace(named, diffusion=replace(named.diffusion, seed=1)))
    assert not near(seeded.sketch([crop]), by_class.sketch([crop]))
    assert len({sketcher.generator, by_class.generator, seeded.generator}) == 3


def test_a_pipeline_of_text_alone_is_asked_for_its_twin_that_takes_pictures(tmp_path: Path, crops: list[Crop]) -> None:
    diffusers.StableDiffusionPipeline(**parts(4, tmp_path / "words")).save_pretrained(tmp_path / "text")
    steps = DiffusionConfig(steps=4, strength=0.5)
    sketcher = build_sketcher(replace(CONFIG, checkpoint=str(tmp_path / "text"), diffusion=steps))
    first = sketcher.sketch(crops)
    assert [drawn.shape for drawn in first] == [crop.mask.shape for crop in crops]
    assert near(sketcher.sketch(crops), first)


def test_pipelines_that_take_no_picture_and_folders_without_one_are_named(tmp_path: Path) -> None:
    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(32, 32), layers_per_block=1, down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "noise")
    with pytest.raises(ValueError, match="is a DDPMPipeline, which takes no picture"):
        build_sketcher(replace(CONFIG, checkpoint=str(tmp_path / "noise")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="hf download timbrooks/instruct-pix2pix"):
        build_sketcher(replace(CONFIG, checkpoint=str(tmp_path / "empty")))


def test_an_empty_sheet_stays_white_and_a_faint_drawing_becomes_black() -> None:
    mask = np.zeros((40, 20), np.bool_)
    mask[4:36, 4:16] = True
    sheet = np.full((64, 64, 3), 200, np.uint8)
    assert (to_strokes(sheet, mask) == 255).all()
    sheet[:, 30:33] = 120
    strokes = to_strokes(sheet, mask)
    assert strokes.shape == mask.shape and strokes[20].min() == 0 and strokes[20].max() == 255
    assert (strokes[:1] == 255).all()  # nothing outside the mask
    assert (to_strokes(sheet, np.zeros((40, 20), np.bool_)) == 255).all()
