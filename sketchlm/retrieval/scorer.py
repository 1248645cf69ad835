"""The scorer: how surely the model says that photos show what a sketch shows, for many photos at once.

What every photo shares is computed once: the prompt up to the photo, with the sketch in it, goes through the language
model once a sketch, and its keys and values are continued by each photo. A photo costs its own tokens and the
question's; the tower is spared where its features are stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data_manifests.schema import Query
from sketchlm.fingerprint import fingerprint
from sketchlm.frame import FILL
from sketchlm.fusion import embed, fusion_of
from sketchlm.loss import tower_features
from sketchlm.model import num_image_tokens, unwrap
from sketchlm.processor import Processor

CPU_TOKENS, GPU_TOKENS = 2_500, 8_192
"""Tokens of a batch, those of the shared prefix counted for each photo. On a CPU (one thread, the demonstration model,
2026-11-26) 8 to 32 photos of 155 tokens took 3.2 ms each, one 4.9, 128 of them 4.6: they no longer fit its cache.
Several photos in a row under a mask took 3.4 to 5.8 ms. On a GPU it is the memory of the keys: 0.5 MB a token of 7B."""
TOWER_BATCH = 32
CHUNK = 256
"""Photos whose features are in memory at once: 300 MB of LLaVA-7B's."""
PIXELS = 1
"""Version of the way from a file to the tower's pixels: a gallery that another made is refused."""

Probe: TypeAlias = NDArray[np.uint8] | str
"""What is looked for: a sketch as the tower sees it [3, S, S] uint8, or the name of a category (no sketch is shown)."""


@dataclass(frozen=True)
class Prefix:
    """The prompt up to the photo, as the language model holds it. keys, values: of each layer [1, H, L, D]."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    tail: tuple[int, ...]
    """Ids after the photo: the question, up to where the answer begins."""
    sketch: Tensor | None
    """Its tokens [1, T, W], which photos are fused with where the model does so; None where none is shown."""

    @property
    def length(self) -> int:
        """Tokens."""
        return self.keys[0].shape[2]


class Scorer:
    """Scores photos with a model; holds no state but the model's, so that threads may share it."""

    def __init__(self, model: Any, processor: Processor, tokens: int = 0, draw: int = 0) -> None:
        """tokens: of a batch (0 = by device, see CPU_TOKENS); draw: the wording of the question (0 is the paper's)."""
        self.llava = unwrap(model)
        self.processor = processor
        self.draw = draw
        weight = next(self.llava.parameters())
        self.device, self.dtype = weight.device, weight.dtype
        self.tokens = tokens or (CPU_TOKENS if weight.device.type == "cpu" else GPU_TOKENS)
        self.num_image_tokens = num_image_tokens(model)
        self._yes, self._no = (int(processor._answer_ids(word)[0]) for word in ("yes", "no"))
        config = self.llava.config
        self.tower = fingerprint(
            model,
            ("tower",),
            pixels=PIXELS,
            fill=FILL,
            side=config.vision_config.image_size,
            layer=config.vision_feature_layer,
            strategy=config.vision_feature_select_strategy,
        )
        """Fingerprint of what decides the tower's features."""

    @torch.inference_mode()
    def features(self, pixels: NDArray[np.uint8]) -> Tensor:
        """The tower's features [N, T, D] of pictures [N, 3, S, S] uint8, where the model is and in its precision."""
        side = self.processor.side
        if pixels.ndim != 4 or pixels.shape[1:] != (3, side, side) or pixels.dtype != np.uint8:
            raise ValueError(
                f"pictures are {pixels.dtype} {pixels.shape}, the tower takes uint8 [N, 3, {side}, {side}]: "
                "let Processor.pixels make them"
            )
        blocks = (torch.from_numpy(pixels[i : i + TOWER_BATCH]) for i in range(0, len(pixels), TOWER_BATCH))
        return torch.cat([tower_features(self.llava, block.to(self.device)) for block in blocks])

    def connected(self, features: Tensor) -> Tensor:
        """The tower's features [N, T, D] as tokens [N, T, W] of the language model."""
        return self.llava.model.multi_modal_projector(features.to(self.device, self.dtype))

    @torch.inference_mode()
    def prefix(self, probe: Probe | None, features: Tensor | None = None, hint: str = "") -> Prefix:
        """The prompt up to the photo. features: the tower's of a sketch [T, D], where they are known already (its
        pixels are not needed then); hint: a user's own words, behind the question.

        Raises ValueError for a category without a name, and for pixels that the tower does not take.
        """
        if isinstance(probe, str) and not probe.strip():
            raise ValueError("the name of the category is empty: give a sketch, or say what to look for")
        shown = not isinstance(probe, str)
        ids = sum(self.processor.question(_query(probe), self.draw, hint), ())
        image = self.llava.config.image_token_id
        places = [place for place, token in enumerate(ids) if token == image]
        assert len(places) == (1 + shown) * self.num_image_tokens, f"{len(places)} image tokens of {len(ids)}"
        start = places[-self.num_image_tokens]
        head = torch.tensor([ids[:start]], device=self.device)
        sketch, embedded = None, self.llava.get_input_embeddings()(head)
        if shown:
            own = self.features(np.asarray(probe)[None]) if features is None else features[None]
            sketch = self.connected(own)
            embedded = embed(self.llava.model, sketch, head)
        cache = self._cache()
        self.llava.model.language_model(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
        keys, values = zip(*((layer.keys, layer.values) for layer in cache.layers), strict=True)
        return Prefix(keys, values, ids[start + self.num_image_tokens :], sketch)

    @torch.inference_mode()
    def log_odds(self, prefix: Prefix, features: Tensor) -> Tensor:
        """ln(p(yes) / p(no)) [N] float32, on the CPU, of photos by their tower's features [N, T, D].

        A photo's number depends on those beside it in its batch by no more than rounding (see tests).
        """
        tail = self.llava.get_input_embeddings()(torch.tensor([prefix.tail], device=self.device))
        length = prefix.length + self.num_image_tokens + len(prefix.tail)
        found = [self._batch(prefix, tail, features[group]) for group in _groups(len(features), length, self.tokens)]
        return torch.cat(found) if found else torch.zeros(0)

    def _batch(self, prefix: Prefix, tail: Tensor, features: Tensor) -> Tensor:
        photos, fusion = self.connected(features), fusion_of(self.llava)
        if fusion is not None and prefix.sketch is not None:
            photos = fusion(photos, prefix.sketch)
        embedded = torch.cat([photos, tail.expand(len(features), -1, -1)], dim=1)
        cache = self._cache()
        for number, (keys, values) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
            # views: what is appended to them makes the one copy that there is
            cache.update(*(t.expand(len(features), -1, -1, -1) for t in (keys, values)), number)
        hidden = self.llava.model.language_model(inputs_embeds=embedded, past_key_values=cache, use_cache=True)
        logits = self.llava.lm_head(hidden.last_hidden_state[:, -1]).float()
        return (logits[:, self._yes] - logits[:, self._no]).cpu()

    def _cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self.llava.config.get_text_config())


def _query(probe: Probe | None) -> Query:
    row, category = (-1, probe.strip()) if isinstance(probe, str) else (0, "")
    return Query(
        query_id="", task="sbir", row=row, category=category, boxes=[], count=-1, question="",
        answers=[""], match=-1, answer_source="",
    )  # fmt: skip


def _groups(number: int, length: int, tokens: int) -> Iterator[slice]:
    """Places of `number` rows of so many tokens in batches of at most `tokens` (one row at least), of even sizes."""
    most = max(1, tokens // length)
    size = math.ceil(number / math.ceil(number / most)) if number else 1
    return (slice(start, start + size) for start in range(0, number, size))


def share(log_odds: NDArray[np.float32]) -> NDArray[np.float64]:
    """p(yes) / (p(yes) + p(no)), what `Answer.yes` is, of log odds."""
    with np.errstate(invalid="ignore"):  # nan stays nan
        return np.exp(-np.logaddexp(0.0, -np.asarray(log_odds, np.float64)))


def yes_matrix(
    scorer: Scorer,
    probes: Sequence[Probe],
    photos: NDArray[np.uint8],
    seen: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float64]:
    """p(yes) [Q, G] of each probe for each photo [G, 3, S, S] uint8, without any folder: the exhaustive truth.

    The tower looks at each photo once, and at CHUNK of them before the model does: memory does not grow with either.
    seen: told how many more pairs are done.
    Raises ValueError where there are no photos.
    """
    if not len(photos):
        raise ValueError("the gallery is empty: give one photo at least")
    blocks = (scorer.features(photos[start : start + CHUNK]) for start in range(0, len(photos), CHUNK))
    return share(log_odds_matrix(scorer, probes, blocks, seen))


def log_odds_matrix(
    scorer: Scorer,
    probes: Sequence[Probe],
    blocks: Iterable[Tensor],
    seen: Callable[[int], None] = lambda _: None,
    hint: str = "",
) -> NDArray[np.float32]:
    """Log odds [Q, G] of photos whose features [N, T, D] come block by block, each of which is asked for once."""
    sketches = [None if isinstance(probe, str) else scorer.features(np.asarray(probe)[None])[0] for probe in probes]
    columns = []
    for features in blocks:
        block = np.empty((len(probes), len(features)), np.float32)
        for row, (probe, sketch) in enumerate(zip(probes, sketches, strict=True)):
            # prefixes are made anew: 64 of a 7B model would take 21 GB, and one costs as much as two or three photos
            block[row] = scorer.log_odds(scorer.prefix(probe, sketch, hint), features).numpy()
            seen(len(features))
        columns.append(block)
    return np.concatenate(columns, axis=1)
