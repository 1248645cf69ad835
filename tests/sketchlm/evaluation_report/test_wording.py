"""Texts of models in pages: one line, not too long, and nothing in it that a page would take for its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchlm.evaluation.report.wording import counted, interval, markdown, number, shown, signed, signed_interval
from sketchlm.metrics import Figure

NAN = float("nan")


@given(st.text(max_size=400), st.integers(2, 200))
def test_shown_is_one_line_that_can_be_printed(text: str, most: int) -> None:
    line = shown(text, most)
    assert len(line) <= most and line.isprintable() and line == line.strip()
    assert shown(line, most) == line


@given(st.text(alphabet="ab<>&|*_`[]()~$#\\\n:/.w@! ", max_size=60))
def test_markdown_leaves_no_mark_alone(text: str) -> None:
    line = markdown(text)
    assert "<" not in line and ">" not in line and "://" not in line and "\n" not in line and "@" not in line
    plain = line.replace("\\\\", "")
    for mark in "`*_[]|~$":
        assert plain.count(mark) == plain.count(f"\\{mark}")


def test_marks_that_turn_the_writing_are_gone() -> None:
    assert shown("a\u202eb\u200bc\x00d\r\ne") == "a b c d e"
    assert shown("x" * 1000, 10) == "xxxxxxxxx…"


@pytest.mark.parametrize(
    ("value", "measure", "text"),
    [(0.4567, "exact", "45.7"), (1.0, "Acc", "100.0"), (0.723, "MAE", "0.72"), (NAN, "Acc", "–")],
)
def test_numbers(value: float, measure: str, text: str) -> None:
    assert number(value, measure) == text


@pytest.mark.parametrize(
    ("value", "measure", "text"),
    [(0.012, "", "+1.2"), (-0.003, "", "−0.3"), (0.0, "", "0.0"), (-0.00001, "", "0.0"), (-0.5, "MAE", "−0.50")],
)
def test_differences(value: float, measure: str, text: str) -> None:
    assert signed(value, measure) == text


def test_intervals() -> None:
    assert interval(Figure(0.5, 0.45, 0.552, 10)) == "45.0–55.2"
    assert signed_interval(Figure(0.0, -0.01, 0.02, 10)) == "−1.0 to +2.0"
    assert interval(Figure(0.5, NAN, NAN, 1)) == signed_interval(Figure(0.5, NAN, NAN, 1)) == ""


def test_one_is_not_several() -> None:
    assert [counted(many, "thread") for many in (0, 1, 1200)] == ["0 threads", "1 thread", "1,200 threads"]
    assert [counted(many, "entry", "entries") for many in (1, 2)] == ["1 entry", "2 entries"]
