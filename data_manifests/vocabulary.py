"""The vocabulary: class names of different sources that mean the same thing.

`vocabulary.yaml` holds what must be known (other names, irregular plurals, what a source alone means by a name, groups
of things alike); the rest is rules. Our names are those of COCO where it has the class: singular, lower case, spaces.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import yaml

Rule = Literal["exact", "spelling", "qualifier", "plural", "alias", "source", "either"]
RULES: tuple[Rule, ...] = ("exact", "spelling", "qualifier", "plural", "alias", "source", "either")
"""How a name was read, from the plainest to the boldest: as it is; case, `_` and `-`; without what is in brackets; in
singular; by another name; by what its source means; as one of the names between slashes."""

LONGEST_NAME = 3
"""Words of a name that is looked for in a text."""
ENDINGS = (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("zes", "z"))
"""Of plurals, and what they are in singular."""


@dataclass(frozen=True)
class Meaning:
    """What a class name means. names: ours, one, or each between slashes; rule: the boldest that was needed."""

    names: tuple[str, ...]
    rule: Rule

    @property
    def name(self) -> str:
        """Ours, as one text."""
        return "/".join(self.names)


@dataclass(frozen=True)
class Match:
    """A class of images and one of drawings that mean the same."""

    image: str
    drawing: str
    rule: Rule


@dataclass(frozen=True)
class Matching:
    """Which classes of images can be drawn, by which drawings, and what is left on both sides."""

    matches: tuple[Match, ...]
    images: tuple[str, ...]
    """Classes of images that nothing draws."""
    drawings: tuple[str, ...]
    """Classes of drawings that no image shows."""

    @property
    def drawn_by(self) -> dict[str, tuple[str, ...]]:
        """The classes of drawings for each class of images."""
        found: dict[str, list[str]] = {}
        for match in self.matches:
            found.setdefault(match.image, []).append(match.drawing)
        return {name: tuple(drawings) for name, drawings in found.items()}


class Vocabulary:
    """Reads class names."""

    def __init__(
        self,
        same: Mapping[str, Sequence[str]],
        irregular: Mapping[str, str],
        uncountable: Sequence[str],
        sources: Mapping[str, Mapping[str, str]],
        groups: Mapping[str, Sequence[str]],
        wider: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """As in vocabulary.yaml. Raises ValueError for a name that means two things."""
        self._irregular, self._uncountable = dict(irregular), frozenset(uncountable)
        self._sources = {source: {spelled(k): v for k, v in names.items()} for source, names in sources.items()}
        self._same: dict[str, str] = {}
        for ours, others in same.items():
            for other in (ours, *others):
                if self._same.setdefault(spelled(other), ours) != ours:
                    raise ValueError(f"vocabulary: {other!r} means both {self._same[spelled(other)]!r} and {ours!r}")
        # millions of rows bear some hundreds of names
        self._remembered = lru_cache(10_000)(self._read)
        self._group_of = {name: group for group, names in groups.items() for name in names}
        self._ours = {*same, *self._group_of, *(name for names in sources.values() for name in names.values())}
        self._groups = {group: tuple(names) for group, names in groups.items()}
        self._wider = {group: tuple(names) for group, names in (wider or {}).items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Our names of all that it knows, sorted."""
        return tuple(sorted(self._ours))

    def read(self, name: str, source: str = "") -> Meaning:
        """What `source` means by `name`; a name that nothing is known of means itself."""
        return self._remembered(name, source)

    def _read(self, name: str, source: str) -> Meaning:
        plain = spelled(name)
        if (meant := self._sources.get(source, {}).get(plain)) is not None:
            return Meaning((meant,), "exact" if meant == name else "source")
        if "/" in plain and plain not in self._same:
            parts = [self.read(part, source).name for part in plain.split("/") if part.strip()]
            return Meaning(tuple(dict.fromkeys(parts)), "either")
        found, rule = self._read_plain(plain)
        if found == name:
            rule = "exact"
        return Meaning((found,), rule)

    def match(self, images: Iterable[str], drawings: Iterable[str], image_source: str, bank_source: str) -> Matching:
        """Pair classes that have a meaning in common. Names of images are given as they are read, drawings as their
        bank spells them."""
        ours = {name: self.read(name, image_source) for name in images}
        theirs = {name: self.read(name, bank_source) for name in drawings}
        by_name: dict[str, list[str]] = {}
        for name, meaning in theirs.items():
            for word in meaning.names:
                by_name.setdefault(word, []).append(name)
        matches = []
        for name, meaning in ours.items():
            for drawing in dict.fromkeys(found for word in meaning.names for found in by_name.get(word, [])):
                rule = "exact" if name == drawing else _bolder(meaning.rule, theirs[drawing].rule)
                matches.append(Match(name, drawing, rule))
        drawn, used = {match.image for match in matches}, {match.drawing for match in matches}
        return Matching(
            tuple(matches),
            tuple(name for name in ours if name not in drawn),
            tuple(name for name in theirs if name not in used),
        )

    def alike(self, name: str) -> tuple[str, ...]:
        """Other things of the same group: animals for an animal; () for a name without a group."""
        return tuple(other for other in self._groups.get(self._group_of.get(name, ""), ()) if other != name)

    def unclear(self, shown: Iterable[str]) -> set[str]:
        """Classes that may be there as well, or more often than they are named, where these are shown: animals beside a
        dog, and ducks beside a bird. Of none of them can be said that it is not there, nor how many there are."""
        found: set[str] = set()
        for name in shown:
            wider = self._wider.get(self._group_of.get(name, ""), ())
            narrower = [n for group, names in self._wider.items() if name in names for n in self._groups[group]]
            found |= {*wider, *narrower} - {name}
        return found

    def speaks_of(self, text: str, names: Collection[str]) -> bool:
        """Whether a text names one of these (ours), by whatever other name or in plural."""
        words = re.findall(r"[a-z]+", text.lower())
        bare = {name.partition(" (")[0] for name in names}
        for length in range(1, LONGEST_NAME + 1):
            for start in range(len(words) - length + 1):
                said = " ".join(words[start : start + length])
                read = self.read(said).name
                if read in names or read in bare or said in bare:
                    return True
        return False

    def _read_plain(self, plain: str) -> tuple[str, Rule]:
        if plain in self._same:
            return self._same[plain], "spelling" if self._same[plain] == plain else "alias"
        if plain in self._ours:  # "mouse (animal)" is a name of ours
            return plain, "spelling"
        bare = re.sub(r"\s*\([^)]*\)", "", plain).strip()
        if bare and bare != plain:
            found, rule = self._read_plain(bare)
            return found, _bolder("qualifier", rule)
        single = self._singular(plain)
        if single != plain:
            return self._same.get(single, single), "alias" if self._same.get(single, single) != single else "plural"
        return plain, "spelling"

    def _singular(self, name: str) -> str:
        """The name with its last word in singular."""
        head, _, last = name.rpartition(" ")
        if name in self._uncountable or last in self._uncountable:
            return name
        return f"{head} {self._single_word(last)}".strip()

    def _single_word(self, word: str) -> str:
        if word in self._irregular:
            return self._irregular[word]
        for ending, single in ENDINGS:
            if word.endswith(ending) and len(word) > len(ending) + 1:
                return word[: -len(ending)] + single
        if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
            return word[:-1]
        return word


def spelled(name: str) -> str:
    """Lower case, with single spaces for `_` and `-`, and no space around slashes."""
    return re.sub(r"\s*/\s*", "/", re.sub(r"[\s_-]+", " ", name)).strip().lower()


def _bolder(one: Rule, other: Rule) -> Rule:
    return max(one, other, key=RULES.index)


@cache
def vocabulary() -> Vocabulary:
    """The one of vocabulary.yaml."""
    return Vocabulary(**yaml.safe_load((Path(__file__).parent / "vocabulary.yaml").read_text()))
