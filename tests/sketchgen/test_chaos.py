"""A run that is killed again and again gives the bytes of one that was left alone (`make chaos` does it at length)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.chaos import Options, chaos
from sketchgen.ledger import read_ledger


@pytest.mark.slow
def test_three_kills_cost_no_byte_and_no_instance(tmp_path: Path) -> None:
    outcome = chaos(Options(kills=3, scenes=60, seed=1), tmp_path)
    assert outcome.problems == []
    assert outcome.kills.total() == 3
    rows = [row.object_id for path in sorted((tmp_path / "storm").glob("0*.parquet")) for row in read_ledger(path)]
    assert len(rows) == len(set(rows)) > 300
