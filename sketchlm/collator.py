"""The collator: items to one batch of tensors.

Branches of a row restart the positions after the prefix and see nothing of each other, so that each is
what it would be alone (parity is tested). Pictures that several rows share go through the tower once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from sketchlm.processor import Item, Picture

IGNORE = -100
PADDING = -1
"""Segment of padding; 0 is the prefix, 1, 2, ... the branches."""


@dataclass(frozen=True)
class Batch:
    """One step's input. U pictures, N image slots, B rows of L tokens.

    pixel_values [U, 3, S, S] uint8; image_index [N] the picture of each slot, in reading order;
    input_ids, position_ids, segments [B, L]; targets [B, L]: the token to predict *at* a position
    (already shifted), IGNORE elsewhere; weights [B, L] float of each target; tasks [B, L] the number of
    its task (see TASKS), -1 elsewhere; patches [V, C + 1, G, G], extents [V, 4, G, G], shows [V, C] bool and
    patch_index [V] for photos whose masks are known (see Picture); labels [U] class of a sketch, -1 elsewhere;
    pairs [R, 4] for each row that shows a sketch of known class and a photo of known masks: row, place of the photo's
    first token, place in `patches`, class.
    """

    pixel_values: Tensor
    image_index: Tensor
    input_ids: Tensor
    position_ids: Tensor
    segments: Tensor
    targets: Tensor
    weights: Tensor
    tasks: Tensor
    patches: Tensor
    extents: Tensor
    shows: Tensor
    patch_index: Tensor
    labels: Tensor
    pairs: Tensor
    num_queries: int
    num_tokens: int
    """Tokens that are not padding."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device."""
        moved: dict[str, Any] = {
            f.name: getattr(self, f.name).to(device, non_blocking=True)
            for f in fields(self)
            if isinstance(getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)


TASKS = ("describe", "bbox", "count", "vqa", "sbir")


def check_weights(weights: Sequence[tuple[str, float]]) -> None:
    """Raise ValueError for a weight of a task that is none."""
    for task, weight in weights:
        if task not in TASKS or not weight >= 0:
            raise ValueError(f"task_weights: {task!r} is {weight}; tasks are {', '.join(TASKS)}, weights 0 or more")


@dataclass(frozen=True)
class Collator:
    """Calling it with items gives a batch. pad_id: token of padding; weights: of tasks, 1 by default."""

    pad_id: int
    num_image_tokens: int
    image_id: int
    weights: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        check_weights(self.weights)

    def __call__(self, items: Sequence[Item]) -> Batch:
        """Raises ValueError that names shard, sample and query for an item that would train on nothing, or on
        an image cut short."""
        assert items, "a batch needs at least one item"
        weight_of = dict(self.weights)
        pictures: dict[int, tuple[int, Picture]] = {}
        slots: list[int] = []
        length = max(item.length for item in items)
        shape = (len(items), length)
        ids = np.full(shape, self.pad_id, np.int64)
        positions = np.zeros(shape, np.int64)
        segments = np.full(shape, PADDING, np.int64)
        targets = np.full(shape, IGNORE, np.int64)
        weights = np.zeros(shape, np.float32)
        tasks = np.full(shape, -1, np.int64)
        for row, item in enumerate(items):
            self._check(item)
            for picture in item.pictures:
                slots.append(pictures.setdefault(id(picture), (len(pictures), picture))[0])
            start = len(item.prefix)
            ids[row, :start] = item.prefix
            positions[row, :start] = np.arange(start)
            segments[row, :start] = 0
            for number, branch in enumerate(item.branches, start=1):
                end = start + len(branch.ids)
                ids[row, start:end] = branch.ids
                positions[row, start:end] = np.arange(len(branch.ids)) + len(item.prefix)
                segments[row, start:end] = number
                trained = slice(end - branch.num_trained - 1, end - 1)
                targets[row, trained] = branch.ids[-branch.num_trained :]
                weights[row, trained] = weight_of.get(branch.task, 1.0)
                tasks[row, trained] = TASKS.index(branch.task)
                start = end
        shown = [picture for _, picture in pictures.values()]
        known = [number for number, picture in enumerate(shown) if picture.patches is not None]
        return Batch(
            pixel_values=torch.from_numpy(np.stack([picture.pixels for picture in shown])),
            image_index=torch.tensor(slots),
            input_ids=torch.from_numpy(ids),
            position_ids=torch.from_numpy(positions),
            segments=torch.from_numpy(segments),
            targets=torch.from_numpy(targets),
            weights=torch.from_numpy(weights),
            tasks=torch.from_numpy(tasks),
            patches=_stacked([shown[number].patches for number in known]),
            extents=_stacked([shown[number].extents for number in known]),
            shows=_stacked([shown[number].shows for number in known]).bool(),
            patch_index=torch.tensor(known, dtype=torch.long),
            labels=torch.tensor([picture.label for picture in shown]),
            pairs=self._pairs(items, {id(shown[number]): place for place, number in enumerate(known)}),
            num_queries=sum(len(item.branches) for item in items),
            num_tokens=sum(item.length for item in items),
        )

    def _pairs(self, items: Sequence[Item], places: dict[int, int]) -> Tensor:
        """places: of a photo's masks in `patches`, by identity of its picture."""
        rows = []
        for row, item in enumerate(items):
            if len(item.pictures) == 2 and item.pictures[0].label >= 0 and id(item.pictures[1]) in places:
                start = item.prefix.index(self.image_id)  # of the sketch
                start = item.prefix.index(self.image_id, start + self.num_image_tokens)
                rows.append((row, start, places[id(item.pictures[1])], item.pictures[0].label))
        return torch.tensor(rows, dtype=torch.long).reshape(-1, 4)

    def _check(self, item: Item) -> None:
        """What silent training errors are made of (575 tokens of an image, labels masked away)."""
        place = f"{item.url}, sample {item.key}"
        seen = item.prefix.count(self.image_id)
        expected = self.num_image_tokens * len(item.pictures)
        if seen != expected:
            raise ValueError(
                f"{place}: {seen} image tokens for {len(item.pictures)} images, the model makes {expected}: "
                "processor and model must come from the same bundle or base"
            )
        if not item.branches:
            raise ValueError(f"{place}: no query in it, nothing would be trained")
        for branch in item.branches:
            if not 0 < branch.num_trained < len(branch.ids):
                raise ValueError(
                    f"{place}, query {branch.query.query_id}: {branch.num_trained} of its {len(branch.ids)} tokens are "
                    "trained; at least one must be, and its question must not: look at its answers"
                )


def _stacked(arrays: Sequence[Any]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)) if arrays else torch.zeros(0)


def attention_mask(segments: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, 1, L, L] float mask, 0 where a token may look, the lowest number elsewhere.

    A token sees what stands before it in the prefix and in its own branch. Padding, which nothing sees,
    sees itself too, so that no row of the softmax is empty.
    """
    length = segments.shape[1]
    order = torch.arange(length, device=segments.device)
    before = order[:, None] >= order[None, :]
    mine, theirs = segments[:, :, None], segments[:, None, :]
    seen = before & ((theirs == 0) | (theirs == mine)) & (theirs != PADDING)
    seen |= torch.eye(length, dtype=torch.bool, device=segments.device)
    mask = torch.zeros(seen.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]
