"""The sketch banks: their settings, and the way to build one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data_manifests.schema import Bank, bank_manifest
from sketchgen.bank import SketchBank
from sketchgen.banks.blank import BlankBank
from sketchgen.banks.openmoji import OpenMojiBank
from sketchgen.banks.pictures import PictureBank
from sketchgen.banks.quickdraw import QuickDrawBank
from sketchgen.banks.sketchvcl import SketchVclBank
from sketchgen.banks.sketchy import TRANSFORM, photo_of, sketchy_files
from sketchgen.banks.tu_berlin import tu_berlin_files
from sketchgen.shapeworld import HELD_OUT_STYLE, TRAINING_STYLES, HandBank
from sketchgen.store import is_local, open_url

BankName = Literal["shapeworld-hand", "quickdraw", "sketchy", "sketchvcl", "openmoji", "tu_berlin", "blank"]
Split = Literal["train", "val"]


@dataclass(frozen=True)
class BankConfig:
    """Which bank, and which of its sketches."""

    name: BankName = "shapeworld-hand"
    """shapeworld-hand (drawn by shapeworld, as by hand), quickdraw, sketchy, sketchvcl (the output of any
    `make sketches`), openmoji (few, to try), tu_berlin (evaluation only), blank (white pages)."""
    root: str = ""
    """Folder of the bank, local, laid out as its manifest in data_manifests/banks says."""
    split: Split = "train"
    """Sketches of one split never occur in the other."""
    styles: tuple[str, ...] = TRAINING_STYLES
    """Drawing styles of shapeworld-hand; the one that is kept for evaluation is refused in training."""
    width: float = 3.0
    """Width of the lines of quickdraw, pixels of a 256 px square."""
    weight: float = 1.0
    """Of several banks that have a class each is drawn from as often as its weight says."""


def build_bank(config: BankConfig) -> SketchBank:
    """The bank that `config` names. Raises ValueError for a folder that is not as its manifest says."""
    match config.name:
        case "shapeworld-hand":
            return HandBank(config.split, config.styles)
        case "quickdraw":
            return QuickDrawBank(Path(config.root), config.split, config.width)
        case "sketchy":
            return PictureBank(config.name, sketchy_files(Path(config.root), config.split), photo_of)
        case "sketchvcl":
            return SketchVclBank(Path(config.root), config.split)
        case "openmoji":
            return OpenMojiBank(Path(config.root), config.split)
        case "tu_berlin":
            return PictureBank(config.name, tu_berlin_files(Path(config.root)))
        case "blank":
            return BlankBank()


def check_bank(config: BankConfig) -> None:
    """Raises ValueError for styles that the bank does not have, for drawings of evaluation in training, and for a bank
    whose folder is not named."""
    if config.weight <= 0:
        raise ValueError(f"bank.weight is {config.weight}, must be more than 0")
    if config.name == "shapeworld-hand":
        _check_styles(config)
        return
    if config.name == "blank":
        return
    manifest = bank_manifest(config.name)
    if manifest.evaluation_only and config.split == "train":
        raise ValueError(
            f"bank.name is {config.name!r}, which is kept for evaluation: no training set may hold its drawings. "
            "Choose another bank, or draw for evaluation (--bank.split val)"
        )
    _check_folder(config, manifest)


def _check_styles(config: BankConfig) -> None:
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


def _check_folder(config: BankConfig, manifest: Bank) -> None:
    if not config.root:
        raise ValueError(
            f"bank.root is empty: name the folder of {config.name} (--bank.root DIR). {manifest.obtain.strip()} "
            f"Expected there: {manifest.layout.strip()}"
        )
    fs, path = open_url(config.root, "bank.root")
    if not is_local(fs):
        raise ValueError(f"bank.root is {config.root}: drawings are read one by one, they must lie on a local disk")
    if not Path(path).is_dir():
        raise ValueError(f"bank.root: there is no folder {config.root}")
    if config.width <= 0:
        raise ValueError(f"bank.width is {config.width}, must be more than 0")


PATTERNS: dict[str, tuple[str, ...]] = {
    "quickdraw": ("*.ndjson",),
    "sketchy": (f"256x256/sketch/{TRANSFORM}/*/*.png", "info/*.txt"),
    "sketchvcl": ("*.tar",),
    "openmoji": ("**/data/openmoji.json", "**/black/svg/*.svg"),
    "tu_berlin": ("**/*.png",),
}
"""The files of its folder that a bank reads."""


def bank_settings(config: BankConfig, alone: bool = True) -> dict[str, Any]:
    """What identifies a bank in the settings of a run: not where it lies, but what it holds. alone: the only bank."""
    settings: dict[str, Any] = {"name": config.name, "split": config.split}
    if config.name == "shapeworld-hand":
        settings["styles"] = list(config.styles)
    if config.name == "quickdraw":
        settings["width"] = config.width
    if not alone:
        settings["weight"] = config.weight
    if config.root:
        settings["files"] = _files_fingerprint(Path(config.root), PATTERNS[config.name])
    return settings


def _files_fingerprint(folder: Path, patterns: tuple[str, ...]) -> str:
    """Of the names and sizes of the files: to read them all would take longer than most runs."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file()):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts):  # hidden files are no data
            line = f"{name.as_posix()}\0{path.stat().st_size}\n"
            digest.update(line.encode(errors="surrogateescape"))  # its bank says what is wrong with such a name
    return digest.hexdigest()[:16]
