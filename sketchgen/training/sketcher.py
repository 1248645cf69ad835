"""Pix2Pix trainer of our sketcher: generator against PatchGAN, L1 + adversarial, on pairs of two kinds."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sketchgen.sketchers.pix2pix import (
    CHANNELS,
    Generator,
    GeneratorConfig,
    GeneratorInput,
    generator_input,
    save_generator,
)
from sketchgen.training.openmoji import Pair, drawing_pair, is_held_out, read_openmoji, shade

SIDE = 256


@dataclass(frozen=True)
class SketcherTraining:
    """A complete training run of the pix2pix sketcher."""

    openmoji: str = ""
    """The npm package openmoji, v17 (`npm pack openmoji@17`): its .tgz or the unpacked folder. Required."""
    photos_annotations: str = ""
    """COCO instances JSON with polygons or RLE, for crops of photos with a teacher's strokes; empty: none."""
    photos_images: str = ""
    """Folder of the photos that it names. Photos with image_id % 3 == 0 are never trained on."""
    out: Path = Path("out/train-sketcher")
    """Where pix2pix.safetensors, checkpoint.pt, photos.npz and log.jsonl go."""
    evaluate: str = ""
    """Print the figures of these weights, a path or `shipped`, and train nothing."""
    input: GeneratorInput = "both"
    """What the generator sees: the masked crop, its edge map, or both."""
    photo_share: float = 0.5
    """Share of the photos' crops in a batch."""
    min_side: int = 80
    """Photo instances with a smaller longer side, in pixels, are left out."""
    steps: int = 5600
    """Optimiser steps of each network."""
    batch: int = 12
    """Crops a step."""
    window: int = 128
    """Side of the random windows trained on, in pixels of the 256 px crop."""
    whole_from: float = 0.65
    """Share of the steps after which whole crops are trained on, three times fewer a step."""
    lr: float = 1.5e-3
    """Peak learning rate of the generator (Adam, cosine decay after a short rise)."""
    discriminator_lr: float = 1e-3
    """Peak learning rate of the discriminator."""
    l1_weight: float = 100.0
    """Weight of L1, as in Pix2Pix; the adversarial term has 1."""
    ink_weight: float = 3.0
    """Extra weight of L1 where the target has ink: a tenth of the pixels would otherwise be averaged to white."""
    late_ink_weight: float = 1.0
    """The same once whole crops are trained on: by then nothing fades to white, and what the first weight costs is
    precision, as a stroke pays from a probability of 1 / (2 + weight)."""
    adversary_from: float = 0.15
    """Share of the steps after which the adversarial term joins."""
    adversary_weight: float = 1.0
    """Weight of the adversarial term."""
    ema: float = 0.998
    """Decay of the averaged generator, which is the one saved."""
    seed: int = 0
    """Of everything: a step draws from (seed, step), so a resumed run equals an uninterrupted one."""
    threads: int = 1
    """CPU threads of torch."""
    checkpoint_every: int = 250
    """Steps between checkpoints; a run that finds one in `out` goes on from it."""


class PatchDiscriminator(nn.Module):
    """PatchGAN (Isola et al., 2017): judges patches of 46 px; [B, C, S, S] input and [B, 1, S, S] strokes (ink in
    [0, 1]) to real-or-not [B, 1, S / 8 - 1, S / 8 - 1].

    No normalisation: statistics of an instance hide how dark and how wide strokes are, and it learns more slowly.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in pairwise((channels + 1, width, 2 * width, 4 * width)):
            layers += [nn.Conv2d(inner, outer, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 4, 1, 1))

    def forward(self, x: Tensor, ink: Tensor) -> Tensor:
        return self.layers(torch.cat([x, 2 * ink - 1], dim=1))


# --- pairs -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Material:
    """Pairs that steps draw from."""

    drawings: list[Pair]
    photos: list[Pair]


def drawing_pairs(path: Path, held_out: bool) -> list[Pair]:
    """Flat-coloured OpenMoji pairs of one side of the split, as read from the package."""
    drawings = (drawing for drawing in read_openmoji(path) if is_held_out(drawing.name) == held_out)
    return [pair for drawing in drawings if (pair := drawing_pair(drawing, SIDE)) is not None]


def gather(config: SketcherTraining) -> Material:
    """Render the drawings, and let the teacher draw the photos (kept in `out`/photos.npz for the next run)."""
    if not config.openmoji:
        raise ValueError("openmoji is empty: run `npm pack openmoji@17` and pass --openmoji openmoji-17.0.0.tgz")
    drawings = drawing_pairs(Path(config.openmoji), held_out=False)
    if not config.photos_annotations:
        return Material(drawings, [])
    kept = config.out / "photos.npz"
    if not kept.exists():
        from sketchgen.training.hed import photo_pairs

        annotations, images = Path(config.photos_annotations), Path(config.photos_images)
        save_pairs(list(photo_pairs(annotations, images, SIDE, False, config.min_side)), kept)
    return Material(drawings, load_pairs(kept))


def save_pairs(pairs: Sequence[Pair], path: Path) -> None:
    """Write pairs into one .npz, whole or not at all."""
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        name=np.array([pair.name for pair in pairs]),
        rgb=np.stack([pair.rgb for pair in pairs]),
        mask=np.stack([pair.mask for pair in pairs]),
        target=np.stack([pair.target for pair in pairs]),
    )
    os.replace(partial, path)


def load_pairs(path: Path) -> list[Pair]:
    """Pairs that `save_pairs` wrote."""
    with np.load(path) as file:
        columns = [file[name] for name in ("name", "rgb", "mask", "target")]
    return [Pair(str(name), *planes) for name, *planes in zip(*columns, strict=True)]


def vary(pair: Pair, rng: np.random.Generator) -> Pair:
    """The pair flipped, turned, stretched and scaled a little."""
    side = len(pair.mask)
    angle, scale = rng.normal(0, 0.12), rng.uniform(0.8, 1.08)
    stretch = np.exp(rng.normal(0, 0.08))
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = linear @ np.diag([stretch * (1 if rng.random() < 0.5 else -1), 1 / stretch])
    centre = np.array([side / 2, side / 2]) - 0.5
    matrix = np.float32(np.concatenate([linear, (centre - linear @ centre)[:, None]], axis=1))

    def warped(plane: NDArray[np.uint8], outside: int) -> NDArray[np.uint8]:
        return np.asarray(
            cv2.warpAffine(plane, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=(outside,) * 3),
            np.uint8,
        )

    mask = warped(pair.mask.view(np.uint8) * np.uint8(255), 0) > 127
    # interpolation pales thin strokes: darken them again
    target = 255 - np.clip((255 - warped(pair.target, 255).astype(np.float32)) * 1.3, 0, 255).astype(np.uint8)
    rgb = np.where(mask[..., None], warped(pair.rgb, 255), np.uint8(255))
    return Pair(pair.name, rgb, mask, target)


def relit(pair: Pair, rng: np.random.Generator) -> Pair:
    """A photo's pair with other brightness, contrast, colour and sharpness."""
    picture = pair.rgb.astype(np.float32) / 255
    picture = picture * np.float32(rng.uniform(0.7, 1.2)) * (1 + rng.normal(0, 0.05, 3)).astype(np.float32)
    grey = picture.mean(axis=2, keepdims=True)
    picture = np.clip(grey + (picture - grey) * np.float32(rng.uniform(0.3, 1.4)), 0, 1) ** np.float32(
        np.exp(rng.normal(0, 0.25))
    )
    blur = rng.uniform(0, 1.5)
    if blur > 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), blur - 0.4)
    picture = picture + rng.normal(0, 0.015 * rng.random(), picture.shape).astype(np.float32)
    rgb = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return replace(pair, rgb=np.where(pair.mask[..., None], rgb, np.uint8(255)))


def draw_batch(
    rng: np.random.Generator, material: Material, config: SketcherTraining, step: int
) -> tuple[Tensor, Tensor]:
    """Input [B, C, S, S] and ink [B, 1, S, S] in [0, 1]; two windows of each pair, or whole pairs late in the run."""
    whole = step >= config.whole_from * config.steps
    windows = 1 if whole else 2
    count = max(2, config.batch // 3) if whole else config.batch // windows
    inputs, inks = [], []
    photos = round(count * config.photo_share) if material.photos else 0
    for number in range(count):
        pool = material.photos if number < photos else material.drawings
        pair = vary(pool[int(rng.integers(len(pool)))], rng)
        pair = relit(pair, rng) if number < photos else shade(pair, rng)
        seen, ink = (
            generator_input(pair.rgb, pair.mask, config.input),
            1 - pair.target.astype(np.float32) / 255,
        )
        for _ in range(windows):
            place = (slice(None), slice(None)) if whole else _window(rng, pair.mask, config.window)
            inputs.append(seen[:, *place])
            inks.append(ink[None, *place])
    return torch.from_numpy(np.stack(inputs)), torch.from_numpy(np.stack(inks))


def _window(rng: np.random.Generator, mask: NDArray[np.bool_], size: int) -> tuple[slice, slice]:
    """A window around a random pixel of the mask."""
    rows, cols = np.nonzero(mask)
    if len(rows) == 0:
        return slice(0, size), slice(0, size)
    pick = int(rng.integers(len(rows)))
    jitter = rng.integers(-size // 4, size // 4 + 1, 2)
    limit = len(mask) - size
    top = int(np.clip(rows[pick] - size // 2 + jitter[0], 0, limit))
    left = int(np.clip(cols[pick] - size // 2 + jitter[1], 0, limit))
    return slice(top, top + size), slice(left, left + size)


# --- training --------------------------------------------------------------------------------------


class Run:
    """The two networks, the averaged generator, and their optimisers."""

    def __init__(self, config: SketcherTraining) -> None:
        torch.manual_seed(config.seed)
        self.config, self.layout = config, GeneratorConfig(input=config.input, side=SIDE)
        self.generator = Generator(self.layout).to(memory_format=torch.channels_last)
        self.average = deepcopy(self.generator).eval().requires_grad_(False)
        self.judge = PatchDiscriminator(CHANNELS[config.input]).to(memory_format=torch.channels_last)
        self.draws = torch.optim.Adam(self.generator.parameters(), lr=config.lr, betas=(0.5, 0.99))
        self.judges = torch.optim.Adam(self.judge.parameters(), lr=config.discriminator_lr, betas=(0.5, 0.99))
        self.step = 0

    def update(self, x: Tensor, ink: Tensor) -> dict[str, float]:
        """One step of both networks; x [B, C, S, S], ink [B, 1, S, S]."""
        config = self.config
        share = self.step / config.steps
        rate = min(1.0, (self.step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        for optimiser, peak in ((self.draws, config.lr), (self.judges, config.discriminator_lr)):
            optimiser.param_groups[0]["lr"] = peak * rate
        x, ink = (
            x.contiguous(memory_format=torch.channels_last),
            ink.contiguous(memory_format=torch.channels_last),
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):  # twice as fast on CPUs that have it
            drawn = torch.sigmoid(self.generator(x))
        ink_weight = config.late_ink_weight if share >= config.whole_from else config.ink_weight
        l1 = ((drawn.float() - ink).abs() * (1 + ink_weight * ink)).mean()
        loss, figures = config.l1_weight * l1, {"l1": float(l1.detach())}
        if share >= config.adversary_from:
            figures["judge"] = self._judge(x, ink, drawn.detach())
            with torch.autocast("cpu", dtype=torch.bfloat16):
                verdict = self.judge(x, drawn)
            fooled = ((verdict.float() - 1) ** 2).mean()  # least squares, as in LSGAN
            loss, figures["fooled"] = loss + config.adversary_weight * fooled, float(fooled.detach())
        self.draws.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.generator.parameters(), 100.0)
        self.draws.step()
        self._average()
        self.step += 1
        return figures

    def _judge(self, x: Tensor, ink: Tensor, drawn: Tensor) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            real, fake = self.judge(x, ink).float(), self.judge(x, drawn).float()
        loss = 0.5 * (((real - 1) ** 2).mean() + (fake**2).mean())
        self.judges.zero_grad()
        loss.backward()
        self.judges.step()
        return float(loss.detach())

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for mean, new in zip(self.average.state_dict().values(), self.generator.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(new, 1 - decay)
            else:
                mean.copy_(new)

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        return {name: getattr(self, name) for name in ("generator", "average", "judge", "draws", "judges")}

    def save(self) -> None:
        """Checkpoint and weights, each whole or not at all."""
        state: dict[str, object] = {name: part.state_dict() for name, part in self._parts().items()}
        partial = self.config.out / "checkpoint.partial"
        torch.save({**state, "step": self.step}, partial)
        os.replace(partial, self.config.out / "checkpoint.pt")
        save_generator(self.average, self.layout, self.config.out / "pix2pix.safetensors")

    def load(self) -> None:
        """Go on from the checkpoint in `out`, if there is one."""
        path = self.config.out / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, weights_only=True)
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            self.step = int(state["step"])


def train(
    config: SketcherTraining, report: Callable[[int, dict[str, float]], None] = lambda step, figures: None
) -> Path:
    """Train to `config.steps`, going on from a checkpoint; returns the path of the weights.

    `report(step, figures)` is called after every step. Raises ValueError or FileNotFoundError with the remedy.
    """
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(config.threads)
    config.out.mkdir(parents=True, exist_ok=True)
    material, run = gather(config), Run(config)
    run.load()
    while run.step < config.steps:
        rng = np.random.default_rng((config.seed, run.step))
        figures = run.update(*draw_batch(rng, material, config, run.step))
        report(run.step, figures)
        if run.step % config.checkpoint_every == 0 or run.step == config.steps:
            run.save()
    return config.out / "pix2pix.safetensors"
