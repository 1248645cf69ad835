"""`import sketchlm` is light: it never drags in what only sketchgen needs, nor the heavy libraries."""

from __future__ import annotations

import subprocess
import sys


def test_importing_sketchlm_loads_nothing_heavy() -> None:
    code = "import sys, sketchlm; print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "sketchlm" in loaded
    assert not loaded & {"ray", "sam2", "diffusers", "torch", "transformers", "sketchgen"}
