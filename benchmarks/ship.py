"""`python -m benchmarks.ship`: a trained bundle, in half precision, with figures in its card, into sketchlm/weights.

make finetune RECIPE=crowd
python -m benchmarks.ship                                            # the model
make evaluate RECIPE=learn
python -m benchmarks.ship --figures out/evaluate/learn-learn         # the same, and what it reaches
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from sketchlm.bundle import CARD, compact
from sketchlm.evaluation.record import RECORD, Entry, Evaluation
from sketchlm.retrieval.embedding import FILE
from sketchlm.weights import shipped

LICENSE = "that of the code; trained on shapeworld alone, which is procedural: nobody's photos or drawings are in it"
SHOWN = {
    "sbir": "balanced accuracy",
    "count": "exact",
    "bbox": "Acc@0.5",
    "boxes": "F1, suppressed",
    "vqa": "exact",
    "retrieval": "mAP",
}
"""The figure of each task that the card gives."""
WORDS = {"sbir": "SBIR", "count": "COUNT", "bbox": "BBOX", "boxes": "all boxes", "vqa": "VQA", "retrieval": "a gallery"}
COLUMNS = ("asked", "shuffled", "blank", "text")


@dataclass(frozen=True)
class Options:
    """What to ship."""

    bundle: str = "out/finetune/crowd/bundle"
    name: str = "learn"
    """As users call it."""
    figures: str = ""
    """Folder of an evaluation of the shipped model; empty = a card without figures."""


def main() -> None:
    """Write model and card."""
    options = tyro.cli(Options, description=__doc__)
    console, folder = Console(highlight=False), shipped(options.name)
    embedding = (folder / FILE).read_bytes() if (folder / FILE).is_file() else b""
    compact(options.bundle, folder, license=LICENSE)
    if embedding:
        (folder / FILE).write_bytes(embedding)
        console.print("the embedding is that of before: `make bench-retrieval ARGS=--train` makes one for this model")
    if options.figures:
        record = Evaluation.model_validate_json((Path(options.figures) / RECORD).read_text())
        with (folder / CARD).open("a") as card:
            card.write(f"\n{figures(record)}\n\n{LIMITS}\n")
    console.print(f"written: {folder}")


def figures(record: Evaluation) -> str:
    """The section of a card: a line for each protocol, task and style."""
    asked = [entry for entry in record.entries if entry.condition == "asked" and entry.task in SHOWN]
    by_name = {entry.name: entry for entry in record.entries}
    lines = ["## Figures", "", f"`make evaluate RECIPE={record.recipe}`, {record.created[:10]}. {INTRODUCTION}", ""]
    lines += ["| | as asked | n | another's sketch | white page | class in words | constant |", "|" + "---|" * 7]
    for entry in asked:
        name = SHOWN[entry.task]
        others = [by_name.get(entry.model_copy(update={"condition": how}).name) for how in COLUMNS[1:]]
        cells = [
            f"{entry.protocol}, {WORDS[entry.task]} {name}" + (" †" if entry.style == "unseen" else ""),
            f"**{entry.figures[name]}**",
            f"{entry.figures[name].n}",
            *(_value(other, name) for other in others),
            f"{entry.constant[name]:.3f}" if name in entry.constant else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _value(entry: Entry | None, name: str) -> str:
    return f"{entry.figures[name].value:.3f}" if entry and name in entry.figures else ""


INTRODUCTION = """Unseen scenes, unseen sketches, 95 % intervals over images; † a way of
drawing that training never saw. The columns behind are controls: what is reached without the right sketch."""
LIMITS = """It knows 28 classes of a painted world and no photo: it is there so that everything runs and can be looked
at without downloads. It sees images at 128 x 128 pixels."""

if __name__ == "__main__":
    main()
