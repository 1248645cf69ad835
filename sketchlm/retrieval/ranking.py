"""Rankings: the photos of a gallery in the order of how surely they show what a sketch shows.

Coarse to fine: a product of vectors orders the whole gallery, and the model looks at the first `top_n` of that order
alone. Exhaustive: the model looks at each; that is the truth which the other is measured against.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sketchlm.retrieval.embedding import Embedding
from sketchlm.retrieval.gallery import Gallery
from sketchlm.retrieval.scorer import CHUNK, Prefix, Probe, Scorer, log_odds_matrix, share

TOP_N = 75
"""Photos that the model looks at, by default (benchmarks/retrieval.md)."""
ROWS = 16_384
"""Embeddings that are compared at once."""
PROBES = 64
"""Sketches that are compared at once."""


@dataclass(frozen=True)
class Ranking:
    """Photos, best first: those that the model looked at by its log odds, then the others by the coarse search."""

    names: tuple[str, ...]
    """As the gallery names them [k]; `Gallery.duplicates` tells which other files each stands for."""
    places: NDArray[np.int64] = field(repr=False)
    """Of each in the gallery [k]."""
    log_odds: NDArray[np.float32] = field(repr=False)
    """ln(p(yes) / p(no)) [k]; nan where the model did not look."""
    coarse: NDArray[np.float32] = field(repr=False)
    """Score of the coarse search [k]; nan of all where there was none."""

    @property
    def yes(self) -> NDArray[np.float64]:
        """p(yes) / (p(yes) + p(no)) [k], as `Answer.yes`; nan where the model did not look."""
        return share(self.log_odds)

    @property
    def num_seen(self) -> int:
        """How many the model looked at: those come first."""
        return int(np.isfinite(self.log_odds).sum())


def rank(
    scorer: Scorer,
    embedding: Embedding,
    probes: Sequence[Probe],
    gallery: Gallery,
    top_k: int = 10,
    top_n: int = TOP_N,
    exhaustive: bool = False,
    hint: str = "",
) -> list[Ranking]:
    """The first `top_k` photos (0 = all) for each probe: a sketch [3, S, S] uint8 or, exhaustively, a category's name.

    Among equal scores the photo that came first into the gallery is first. With `top_n` of the size of the gallery the
    ranking is the exhaustive one. hint: words that the model reads behind its question; the coarse search does not.
    Raises ValueError for an empty gallery, one of another model, and a coarse search for a name.
    """
    _check(scorer, embedding, probes, gallery, top_k, top_n, exhaustive)
    found = []
    for start in range(0, len(probes), PROBES):
        some = probes[start : start + PROBES]
        if exhaustive:
            found += _exhaustive(scorer, some, gallery, top_k, hint)
        else:
            found += _coarse_to_fine(scorer, embedding, some, gallery, top_k, top_n, hint)
    return found


def coarse_scores(embeddings: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Products [Q, R] of vectors [Q, d] with embeddings [R, d], of which ROWS are in memory at once.

    By torch, which keeps to its number of threads where NumPy takes all.
    """
    scores = np.empty((len(vectors), len(embeddings)), np.float32)
    for start in range(0, len(embeddings), ROWS):
        block = torch.from_numpy(np.array(embeddings[start : start + ROWS]))
        scores[:, start : start + ROWS] = (torch.from_numpy(vectors) @ block.T).numpy()
    return scores


def best(scores: NDArray[np.float32], number: int) -> NDArray[np.int64]:
    """Places of the highest `number` scores [G], best first; of equal ones the first places come first."""
    if number >= len(scores):
        return np.lexsort((np.arange(len(scores)), -scores))
    least = np.partition(scores, -number)[-number]
    above = np.flatnonzero(scores > least)
    places = np.concatenate([above, np.flatnonzero(scores == least)[: number - len(above)]])
    return places[np.lexsort((places, -scores[places]))]


def _check(
    scorer: Scorer,
    embedding: Embedding,
    probes: Sequence[Probe],
    gallery: Gallery,
    top_k: int,
    top_n: int,
    exhaustive: bool,
) -> None:
    if not len(gallery):
        raise ValueError("the gallery is empty: give one photo at least")
    if top_k < 0 or top_n < 1:
        raise ValueError(f"top_k is {top_k} (0 = all), top_n {top_n} (1 at least)")
    if gallery.tower != scorer.tower:
        raise ValueError(
            f"the gallery was built with another model: its tower is {gallery.tower}, this one's {scorer.tower}; rank "
            "with the model that built it, or build it again"
        )
    if exhaustive:
        return
    if gallery.embedding != embedding.fingerprint:
        raise ValueError(
            f"the gallery holds embeddings of {gallery.embedding}, sketches are embedded by {embedding.fingerprint}: "
            "open the gallery with this embedding"
        )
    if named := [probe for probe in probes if isinstance(probe, str)]:
        raise ValueError(f"the coarse search compares sketches, {named[0]!r} is a name: rank it exhaustively")


def _exhaustive(scorer: Scorer, probes: Sequence[Probe], gallery: Gallery, top_k: int, hint: str) -> list[Ranking]:
    blocks = (gallery.features_of(places, scorer) for places in _chunks(np.arange(len(gallery))))
    log_odds = log_odds_matrix(scorer, probes, blocks, hint=hint)
    nothing = np.full(len(gallery), np.nan, np.float32)
    return [_ranking(gallery, best(row, top_k or len(row)), row, nothing) for row in log_odds]


def _coarse_to_fine(
    scorer: Scorer,
    embedding: Embedding,
    probes: Sequence[Probe],
    gallery: Gallery,
    top_k: int,
    top_n: int,
    hint: str,
) -> list[Ranking]:
    sketches = torch.stack([_features(scorer, probe) for probe in probes])
    with torch.inference_mode():
        vectors = embedding.sketches(sketches).float().cpu().numpy()
    scores = coarse_scores(gallery.embeddings, vectors)[:, gallery.rows]
    found = []
    for probe, sketch, coarse in zip(probes, sketches, scores, strict=True):
        order = best(coarse, max(top_n, top_k or len(coarse)))
        prefix = scorer.prefix(probe, sketch, hint)
        fine = _look_at(scorer, prefix, gallery, np.sort(order[:top_n]))
        seen = order[:top_n][np.lexsort((order[:top_n], -fine[order[:top_n]]))]
        places = np.concatenate([seen, order[top_n:]])[: top_k or None]
        found.append(_ranking(gallery, places, fine, coarse))
    return found


def _features(scorer: Scorer, probe: Probe) -> Tensor:
    """The tower's features [T, D] of one sketch: alone, so that its rounding is the same in every search."""
    return scorer.features(np.asarray(probe)[None])[0]


def _look_at(scorer: Scorer, prefix: Prefix, gallery: Gallery, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log odds [G] of some photos, nan of the others. places: sorted, so that with all of them the batches (and so
    their rounding) are those of the exhaustive ranking."""
    fine = np.full(len(gallery), np.nan, np.float32)
    for some in _chunks(places):
        fine[some] = scorer.log_odds(prefix, gallery.features_of(some, scorer)).numpy()
    return fine


def _chunks(places: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (places[start : start + CHUNK] for start in range(0, len(places), CHUNK))


def _ranking(
    gallery: Gallery, places: NDArray[np.int64], log_odds: NDArray[np.float32], coarse: NDArray[np.float32]
) -> Ranking:
    return Ranking(tuple(gallery.names[place] for place in places), places, log_odds[places], coarse[places])
