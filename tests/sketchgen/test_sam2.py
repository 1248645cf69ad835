"""Both SAM 2.1 segmenters, with the real architectures at random weights (no trained ones are at hand).

Small variants of the models (256 px) carry most tests; the real tiny ones run once, marked slow.
"""

from __future__ import annotations

import builtins
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sketchgen.instance import Box, Instance, Mask
from sketchgen.segmenter import SegmenterConfig
from sketchgen.segmenters import build_segmenter, sam2_common, sam2_hf, sam2_native
from sketchgen.segmenters.sam2_common import RELEASES, crop_masks
from sketchgen.segmenters.sam2_hf import Sam2HfSegmenter, load_sam2_hf
from sketchgen.segmenters.sam2_native import Sam2Segmenter, load_native_weights, load_sam2

BOXES: list[Box] = [
    (10.0, 10.0, 60.0, 50.0),
    (0.0, 0.0, 160.0, 120.0),  # the whole image
    (5.0, 5.0, 6.0, 6.0),  # one pixel
    (100.0, 90.0, 160.0, 120.0),  # touches the right and lower edge
    (159.0, 119.0, 160.0, 120.0),  # the last pixel
    (0.0, 30.5, 1.0, 99.25),
    (40.0, 20.0, 90.0, 100.0),
]


def build_native(image_size: int) -> Any:
    """SAM 2.1 tiny of the sam2 package at random weights."""
    from sam2.build_sam import build_sam2

    torch.manual_seed(0)
    sized = [f"++model.image_size={image_size}"]
    return build_sam2(RELEASES["tiny"].config, ckpt_path=None, device="cpu", hydra_overrides_extra=sized)


def hf_config(video: bool = False) -> Any:
    """Sam2Model with 349K parameters; `video`: the config that the hub's folders hold, of the video model."""
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2VideoConfig, Sam2VisionConfig

    backbone = Sam2HieraDetConfig(
        hidden_size=16,
        image_size=[256, 256],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        blocks_per_stage=[1, 1, 2, 1],
        global_attention_blocks=[3],
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[128, 64, 32, 16],
        backbone_feature_sizes=[[64, 64], [32, 32], [16, 16]],
        fpn_hidden_size=32,
    )
    prompt = {"hidden_size": 32, "image_size": 256}
    decoder = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}
    if not video:
        return Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    return Sam2VideoConfig(
        vision_config=vision,
        prompt_encoder_config=prompt,
        mask_decoder_config=decoder,
        image_size=256,
        memory_attention_hidden_size=32,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[16, 16],
        memory_encoder_hidden_size=32,
        memory_encoder_output_channels=16,
        mask_downsampler_embed_dim=32,
        memory_fuser_embed_dim=32,
        memory_fuser_intermediate_dim=64,
        memory_fuser_num_layers=1,
    )


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """Larger random weights: transformers' own give logits of 1e-5, in which any comparison drowns."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0, fan_in**-0.5, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def native_model() -> Any:
    return build_native(256)


@pytest.fixture(scope="module")
def hf_model() -> Any:
    from transformers import Sam2Model

    torch.manual_seed(0)
    return spread(Sam2Model(hf_config()))


Build = Callable[..., Any]


@pytest.fixture(params=["sam2", "sam2-hf"])
def build(request: pytest.FixtureRequest) -> Build:
    """`build(batch, ...)`: the segmenter under test."""
    if request.param == "sam2":
        model = request.getfixturevalue("native_model")
        return lambda batch=32, **fields: Sam2Segmenter(model, SegmenterConfig(batch=batch, **fields))
    model = request.getfixturevalue("hf_model")
    return lambda batch=32, **fields: Sam2HfSegmenter(model, SegmenterConfig(batch=batch, **fields))


def photo(height: int = 120, width: int = 160, seed: int = 0) -> NDArray[np.uint8]:
    """Coloured blobs, read-only as decoders of photos hand them out."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 10 + 1, width // 10 + 1, 3), np.uint8)
    pixels = coarse.repeat(10, axis=0).repeat(10, axis=1)[:height, :width].copy()
    pixels.flags.writeable = False
    return pixels


def with_boxes(boxes: list[Box]) -> list[Instance]:
    return [Instance(str(index), "thing", box) for index, box in enumerate(boxes)]


def paste(mask: Mask, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    full = np.zeros(shape[:2], np.bool_)
    rows, cols = mask.bits.shape
    full[mask.y : mask.y + rows, mask.x : mask.x + cols] = mask.bits
    return full


def assert_same(a: list[Mask], b: list[Mask], shape: tuple[int, ...]) -> None:
    """Equal but for pixels whose logit float rounding moves over 0: measured 0, allowed 1 in 1,000."""
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert (paste(one, shape) != paste(other, shape)).mean() <= 1e-3
        assert one.score == pytest.approx(other.score, abs=1e-4)


def test_masks_are_boolean_cropped_and_scored(build: Build) -> None:
    image = photo()
    (masks,) = build().segment([image], [with_boxes(BOXES)])
    assert len(masks) == len(BOXES)
    for mask in masks:
        assert mask.bits.dtype == np.bool_
        assert mask.bits.base is None  # no view that keeps the full-size mask alive
        assert paste(mask, image.shape).sum() == mask.area
        assert 0 <= mask.score <= 1
        assert mask.bits[[0, -1]].any(axis=1).all()
        assert mask.bits[:, [0, -1]].any(axis=0).all()
    # random weights, but not so degenerate that comparing masks would prove nothing
    areas = [mask.area / image[..., 0].size for mask in masks]
    assert all(0.02 < area < 0.98 for area in areas)
    assert len({mask.bits.tobytes() for mask in masks}) == len(masks)


@pytest.mark.parametrize("batch", [1, 3])
def test_chunks_equal_one_chunk(build: Build, batch: int) -> None:
    image = photo()
    (whole,) = build(32).segment([image], [with_boxes(BOXES)])
    (chunked,) = build(batch).segment([image], [with_boxes(BOXES)])
    assert_same(chunked, whole, image.shape)


def test_one_box_alone_equals_the_same_box_among_others(build: Build) -> None:
    image = photo()
    (among,) = build().segment([image], [with_boxes(BOXES)])
    for box, mask in zip(BOXES, among, strict=True):
        assert_same(build().segment([image], [with_boxes([box])])[0], [mask], image.shape)


def test_ragged_boxes_over_images_of_different_sizes(build: Build) -> None:
    images = [photo(120, 160), photo(90, 200, seed=1), photo(33, 47, seed=2), photo(1, 1, seed=3)]
    boxes = [BOXES, [(3.0, 4.0, 150.0, 80.0)], [], [(0.0, 0.0, 1.0, 1.0)]]
    together = build().segment(images, [with_boxes(of_image) for of_image in boxes])
    assert [len(masks) for masks in together] == [7, 1, 0, 1]
    for image, of_image, masks in zip(images, boxes, together, strict=True):
        (alone,) = build().segment([image], [with_boxes(of_image)])
        assert_same(masks, alone, image.shape)
        assert all(paste(mask, image.shape).sum() == mask.area for mask in masks)
    assert build().segment([], []) == []


def test_huge_images_go_in_smaller_chunks(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photo()
    (whole,) = build().segment([image], [with_boxes(BOXES)])
    seen: list[int] = []

    def record(bits: torch.Tensor, scores: torch.Tensor) -> list[Mask]:
        seen.append(len(bits))
        return crop_masks(bits, scores)

    monkeypatch.setattr(sam2_common, "MAX_PIXELS", 2 * 120 * 160)
    monkeypatch.setattr(sam2_common, "crop_masks", record)
    (chunked,) = build().segment([image], [with_boxes(BOXES)])
    assert seen == [2, 2, 2, 1]
    assert_same(chunked, whole, image.shape)


def test_images_are_embedded_once_and_some_at_a_time(build: Build) -> None:
    segmenter = build(2, images=2)
    embed, calls = segmenter._embed, []
    segmenter._embed = lambda images: calls.append([image.shape for image in images]) or embed(images)
    sizes = [(120, 160), (50, 60), (120, 160), (90, 100)]
    boxes = [BOXES, [], BOXES[:1], BOXES[:1]]
    images = [photo(*size, seed=number) for number, size in enumerate(sizes)]
    masks = segmenter.segment(images, [with_boxes(of_image) for of_image in boxes])
    # and not at all where there is no box
    assert calls == [[(120, 160, 3), (120, 160, 3)], [(90, 100, 3)]]
    for image, of_image, found in zip(images, boxes, masks, strict=True):
        assert_same(build(images=1).segment([image], [with_boxes(of_image)])[0], found, image.shape)


@pytest.mark.slow
def test_compiled_models_find_the_same_masks(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced by torch.compile, but run as they are: making code for the CPU would take a minute and prove no more."""
    image = photo()
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_module(module, backend="eager"))
    (plain,) = build().segment([image], [with_boxes(BOXES)])
    (compiled,) = build(compile=True).segment([image], [with_boxes(BOXES)])
    assert_same(compiled, plain, image.shape)


def test_no_warnings(build: Build) -> None:
    """Neither of read-only pixels nor of sam2's missing CUDA extension and old torch calls."""
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # torch would warn of read-only pixels once a process only
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            build().segment([photo()], [with_boxes(BOXES)])
    finally:
        torch.set_warn_always(always)


def test_half_precision_agrees(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens on CUDA, played on the CPU: bf16 logits and scores come out as bool masks and floats.

    Measured on random weights, whose logits are all near 0: at most 4 % of the pixels and 0.005 of the score.
    """
    image = photo()
    (exact,) = build().segment([image], [with_boxes(BOXES)])
    for module in (sam2_native, sam2_hf):
        monkeypatch.setattr(module, "mixed_precision", lambda _: torch.autocast("cpu", dtype=torch.bfloat16))
    (rounded,) = build().segment([image], [with_boxes(BOXES)])
    assert any(one.score != other.score for one, other in zip(rounded, exact, strict=True))
    for one, other in zip(rounded, exact, strict=True):
        assert one.bits.dtype == np.bool_
        assert (paste(one, image.shape) != paste(other, image.shape)).mean() < 0.1
        assert one.score == pytest.approx(other.score, abs=0.02)


def test_native_masks_are_those_of_the_public_predictor(native_model: Any) -> None:
    """`predict` drops a dimension for one box: both cases against ours."""
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    image = photo()
    predictor = SAM2ImagePredictor(native_model)
    predictor._bb_feat_sizes = [(64, 64), (32, 32), (16, 16)]
    predictor.set_image(image.copy())
    for boxes in (BOXES, BOXES[:1]):
        masks, scores, _ = predictor.predict(box=np.array(boxes), multimask_output=False)
        (ours,) = Sam2Segmenter(native_model, SegmenterConfig()).segment([image], [with_boxes(boxes)])
        for mask, bits, score in zip(ours, masks.reshape(-1, 120, 160), scores.ravel(), strict=True):
            np.testing.assert_array_equal(paste(mask, image.shape), bits.astype(bool))
            assert mask.score == pytest.approx(float(score), abs=1e-6)


def test_hf_masks_are_those_of_one_plain_call(hf_model: Any) -> None:
    from transformers import Sam2ImageProcessor, Sam2Processor

    image = photo()
    processor = Sam2Processor(Sam2ImageProcessor(size={"height": 256, "width": 256}))
    inputs = processor(images=image.copy(), input_boxes=[[list(box) for box in BOXES]], return_tensors="pt")
    with torch.no_grad():
        output = hf_model(**{key: inputs[key] for key in ("pixel_values", "input_boxes")}, multimask_output=False)
    masks = processor.post_process_masks(output.pred_masks, inputs["original_sizes"])[0]
    (ours,) = Sam2HfSegmenter(hf_model, SegmenterConfig()).segment([image], [with_boxes(BOXES)])
    for mask, bits, score in zip(ours, masks[:, 0].numpy(), output.iou_scores[0, :, 0].tolist(), strict=True):
        np.testing.assert_array_equal(paste(mask, image.shape), bits)
        assert mask.score == pytest.approx(score, abs=1e-6)


def test_crop_masks() -> None:
    bits = torch.zeros(3, 6, 8, dtype=torch.bool)
    bits[0, 2:4, 3:7] = True
    bits[2, 5, 7] = True
    cropped, empty, corner = crop_masks(bits, torch.tensor([0.25, 1.5, -0.5]))
    assert (cropped.x, cropped.y, cropped.bits.shape, cropped.area, cropped.score) == (3, 2, (2, 4), 8, 0.25)
    assert (empty.area, empty.score) == (0, 1.0)
    assert (corner.x, corner.y, corner.area, corner.score) == (7, 5, 1, 0.0)


SHARED = "prompt_encoder.shared_embedding.positional_embedding"
NATIVE_TO_HF = [
    (r"^image_encoder\.trunk", "vision_encoder.backbone"),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv", r"vision_encoder.neck.convs.\1"),
    (
        r"^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix",
        SHARED,
    ),
    (
        r"^sam_prompt_encoder\.mask_downscaling\.([036])",
        lambda m: f"prompt_encoder.mask_embed.conv{int(m[1]) // 3 + 1}",
    ),
    (
        r"^sam_prompt_encoder\.mask_downscaling\.([14])",
        lambda m: f"prompt_encoder.mask_embed.layer_norm{int(m[1]) // 3 + 1}",
    ),
    (r"^sam_", ""),
    (r"output_upscaling\.0", "upscale_conv1"),
    (r"output_upscaling\.1", "upscale_layer_norm"),
    (r"output_upscaling\.3", "upscale_conv2"),
    (r"patch_embed\.proj", "patch_embed.projection"),
    (r"\.out_proj", ".o_proj"),
    (r"\.norm", ".layer_norm"),
    (r"^no_mem_embed", "no_memory_embedding"),
    # multi-layer perceptrons: of three layers in the heads, of two elsewhere
    (r"((?:mlps\.\d|_head)\.)layers\.2", r"\1proj_out"),
    (r"((?:mlps\.\d|_head)\.)layers\.1", r"\1LAYERS.0"),
    (r"(\.mlp\.)layers\.1", r"\1proj_out"),
    (r"((?:mlps\.\d|_head|\.mlp)\.)layers\.0", r"\1proj_in"),
    (r"LAYERS", "layers"),
]


def to_hf(weights: dict[str, torch.Tensor], wanted: set[str]) -> dict[str, torch.Tensor]:
    """Native weights under the names that transformers gives them; what the image model lacks is left out."""
    points = [weights[f"sam_prompt_encoder.point_embeddings.{index}.weight"] for index in range(4)]
    renamed = {"prompt_encoder.point_embed.weight": torch.cat(points)}
    for name, value in weights.items():
        for pattern, replacement in NATIVE_TO_HF:
            name = re.sub(pattern, replacement, name)
        if name in wanted:
            renamed[name] = value
    return renamed | {"shared_image_embedding.positional_embedding": renamed[SHARED]}


def test_both_packages_agree_on_the_same_weights(native_model: Any) -> None:
    """The same random weights in both architectures give the same masks: preprocessing, boxes, decoding.

    Measured: at most 6e-4 of the pixels (pixels round differently when resized) and 3e-6 of the score.
    """
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig

    vision = Sam2VisionConfig(
        backbone_config=Sam2HieraDetConfig(image_size=[256, 256]),
        backbone_feature_sizes=[[64, 64], [32, 32], [16, 16]],
    )
    model = Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config={"image_size": 256})).eval()
    model.load_state_dict(to_hf(native_model.state_dict(), set(model.state_dict())), strict=True)
    images = [photo(), photo(300, 200, seed=1)]
    instances = [with_boxes(BOXES), with_boxes(BOXES[:2])]
    native = Sam2Segmenter(native_model, SegmenterConfig()).segment(images, instances)
    ported = Sam2HfSegmenter(model, SegmenterConfig()).segment(images, instances)
    for image, ours, theirs in zip(images, native, ported, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert (paste(one, image.shape) != paste(other, image.shape)).mean() < 2e-3
            assert one.score == pytest.approx(other.score, abs=2e-5)


# Checkpoints


def native_config(path: Path | str = "", **changes: Any) -> SegmenterConfig:
    return SegmenterConfig(**{"name": "sam2", "checkpoint": str(path), "size": "tiny", "device": "cpu", **changes})


def hf_settings(path: Path | str = "", **changes: Any) -> SegmenterConfig:
    return native_config(path, **{"name": "sam2-hf", **changes})


@pytest.fixture
def empty_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, nothing cached."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert constants.HF_HUB_OFFLINE


def test_native_checkpoint_round_trip(native_model: Any, tmp_path: Path) -> None:
    path = tmp_path / "sam2.1_hiera_tiny.pt"
    torch.save({"model": native_model.state_dict()}, path)
    segmenter = build_segmenter(native_config(path))  # the real size: 1024 px, same parameters
    assert isinstance(segmenter, Sam2Segmenter)
    other = build_native(256)
    torch.nn.init.normal_(other.no_mem_embed)
    load_native_weights(other, path)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, native_model.state_dict()[name], rtol=0, atol=0)


class MakesFolder:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape", "layout", "text", "truncated", "code"])
def test_native_checkpoint_that_does_not_fit(native_model: Any, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "sam2.1_hiera_tiny.pt"
    weights: dict[str, Any] = dict(native_model.state_dict())
    if damage == "missing":
        del weights["no_mem_embed"]
    elif damage == "unexpected":
        weights["foreign.weight"] = torch.zeros(1)
    elif damage == "shape":
        weights["no_mem_embed"] = torch.zeros(1, 1, 7)
    torch.save({"model": weights} if damage != "layout" else weights, path)
    if damage == "text":
        path.write_text("<html>not found</html>")
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:100_000])
    elif damage == "code":
        torch.save({"model": MakesFolder(tmp_path / "made")}, path)
    with pytest.raises(ValueError, match=r"sam2.1_hiera_tiny.pt is not a native SAM 2.1 checkpoint.*--segmenter"):
        load_native_weights(native_model, path)
    assert not (tmp_path / "made").exists()


@pytest.mark.usefixtures("empty_hub")
@pytest.mark.parametrize("size", list(RELEASES))
def test_missing_native_checkpoint_says_where_to_get_it(size: str) -> None:
    file = {"base-plus": "base_plus"}.get(size, size)
    with pytest.raises(FileNotFoundError) as caught:
        load_sam2(native_config(size=size))
    text = str(caught.value)
    assert f"https://dl.fbaipublicfiles.com/segment_anything_2/092824/sam2.1_hiera_{file}.pt" in text
    assert f"facebook/sam2.1-hiera-{size}" in text
    assert "--segmenter.checkpoint" in text
    assert "HF_HUB_OFFLINE" in text


@pytest.mark.usefixtures("empty_hub")
def test_missing_hf_checkpoint_says_where_to_get_it(tmp_path: Path) -> None:
    for checkpoint in ("", "facebook/sam2.1-hiera-tiny", tmp_path, "someone/fine-tuned"):
        with pytest.raises(FileNotFoundError, match=r"hf download facebook/sam2.1-hiera-tiny .*--segmenter"):
            load_sam2_hf(hf_settings(checkpoint))


@pytest.mark.parametrize("load", [load_sam2, load_sam2_hf])
@pytest.mark.parametrize("path", ["/nowhere/sam2.1_hiera_tiny.pt", "./weights", "weights/tiny.pt", "a/b/c", "tiny"])
def test_missing_local_path_is_named_and_never_asked_of_the_hub(load: Callable[..., Any], path: str) -> None:
    with pytest.raises(FileNotFoundError, match="no such file or folder: " + path):
        load(native_config(path))


@pytest.mark.parametrize("load", [load_sam2, load_sam2_hf])
def test_hub_id_of_another_size_is_refused(load: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"--segmenter\.size small"):
        load(native_config("facebook/sam2.1-hiera-small", size="large"))


def test_native_checkpoint_from_the_hub_cache(
    native_model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An offline machine with a filled cache."""
    import huggingface_hub.constants as constants

    folder = tmp_path / "models--facebook--sam2.1-hiera-tiny"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    torch.save({"model": native_model.state_dict()}, folder / "snapshots" / "abc" / "sam2.1_hiera_tiny.pt")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = load_sam2(native_config())
    assert torch.equal(model.no_mem_embed, native_model.no_mem_embed)


def test_folder_for_sam2_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a folder: segmenter sam2 takes a \.pt file"):
        load_sam2(native_config(tmp_path))


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_sam2(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == "sam2":
            raise ModuleNotFoundError("No module named 'sam2'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_sam2)
    with pytest.raises(ValueError, match=r"SAM2_BUILD_CUDA=0 pip install .*\[sam2\]"):
        build_segmenter(native_config())


def test_hf_folder_round_trip(hf_model: Any, tmp_path: Path) -> None:
    hf_model.save_pretrained(tmp_path)
    segmenter = build_segmenter(hf_settings(tmp_path))
    assert isinstance(segmenter, Sam2HfSegmenter)
    image = photo()
    assert_same(
        segmenter.segment([image], [with_boxes(BOXES)])[0],
        Sam2HfSegmenter(hf_model, SegmenterConfig()).segment([image], [with_boxes(BOXES)])[0],
        image.shape,
    )


def test_hf_folder_of_the_video_model_loads(hf_model: Any, tmp_path: Path) -> None:
    """What the hub's folders are: the image model's weights and those of the memory, in one file."""
    from transformers import Sam2VideoModel

    video = spread(Sam2VideoModel(hf_config(video=True)))
    video.save_pretrained(tmp_path)
    model = load_sam2_hf(hf_settings(tmp_path))
    shared = video.state_dict()
    assert set(model.state_dict()) < set(shared)
    for name, value in model.state_dict().items():
        assert torch.equal(value, shared[name]), name


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape"])
def test_hf_folder_that_does_not_fit(hf_model: Any, tmp_path: Path, damage: str) -> None:
    from safetensors.torch import load_file, save_file

    hf_model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    if damage == "missing":
        del weights["no_memory_embedding"]
    elif damage == "unexpected":
        weights["foreign.weight"] = torch.zeros(1)
    else:
        weights["no_memory_embedding"] = torch.zeros(1, 1, 7)
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"the weights in {tmp_path}"):
        load_sam2_hf(hf_settings(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam2", "sam2-hf"])
def test_real_tiny_architecture(name: str) -> None:
    """1024 px and 39M parameters (native) at random weights: one box, many, chunks."""
    if name == "sam2":
        model = build_native(1024)
        assert sum(parameter.numel() for parameter in model.parameters()) == 38_962_498
        segmenters = [Sam2Segmenter(model, SegmenterConfig(batch=batch)) for batch in (32, 2)]
    else:
        from transformers import Sam2Config, Sam2Model

        torch.manual_seed(0)
        model = spread(Sam2Model(Sam2Config()))
        segmenters = [Sam2HfSegmenter(model, SegmenterConfig(batch=batch)) for batch in (32, 2)]
    image = photo(240, 320)
    (many,) = segmenters[0].segment([image], [with_boxes(BOXES)])
    (chunked,) = segmenters[1].segment([image], [with_boxes(BOXES)])
    (one,) = segmenters[0].segment([image], [with_boxes(BOXES[:1])])
    assert_same(chunked, many, image.shape)
    assert_same(one, many[:1], image.shape)
    assert all(0.02 < mask.area / (240 * 320) < 0.98 for mask in many)
