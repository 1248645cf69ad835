"""Embeddings: files that fit their model or are refused, and training that learns what the model says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sketchlm.bundle import BundleInfo, export, load_bundle, save_bundle
from sketchlm.retrieval.distillation import DistillationConfig, collect_lessons, train_embedding
from sketchlm.retrieval.embedding import (
    FILE,
    PooledEmbedding,
    embedded,
    embedding_of,
    load_embedding,
    save_embedding,
)
from sketchlm.retrieval.projection import ProjectedEmbedding
from sketchlm.weights import shipped
from tests.sketchlm.llava import SIZES, Raw, query, raw_sample, tiny_llava, tiny_tokenizer
from tests.sketchlm.retrieval.photos import pixels, tiny_scorer
from tests.sketchlm.retrieval.test_scorer import demonstration

SMALL = DistillationConfig(dim=8, scenes=24, taught=12, photos=8, steps=120, batch=12, taught_batch=6)


def samples(number: int = 24) -> list[Raw]:
    """Every other scene shows a dog; each is asked for a dog or a cat."""
    made = []
    for seed in range(number):
        raw = raw_sample(query("sbir", 0, match=1), query("sbir", 1, category="cat", match=0), seed=seed)
        thing = {"object_id": "1", "category": ("dog", "cat")[seed % 2], "box": [4.0, 5.0, 40.0, 30.0],
                 "mask": {"size": [0, 0], "counts": ""}, "status": "written"}  # fmt: skip
        record = raw.record.model_dump(by_alias=True) | {"objects": [thing]}
        made.append(Raw(raw.key, raw.url, raw.jpg, raw.strip, type(raw.record).model_validate(record)))
    return made


def trained(seed: int = 0, steps: int = 120) -> ProjectedEmbedding:
    return train_embedding(tiny_scorer(), samples(), replace(SMALL, seed=seed, steps=steps))  # type: ignore[arg-type]


def test_it_learns_what_the_model_says() -> None:
    scorer = tiny_scorer()
    lessons = collect_lessons(scorer, samples(), SMALL)  # type: ignore[arg-type]
    rows, columns = lessons.taught[:, None].expand_as(lessons.others), lessons.others

    def agreement(embedding: ProjectedEmbedding) -> float:
        said = embedding.sketches(lessons.sketches) @ embedding.photos(lessons.photos).T
        return float(np.corrcoef(said[rows, columns].flatten(), lessons.log_odds.flatten())[0, 1])

    assert agreement(trained()) > 0.6 > 0.2 > agreement(trained(steps=1))


def test_lessons_are_the_models_own_words_and_the_labels() -> None:
    scorer = tiny_scorer()
    lessons = collect_lessons(scorer, samples(), SMALL)  # type: ignore[arg-type]
    assert lessons.sketches.shape == lessons.photos.shape == (24, 16, SIZES.tower_width)
    assert lessons.others.shape == lessons.log_odds.shape == (12, 8)
    for row in (0, 7):
        sketch = lessons.sketches[lessons.taught[row]]
        again = scorer.log_odds(scorer.prefix(pixels(1)[0], sketch), lessons.photos[lessons.others[row]])
        assert torch.allclose(again, lessons.log_odds[row], atol=1e-4)
        assert lessons.match[lessons.others[row], lessons.taught[row]].sum() == 6  # three quarters
    assert set(lessons.match.float().mean(0).tolist()) == {0.5}


def test_training_is_the_same_for_the_same_seed_and_tells_how_far_it_is() -> None:
    told: dict[str, int] = {}
    one = train_embedding(tiny_scorer(), samples(), SMALL, lambda what, done, of: told.update({what: done}))  # type: ignore[arg-type]
    assert one.fingerprint == trained().fingerprint != trained(seed=1).fingerprint
    assert told == {"scenes": 24, "pairs": 12, "steps": 120}
    assert not any(p.requires_grad for p in one.parameters())
    with pytest.raises(ValueError, match="4 samples ask whether a sketch is in a photo, an embedding needs 8"):
        train_embedding(tiny_scorer(), samples(4), SMALL)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["pooled", "projected"])
def test_one_vector_a_picture_whatever_stands_beside_it(kind: str) -> None:
    scorer = tiny_scorer()
    embedding = PooledEmbedding(scorer) if kind == "pooled" else ProjectedEmbedding(SIZES.tower_width, 5, scorer.tower)
    features = scorer.features(pixels(7)).half().numpy()
    whole = embedded(embedding, features)
    assert whole.shape == (7, embedding.dim) and whole.dtype == np.float32
    assert np.concatenate([embedded(embedding, one[None]) for one in features]) == pytest.approx(whole, abs=1e-6)
    assert embedded(embedding, features[:0]).shape == (0, embedding.dim)
    assert np.ptp(whole[:, 0]) > 1e-4


def test_a_file_gives_it_back(tmp_path: Path) -> None:
    made = trained(steps=3)
    save_embedding(made, tmp_path / FILE, recipe="a test")
    found = load_embedding(tmp_path / FILE, tiny_scorer())
    assert found.fingerprint == made.fingerprint and [p.name for p in tmp_path.iterdir()] == [FILE]
    assert embedding_of(tmp_path, tiny_scorer()).fingerprint == made.fingerprint
    assert isinstance(embedding_of(tmp_path / "away", tiny_scorer()), PooledEmbedding)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "there is no embedding .*: train one"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-9]),
            "is no embedding: .*; copy it again, or train it again",
        ),
        (lambda path: path.write_bytes(b""), "is no embedding"),
        (lambda path: save_file({"a": torch.zeros(1)}, path), "is no embedding"),
        (
            lambda path: save_embedding(ProjectedEmbedding(4, 4, "b" * 16), path),
            "another model: its tower is b{16}, this",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    path = tmp_path / FILE
    save_embedding(ProjectedEmbedding(SIZES.tower_width, 4, tiny_scorer().tower), path)
    damage(path)
    with pytest.raises(ValueError, match=message):
        load_embedding(path, tiny_scorer())


def test_a_bundle_does_not_count_it_and_an_export_leaves_it_out(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    save_bundle(folder, tiny_llava(seed=3), tiny_tokenizer(), BundleInfo("finetune"))
    save_embedding(ProjectedEmbedding(SIZES.tower_width, 4, tiny_scorer().tower), folder / FILE)
    load_bundle(folder)
    export(folder, tmp_path / "plain")
    assert (folder / FILE).is_file() and not (tmp_path / "plain" / FILE).exists()


def test_the_model_that_comes_with_the_package_has_one() -> None:
    assert isinstance(embedding_of(shipped("learn"), demonstration(Path())), ProjectedEmbedding)
    assert (shipped("learn") / FILE).stat().st_size < 100_000
