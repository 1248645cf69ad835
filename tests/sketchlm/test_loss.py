"""The parts of the loss, against values worked out by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sketchlm.loss import (
    EXTENT_SIGMA,
    NUMBERS,
    PLACE_WEIGHT,
    GroundingHead,
    LossConfig,
    Objective,
    TowerHead,
    bell,
)
from sketchlm.tokenizer import number_tokens
from tests.sketchlm.llava import tiny_llava, tiny_tokenizer

GRID = 4
NOTHING: Any = SimpleNamespace(patch_index=torch.empty(0, dtype=torch.long), labels=torch.tensor([-1, -1]))
"""Two pictures of which nothing is known."""


def one_hot_places() -> Tensor:
    """Features [2, 16, 8] that say the row (first four) and the column (last four) of their token."""
    places = torch.eye(GRID)
    rows = places[:, None].expand(GRID, GRID, GRID)
    told = torch.cat([rows, rows.transpose(0, 1)], dim=-1).flatten(0, 1)
    return told.expand(2, -1, -1)


def place_reader() -> TowerHead:
    """A head that reads them."""
    head = TowerHead(2 * GRID, 3, GRID)
    with torch.no_grad():
        head.locate.weight.copy_(100 * torch.eye(2 * GRID))
        head.locate.bias.zero_()
    return head


def test_a_tower_that_tells_places_has_no_place_loss_and_one_that_turns_them_has_much() -> None:
    head, told = place_reader(), one_hot_places()
    assert head(told, NOTHING).item() == pytest.approx(0, abs=1e-6)
    turned = told.unflatten(1, (GRID, GRID)).transpose(1, 2).flatten(1, 2)
    assert head(turned, NOTHING).item() > 10
    with torch.no_grad():
        head.locate.weight.zero_()
    assert head(told, NOTHING).item() == pytest.approx(PLACE_WEIGHT * math.log(GRID))


def test_what_a_tower_shows_is_learned_from_patches_and_sketches() -> None:
    """Zero weights name each of 3 classes and the background alike: log 4 for a sketch, log 4 for patches."""
    head, told = place_reader(), one_hot_places()
    with torch.no_grad():
        head.classify.weight.zero_()
        head.classify.bias.zero_()
    shares = torch.zeros(1, 4, GRID, GRID)
    shares[0, 3] = 1
    shares[0, :, 1, 2] = torch.tensor([0, 1, 0, 0])
    unknown = torch.full((1, 4, GRID, GRID), math.nan)
    photo = {"patch_index": torch.tensor([1]), "patches": shares, "extents": unknown}
    known: Any = SimpleNamespace(**photo, labels=torch.tensor([2, -1]))
    assert head(told, known).item() == pytest.approx(2 * math.log(4), rel=1e-5)
    only_photo: Any = SimpleNamespace(**photo, labels=torch.tensor([-1, -1]))
    assert head(told, only_photo).item() == pytest.approx(math.log(4), rel=1e-5)
    with torch.no_grad():  # "nothing" everywhere: right on 15 of 16 patches, and they have a quarter of the say
        head.classify.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 8.0]))
    assert head(told, only_photo).item() == pytest.approx(0.75 * 8, rel=0.01)


def test_the_box_of_what_a_patch_shows_is_a_bell_over_numbers() -> None:
    """One patch of sixteen tells its box; a head that says these bells has no loss but that of the patches."""
    head, told = place_reader(), one_hot_places()
    box = torch.tensor([0.10, 0.255, 0.50, 0.99])
    extents = torch.full((1, 4, GRID, GRID), math.nan)
    extents[0, :, 2, 3] = box
    shares = torch.zeros(1, 4, GRID, GRID)
    shares[0, 3] = 1
    photo: Any = SimpleNamespace(
        patch_index=torch.tensor([0]), patches=shares, extents=extents, labels=torch.tensor([-1, -1])
    )
    with torch.no_grad():
        head.classify.weight.zero_()
        head.classify.bias.copy_(torch.tensor([-50.0, -50.0, -50.0, 50.0]))
        head.extend.weight.zero_()
        head.extend.bias.copy_(bell(NUMBERS, 100 * box, EXTENT_SIGMA).clamp(min=1e-30).log().flatten())
        assert head(told, photo).item() == pytest.approx(0, abs=1e-4)
        head.extend.bias.copy_(bell(NUMBERS, 100 * box.flip(0), EXTENT_SIGMA).clamp(min=1e-30).log().flatten())
        assert head(told, photo).item() > 10


def test_a_bell_is_centred_sums_to_one_and_is_cut_at_the_ends() -> None:
    made = bell(NUMBERS, torch.tensor([0.0, 50.0, 33.5]), 2.5)
    assert torch.allclose(made.sum(-1), torch.ones(3))
    assert made.argmax(-1)[:2].tolist() == [0, 50]
    assert made[2, 33] == pytest.approx(made[2, 34].item(), rel=1e-5)
    assert made[1, 45] == pytest.approx(made[1, 50].item() * math.exp(-2), rel=1e-4)


def test_every_weight_of_the_tower_s_head_gets_a_gradient_whatever_a_batch_shows() -> None:
    head = TowerHead(2 * GRID, 3, GRID)
    head(torch.randn(2, GRID * GRID, 2 * GRID), NOTHING).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_grounding_asks_for_the_patches_that_show_the_sketch() -> None:
    """A row whose hidden states are 1 where class 1 is and -1 elsewhere, read by a head that takes them as logits."""
    shares = torch.zeros(1, 4, GRID, GRID)
    shares[0, 3] = 1
    shares[0, :, 0, 0] = torch.tensor([0, 1, 0, 0])
    shares[0, :, 3, 3] = torch.tensor([1, 0, 0, 0])
    start, width = 5, 2
    signs = torch.where(shares[0, 1].flatten() > 0, 1.0, -1.0)
    middle = torch.zeros(1, start + GRID * GRID + 3, width)
    middle[0, start : start + GRID * GRID, 0] = signs
    middle[0, start : start + GRID * GRID, 1] = -signs
    head = GroundingHead(width)
    with torch.no_grad():
        head.match.weight.copy_(torch.tensor([[20.0, 0.0]]))
        head.match.bias.zero_()

    def loss_of(category: int) -> float:
        batch: Any = SimpleNamespace(pairs=torch.tensor([[0, start, 0, category]]), patches=shares)
        return head(middle, batch).item()

    assert loss_of(1) == pytest.approx(0, abs=1e-4)
    assert loss_of(0) == pytest.approx(0.5 * 20 + 0.35 * 20, rel=0.01)
    none: Any = SimpleNamespace(pairs=torch.empty(0, 4, dtype=torch.long), patches=shares)
    assert head(middle, none).item() == 0


def test_smoothed_numbers_are_a_bell_over_their_neighbours() -> None:
    tokenizer = tiny_tokenizer()
    numbers = number_tokens(tokenizer)
    objective = Objective(tiny_llava(), LossConfig(box_sigma=2.5), numbers)
    steps = torch.arange(len(numbers), dtype=torch.float)
    bell = torch.exp(-0.5 * ((steps - 40) / 2.5) ** 2)
    bell = bell / bell.sum()
    logits = torch.full((1, len(tokenizer)), -1e4)
    logits[0, numbers] = bell.clamp(min=1e-30).log()
    target = torch.tensor([numbers[40]])
    plain = F.cross_entropy(logits, target, reduction="none")
    entropy = float(-(bell * bell.clamp(min=1e-30).log()).sum())
    assert float(objective._smoothed(logits, target, plain)) == pytest.approx(entropy, rel=1e-4)
    sure = torch.full_like(logits, -1e4)  # all on the right number costs more than the bell
    sure[0, numbers] = -20.0
    sure[0, numbers[40]] = 0.0
    assert float(objective._smoothed(sure, target, plain)) > 2 * entropy
    word = torch.tensor([next(n for n in range(len(tokenizer)) if n not in set(numbers))])
    plain = F.cross_entropy(logits, word, reduction="none")
    assert float(objective._smoothed(logits, word, plain)) == float(plain)


def test_smoothing_needs_number_tokens() -> None:
    with pytest.raises(ValueError, match=r"loss\.box_sigma needs a tokenizer with one token for each"):
        Objective(tiny_llava(), LossConfig(box_sigma=2.5))
