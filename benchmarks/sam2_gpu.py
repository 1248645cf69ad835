"""SAM 2.1 at random weights on a GPU: our segmenter against the bare model called in a loop.

    python -m benchmarks.sam2_gpu               writes benchmarks/sam2_gpu.md; some minutes on one H100
    python -m benchmarks.sam2_gpu --tiny        toy sizes on a CPU, to try the script; writes nothing

The bare loop gets what it needs for nothing: pixels that were resized and normalised before the clock starts and lie on
the device, one image and all its boxes a call, low-resolution logits that nobody enlarges, crops or copies back. Ours
begins with photos as a decoder hands them out and ends with cropped boolean masks on the host. Both in bf16. Needs
torch, transformers and sketchgen; no weights, no data.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.commit import commit
from sketchgen.instance import Instance
from sketchgen.segmenter import SegmenterConfig
from sketchgen.segmenters.sam2_common import mixed_precision
from sketchgen.segmenters.sam2_hf import Sam2HfSegmenter

PAGE = Path(__file__).with_suffix(".md")
GOAL = 0.9
"""Of the bare loop's images/s."""
WIDTH, HEIGHT, BOXES = 1024, 768, 11
BACKBONES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 96, "blocks_per_stage": [1, 2, 7, 2], "global_attention_blocks": [5, 7, 9]},
    "small": {"hidden_size": 96, "blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]},
    "base-plus": {
        "hidden_size": 112,
        "blocks_per_stage": [2, 3, 16, 3],
        "global_attention_blocks": [12, 16, 20],
        "window_positional_embedding_background_size": [14, 14],
    },
    "large": {
        "hidden_size": 144,
        "blocks_per_stage": [2, 6, 36, 4],
        "global_attention_blocks": [23, 33, 43],
        "window_size_per_stage": [8, 4, 16, 8],
    },
}
"""What the published sizes differ in (configs/sam2.1 of the sam2 package)."""


@dataclass(frozen=True)
class Speed:
    """Images a second, the best of all rounds."""

    size: str
    parameters: int
    bare: float
    ours: float
    compiled: float | None
    gigabytes: float


def build(size: str, image_size: int, device: torch.device) -> Any:
    """A published architecture at random weights, without the memory of the video model."""
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig

    width, heads = BACKBONES[size]["hidden_size"], 1 if BACKBONES[size]["hidden_size"] == 96 else 2
    backbone = Sam2HieraDetConfig(
        image_size=[image_size, image_size],
        embed_dim_per_stage=[width * 2**stage for stage in range(4)],
        num_attention_heads=heads,
        num_attention_heads_per_stage=[heads * 2**stage for stage in range(4)],
        **BACKBONES[size],
    )
    strides = [image_size // stride for stride in (4, 8, 16)]
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[width * 2**stage for stage in (3, 2, 1, 0)],
        backbone_feature_sizes=[[side, side] for side in strides],
    )
    torch.manual_seed(0)
    config = Sam2Config(vision_config=vision)
    config.prompt_encoder_config.image_size = image_size
    return Sam2Model(config).eval().to(device)


def make_photos(count: int) -> tuple[list[NDArray[np.uint8]], list[list[Instance]]]:
    """Coloured noise of the usual size, with as many boxes as Objects365 has on average."""
    random = np.random.default_rng(0)
    photos = [random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(count)]
    corners = random.integers(0, [WIDTH - 200, HEIGHT - 200], (count, BOXES, 2))
    sides = random.integers(30, 200, (count, BOXES, 2))
    boxes = np.concatenate([corners, corners + sides], axis=2).astype(float)
    return photos, [[Instance(str(row), "thing", tuple(box)) for row, box in enumerate(of_photo)] for of_photo in boxes]


@torch.inference_mode()
def bare_loop(model: Any, photos: Sequence[NDArray[np.uint8]], instances: Sequence[Sequence[Instance]]) -> Any:
    """A closure that segments all of it with the bare model, from pixels that lie on the device."""
    device, side = next(model.parameters()).device, model.config.prompt_encoder_config.image_size
    scale = np.array([side / WIDTH, side / HEIGHT] * 2)
    prepared = []
    for photo, of_photo in zip(photos, instances, strict=True):
        pixels = torch.from_numpy(photo).to(device).permute(2, 0, 1)[None].float() / 255
        pixels = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        boxes = np.array([instance.box for instance in of_photo]) * scale
        prepared.append((pixels, torch.tensor(boxes[None], dtype=torch.float32, device=device)))

    @torch.inference_mode()
    def loop() -> None:
        for pixels, boxes in prepared:
            with mixed_precision(device):
                features = model.get_image_embeddings(pixels)
                model(input_boxes=boxes, image_embeddings=features, multimask_output=False)
        _wait(device)

    return loop


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def images_per_second(calls: dict[str, Callable[[], Any]], images: int, rounds: int) -> dict[str, float]:
    """The best of all rounds of each call, taken in turn, so that a noisy machine treats them alike."""
    best = dict.fromkeys(calls, 0.0)
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number:  # the first warms up
                best[name] = max(best[name], images / (time.perf_counter() - start))
    return best


def measure(size: str, options: argparse.Namespace, device: torch.device) -> Speed:
    """One size."""
    model = build(size, 256 if options.tiny else 1024, device)
    photos, instances = make_photos(options.images)
    settings = SegmenterConfig("sam2-hf", size=size, images=options.batch)  # type: ignore[arg-type]
    segmenter = Sam2HfSegmenter(model, settings)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    calls = {
        "bare": bare_loop(model, photos, instances),
        "ours": lambda: segmenter.segment(photos, instances),
    }
    best = images_per_second(calls, len(photos), options.rounds)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    compiled = None
    if options.compile:
        quick = Sam2HfSegmenter(model, SegmenterConfig("sam2-hf", images=options.batch, compile=True))
        calls = {"compiled": lambda: quick.segment(photos, instances)}
        compiled = images_per_second(calls, len(photos), options.rounds)["compiled"]
    parameters = sum(tensor.numel() for tensor in model.parameters())
    return Speed(size, parameters, best["bare"], best["ours"], compiled, peak)


def page(speeds: Sequence[Speed], options: argparse.Namespace, device: torch.device) -> str:
    """The table as Markdown."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    rows = "".join(
        f"| {s.size} | {s.parameters / 1e6:.1f} M | {s.bare:.1f} | {s.ours:.1f} | {s.ours / s.bare:.2f} | "
        f"{s.ours * BOXES:.0f} | {'-' if s.compiled is None else f'{s.compiled:.1f}'} | {s.gigabytes:.1f} |\n"
        for s in speeds
    )
    return f"""# SAM 2.1 on a GPU

`python -m benchmarks.sam2_gpu` · {date.today()} · commit {commit()} · {name}, torch {torch.__version__} ·
random weights, {options.images} photos of {WIDTH} x {HEIGHT}, {BOXES} boxes each, {options.batch} embedded at a time.

`bare` is the model alone in a loop, its input ready on the device and its output left there; `ours` starts from decoded
photos and ends with cropped masks on the host (goal: {GOAL} of the bare loop).

| size | parameters | bare, images/s | ours, images/s | ratio | ours, instances/s | compiled, images/s | peak, GiB |
|---|---|---|---|---|---|---|---|
{rows}"""


def main() -> None:
    """Measure, print, and rewrite the page unless it was a trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="toy sizes; nothing is written")
    parser.add_argument("--sizes", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4, help="images embedded together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile (minutes more)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    speeds = []
    for size in options.sizes:
        speeds.append(measure(size, options, device))
        print(speeds[-1], flush=True)
    text = page(speeds, options, device)
    print(text)
    if not options.tiny:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
