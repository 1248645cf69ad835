"""Streaming of top-level lists: what `json.load` reads, and an error wherever it raises one."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchgen.sources import json_lists
from sketchgen.sources.json_lists import items

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def expected(data: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(key, item) for key, value in data.items() if isinstance(value, list) for item in value]


@given(
    data=st.dictionaries(st.text(max_size=6), JSON, max_size=5),
    chunk=st.integers(1, 40),
    indent=st.none() | st.integers(0, 2),
    ascii_only=st.booleans(),
)
def test_every_item_of_every_list_comes_whatever_the_window(
    data: dict[str, Any], chunk: int, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(data, indent=indent, ensure_ascii=ascii_only)
    try:
        raw = text.encode()
    except UnicodeEncodeError:  # a lone surrogate, spelled out
        raw = json.dumps(data).encode()
    kinds: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "CHUNK", chunk)
        found = list(items(io.BytesIO(raw), kinds))
    assert found == expected(data)
    assert kinds == {key: type(value).__name__ for key, value in data.items()}


@given(data=st.dictionaries(st.text(max_size=3), JSON, max_size=3), junk=st.data())
def test_whatever_is_cut_or_changed_is_read_as_json_reads_it_or_a_value_error(
    data: dict[str, Any], junk: st.DataObject
) -> None:
    raw = json.dumps(data).encode()
    at = junk.draw(st.integers(0, len(raw)))
    raw = raw[:at] + junk.draw(st.binary(max_size=2)) + raw[at + junk.draw(st.integers(0, 3)) :]
    try:
        whole = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, UnicodeDecodeError):
        with pytest.raises(ValueError, match=r"JSON|decode"):
            list(items(io.BytesIO(raw), {}))
        return
    kinds: dict[str, str] = {}
    found = list(items(io.BytesIO(raw), kinds))
    if isinstance(whole, dict):
        if len(set(kinds)) == len(whole):  # no key twice
            assert [item for item in found if item[0] in whole][-1:] == expected(whole)[-1:]
    else:
        assert kinds == {"": type(whole).__name__}


def test_a_broken_file_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lists, "CHUNK", 1000)
    monkeypatch.setattr(json_lists, "LONGEST", 5000)
    file = io.BytesIO(b'{"a": [1, "' + b"x" * 1_000_000)
    with pytest.raises(ValueError, match="not valid JSON"):
        list(items(file, {}))
    assert file.tell() < 50_000


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        list(items(io.BytesIO(b'{"a": [' + b"[" * 200_000), {}))
