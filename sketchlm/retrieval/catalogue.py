"""The catalogue: what is known of every photo of a gallery, and which row of its arrays each has.

Files with the same bytes share a row, and one of them, the first that came, stands for all: each would have the same
score, and ten copies of one photo would fill the first ten places of a ranking.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from sketchlm.retrieval.files import FileState

ABSENT = FileState(0, 0)
"""The state of a file that is not there."""


@dataclass(frozen=True, slots=True)
class Event:
    """What was found out about one photo; the last one of a name holds."""

    name: str
    """Path as it was given."""
    status: Literal["kept", "duplicate", "broken", "gone"]
    row: int = -1
    """Of what is kept, and of its duplicates."""
    sha256: str = ""
    state: FileState = ABSENT
    reason: str = ""
    """Of what is broken."""


class Catalogue:
    """The last event of each name, and who stands for which bytes."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._events: dict[str, Event] = {}
        self._owners: dict[str, str] = {}
        """Names of what is kept, by sha256."""
        self._followers: dict[int, dict[str, None]] = defaultdict(dict)
        """Names of duplicates by row, the first that came first."""
        for event in events:
            self._put(event)

    def kept(self) -> list[Event]:
        """One event a photo, in the order of their rows."""
        return sorted((e for e in self._events.values() if e.status == "kept"), key=lambda event: event.row)

    def duplicates(self) -> dict[str, str]:
        """Names of duplicates, and of who stands for them."""
        names = {event.row: event.name for event in self.kept()}
        return {e.name: names[e.row] for e in self._events.values() if e.status == "duplicate"}

    def broken(self) -> dict[str, str]:
        """Names of what cannot be read, and why."""
        return {e.name: e.reason for e in self._events.values() if e.status == "broken"}

    def is_known(self, name: str, state: FileState) -> bool:
        """Whether a file is as it was when it was read."""
        return name in self._events and self._events[name].state == state

    def names(self) -> list[str]:
        """Of all that was ever there and is not known to be gone."""
        return [name for name, event in self._events.items() if event.status != "gone"]

    def among(self, names: Container[str]) -> Catalogue:
        """What is known of these alone. Where who stands for a photo is not among them, the first of its duplicates
        that is does."""
        found = [event for name, event in self._events.items() if name in names]
        owned = {event.row for event in found if event.status == "kept"}
        for place, event in enumerate(found):
            if event.status == "duplicate" and event.row not in owned:
                owned.add(event.row)
                found[place] = replace(event, status="kept")
        return Catalogue(found)

    def take(self, event: Event, free: int) -> list[Event]:
        """Take in what was found out about a photo (kept, broken or gone; its row is decided here).

        free: the row of a photo that is new. Returns what came of it, to be written down in this order: the last one
        is the photo's own; one before it says who takes its old row over.
        """
        was = self._events.get(event.name)
        came: list[Event] = []
        if was is not None and was.status in ("kept", "duplicate") and was.sha256 == event.sha256:
            event = replace(event, status=was.status, row=was.row)  # touched, not changed
        else:
            if was is not None and was.status == "kept" and self._followers[was.row]:
                heir = self._events[next(iter(self._followers[was.row]))]
                came.append(replace(heir, status="kept"))
                self._put(Event(event.name, "gone"))
                self._put(came[0])
            if event.status == "kept":
                owner = self._owners.get(event.sha256, event.name)
                is_new = owner == event.name
                row = free if is_new else self._events[owner].row
                event = replace(event, status="kept" if is_new else "duplicate", row=row)
        self._put(event)
        return [*came, event]

    def _put(self, event: Event) -> None:
        was = self._events.get(event.name)
        if was is not None:
            self._followers[was.row].pop(event.name, None)
            if self._owners.get(was.sha256) == event.name:
                del self._owners[was.sha256]
        self._events[event.name] = event
        if event.status == "kept":
            self._owners[event.sha256] = event.name
        elif event.status == "duplicate":
            self._followers[event.row][event.name] = None


def to_line(event: Event) -> str:
    """An event as a line of JSON."""
    return json.dumps(asdict(event)) + "\n"


def from_line(line: bytes) -> Event:
    """Raises ValueError or TypeError for a line that is none."""
    fields = json.loads(line)
    if not isinstance(fields, dict) or not isinstance(fields.get("state"), dict):
        raise ValueError(f"{line[:40]!r} is no event")
    return Event(**(fields | {"state": FileState(**fields["state"])}))
