"""Finished instruction shards as the input of another pass: read whole, and compared with their completion records."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from data_manifests.schema import MIXTURE, Completion, Sample, validate
from sketchgen.ledger import QueryRow, read_query_ledger
from sketchgen.output import SETTINGS, shard_name
from sketchgen.storage import Storage

MEMBERS = {"jpg", "sketches.png", "json"}
REMEDY = "copy it again, or remove its .json and run `make instructions` again to make it anew"


@dataclass(frozen=True, slots=True)
class StoredSample:
    """One sample as stored. jpeg, strip: the files of photo and sketches."""

    key: str
    jpeg: bytes = field(repr=False)
    strip: bytes = field(repr=False)
    record: Sample


@dataclass(frozen=True)
class FinishedShard:
    """A shard, its samples and ledger in their order."""

    record: Completion
    samples: tuple[StoredSample, ...]
    rows: tuple[QueryRow, ...]


def instruction_settings(storage: Storage) -> dict[str, Any]:
    """The settings of a folder that `make instructions` made. Raises ValueError for any other."""
    try:
        settings = json.loads(storage.read(SETTINGS))
    except FileNotFoundError:
        if storage.exists(MIXTURE):
            raise ValueError(f"{storage.url} is a mixture: name one of the folders in it") from None
        raise ValueError(
            f"{storage.url} holds no shards ({SETTINGS} is missing): run `make instructions` first"
        ) from None
    except ValueError as error:
        raise ValueError(f"{storage.url}/{SETTINGS} is damaged ({error}); {REMEDY}") from None
    if not isinstance(settings, dict) or "tasks" not in settings:
        raise ValueError(f"{storage.url} is no output of `make instructions`: name a folder that is")
    return settings


def read_finished(storage: Storage, shard: int) -> FinishedShard:
    """One shard with its completion record. Raises ValueError, with the remedy, for what is not as it was made."""
    place = f"{storage.url}/{shard_name(shard, 'tar')}"
    try:
        record = Completion.model_validate_json(storage.read(shard_name(shard, "json")))
        tar, ledger = (storage.read(shard_name(shard, kind)) for kind in ("tar", "parquet"))
        for name, data, known in (("tar", tar, record.tar_sha256), ("ledger", ledger, record.ledger_sha256)):
            if (seen := hashlib.sha256(data).hexdigest()) != known:
                raise ValueError(f"the {name} has changed: sha256 is {seen}, was {known} when it was made")
        samples = tuple(_samples(tar))
        return FinishedShard(record, samples, tuple(read_query_ledger(io.BytesIO(ledger))))
    except (ValueError, TypeError, FileNotFoundError, tarfile.TarError) as error:
        raise ValueError(f"{place}: {error}; {REMEDY}") from None


def _samples(tar: bytes) -> Iterator[StoredSample]:
    members: dict[str, dict[str, bytes]] = {}
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as file:
        for entry in file:
            content = file.extractfile(entry)
            key, _, kind = entry.name.partition(".")
            members.setdefault(key, {})[kind] = content.read() if content else b""
    for key, files in members.items():
        if files.keys() != MEMBERS:
            raise ValueError(f"sample {key} holds {', '.join(sorted(files))}; must be {', '.join(sorted(MEMBERS))}")
        yield StoredSample(key, files["jpg"], files["sketches.png"], validate(files["json"]))
