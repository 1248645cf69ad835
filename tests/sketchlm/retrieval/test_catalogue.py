"""The catalogue: whatever happens to files, each that can be read is ranked once, by one row of its own bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchlm.retrieval.catalogue import Catalogue, Event, from_line, to_line
from sketchlm.retrieval.files import FileState

NAMES, CONTENTS = ("a", "b", "c", "d"), ("x", "y", "z")
happening = st.tuples(st.sampled_from(NAMES), st.sampled_from([*CONTENTS, "broken", "gone"]), st.integers(1, 3))


def event_of(name: str, content: str, tick: int) -> Event:
    if content == "gone":
        return Event(name, "gone")
    state = FileState(len(content), tick)
    if content == "broken":
        return Event(name, "broken", state=state, reason="is broken")
    return Event(name, "kept", sha256=content, state=state)


@given(st.lists(happening, max_size=25))
def test_each_file_is_kept_once_and_a_log_tells_it_all(happenings: list[tuple[str, str, int]]) -> None:
    catalogue, log = Catalogue(), []
    truth: dict[str, str] = {}
    bytes_of_row: list[str] = []
    for name, content, tick in happenings:
        came = catalogue.take(event_of(name, content, tick), len(bytes_of_row))
        assert came[-1].name == name
        if came[-1].status == "kept" and came[-1].row == len(bytes_of_row):
            bytes_of_row.append(content)
        log += came
        truth[name] = content
    there = {name: content for name, content in truth.items() if content in CONTENTS}
    for found in (catalogue, Catalogue(from_line(to_line(event).encode()) for event in log)):
        kept = {event.name: event for event in found.kept()}
        assert sorted(bytes_of_row[event.row] for event in kept.values()) == sorted(set(there.values()))
        assert kept.keys() | found.duplicates().keys() == there.keys()
        assert not kept.keys() & found.duplicates().keys()
        assert all(bytes_of_row[event.row] == there[name] == event.sha256 for name, event in kept.items())
        assert all(there[name] == there[owner] and owner in kept for name, owner in found.duplicates().items())
        assert set(found.broken()) == {name for name, content in truth.items() if content == "broken"}
        assert set(found.names()) == {name for name, content in truth.items() if content != "gone"}


def test_a_file_is_known_by_its_state() -> None:
    catalogue = Catalogue([Event("a", "kept", 0, "x", FileState(5, 7)), Event("b", "gone")])
    assert catalogue.is_known("a", FileState(5, 7)) and not catalogue.is_known("a", FileState(5, 8))
    assert not catalogue.is_known("c", FileState(5, 7)) and not catalogue.is_known("b", FileState(5, 7))


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"1", b'{"name": "a"}', b'{"name": "a", "state": {"size": 1}}'])
def test_what_is_no_event_is_an_error(line: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        from_line(line)


@given(st.lists(happening, max_size=25), st.sets(st.sampled_from(NAMES)))
def test_some_of_it_is_what_there_would_be_without_the_others(
    happenings: list[tuple[str, str, int]], names: set[str]
) -> None:
    """But for the rows, and for who of several with the same bytes stands for them."""
    whole, alone = Catalogue(), Catalogue()
    for number, (name, content, tick) in enumerate(happenings):
        whole.take(event_of(name, content, tick), number)
        if name in names:
            alone.take(event_of(name, content, tick), number)
    some = whole.among(names)
    assert some.broken() == alone.broken() and set(some.names()) == set(alone.names())
    assert sorted(event.sha256 for event in some.kept()) == sorted(event.sha256 for event in alone.kept())
    assert len(some.duplicates()) == len(alone.duplicates())
    kept = {event.name for event in some.kept()}
    assert all(owner in kept and name not in kept for name, owner in some.duplicates().items())
    assert kept | some.duplicates().keys() | some.broken().keys() <= names
