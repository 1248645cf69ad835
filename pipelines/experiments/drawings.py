"""Drawings that exams ask with: of shapeworld's hand, and of people where their folders lie among the user's data."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from data_manifests.vocabulary import vocabulary
from pipelines.experiments.arm import Setting
from pipelines.experiments.exam import Exam, drawn_exam
from pipelines.gaps import Sketch
from pipelines.mixtures import MixtureConfig, data_folder
from sketchgen.bank import VAL_SHARE, SketchBank
from sketchgen.banks import BankConfig, bank_settings, build_bank
from sketchgen.banks.matched import MatchedBank
from sketchgen.banks.mixed import MixedBank
from sketchgen.seed import seed_of
from sketchgen.shapeworld import CLASSES, TRAINING_STYLES, HandBank
from sketchlm.evaluation.questions import Asked

People = Literal["quickdraw", "openmoji"]
PEOPLE: Final[tuple[People, ...]] = ("quickdraw", "openmoji")
"""Banks of drawings that are not shapeworld's. All of their drawings are asked with, since no training of an experiment
saw any."""
FEW: Final = ("openmoji",)
"""Those of a drawing or two a class: intervals are of classes drawn anew."""


def hand(styles: tuple[str, ...] = TRAINING_STYLES) -> SketchBank:
    """Shapeworld's, unseen."""
    return HandBank("val", styles)


def bank_folder(setting: Setting, bank: People) -> Path | None:
    """Where a bank lies among the user's data; None where it does not."""
    root = Path(data_folder(MixtureConfig("", data=setting.data))) / bank
    return root if root.is_dir() else None


def whole_bank(name: People | Literal["sketchvcl"], folder: Path) -> tuple[SketchBank, list[dict[str, Any]]]:
    """A bank under shapeworld's names with the drawings of both splits, and what identifies them."""
    parts: list[tuple[SketchBank, float]] = []
    facts = []
    splits: tuple[tuple[Literal["train", "val"], float], ...] = (("train", 1 - VAL_SHARE), ("val", VAL_SHARE))
    for split, share in splits:
        config = BankConfig(name, root=str(folder), split=split)
        facts.append(bank_settings(config))
        bank = build_bank(config)
        parts.append((MatchedBank(bank, vocabulary().match(list(CLASSES), bank.categories, "", name)), share))
    return MixedBank(parts), facts


def of_bank(asked: Asked, bank: SketchBank, again: str = "") -> Sketch:
    """Its drawing for a question. again: any word, for another one."""
    return bank.draw(asked.query.category, seed_of("experiment", again, asked.key)).image


def of_classes(kind: str, bank: str) -> str:
    """Name of the exam with drawings of a kind, of the classes alone that a bank has."""
    return f"{kind}, classes of {bank}"


def people_exams(setting: Setting, shards: str, kinds: Mapping[str, tuple[SketchBank, Any]]) -> list[Exam]:
    """For each bank of people that is there, the questions about its classes with its drawings, then the same with
    those of other kinds. kinds: their banks, and what identifies their drawings."""
    found = []
    for name in PEOPLE:
        if folder := bank_folder(setting, name):
            people = whole_bank(name, folder)
            classes = frozenset(people[0].categories)
            others = {of_classes(kind, name): other for kind, other in kinds.items()}
            for exam, (bank, drawings) in {name: people, **others}.items():
                shown = partial(of_bank, bank=bank)
                asked = partial(drawn_exam, exam, shards, shown, number=setting.number, classes=classes)
                found.append(asked(drawings=drawings, by_class=name in FEW))
    return found


def folders_of(setting: Setting) -> dict[str, str]:
    """The name of the folder of each bank that is there, links followed."""
    return {name: folder.resolve().name for name in PEOPLE if (folder := bank_folder(setting, name))}


def people_told(folders: dict[str, str], counts: dict[str, list[int]]) -> list[str]:
    """What each bank was, or that it was not there; counts: of its drawings, and of their classes."""
    said = []
    for name in PEOPLE:
        few = "; so few that its intervals are of classes drawn anew" if name in FEW else ""
        if name in folders:
            drawings, classes = counts[name]
            what = (
                f"read from the folder `{folders[name]}`, {drawings:,} drawings of {classes} classes, those that it "
                f"shares with shapeworld{few}; other classes may be otherwise."
            )
        else:
            what = "not asked, no folder of this name lay among the data."
        said.append(f"`{name}`: {what}")
    return said
