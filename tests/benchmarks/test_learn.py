"""The page of `benchmarks.learn`: what was not measured again stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import learn


def test_the_page_keeps_what_was_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page, before = tmp_path / "learn.md", learn.PAGE.read_text()
    page.write_text(before)
    monkeypatch.setattr(learn, "PAGE", page)
    learn.write_page({}, learn.Options())
    assert page.read_text() == before


def test_the_table_is_written_when_both_arms_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "learn.md"
    page.write_text(f"# Title\n\n{learn.TITLE}\n\nas it was\n\n{learn.BY_HAND}\n\nby hand\n")
    monkeypatch.setattr(learn, "PAGE", page)
    monkeypatch.setattr(learn, "draw_curves", lambda records: None)
    learn.write_page({"sketch": record_of("sketch", 1.0)}, learn.Options())
    assert "as it was" in page.read_text()
    learn.write_page(
        {name: record_of(name, right) for name, right in (("sketch", 1.0), ("blind", 0.0))}, learn.Options()
    )
    text = page.read_text()
    assert "as it was" not in text and "by hand" in text
    assert "| SBIR (n = 4) | **1.000 (1.000-1.000)** |" in text


def record_of(arm: str, right: float) -> dict[str, object]:
    """What `judge_arm` keeps of an arm that is always as right as that."""
    column = {"rows": [[right]] * 4, "images": list("abcd")}
    return {
        "arm": arm,
        "threads": 1,
        "seconds": 60.0,
        "steps": {"pretrain": 2, "finetune": 3},
        "trained": {"SBIR": column},
        "shuffled": {},
        "constant": {},
        "brush": {},
        "date": "2026-11-26",
        "commit": "abc",
    }
