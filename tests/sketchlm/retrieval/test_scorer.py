"""The scorer: what it says of many photos is what `answer` says of each alone."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sketchlm.answer import Question, answer
from sketchlm.bundle import load_bundle
from sketchlm.model import ModelConfig, adapt, load_llava, num_image_tokens, unwrap
from sketchlm.processor import Picture, Processor, ProcessorConfig
from sketchlm.retrieval import scorer as module
from sketchlm.retrieval.gallery import as_half
from sketchlm.retrieval.scorer import Scorer, _groups, share, yes_matrix
from sketchlm.tokenizer import load_tokenizer
from sketchlm.weights import shipped
from tests.sketchlm.llava import SIZES, asked, fused, save_published, shake, tiny_llava, tiny_processor
from tests.sketchlm.retrieval.photos import pixels, tiny_scorer

EXACT = 5e-6
"""Of p(yes) from features as the tower gives them, in full precision. Worst seen: 1.3e-7 at random weights, 1.9e-6 for
the model that comes with the package."""
STORED = 2e-3
"""From features in half precision, as galleries keep them. Worst seen: 2.9e-4, of both."""


def tiny(_: Path) -> Scorer:
    return tiny_scorer()


def published(folder: Path) -> Scorer:
    """A CLIP tower whose CLS is dropped and whose last layer is not read, as in `llava-hf/llava-1.5-7b-hf`."""
    save_published(folder)
    model = load_llava(str(folder)).eval()
    return Scorer(model, Processor(load_tokenizer(str(folder)), 56, num_image_tokens(model), ProcessorConfig()))


def adapted(_: Path) -> Scorer:
    """Under an adapter that is not merged, its connector trained too."""
    model = adapt(tiny_llava(seed=3), ModelConfig(lora_rank=4)).eval()
    shake(model, 1)
    return Scorer(model, tiny_processor())


def with_fusion(_: Path) -> Scorer:
    """Photos look at the sketch before they join it."""
    return Scorer(fused(tiny_llava(seed=3)), tiny_processor())


def demonstration(_: Path) -> Scorer:
    bundle = load_bundle(shipped("learn"))
    config = ProcessorConfig(prompt=bundle.info.prompt)
    processor = Processor(bundle.tokenizer, bundle.model.config.vision_config.image_size, 64, config)
    return Scorer(bundle.model, processor)


MODELS = [tiny, published, adapted, with_fusion, demonstration]


def said(scorer: Scorer, probe: NDArray[np.uint8] | str, photos: NDArray[np.uint8]) -> list[float]:
    """What `answer` says, one photo at a time."""
    query = asked("sbir", -1, category=probe) if isinstance(probe, str) else asked("sbir", 0)
    shown = () if isinstance(probe, str) else (Picture(probe),)
    model = scorer.llava
    return [answer(model, scorer.processor, [Question((*shown, Picture(one)), query)])[0].yes for one in photos]


def pictures(scorer: Scorer, number: int) -> NDArray[np.uint8]:
    """Coarse noise: fine noise looks all the same to a trained tower."""
    side = scorer.processor.side
    rough = np.random.default_rng(0).integers(0, 256, (number, 3, 7, 7), np.uint8)
    return rough.repeat(side // 7 + 1, axis=2).repeat(side // 7 + 1, axis=3)[:, :, :side, :side].copy()


@pytest.mark.parametrize("make", MODELS)
def test_it_says_what_answer_says(make: Callable[[Path], Scorer], tmp_path: Path) -> None:
    scorer = make(tmp_path)
    sketch, *photos = pictures(scorer, 7)
    for probe in (sketch, "dog"):
        truth = said(scorer, probe, np.stack(photos))
        features = scorer.features(np.stack(photos))
        prefix = scorer.prefix(probe)
        found = share(scorer.log_odds(prefix, features).numpy())
        assert found == pytest.approx(truth, abs=EXACT)
        stored = share(scorer.log_odds(prefix, torch.from_numpy(as_half(features))).numpy())
        assert stored == pytest.approx(truth, abs=STORED)
        if not isinstance(probe, str):
            assert np.ptp(truth) > 10 * STORED, "the photos tell nothing"


def test_a_matrix_of_arrays_is_that_of_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, photos = tiny_scorer(), pixels(5)
    probes = [*pixels(2, seed=1), "a tall giraffe"]
    told: list[int] = []
    monkeypatch.setattr(module, "CHUNK", 4)
    found = yes_matrix(scorer, probes, photos, told.append)
    assert found == pytest.approx(np.array([said(scorer, probe, photos) for probe in probes]), abs=EXACT)
    assert told == [4, 4, 4, 1, 1, 1] and found.shape == (3, 5)


def test_neither_batches_nor_neighbours_matter() -> None:
    photos, sketch = pixels(9), pixels(1, seed=1)[0]
    features, prefix = tiny_scorer().features(photos), tiny_scorer().prefix(sketch)
    whole = tiny_scorer().log_odds(prefix, features)
    for tokens in (1, 200, 100_000):
        other = Scorer(tiny_scorer().llava, tiny_scorer().processor, tokens)
        assert other.log_odds(prefix, features) == pytest.approx(whole, abs=1e-5)
    assert torch.cat([tiny_scorer().log_odds(prefix, one[None]) for one in features]) == pytest.approx(whole, abs=1e-5)


@given(st.integers(0, 500), st.integers(1, 900), st.integers(1, 9000))
def test_batches_hold_each_row_once_and_keep_to_the_budget(number: int, length: int, tokens: int) -> None:
    groups = list(_groups(number, length, tokens))
    assert [place for group in groups for place in range(number)[group]] == list(range(number))
    assert all(len(range(number)[group]) <= max(1, tokens // length) for group in groups)


def test_the_prefix_serves_again_and_the_model_stays_as_it_was() -> None:
    model = tiny_llava(seed=3)
    scorer = Scorer(model, tiny_processor())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    settings, gradients = model.config.to_dict(), [p.requires_grad for p in model.parameters()]
    prefix, features = scorer.prefix(pixels(1, seed=1)[0]), scorer.features(pixels(6))
    keys = [tensor.clone() for tensor in prefix.keys]
    first = scorer.log_odds(prefix, features)
    assert torch.equal(scorer.log_odds(prefix, features), first)
    assert all(torch.equal(now, then) for now, then in zip(prefix.keys, keys, strict=True))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == gradients and model.config.to_dict() == settings
    assert all(p.grad is None for p in model.parameters()) and not model.training


def test_threads_may_share_it() -> None:
    """Each gets its own answer, while others ask of other sketches."""
    scorer, photos, sketches = tiny_scorer(), pixels(6), pixels(4, seed=1)

    def ask(sketch: NDArray[np.uint8]) -> Any:
        return scorer.log_odds(scorer.prefix(sketch), scorer.features(photos))

    alone = [ask(sketch) for sketch in sketches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(ask, list(sketches) * 5))
    assert all(torch.equal(found, alone[n % 4]) for n, found in enumerate(together))
    assert not torch.equal(alone[0], alone[1])


def test_log_odds_too_large_for_a_share_stay_sound() -> None:
    assert share(np.float32([-1e4, 0, 1e4])).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.features(np.zeros((1, 3, 8, 8), np.uint8)), rf"\(1, 3, 8, 8\).*{SIZES.side}.*Processor.pixels"),
        (lambda s: s.features(pixels(1).astype(np.float32)), "float32.*Processor.pixels"),
        (lambda s: s.prefix(pixels(1)[0, 0]), "Processor.pixels"),
        (lambda s: s.prefix(" "), "name of the category is empty"),
        (lambda s: yes_matrix(s, ["dog"], pixels(0)), "gallery is empty: give one photo"),
    ],
)
def test_what_is_no_picture_is_refused(call: Callable[[Scorer], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(tiny_scorer())


def test_no_photos_have_no_scores() -> None:
    scorer = tiny_scorer()
    nothing = torch.zeros(0, scorer.num_image_tokens, unwrap(scorer.llava).config.vision_config.hidden_size)
    assert scorer.log_odds(scorer.prefix("dog"), nothing).shape == (0,)
