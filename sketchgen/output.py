"""The output folder of a run: its lock, the settings that it was made with, and what is done.

A shard is `NNNNNN.tar` + `NNNNNN.parquet` + `NNNNNN.json`; the json is written last, and what lacks
it did not happen.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from data_manifests.schema import Completion
from sketchgen.storage import Storage

SETTINGS = "settings.json"
PLAN = "plan.parquet"
RECORD = re.compile(r"\d{6,}\.json")
LOG = "log.jsonl"
RUN = "run.json"
"""The whole config of the last run, places and engine included: what `sketchgen retry` goes on with."""
Config = TypeVar("Config")


def shard_name(shard: int, suffix: str) -> str:
    """`000012.tar` and its siblings."""
    return f"{shard:06d}.{suffix}"


def fingerprint(settings: dict[str, Any]) -> str:
    """Short hash of the settings that decide the bytes."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def locked(storage: Storage) -> Iterator[None]:
    """Keep a second run out of the folder; the lock goes with its process, however that ends.

    Raises ValueError when another run holds it. Object stores have no locks: there nothing is held.
    """
    if storage.local is None:
        yield
        return
    storage.make()
    try:
        with FileLock(storage.local / ".lock", timeout=0):
            yield
    except Timeout:
        raise ValueError(f"another run is writing to {storage.url}: wait for it, or choose another --out") from None


def write_settings(storage: Storage, settings: dict[str, Any]) -> None:
    """Record the settings of a new folder; from now on it belongs to them."""
    storage.write(SETTINGS, (json.dumps(settings, indent=2, sort_keys=True) + "\n").encode())


def write_config(storage: Storage, config: Any) -> None:
    """Record the config (a dataclass) of the run that is about to begin."""
    storage.write(RUN, (json.dumps(asdict(config), indent=1) + "\n").encode())


def read_config(storage: Storage, kind: type[Config]) -> Config:
    """The config of the last run into this folder. Raises ValueError where there is none that can be read."""
    try:
        return TypeAdapter(kind).validate_json(storage.read(RUN))
    except FileNotFoundError:
        raise ValueError(f"{storage.url} holds no {RUN}: it is no output of sketchgen") from None
    except ValidationError as error:
        raise ValueError(
            f"{storage.url}/{RUN} is of another version ({error.errors()[0]['msg']}): run the same command once more"
        ) from None


def belongs_to(storage: Storage, settings: dict[str, Any]) -> bool:
    """Whether the folder was begun with these settings; False for a new one, or one without a shard.

    Raises ValueError for a folder that holds something else, and for one that holds shards made with
    other settings, naming each differing field and both values.
    """
    names = storage.names()
    if SETTINGS not in names:
        if foreign := [name for name in names if name not in {".lock", PLAN}]:
            raise ValueError(f"{storage.url} is not empty and no output of sketchgen (it holds {foreign[0]})")
        return False
    there = _flatten(json.loads(storage.read(SETTINGS)))
    here = _flatten(settings)
    differ = [
        f"  {name}: {there.get(name, '(absent)')!r} there, {here.get(name, '(absent)')!r} now"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    if differ and not any(RECORD.fullmatch(name) for name in names):
        return False  # a run that made nothing, with weights that were missing, say
    if differ:
        raise ValueError(
            f"{storage.url} was made with other settings:\n"
            + "\n".join(differ)
            + "\nGive the same settings to go on with it, delete the folder, or choose another --out."
        )
    return True


def completions(storage: Storage, mark: str) -> dict[int, Completion]:
    """Completion records of all finished shards, by shard number; a shard whose files are gone is not.

    Raises ValueError for a record that was made with other settings (another fingerprint than `mark`).
    """
    done = {}
    sizes = storage.sizes()
    for name in filter(RECORD.fullmatch, sizes):
        record = Completion.model_validate_json(storage.read(name))
        if record.fingerprint != mark:
            raise ValueError(f"{storage.url}/{name} was made with other settings; choose another --out")
        whole = sizes.get(shard_name(record.shard, "tar")) == record.tar_bytes
        if whole and shard_name(record.shard, "parquet") in sizes:
            done[record.shard] = record
    return done


def append_log(storage: Storage, entry: dict[str, Any]) -> None:
    """Add a line to the run's log (timings live here, never in a shard). Local folders only."""
    if storage.local is not None:
        with (storage.local / LOG).open("a") as file:
            file.write(json.dumps(entry) + "\n")


def read_log(storage: Storage) -> list[dict[str, Any]]:
    """Entries of the run's log, oldest first; a line cut off by a kill is skipped."""
    if storage.local is None or not storage.exists(LOG):
        return []
    entries = []
    for line in (storage.local / LOG).read_text().splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
