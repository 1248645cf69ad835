"""Distillation: a small embedding is taught, over shards, what the model itself would say.

From labels alone (the category is in the scene or not) it learns to find what is relevant; from the model's log odds it
learns which of that the model puts first. The model's own words are dear, so few pairs are asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sketchlm.processor import Processor
from sketchlm.retrieval.projection import ProjectedEmbedding
from sketchlm.retrieval.scorer import Scorer
from sketchlm.shards import RawSample


@dataclass(frozen=True)
class DistillationConfig:
    """How an embedding is trained."""

    dim: int = 64
    """Features that a photo shows more or less of; vectors have one number more."""
    scenes: int = 8_000
    """Samples that are looked at, one sketch of each, at most."""
    taught: int = 1_024
    """Sketches that the model is asked about, at most."""
    photos: int = 48
    """Photos that it is asked about for each of them: three quarters show its category."""
    steps: int = 1_500
    batch: int = 64
    """Sketches, and photos, that are compared by their labels at each step: each with each."""
    taught_batch: int = 32
    """Sketches with 8 photos each whose log odds are compared."""
    labels: float = 0.3
    """Weight of the labels beside the model's log odds."""
    rate: float = 3e-3
    seed: int = 0


@dataclass(frozen=True)
class Lessons:
    """What it is taught with. sketches, photos: the tower's features [N, T, D] float16; match [N, N] bool: photo i
    shows the category of sketch j; taught [M]: sketches, others [M, P]: photos, log_odds [M, P]: the model's.
    """

    sketches: Tensor
    photos: Tensor
    match: Tensor
    taught: Tensor
    others: Tensor
    log_odds: Tensor


def train_embedding(
    scorer: Scorer,
    samples: Iterable[RawSample],
    config: DistillationConfig | None = None,
    seen: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> ProjectedEmbedding:
    """An embedding for a model, the same for the same samples, seed and threads; minutes on a CPU.

    samples: of instruction shards that the model was trained on. seen: told of each part how much is done.
    Raises ValueError for samples of which too few hold questions of retrieval.
    """
    config = config or DistillationConfig()
    lessons = collect_lessons(scorer, samples, config, seen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        embedding = ProjectedEmbedding(lessons.photos.shape[-1], config.dim, scorer.tower)
    optimizer = torch.optim.AdamW(embedding.parameters(), lr=config.rate, weight_decay=1e-3)
    course = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.rate, total_steps=config.steps)
    dice = torch.Generator().manual_seed(config.seed)
    for step in range(config.steps):
        loss = config.labels * _label_loss(embedding, lessons, config, dice)
        loss = loss + _taught_loss(embedding, lessons, config, dice)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.step()
        seen("steps", step + 1, config.steps)
    return embedding.requires_grad_(False).eval()


def _label_loss(
    embedding: ProjectedEmbedding, lessons: Lessons, config: DistillationConfig, dice: torch.Generator
) -> Tensor:
    """Cross entropy of yes, of sketches and photos drawn apart."""
    i, j = torch.randint(len(lessons.photos), (2, config.batch), generator=dice)
    scores = embedding.sketches(lessons.sketches[j]) @ embedding.photos(lessons.photos[i]).T
    return F.binary_cross_entropy_with_logits(scores, lessons.match[i][:, j].T.float())


def _taught_loss(
    embedding: ProjectedEmbedding, lessons: Lessons, config: DistillationConfig, dice: torch.Generator
) -> Tensor:
    """Distance from the model's log odds, and how often two photos stand in another order than the model's."""
    rows = torch.randint(len(lessons.taught), (config.taught_batch,), generator=dice)
    columns = torch.randint(lessons.others.shape[1], (config.taught_batch, 8), generator=dice)
    photos = embedding.photos(lessons.photos[lessons.others[rows[:, None], columns].flatten()])
    sketches = embedding.sketches(lessons.sketches[lessons.taught[rows]])
    scores = (sketches[:, None] * photos.unflatten(0, (-1, 8))).sum(-1)
    wanted = lessons.log_odds[rows[:, None], columns]
    above, truly = (x[:, :, None] - x[:, None] for x in (scores, wanted))
    order = F.binary_cross_entropy_with_logits(above, (2 * truly).sigmoid())
    return F.smooth_l1_loss(scores, wanted) / 2 + order


def collect_lessons(
    scorer: Scorer,
    samples: Iterable[RawSample],
    config: DistillationConfig,
    seen: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Lessons:
    """One sketch of each sample, all photos, and the model's log odds of some pairs."""
    sketches, photos, wanted, shown = _features(scorer, samples, config, seen)
    names = {name: number for number, name in enumerate(sorted({*wanted, *set().union(*shown)}))}
    presence = torch.zeros(len(shown), len(names), dtype=torch.bool)
    for row, categories in enumerate(shown):
        presence[row, [names[name] for name in categories]] = True
    match = presence[:, [names[name] for name in wanted]]
    dice = np.random.default_rng(config.seed)
    taught = dice.permutation(len(sketches))[: config.taught]
    others = np.stack([_drawn(match[:, sketch].numpy(), config.photos, dice) for sketch in taught])
    said = []
    for number, (sketch, places) in enumerate(zip(taught, others, strict=True), start=1):
        prefix = scorer.prefix(None, sketches[sketch])
        said.append(scorer.log_odds(prefix, photos[places]))
        seen("pairs", number, len(taught))
    return Lessons(
        sketches, photos, match, torch.from_numpy(taught), torch.from_numpy(others), torch.stack(said).clone()
    )


def _features(
    scorer: Scorer, samples: Iterable[RawSample], config: DistillationConfig, seen: Callable[[str, int, int], None]
) -> tuple[Tensor, Tensor, list[str], list[set[str]]]:
    """Features of sketches and photos [N, T, D] float16, each sketch's category, and the categories of each photo."""
    theirs = scorer.processor
    asks = replace(theirs.config, tasks=("sbir",), rows=1, branches=1)
    processor = Processor(theirs.tokenizer, theirs.side, theirs.num_image_tokens, asks)
    found: dict[str, list[Tensor]] = {"sketches": [], "photos": []}
    wanted: list[str] = []
    shown: list[set[str]] = []
    for number, raw in enumerate(samples):
        if len(wanted) == config.scenes:
            break
        items = [item for item in processor.items(raw, config.seed + number) if len(item.pictures) == 2]
        if not items or items[0].branches[0].query.question:  # of a sketch of this very photo: not its category
            continue
        pair = scorer.features(np.stack([picture.pixels for picture in items[0].pictures])).half().cpu()
        for name, features in zip(found, pair, strict=True):
            found[name].append(features)
        wanted.append(items[0].branches[0].query.category)
        shown.append({thing.category for thing in raw.record.objects})
        seen("scenes", len(wanted), config.scenes)
    if len(wanted) < config.photos:
        raise ValueError(
            f"{len(wanted)} samples ask whether a sketch is in a photo, an embedding needs {config.photos} at least: "
            "give the instruction shards that the model was trained on"
        )
    # copies outside of inference mode: what follows needs gradients
    return torch.stack(found["sketches"]).clone(), torch.stack(found["photos"]).clone(), wanted, shown


def _drawn(match: np.ndarray, number: int, dice: np.random.Generator) -> np.ndarray:
    """Places of so many photos, three quarters of which match where there are as many."""
    yes, no = (dice.permutation(np.flatnonzero(match == kind)) for kind in (True, False))
    few = max(number - len(yes), number // 4)
    places = np.concatenate([yes[: number - min(few, len(no))], no[: min(few, len(no))]])
    return dice.choice(places, number, replace=len(places) < number) if len(places) != number else places
