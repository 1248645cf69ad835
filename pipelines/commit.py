"""The code that a benchmark or an experiment ran, for its page."""

from __future__ import annotations

import subprocess


def commit() -> str:
    """Short hash of what runs, with `-dirty` where tracked code differs from it (pages, pictures and
    results are what benchmarks and experiments write: they do not count); empty outside a repository."""
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!*.md", ":!*.png", ":!docs")
    return _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True).stdout.strip()
