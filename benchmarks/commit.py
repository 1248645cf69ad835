"""The code that a benchmark measured, for its page."""

from __future__ import annotations

import subprocess


def commit() -> str:
    """Short hash of what runs, with a mark where tracked files differ from it; empty outside a repository."""
    named = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(named, capture_output=True, text=True).stdout.strip()
