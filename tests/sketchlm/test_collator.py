"""The collator: what is predicted where, who sees whom, and checks against silent training errors."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_manifests.schema import Query
from sketchlm.collator import IGNORE, PADDING, TASKS, Collator, attention_mask
from sketchlm.processor import Branch, Item, Picture
from tests.sketchlm.llava import asked

IMAGE, PAD, END = 9, 3, 2
PICTURES = tuple(Picture(np.full((3, 4, 4), value, np.uint8), label=value - 1) for value in (0, 1, 2))
ONE = asked("bbox")


def collator(tokens: int = 2, weights: tuple[tuple[str, float], ...] = ()) -> Collator:
    return Collator(PAD, tokens, IMAGE, weights)


def item(*branches: Branch, pictures: tuple[Picture, ...] = PICTURES[:2], tokens: int = 2) -> Item:
    prefix = (1, *[IMAGE] * (tokens * len(pictures)), 7)
    return Item("k", pictures, prefix, branches or (branch(),), "s.tar")


def branch(task: str = "bbox", question: int = 3, answer: int = 2, query: Query = ONE) -> Branch:
    ids = (*range(20, 20 + question), *range(40, 40 + answer - 1), END)
    return Branch(ids, answer, task, query)


def test_golden_batch_of_two_rows() -> None:
    batch = collator(weights=(("count", 2.0),))(
        [item(branch(), branch("count", 2, 3)), item(branch("sbir", 1, 2), pictures=PICTURES[1:2])]
    )
    assert batch.input_ids.tolist() == [
        [1, 9, 9, 9, 9, 7, 20, 21, 22, 40, 2, 20, 21, 40, 41, 2],
        [1, 9, 9, 7, 20, 40, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3],
    ]
    # a branch goes on where the prefix ends, as if it were alone
    assert batch.position_ids.tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 6, 7, 8, 9, 10],
        [0, 1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert batch.segments.tolist() == [[0] * 6 + [1] * 5 + [2] * 5, [0] * 4 + [1] * 3 + [PADDING] * 9]
    # the target at a place is the token after it: the last of the question predicts the first of the answer
    x = IGNORE
    assert batch.targets.tolist() == [
        [x, x, x, x, x, x, x, x, 40, 2, x, x, 40, 41, 2, x],
        [x, x, x, x, 40, 2, x, x, x, x, x, x, x, x, x, x],
    ]
    assert batch.weights.tolist() == [[0] * 8 + [1, 1, 0, 0] + [2, 2, 2, 0], [0] * 4 + [1, 1] + [0] * 10]
    expected = [[-1] * 8 + [1, 1, -1, -1, 2, 2, 2, -1], [-1] * 4 + [4, 4] + [-1] * 10]
    assert batch.tasks.tolist() == expected and TASKS[1] == "bbox" and TASKS[4] == "sbir"
    assert (batch.num_queries, batch.num_tokens) == (3, 16 + 7)


def test_nothing_before_the_answer_is_ever_a_target() -> None:
    batch = collator()([item(branch(question=5, answer=1))])
    assert (batch.targets != IGNORE).sum() == 1 and batch.targets[0, -2] == END


def test_pictures_are_kept_once_in_reading_order() -> None:
    batch = collator()([item(pictures=PICTURES[:2]), item(pictures=(PICTURES[2], PICTURES[1]))])
    assert batch.pixel_values[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert batch.image_index.tolist() == [0, 1, 2, 1]
    assert batch.labels.tolist() == [-1, 0, 1]


def test_patches_of_photos_whose_masks_are_known() -> None:
    shares = np.ones((3, 2, 2), np.float32) / 3
    extents = np.full((4, 2, 2), np.nan, np.float32)
    shows = np.array([True, False])
    photo = replace(PICTURES[1], patches=shares, extents=extents, shows=shows)
    batch = collator()([item(pictures=(PICTURES[0], photo))])
    assert batch.patch_index.tolist() == [1] and torch.equal(batch.patches, torch.from_numpy(shares)[None])
    assert batch.extents.shape == (1, 4, 2, 2) and batch.extents.isnan().all()
    assert torch.equal(batch.shows, torch.tensor([[True, False]]))
    assert collator()([item()]).patch_index.shape == (0,) == collator()([item()]).shows.shape


def test_a_token_sees_the_prefix_and_its_own_branch() -> None:
    mask = attention_mask(torch.tensor([[0, 0, 1, 1, 2, 2, PADDING]]), torch.float32)
    seen = (mask[0, 0] == 0).int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 1, 0, 0],
        [1, 1, 0, 0, 1, 1, 0],
        [1, 1, 0, 0, 0, 0, 1],  # padding sees itself: a softmax over nothing is no number
    ]
    assert mask.shape == (1, 1, 7, 7) and mask.dtype == torch.float32


def test_moving_a_batch_keeps_its_numbers() -> None:
    batch = collator()([item()])
    moved = batch.to("cpu")
    assert moved.num_tokens == batch.num_tokens and torch.equal(moved.input_ids, batch.input_ids)


# Bad input


@pytest.mark.parametrize("tokens", [575, 577])
def test_576_tokens_an_image_are_asserted(tokens: int) -> None:
    with pytest.raises(
        ValueError, match=rf"s\.tar, sample k: {2 * tokens} image tokens for 2 images, .* 1152: processor"
    ):
        collator(576)([item(tokens=tokens)])
    assert collator(576)([item(tokens=576)]).num_tokens == 2 * 576 + 2 + 5


@pytest.mark.parametrize("bad", [Branch((20, 21), 0, "bbox", ONE), Branch((20, 21), 2, "bbox", ONE)])
def test_an_all_masked_sample_names_file_sample_query_and_remedy(bad: Branch) -> None:
    said = re.escape("s.tar, sample k, query bbox0: ")
    with pytest.raises(
        ValueError, match=f"{said}{bad.num_trained} of its 2 tokens are trained; .* look at its answers"
    ):
        collator()([item(branch(), bad)])


def test_an_item_without_questions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"s\.tar, sample k: no query in it"):
        collator()([replace(item(), branches=())])


@pytest.mark.parametrize("weights", [(("boxes", 2.0),), (("bbox", -1.0),), (("bbox", float("nan")),)])
def test_weights_are_of_tasks(weights: tuple[tuple[str, float], ...]) -> None:
    with pytest.raises(
        ValueError, match="task_weights: .*; tasks are describe, bbox, count, vqa, sbir, weights 0 or more"
    ):
        collator(weights=weights)
