"""Rankings: coarse to fine is the exhaustive order among what was looked at, and the coarse one behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from sketchlm.retrieval import ranking as module
from sketchlm.retrieval.embedding import PooledEmbedding
from sketchlm.retrieval.gallery import Gallery, gallery_of
from sketchlm.retrieval.projection import ProjectedEmbedding
from sketchlm.retrieval.ranking import Ranking, best, coarse_scores, rank
from sketchlm.retrieval.scorer import yes_matrix
from tests.sketchlm.llava import SIZES, tiny_processor
from tests.sketchlm.retrieval.photos import photo, pixels, tiny_scorer

few = st.integers(-3, 3)


class Said:
    """Stands for a model and an embedding: photos have the log odds and coarse scores that a test gives them."""

    tower = fingerprint = "a test"
    dim = 1

    def features(self, pictures: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(pictures[:, :1, 0].astype(np.float32))

    def prefix(self, probe: Any, features: Tensor | None = None, hint: str = "") -> Tensor | None:
        return features

    def log_odds(self, prefix: Tensor, features: Tensor) -> Tensor:
        return features[:, 0, 0].float()

    def sketches(self, features: Tensor) -> Tensor:
        return torch.ones(len(features), 1)

    photos = sketches


def gallery_with(log_odds: list[int], coarse: list[int]) -> Gallery:
    """Rows lie backwards, and two of them belong to no photo."""
    names = tuple(map(str, range(len(log_odds))))
    rows = np.arange(len(log_odds))[::-1] + 2
    embeddings, features = np.full((len(rows) + 2, 1), 99, np.float32), np.full((len(rows) + 2, 1, 1), 99, np.float16)
    embeddings[rows, 0], features[rows, 0, 0] = coarse, log_odds
    return Gallery(names, rows, embeddings, features, {}, {}, "a test", "a test")


def ranked(gallery: Gallery, **options: Any) -> Ranking:
    (found,) = rank(Said(), Said(), [np.ones((3, 8, 8), np.uint8)], gallery, **options)  # type: ignore[arg-type]
    return found


@given(st.lists(st.tuples(few, few), min_size=1, max_size=30), st.integers(1, 32), st.integers(0, 32))
def test_the_order(numbers: list[tuple[int, int]], top_n: int, top_k: int) -> None:
    log_odds, coarse = map(list, zip(*numbers, strict=True))
    found = ranked(gallery_with(log_odds, coarse), top_n=top_n, top_k=top_k)
    by_coarse = sorted(range(len(coarse)), key=lambda n: (-coarse[n], n))
    seen = sorted(by_coarse[:top_n], key=lambda n: (-log_odds[n], n))
    wanted = [*seen, *by_coarse[top_n:]][: top_k or None]
    assert found.places.tolist() == wanted and found.names == tuple(map(str, wanted))
    assert found.coarse.tolist() == [coarse[n] for n in wanted]
    assert found.num_seen == min(len(wanted), top_n)
    assert found.log_odds[: found.num_seen].tolist() == [log_odds[n] for n in wanted[: found.num_seen]]
    assert np.isnan(found.yes[found.num_seen :]).all()


@given(st.lists(st.tuples(few, few), min_size=1, max_size=30), st.integers(0, 9), st.integers(0, 32))
def test_with_the_whole_gallery_it_is_the_exhaustive_one(numbers: list[tuple[int, int]], more: int, top_k: int) -> None:
    gallery = gallery_with(*map(list, zip(*numbers, strict=True)))
    truth = ranked(gallery, exhaustive=True, top_k=top_k)
    found = ranked(gallery, top_n=len(gallery) + more, top_k=top_k)
    assert found.names == truth.names and np.array_equal(found.log_odds, truth.log_odds)
    assert np.isnan(truth.coarse).all()


@given(st.lists(few | st.floats(-5, 5, width=32), min_size=1, max_size=40), st.integers(0, 45))
def test_the_best_are_the_first_of_a_stable_order(scores: list[float], number: int) -> None:
    wanted = sorted(range(len(scores)), key=lambda n: (-scores[n], n))[:number]
    assert best(np.array(scores, np.float32), number).tolist() == wanted if number else True


def test_blocks_of_embeddings_make_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors, embeddings = (rng.standard_normal((n, 7)).astype(np.float32) for n in (3, 50))
    monkeypatch.setattr(module, "ROWS", 8)
    assert coarse_scores(embeddings, vectors) == pytest.approx(vectors @ embeddings.T, abs=1e-6)


# --- with a model


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    return gallery_of(((str(n), photo(n)) for n in range(12)), tiny_scorer(), PooledEmbedding(tiny_scorer()))


def test_exhaustive_is_what_the_matrix_says(gallery: Gallery) -> None:
    scorer, probes = tiny_scorer(), [*pixels(2, seed=1), "a tall giraffe"]
    shown = np.stack([tiny_processor().pixels(photo(n)) for n in range(12)])
    truth = yes_matrix(scorer, probes, shown)
    for found, row in zip(
        rank(scorer, PooledEmbedding(scorer), probes, gallery, top_k=0, exhaustive=True), truth, strict=True
    ):
        assert found.yes == pytest.approx(row[found.places], abs=2e-3)  # half precision; worst seen: 3e-4
        assert (np.diff(found.log_odds) <= 0).all()


def test_many_sketches_are_ranked_as_each_alone(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBES", 2)
    monkeypatch.setattr(module, "CHUNK", 5)
    scorer, embedding, sketches = tiny_scorer(), PooledEmbedding(tiny_scorer()), list(pixels(5, seed=1))
    for options in ({"top_n": 4, "top_k": 0}, {"exhaustive": True}):
        together = rank(scorer, embedding, sketches, gallery, **options)  # type: ignore[arg-type]
        for sketch, found in zip(sketches, together, strict=True):
            (alone,) = rank(scorer, embedding, [sketch], gallery, **options)  # type: ignore[arg-type]
            assert alone.names == found.names
            assert np.array_equal(alone.log_odds, found.log_odds, equal_nan=True)
    assert len({found.names for found in together}) > 1
    assert rank(scorer, embedding, [], gallery) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probes": ["dog"]}, "'dog' is a name: rank it exhaustively"),
        ({"top_n": 0}, "top_n 0"),
        ({"top_k": -1}, "top_k is -1"),
        ({"scorer": tiny_scorer(seed=4)}, "another model: its tower is"),
        ({"embedding": ProjectedEmbedding(SIZES.tower_width, 4, "x")}, "open the gallery with this embedding"),
        ({"gallery": gallery_with([], [])}, "the gallery is empty"),
        ({"probes": [np.zeros((3, 8, 8), np.uint8)]}, "let Processor.pixels make them"),
    ],
)
def test_what_cannot_be_ranked_is_refused(gallery: Gallery, options: dict[str, Any], message: str) -> None:
    asked = {"scorer": tiny_scorer(), "embedding": PooledEmbedding(tiny_scorer()), "probes": [pixels(1)[0]]}
    with pytest.raises(ValueError, match=message):
        rank(**(asked | {"gallery": gallery} | options))
