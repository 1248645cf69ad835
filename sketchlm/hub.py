"""The hub of models: asked where it answers, and its cache where it does not."""

from __future__ import annotations

from pathlib import Path

SECONDS = 3.0
"""For the hub to answer at all. Its client tries each file six times, over 23 s, before it says that it cannot."""


def within_reach(name: str, *files: str) -> str:
    """A hub id as it is where the hub answers; else the folder in the cache that an earlier download left.

    files: names of which the folder holds one at least.
    Raises ValueError, with the remedy, where there is neither.
    """
    why = unreachable()
    if not why:
        return name
    from huggingface_hub import try_to_load_from_cache

    for file in files:
        found = try_to_load_from_cache(name, file)
        if isinstance(found, str):
            return str(Path(found).parent)
    raise ValueError(
        f"the hub cannot be reached ({why}), and its cache does not have it: connect, or fetch it elsewhere "
        f"(hf download {name} --local-dir FOLDER) and name that folder"
    )


def unreachable() -> str:
    """Why the hub cannot be asked; "" where it answers, whatever it says."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception as error:  # of whatever client it brings
        return f"{constants.ENDPOINT}: {error or type(error).__name__}"
    return ""
