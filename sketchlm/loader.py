"""The streaming loader: from shards to batches without end, and back to any position at once.

    order (main) ──> task: path + offsets ──> read, check, decode (workers) ──> batches (main) ──> training

The order is a pure function of a number (see sketchlm.mixture), workers are told what to read, and
batches are closed in the main process in the order of the samples. So what training sees depends
neither on the number of workers nor on where it was interrupted, and a position is two integers: the
sample, and the item in it, that comes next.
"""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar
from weakref import WeakSet

from sketchlm.background import Workers, in_thread, portable
from sketchlm.mixture import Dealing, Order, read_mixture, salted
from sketchlm.shards import Entry, RawSample, ShardError, read_sample
from sketchlm.shelf import Shelf

__all__ = ["Loader", "LoaderConfig", "RawSample", "ShardError"]

LOG = logging.getLogger(__name__)
ORDER_VERSION = 1
"""Raise it when the same settings no longer give the same order."""
HORIZON = 512
"""Samples ahead of the next one whose shards are made ready."""
PATIENCE = 10_000
"""Shuffled samples in a row without one item that are taken for a mistake."""
WARN_SECONDS = 10.0


_STREAMS: WeakSet[Generator[Any, None, None]] = WeakSet()


def _close_streams() -> None:
    """Close what is still open when Python ends: later there are no modules left to do it with."""
    for stream in list(_STREAMS):
        stream.close()


class HasLength(Protocol):
    """What `decode` makes."""

    @property
    def length(self) -> int:
        """Tokens of the item."""


Item = TypeVar("Item", bound=HasLength)
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class LoaderConfig:
    """What is read, in which order, and how much at a time."""

    shards: str
    """Folder of shards (path or URL), or a mixture manifest (*.yaml)."""
    seed: int = 0
    """Of the order, and of what is drawn for each sample."""
    shuffle: bool = True
    """Shards and samples in a new order each epoch."""
    window: int = 4
    """Shards whose samples are mixed with each other; of remote ones, twice as many are kept on disk."""
    workers: int = 0
    """Background processes that read and decode; what they give does not depend on their number."""
    prefetch: int = 4
    """Batches kept ready, if there are workers."""
    tokens_per_batch: int = 0
    """Most tokens of a batch, padding included (items x longest); 0 = `batch_size` items instead."""
    batch_size: int = 16
    """Items of a batch, where tokens do not limit it."""
    broken: Literal["stop", "skip"] = "stop"
    """At a broken shard or sample: stop with an error that names it, or warn, count it and go on."""
    verify: bool = True
    """Compare the sha256 of each shard with its completion record before its first use."""
    cache: str = ""
    """Folder for remote shards; empty = in the system's temporary folder."""


@dataclass(frozen=True, slots=True)
class Position:
    """The first item that is not consumed: sample of this rank's order, and item of that sample."""

    sample: int = 0
    item: int = 0


@dataclass(frozen=True, slots=True)
class _Task:
    """What a worker needs for one sample; failure: why it cannot be read."""

    number: int
    url: str
    path: Path
    entry: Entry | None
    draw: int
    failure: ShardError | None = None


@dataclass(frozen=True, slots=True)
class _Decoded(Generic[Item]):
    """One sample's items, or why there are none; place names it."""

    number: int
    place: str
    items: list[Item]
    failure: Exception | None = None


class Loader(Generic[Item, Batch]):
    """Batches of one rank, without end: epochs follow each other in new orders.

    A sample's items stay together. An iterator starts at the position of the last batch that any
    iterator returned; use one at a time.
    """

    def __init__(
        self,
        config: LoaderConfig,
        decode: Callable[[RawSample, int], list[Item]],
        collate: Callable[[list[Item]], Batch],
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """decode(sample, draw): items of a sample, maybe none; `draw` (63 bits) is fixed by seed, epoch and
        sample: take all chance from it. It may raise ShardError for bytes that cannot be used; other errors
        always stop. With workers it runs in other processes. collate(items): a batch, in the main process.

        Raises ValueError for settings that cannot be, folders without a finished shard or sample, shards
        of another schema version, and ShardError for a broken completion record (unless those are skipped).
        """
        assert 0 <= rank < world, f"rank {rank} of {world}"
        check_loader(config)
        self._config = config
        self._decode = decode
        self._collate = collate
        self._position = Position()
        self._warned = -WARN_SECONDS
        self.skipped: dict[str, str] = {}
        """Reasons by place (URL of a shard, and the sample in it) of what was passed over."""
        self.num_skipped = 0
        """Samples passed over, each time that they came."""
        self._folders, weights = read_mixture(config.shards)
        for folder in self._folders:
            for place, error in folder.broken.items():
                self._pass_over(place, error)
            if not any(shard.record.samples for shard in folder.shards):
                raise ValueError(f"{folder.url}: its {len(folder.shards)} finished shards hold no sample; make others")
            if folder.unfinished:
                LOG.warning("%s: %d tars without a completion record are left out", folder.url, len(folder.unfinished))
        dealing = Dealing(config.seed, config.shuffle, config.window, rank, world)
        counts = [[shard.record.samples for shard in folder.shards] for folder in self._folders]
        self._order = Order(counts, weights, dealing)
        self._fingerprint: dict[str, int | float | str] = {"version": ORDER_VERSION, **asdict(dealing)}
        for number, (folder, weight) in enumerate(zip(self._folders, weights, strict=True)):
            hashes = "".join(shard.record.tar_sha256 for shard in folder.shards)
            self._fingerprint[f"part {number} weight"] = weight
            self._fingerprint[f"part {number} shards"] = len(folder.shards)
            self._fingerprint[f"part {number} samples"] = sum(counts[number])
            self._fingerprint[f"part {number} content"] = sha256(hashes.encode()).hexdigest()[:16]

    @property
    def num_samples(self) -> int:
        """Samples of one epoch, of all parts and over all ranks."""
        return self._order.num_samples

    @property
    def unfinished(self) -> list[str]:
        """URLs of tars without a completion record, which are left out."""
        return [f"{folder.url}/{name}.tar" for folder in self._folders for name in folder.unfinished]

    def state_dict(self) -> dict[str, Any]:
        """Where to go on: after the last batch that an iterator returned. JSON; one for each rank, since
        ranks read at their own pace.
        """
        return {"sample": self._position.sample, "item": self._position.item, "order": dict(self._fingerprint)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved position; the next iterator starts there.

        Raises ValueError for a state of other shards, another mixture, seed, rank or number of ranks,
        naming each differing field and both values.
        """
        try:
            position, there = Position(state["sample"], state["item"]), state["order"]
            whole = all(isinstance(number, int) and number >= 0 for number in (position.sample, position.item))
            valid = whole and isinstance(there, dict)
        except (KeyError, TypeError):
            valid = False
        if not valid:
            raise ValueError(f"no state of a loader: {state!r:.200}; take the one that `state_dict` gave")
        here = self._fingerprint
        if differ := [
            f"  {name}: {there.get(name, '(absent)')!r} there, {here.get(name, '(absent)')!r} here"
            for name in {**here, **there}
            if there.get(name) != here.get(name)
        ]:
            raise ValueError(
                f"the saved position is one in another order than {self._config.shards} gives here:\n"
                + "\n".join(differ)
                + "\nGo on with the same shards and settings, or begin anew."
            )
        self._position = position

    def __iter__(self) -> Generator[Batch, None, None]:
        """Batches from the current position on."""
        stream = self._stream()
        _STREAMS.add(stream)
        return stream

    def _stream(self) -> Generator[Batch, None, None]:
        config, start = self._config, self._position
        with ExitStack() as stack:
            shelves = [
                stack.enter_context(closing(Shelf(folder.shards, 2 * config.window, config.verify, config.cache)))
                for folder in self._folders
            ]
            tasks, work = self._tasks(start.sample, shelves), _Work(self._decode, config.workers > 0)
            if config.workers:
                workers = stack.enter_context(closing(Workers(work, tasks, config.workers)))
                background = in_thread(self._batches(workers, start, shelves), config.prefetch)
                batches = stack.enter_context(closing(background))
            else:
                batches = self._batches(map(work, tasks), start, shelves)
            atexit.unregister(_close_streams)
            atexit.register(_close_streams)  # last, to run first: before torch and multiprocessing shut down
            for batch, position in batches:
                self._position = position
                yield batch

    def _tasks(self, start: int, shelves: list[Shelf]) -> Iterator[_Task]:
        """What is to be read, from sample `start` on. A shard that cannot be used fails at its samples, in order."""
        prepared = start
        for number in count(start):
            for ahead in range(prepared, number + HORIZON):
                place = self._order.place(ahead)
                shelves[place.part].prepare(place.shard, ahead)
            prepared = number + HORIZON
            place = self._order.place(number)
            shard = self._folders[place.part].shards[place.shard]
            draw = salted(self._config.seed, "draw", place.part, place.epoch, place.shard, place.index)
            try:
                ready = shelves[place.part].take(place.shard, number)
            except ShardError as error:
                task = _Task(number, shard.url, Path(), None, draw, error)
            else:
                task = _Task(number, shard.url, ready.path, ready.entries[place.index], draw)
            yield task

    def _batches(
        self, decoded: Iterable[_Decoded[Item]], start: Position, shelves: list[Shelf]
    ) -> Generator[tuple[Batch, Position], None, None]:
        """Close batches as items come; each with the position after it."""
        budget, size = self._config.tokens_per_batch, self._config.batch_size
        items: list[Item] = []
        longest = 0
        for sample in self._with_items(decoded, shelves):
            first = start.item if sample.number == start.sample else 0
            if first > len(sample.items):
                raise ValueError(
                    f"the saved position is at item {first} of {sample.place}, of which {len(sample.items)} are "
                    "made now: go on with the settings of that run, or begin anew"
                )
            for index, item in enumerate(sample.items[first:], first):
                if budget:
                    _check_fits(item, sample.place, budget)
                    if items and (len(items) + 1) * max(longest, item.length) > budget:
                        yield self._collate(items), Position(sample.number, index)
                        items, longest = [], 0
                    longest = max(longest, item.length)
                items.append(item)
                if not budget and len(items) == size:
                    last = index + 1 == len(sample.items)
                    yield self._collate(items), Position(sample.number + last, 0 if last else index + 1)
                    items = []

    def _with_items(self, decoded: Iterable[_Decoded[Item]], shelves: list[Shelf]) -> Iterator[_Decoded[Item]]:
        """The samples that made items. Failures are raised or passed over here, in the order of the samples."""
        patience = min(PATIENCE, self._order.num_pass) if self._config.shuffle else self._order.num_pass
        empty = 0
        for sample in decoded:
            for shelf in shelves:
                shelf.consumed = sample.number
            if sample.failure is not None:
                self.num_skipped += 1
                self._pass_over(sample.place, sample.failure)
            empty = 0 if sample.items else empty + 1
            if empty > patience:
                skipped = f"; {self.num_skipped} were skipped as broken" if self.num_skipped else ""
                raise ValueError(
                    f"none of {min(empty, self.num_samples):,} samples of {self._config.shards} holds a question "
                    f"that this stage asks{skipped}. Shards of sketches hold none: `make instructions` asks them"
                )
            if sample.items:
                yield sample

    def _pass_over(self, place: str, error: Exception) -> None:
        """Count what is broken and say so now and then, or raise what stops."""
        if self._config.broken == "stop" or not isinstance(error, ShardError):
            raise error
        self.skipped[place] = str(error)
        if time.monotonic() - self._warned >= WARN_SECONDS:
            self._warned = time.monotonic()
            LOG.warning("skipped (%d samples so far): %s", self.num_skipped, error)


class _Work(Generic[Item]):
    """Reads and decodes one sample, in a worker or in the main process."""

    def __init__(self, decode: Callable[[RawSample, int], list[Item]], elsewhere: bool) -> None:
        self._decode = decode
        self._elsewhere = elsewhere

    def __call__(self, task: _Task) -> _Decoded[Item]:
        """Errors come back as values, so that they are raised when it is the sample's turn."""
        if task.entry is None:
            return _Decoded(task.number, task.url, [], task.failure)
        place = f"{task.url}: sample {task.entry.key}"
        try:
            return _Decoded(task.number, place, self._decode(read_sample(task.path, task.url, task.entry), task.draw))
        except Exception as error:
            if not isinstance(error, ShardError):
                error.add_note(f"at {place}")
                error = portable(error) if self._elsewhere else error
            return _Decoded(task.number, place, [], error)


def check_loader(config: LoaderConfig) -> None:
    """Raise ValueError for numbers that cannot be, naming the field."""
    least = {"window": 1, "workers": 0, "prefetch": 1, "tokens_per_batch": 0, "batch_size": 1}
    for name, low in least.items():
        if getattr(config, name) < low:
            raise ValueError(f"loader.{name} is {getattr(config, name)}, must be at least {low}")
    if config.broken not in ("stop", "skip"):
        raise ValueError(f"loader.broken is {config.broken!r}, must be 'stop' or 'skip'")


def _check_fits(item: HasLength, place: str, budget: int) -> None:
    if item.length > budget:
        raise ValueError(
            f"an item of {place} is {item.length} tokens long, a batch may have {budget}: "
            f"set tokens_per_batch to at least {item.length}, or make items shorter"
        )
