"""The contrastive loss: by hand, for every weight, as what the coarse search compares, and through a run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sketchlm.bundle import HEADS, load_bundle
from sketchlm.contrast import ContrastiveHead, pair_loss
from sketchlm.library import SketchLM
from sketchlm.loading import processor_of
from sketchlm.loop import train
from sketchlm.loss import LossConfig, Objective
from sketchlm.model import unwrap
from sketchlm.retrieval.embedding import (
    CONTRAST,
    FILE,
    ConnectedEmbedding,
    PooledEmbedding,
    contrastive_embedding,
    embedding_of,
    load_embedding,
    save_embedding,
)
from sketchlm.retrieval.projection import ProjectedEmbedding
from sketchlm.retrieval.scorer import Scorer
from sketchlm.tokenizer import class_tokens
from sketchlm.training import build_loader, build_parts, check
from tests.sketchlm.llava import tiny_llava, tiny_tokenizer
from tests.sketchlm.retrieval.photos import tiny_scorer, write_photos
from tests.sketchlm.runs import CLASSES, TEXTS, losses, quiet, run, small, with_lora, write_training_shards

WIDTH, PATCHES = 8, 4
NAMES = [[0], [1, 2], [3]]


def batch_of(labels: list[int], shows: list[list[bool]], index: list[int]) -> Any:
    """What the head reads of a batch: classes of sketches, and of photos at these places."""
    return SimpleNamespace(
        labels=torch.tensor(labels),
        shows=torch.tensor(shows, dtype=torch.bool),
        patch_index=torch.tensor(index, dtype=torch.long),
    )


NOTHING = batch_of([-1, -1], [], [])
UNKNOWN = batch_of([-1, -1], [[False] * 3], [1])
"""A photo that shows none of the classes."""
KNOWN = batch_of([0, -1, 2, -1, -1], [[True, True, False], [False, True, False], [False] * 3], [1, 3, 4])
"""Two sketches, two photos that show something, and one that does not."""


def embeddings(seed: int = 0) -> nn.Embedding:
    torch.manual_seed(seed)
    return nn.Embedding(4, WIDTH)


def head_of(seed: int = 0, dim: int = 3) -> ContrastiveHead:
    torch.manual_seed(seed)
    return ContrastiveHead(WIDTH, dim, NAMES, PATCHES)


def tokens(number: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(number, PATCHES, WIDTH, generator=torch.Generator().manual_seed(seed))


# The loss


def test_by_hand_where_every_pair_has_the_same_odds() -> None:
    """Zero maps: patches have log 4 / sharpness of each feature, weights sum to one. Of four pairs of a sketch and a
    photo one is right (0 in the first), of six of a name and a photo three."""
    head = head_of()
    with torch.no_grad():
        for linear in (head.pictures.photo, head.pictures.sketch, head.words):
            linear.weight.zero_()
            linear.bias.zero_()
        head.pictures.scale.fill_(3.0)
        head.pictures.bias.fill_(-1.0)
        head.pictures.sharpness.fill_(math.log(2.0))
    log_odds = 3.0 * math.log(PATCHES) / 2 - 1
    yes, no = math.log1p(math.exp(-log_odds)), math.log1p(math.exp(log_odds))
    found = head(tokens(), KNOWN, embeddings())
    assert found.item() == pytest.approx((yes + 3 * no) / 4 + (3 * yes + 3 * no) / 6, rel=1e-5)


@pytest.mark.parametrize("number", [4, 64, 576])
def test_it_begins_with_most_answers_no_however_many_tokens_a_picture_has(number: int) -> None:
    """Patches differ by what their random maps make of them, which adds some; were RARE not made up for, 576 tokens
    would begin with log odds of 10 and more."""
    torch.manual_seed(0)
    head = ContrastiveHead(WIDTH, 64, NAMES, number)
    generator = torch.Generator().manual_seed(1)
    sketches, photos = (torch.randn(20, number, WIDTH, generator=generator) for _ in range(2))
    log_odds = head.pictures.sketches(sketches) @ head.pictures.photos(photos).T
    assert -3 < log_odds.mean().item() < 2


def test_several_photos_of_a_class_are_all_right() -> None:
    log_odds = torch.tensor([[9.0, 9.0, -9.0], [-9.0, 9.0, 9.0]])
    right = log_odds > 0
    assert pair_loss(log_odds, right).item() == pytest.approx(math.log1p(math.exp(-9)), rel=2e-3)
    assert pair_loss(log_odds, ~right).item() == pytest.approx(9, rel=1e-3)
    assert pair_loss(log_odds[:0], right[:0]).item() == 0


def test_a_right_head_has_hardly_any_loss() -> None:
    """Tokens that say their class, one patch each of several objects; what is looked for is read off them too."""
    head = head_of(dim=3)
    told = torch.eye(WIDTH) * 10
    connected = torch.stack([told[[0] * 4], told[[0, 1, 7, 7]], told[[2] * 4], told[[1, 7, 7, 7]], told[[7] * 4]])
    embed = embeddings()
    with torch.no_grad():
        for linear in (head.pictures.photo, head.pictures.sketch):
            linear.weight.copy_(10 * torch.eye(3, WIDTH))
        embed.weight.copy_(told[:4])
        embed.weight[2] = embed.weight[1]
        embed.weight[3] = told[2]
        head.words.weight.copy_(10 * torch.eye(3, WIDTH))
        head.words.bias.zero_()
        head.pictures.bias.fill_(-10.0)
    assert head(connected, KNOWN, embed).item() < 0.02
    swapped = replace_labels(KNOWN, [2, -1, 0, -1, -1])
    assert head(connected, swapped, embed).item() > 5


def replace_labels(batch: Any, labels: list[int]) -> Any:
    return SimpleNamespace(labels=torch.tensor(labels), shows=batch.shows, patch_index=batch.patch_index)


@given(
    labels=st.lists(st.integers(-1, 2), min_size=6, max_size=6),
    shows=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=6),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_it_is_a_mean_over_pairs_of_what_is_known(labels: list[int], shows: list[list[bool]], seed: int) -> None:
    """One pair at a time, with plain arithmetic; photos without a known class have no say."""
    head, connected, embed = head_of(seed), tokens(6, seed), embeddings(seed)
    found = head(connected, batch_of(labels, shows, list(range(len(shows)))), embed).item()
    photos, sketches = head.pictures.photos(connected), head.pictures.sketches(connected)
    names = head.named(embed)

    def mean(asked: list[tuple[Tensor, int]]) -> float:
        each = []
        for vector, category in asked:
            for photo, there in zip(photos, shows, strict=False):
                if any(there):
                    log_odds = float((vector @ photo).detach()) * (1 if there[category] else -1)
                    each.append(math.log1p(math.exp(-log_odds)))
        return sum(each) / max(1, len(each))

    expected = mean([(sketches[n], label) for n, label in enumerate(labels) if label >= 0])
    expected += mean([(names[n], n) for n in range(3)])
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("batch", "number"), [(NOTHING, 2), (UNKNOWN, 2), (KNOWN, 5)])
def test_every_weight_gets_a_gradient_whatever_a_batch_shows(batch: Any, number: int) -> None:
    head, embed, connected = head_of(), embeddings(), tokens(number).requires_grad_()
    loss = head(connected, batch, embed)
    loss.backward()
    assert loss.item() > 0 if batch is KNOWN else loss.item() == 0
    for tensor in (*head.parameters(), *embed.parameters(), connected):
        assert tensor.grad is not None and bool(tensor.grad.abs().sum() > 0) == (batch is KNOWN)


def test_scores_are_in_full_precision_where_the_rest_is_not() -> None:
    head, embed = head_of(), embeddings()
    plain = head(tokens(), KNOWN, embed)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(tokens(), KNOWN, embed).item() == plain.item()


def test_the_mean_of_a_name_is_over_its_own_tokens() -> None:
    head, embed = head_of(), embeddings()
    assert torch.allclose(head.named(embed)[1], ContrastiveHead.named(renamed(head, [[2, 1]]), embed)[0], atol=1e-6)
    assert not torch.allclose(head.named(embed)[1], head.named(embed)[0], atol=1e-3)


def renamed(head: ContrastiveHead, names: list[list[int]]) -> ContrastiveHead:
    other = ContrastiveHead(WIDTH, 3, names, PATCHES)
    other.load_state_dict(head.state_dict())
    return other


# Settings


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (LossConfig(contrastive=-0.1), r"loss\.contrastive is -0\.1; it must be at least 0"),
        (LossConfig(contrastive=math.nan), r"loss\.contrastive is nan; it must be at least 0"),
        (LossConfig(contrastive=1.0, contrastive_dim=0), r"loss\.contrastive_dim is 0; it must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, loss: LossConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(small(tmp_path, tmp_path, loss=loss))


def test_the_stage_of_the_tower_has_no_contrastive_loss(tmp_path: Path) -> None:
    config = small(tmp_path, tmp_path, stage="tower", loss=LossConfig(tower=1.0, contrastive=1.0))
    with pytest.raises(ValueError, match=r"nothing in it by loss\.contrastive: set that to 0"):
        check(config)


def test_it_needs_classes() -> None:
    with pytest.raises(ValueError, match=r"loss\.contrastive needs classes, .*; set it to 0"):
        Objective(tiny_llava(), LossConfig(contrastive=1.0))


# A run


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def bundle(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run of seconds, under a frozen tower."""
    out = tmp_path_factory.mktemp("run")
    config = small(shards, out, steps=40, loss=LossConfig(contrastive=1.0, contrastive_dim=8))
    return run(replace(config, model=replace(config.model, tower="frozen")))


def test_it_is_learned_and_logged_by_itself(bundle: Path) -> None:
    found = losses(bundle.parent, "contrastive")
    assert np.mean(found[-8:]) < 0.9 * np.mean(found[:4])
    assert losses(bundle.parent, "auxiliary") == pytest.approx(found)  # of weight 1, and alone


def test_a_run_without_it_says_nothing_of_it(shards: Path, tmp_path: Path) -> None:
    run(small(shards, tmp_path, steps=1))
    assert "contrastive" not in json.loads((tmp_path / "log.jsonl").read_text())


@pytest.mark.parametrize("kind", [lambda config: config, with_lora], ids=["full", "lora"])
def test_its_gradient_reaches_the_connector(shards: Path, tmp_path: Path, kind: Callable[[Any], Any]) -> None:
    """Under a frozen tower, and by itself."""
    config = kind(small(shards, tmp_path))
    model = replace(config.model, tower="frozen")
    config = replace(config, model=model, loss=LossConfig(contrastive=1.0))
    parts = build_parts(config, TEXTS, CLASSES)
    batch = next(iter(build_loader(config, parts)))
    assert bool(batch.shows.any()) and bool((batch.labels >= 0).any())
    parts.objective(batch).auxiliary.backward()
    connector = unwrap(parts.objective.model).model.multi_modal_projector
    trained = [p for p in (*connector.parameters(), *parts.objective.heads.parameters()) if p.requires_grad]
    assert len(trained) >= 4 + 9 and all(bool(p.grad.abs().sum() > 0) for p in trained if p.grad is not None)
    assert all(p.grad is not None for p in trained)


def test_a_second_stage_goes_on_with_the_head(bundle: Path, shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path, loss=LossConfig(contrastive=0.5, contrastive_dim=8))
    config = replace(config, model=replace(config.model, base=str(bundle)))
    head = build_parts(config, TEXTS, CLASSES).objective.contrastive_head
    saved = load_file(bundle / HEADS)
    assert head is not None and set(saved) == {f"contrast.{name}" for name in head.state_dict()}
    assert all(torch.equal(saved[f"contrast.{name}"], weight) for name, weight in head.state_dict().items())
    wider = replace(config, loss=replace(config.loss, contrastive_dim=9))
    with pytest.raises(
        ValueError, match=r"head 'contrast' has pictures\.photo\.bias \(8,\), these settings make it \(9,\)"
    ):
        build_parts(wider, TEXTS, CLASSES)


def test_a_dry_run_counts_its_weights(shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path / "out", dry_run=True, loss=LossConfig(contrastive=1.0))
    train(config, TEXTS, CLASSES, quiet())
    assert not (tmp_path / "out").exists()


# The coarse search


def scorer_of(bundle: Path) -> Scorer:
    loaded = load_bundle(bundle)
    return Scorer(loaded.model, processor_of(loaded, ("sbir",)))


def test_an_embedding_scores_as_the_head_does(bundle: Path, shards: Path, tmp_path: Path) -> None:
    """On the pictures of a batch: equal to the bit, since both are one module."""
    config = small(shards, tmp_path, loss=LossConfig(contrastive=1.0, contrastive_dim=8))
    config = replace(config, model=replace(config.model, base=str(bundle), tower="frozen"))
    parts = build_parts(config, TEXTS, CLASSES)
    batch = next(iter(build_loader(config, parts)))
    scorer = scorer_of(bundle)
    embedding = contrastive_embedding(load_bundle(bundle).heads, scorer)
    features = scorer.features(batch.pixel_values.numpy())
    drawn, photos = batch.labels >= 0, batch.patch_index
    with torch.no_grad():
        scores = embedding.sketches(features[drawn]) @ embedding.photos(features[photos]).T
        wanted = batch.shows.T[batch.labels[drawn]]
        names = parts.objective.contrastive_head.named(parts.objective.model.get_input_embeddings())  # type: ignore[union-attr]
        by_name = pair_loss(names @ embedding.photos(features[photos]).T, batch.shows.T)
        found = parts.objective(batch).contrastive
    assert found.item() == pytest.approx((pair_loss(scores, wanted) + by_name).item(), rel=1e-5)


def test_a_bundle_is_searched_with_what_it_was_trained_with(bundle: Path, tmp_path: Path) -> None:
    model = SketchLM.from_pretrained(bundle)
    assert isinstance(model.embedding, ConnectedEmbedding)
    paths = write_photos(tmp_path, 12)
    sketch = np.full((64, 64), 255, np.uint8)
    sketch[20:40, 20] = 0
    ranking = model.rank(sketch, paths, top_n=3, top_k=12)
    assert len(ranking.matches) == 12 and sum(not math.isnan(match.score) for match in ranking.matches) == 3


def test_a_file_gives_it_back_and_no_other_model(bundle: Path, tmp_path: Path) -> None:
    scorer = scorer_of(bundle)
    made = embedding_of(bundle, scorer)
    assert isinstance(made, ConnectedEmbedding)
    save_embedding(made, tmp_path / FILE, recipe="a test")
    found = load_embedding(tmp_path / FILE, scorer)
    features = torch.randn(3, 4, 32)
    assert found.fingerprint == made.fingerprint and torch.equal(found.sketches(features), made.sketches(features))
    assert torch.equal(found.photos(features), made.photos(features)) and found.dim == made.dim == 9
    other = scorer_of(bundle)
    with torch.no_grad():
        other.llava.model.multi_modal_projector.linear_1.weight.add_(0.1)
    with pytest.raises(ValueError, match=r"its connector is .*make it again of this model's heads"):
        load_embedding(tmp_path / FILE, other)
    assert contrastive_embedding(load_bundle(bundle).heads, other).fingerprint != made.fingerprint


def test_heads_that_hold_none_are_refused(bundle: Path, tmp_path: Path) -> None:
    scorer, heads = scorer_of(bundle), load_bundle(bundle).heads
    with pytest.raises(ValueError, match=r"the heads hold no whole embedding .*train the model with loss\.contrastive"):
        contrastive_embedding({}, scorer)
    damaged = {name: weight for name, weight in heads.items() if not name.endswith("scale")}
    with pytest.raises(ValueError, match="no whole embedding .*Missing key"):
        contrastive_embedding(damaged, scorer)
    wider = {name: torch.zeros(8, 40) if name.endswith("photo.weight") else w for name, w in heads.items()}
    with pytest.raises(ValueError, match="no whole embedding .*size mismatch"):
        contrastive_embedding(wider, scorer)
    foreign = {f"{CONTRAST}{name}": weight for name, weight in ProjectedEmbedding(40, 8, "").state_dict().items()}
    with pytest.raises(ValueError, match="map tokens of width 40, this model's have 32: give the heads of its bundle"):
        contrastive_embedding(foreign, scorer)
    save_file({"tower.norm.weight": torch.ones(2)}, tmp_path / HEADS)
    assert isinstance(embedding_of(tmp_path, tiny_scorer()), PooledEmbedding)


def test_the_name_of_a_class_is_tokenised_alone() -> None:
    tokenizer = tiny_tokenizer()
    (found,) = class_tokens(tokenizer, ["dog"])
    assert found == tokenizer("dog", add_special_tokens=False)["input_ids"] and tokenizer.bos_token_id not in found
