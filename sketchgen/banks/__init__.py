"""The sketch banks: their settings, and the way to build one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sketchgen.bank import SketchBank
from sketchgen.shapeworld import HELD_OUT_STYLE, TRAINING_STYLES, HandBank

Split = Literal["train", "val"]


@dataclass(frozen=True)
class BankConfig:
    """Which bank, and which of its sketches."""

    name: Literal["shapeworld-hand"] = "shapeworld-hand"
    """shapeworld-hand (drawn by shapeworld, as by hand)."""
    split: Split = "train"
    """Sketches of one split never occur in the other."""
    styles: tuple[str, ...] = TRAINING_STYLES
    """Drawing styles; the one that is kept for evaluation is refused in training."""


def build_bank(config: BankConfig) -> SketchBank:
    """The bank that `config` names."""
    return HandBank(config.split, config.styles)


def check_bank(config: BankConfig) -> None:
    """Raises ValueError for styles that the bank does not have, and for the held-out style in training."""
    known = (*TRAINING_STYLES, HELD_OUT_STYLE)
    if not config.styles:
        raise ValueError(f"bank.styles is empty: name at least one of {', '.join(known)}")
    if unknown := [style for style in config.styles if style not in known]:
        raise ValueError(f"bank.styles: {config.name} has no style {unknown[0]!r}; known are {', '.join(known)}")
    if config.split == "train" and HELD_OUT_STYLE in config.styles:
        raise ValueError(
            f"bank.styles holds {HELD_OUT_STYLE!r}, the style that is kept for evaluation: leave it out, or draw for "
            "evaluation (--bank.split val)"
        )
