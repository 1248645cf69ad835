"""Which of the clean instances of a source are drawn: those that are large enough, and of them a seeded share of the
images and of each image's instances."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sketchgen.index import with_reasons

LEFT_OUT = "not-selected"
"""Reason of a clean row that the selection does not take."""


SMALL = "box-small"
"""Reason of a clean row whose box is too small to be drawn."""


@dataclass(frozen=True)
class SelectionConfig:
    """How much of a source is drawn: the paper's subsets and the whole are one recipe with other numbers."""

    images: int = 0
    """So many images at most, drawn by the seed; 0 = all."""
    instances_per_image: int = 0
    """So many instances of each image at most, drawn by the seed; 0 = all."""
    balance: float = 0.0
    """0: every instance is as likely as another; 1: every class is as likely as another (images count for the
    instances in them)."""
    seed: int = 0


def mark_small(batch: pa.RecordBatch, min_side: float, max_side: int) -> pa.RecordBatch:
    """The images with SMALL as the reason of clean rows whose box, clipped to its image, has a side under `min_side`
    pixels once the image is stored with a side of at most `max_side`. Where the size of an image is not known before it
    is read, its rows stay as they are."""
    rows = pc.list_flatten(batch["instances"])
    owner = pc.list_parent_indices(batch["instances"]).to_numpy(zero_copy_only=False)
    size = np.stack([batch[name].to_numpy() for name in ("width", "height")], axis=1).astype(np.float64)
    scale = np.minimum(1, max_side / np.maximum(size.max(axis=1, initial=1), 1))[owner]
    low, high = (
        np.stack([pc.struct_field(rows, name).to_numpy(zero_copy_only=False) for name in names], axis=1)
        for names in (("x1", "y1"), ("x2", "y2"))
    )
    sides = np.minimum(high, size[owner]) - np.maximum(low, 0)
    known = (size > 0).all(axis=1) & ~batch["relative"].to_numpy(zero_copy_only=False)
    small = known[owner] & (sides.min(axis=1, initial=np.inf) * scale < min_side)
    reasons = pc.struct_field(rows, "reason")
    small &= pc.equal(reasons, "").to_numpy(zero_copy_only=False)
    return with_reasons(batch, pc.if_else(pa.array(small), SMALL, reasons)) if small.any() else batch


class Selection:
    """A selection that knows the source: built from its whole index, then applied to it batch by batch, in order."""

    def __init__(self, config: SelectionConfig, batches: Callable[[], Iterable[pa.RecordBatch]]) -> None:
        """batches: the images of the source, from the first, with columns of `sketchgen.index.SCHEMA`."""
        self._config = config
        self._weights: dict[str, float] = {}
        self._images: NDArray[np.bool_] | None = None
        self._next_image = self._next_row = 0
        if config.balance:
            self._weigh(batches())
        if config.images:
            self._draw_images(batches())

    def apply(self, batch: pa.RecordBatch) -> tuple[pa.Array, NDArray[np.bool_]]:
        """The reason of each row of the batch, LEFT_OUT where the selection leaves it out, and which images have
        a row that is planned, or a question of their source."""
        rows = pc.list_flatten(batch["instances"])
        reasons = pc.struct_field(rows, "reason")
        owner = pc.list_parent_indices(batch["instances"]).to_numpy(zero_copy_only=False)
        taken = pc.equal(reasons, "").to_numpy(zero_copy_only=False)
        clean = taken.copy()
        if self._images is not None:
            taken &= self._images[self._next_image : self._next_image + len(batch)][owner]
        if self._config.instances_per_image:
            order = np.lexsort([self._keys(rows, self._next_row), ~taken, owner])
            first = np.searchsorted(owner, owner)  # where the rows of its image begin: owner is sorted
            rank = np.empty(len(owner), np.int64)
            rank[order] = np.arange(len(owner)) - first[order]
            taken &= rank < self._config.instances_per_image
        self._next_image += len(batch)
        self._next_row += len(rows)
        if (clean != taken).any():
            reasons = pc.if_else(pa.array(clean & ~taken), LEFT_OUT, reasons)
        planned = np.bincount(owner[taken], minlength=len(batch)) > 0
        asked = _has_asked(batch)
        if self._images is not None:
            asked &= self._images[self._next_image - len(batch) : self._next_image]
        return reasons, planned | asked

    def _weigh(self, batches: Iterable[pa.RecordBatch]) -> None:
        counts: dict[str, int] = {}
        for batch in batches:
            rows = pc.list_flatten(batch["instances"])
            kept = pc.struct_field(rows, "category").filter(pc.equal(pc.struct_field(rows, "reason"), ""))
            for entry in pc.value_counts(kept).to_pylist():
                counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
        self._weights = {name: count**-self._config.balance for name, count in counts.items()}

    def _draw_images(self, batches: Iterable[pa.RecordBatch]) -> None:
        weights = []
        for batch in batches:
            rows = pc.list_flatten(batch["instances"])
            owner = pc.list_parent_indices(batch["instances"]).to_numpy(zero_copy_only=False)
            clean = pc.equal(pc.struct_field(rows, "reason"), "").to_numpy(zero_copy_only=False)
            own = np.bincount(owner, self._weights_of(rows) * clean, minlength=len(batch))
            weights.append(np.maximum(own, _has_asked(batch)))
        weight = np.concatenate(weights) if weights else np.zeros(0)
        if not self._config.balance:
            weight = (weight > 0).astype(np.float64)
        able = np.flatnonzero(weight)
        keys = -np.log(_uniform(able, self._config.seed, 1)) / weight[able]
        self._images = np.zeros(len(weight), np.bool_)
        self._images[able[np.argsort(keys, kind="stable")[: self._config.images]]] = True

    def _keys(self, rows: pa.StructArray, start: int) -> NDArray[np.float64]:
        """Sorting by these draws without replacement, each row as likely as its weight."""
        numbers = np.arange(start, start + len(rows))
        return -np.log(_uniform(numbers, self._config.seed, 2)) / self._weights_of(rows)

    def _weights_of(self, rows: pa.StructArray) -> NDArray[np.float64]:
        if not self._weights:
            return np.ones(len(rows))
        coded = pc.struct_field(rows, "category").dictionary_encode()
        table = np.array([self._weights.get(name, 1.0) for name in coded.dictionary.to_pylist()], np.float64)
        return table[coded.indices.to_numpy(zero_copy_only=False)] if len(table) else np.ones(0)


def _has_asked(batch: pa.RecordBatch) -> NDArray[np.bool_]:
    """Which images their source asks a question of that can be taken."""
    asked = pc.list_flatten(batch["asked"])
    owner = pc.list_parent_indices(batch["asked"]).to_numpy(zero_copy_only=False)
    clean = pc.equal(pc.struct_field(asked, "reason"), "").to_numpy(zero_copy_only=False)
    return np.bincount(owner[clean], minlength=len(batch)) > 0


def _uniform(numbers: NDArray[np.int64], seed: int, stream: int) -> NDArray[np.float64]:
    """A uniform value in (0, 1] for each number, the same on every machine and in every version (splitmix64)."""
    start = np.uint64((seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) % 2**64)
    with np.errstate(over="ignore"):
        mixed = (numbers.astype(np.uint64) + start) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
    return ((mixed >> np.uint64(11)).astype(np.float64) + 1) / 2**53
