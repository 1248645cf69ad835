"""How a command line ends: one message and an exit code, never a traceback for what a user did."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape


@contextmanager
def clean_exit(resume: str) -> Iterator[None]:
    """Errors of users and their disks exit with 2 and one line; Ctrl-C with 130 and how to go on (`resume`)."""
    errors = Console(highlight=False, stderr=True)
    try:
        yield
    except (ValueError, OSError) as error:
        errors.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print(f"stopped; {resume}")
        sys.exit(130)
