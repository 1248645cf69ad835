"""Seeds from names, so that chance is the same in every run, shard and process."""

from __future__ import annotations

from hashlib import blake2b


def seed_of(*parts: object) -> int:
    """A seed in [0, 2**63) that depends on all parts, the same in every process."""
    text = "\0".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest()) >> 1
