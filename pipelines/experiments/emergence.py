"""Do words and a sketch compose? "The red one", or "the upper left one", asked beside a sketch, where training never
asked so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from rich.console import Console

from pipelines import instructions
from pipelines.experiments.arm import Arm, Setting, both_stages, chain, scenes, shards_of
from pipelines.experiments.exam import Answers, Exam, Place, answers_of, exam_of, facts_of, records_of
from pipelines.experiments.experiment import Contrast, Experiment
from pipelines.experiments.plots import BLUE, GREEN, GREY, bars, beside
from pipelines.experiments.results import Results
from sketchgen.colour import colour_of
from sketchgen.instance import Mask
from sketchgen.instructions import InstructionsConfig
from sketchgen.tasks.config import QuestionKind
from sketchgen.tasks.facts import Facts
from sketchlm.answer import Question
from sketchlm.bundle import Bundle
from sketchlm.evaluation.questions import WHITE, Asked, Samples, collect, spread
from sketchlm.processor import Processor, decode_mask, decode_rgb

ALL, SKETCH, OTHER, WORDS, TEXT = "asked", "sketch", "other", "words", "text"
"""Sketch and words; the sketch alone; the sketch, and words for another instance; the words beside a white page; class
and attribute in words, without a sketch."""
Attribute = Literal["colour", "place"]
EXAMS: dict[Attribute, str] = {"colour": "several of a class", "place": "several of a class, by place"}
CHECKS: dict[Attribute, str] = {"colour": "its colour", "place": "its place"}
"""The exams that tell whether a model can compose at all: one that knows no colours cannot."""
ASKED_WORDS: dict[Attribute, dict[str, str]] = {
    "colour": {
        ALL: "sketch +\n“the red one”",
        SKETCH: "sketch alone",
        OTHER: "sketch +\nanother's colour",
        WORDS: "white page +\n“the red one”",
        TEXT: "“the red apple”",
    },
    "place": {
        ALL: "sketch + “the\nupper left one”",
        SKETCH: "sketch alone",
        OTHER: "sketch +\nanother's place",
        WORDS: "white page + “the\nupper left one”",
        TEXT: "“the upper\nleft apple”",
    },
}
KINDS: dict[str, tuple[QuestionKind, ...]] = {"colourless": (), "answers": ("colour",), "words": ("colour", "coloured")}
ABOUT = {
    "colourless": "no word of training is a colour",
    "answers": "VQA asks for colours: their names are answers",
    "words": "VQA also asks whether a thing has a colour: their names stand in questions as well",
}
SPOKEN = 0.15
"""Share of the sketches of stage II in whose place the class is named."""


@dataclass(frozen=True)
class Told:
    """A question about a class of which a word tells an instance. asked: its `own` is that instance, which is meant."""

    asked: Asked
    word: str
    """Its colour or place, which no other of the class has."""
    other: str
    """Likewise of another instance."""


def training(setting: Setting, arm: str) -> InstructionsConfig:
    """The scenes of the recipe, which asks for no colour; or the same with questions about colours among the others."""
    base = scenes(setting)
    if not KINDS[arm]:
        return base
    tasks = replace(base.tasks, questions=(*base.tasks.questions, *KINDS[arm]))
    return replace(base, tasks=tasks, out=shards_of(setting, f"colour-{arm}"))


def unseen(setting: Setting) -> InstructionsConfig:
    """Scenes with several instances of a class."""
    base = instructions.learn_val()
    world = replace(base.source.world, kinds=(1.0, 0.0, 0.0), num_scenes=800)
    tasks = replace(base.tasks, names=("bbox",), min_singles=1, max_boxes=3)
    return replace(base, source=replace(base.source, world=world), tasks=tasks, out=f"{setting.out}/shards/pairs_val")


def unseen_words(setting: Setting, attribute: Attribute) -> InstructionsConfig:
    """Questions of unseen scenes that ask for colour or place of what the sketch shows, or whether it is there."""
    base = instructions.learn_val()
    tasks = replace(base.tasks, names=("vqa",), questions=("presence", attribute))
    return replace(base, tasks=tasks, out=f"{setting.out}/shards/{attribute}s_val")


def prepare(setting: Setting, console: Console) -> None:
    """Shards of training and exam. Raises ValueError where some could not be made."""
    for arm in KINDS:
        instructions.ensure_run(training(setting, arm), arm, console)
    instructions.ensure_run(unseen(setting), "unseen pairs", console)
    for attribute in EXAMS:
        instructions.ensure_run(unseen_words(setting, attribute), f"unseen {attribute}s", console)


def arms(setting: Setting, seed: int) -> list[Arm]:
    """Without a word about colours; with their names as answers; and with their names in questions."""
    found = []
    for name in KINDS:
        one, two = (
            replace(stage, loader=replace(stage.loader, shards=training(setting, name).out))
            for stage in both_stages(setting, seed)
        )
        spoken = replace(two, processor=replace(two.processor, words=SPOKEN))
        found.append(chain(setting, name, one, spoken, about=ABOUT[name]))
    return found


def exams(setting: Setting) -> list[Exam]:
    """Which of several instances is boxed, told by its colour or by its place? And does the model know these, asked for
    them as in training?"""
    pairs, found = unseen(setting).out, []
    facts = facts_of(pairs, number=setting.number)
    for attribute, name in EXAMS.items():
        answers = partial(_answers, shards=pairs, number=setting.number, attribute=attribute)
        found.append(Exam(name, answers, facts))
        check = unseen_words(setting, attribute).out
        asks = partial(_is_about, kind=attribute)
        found.append(exam_of(CHECKS[attribute], check, ("vqa",), setting.number, keep=asks))
    return found


def _is_about(asked: Asked, kind: QuestionKind) -> bool:
    return asked.query.query_id.endswith(f"-{kind}")


def _answers(
    bundle: Bundle, processor: Processor, shards: str, number: int, attribute: Attribute
) -> dict[Place, Answers]:
    samples = Samples(shards)
    chosen = told_apart(samples, number, attribute)
    found: dict[Place, Answers] = {}
    for condition in ASKED_WORDS[attribute]:
        hints = {one.asked.key: _hint(one, condition) for one in chosen}
        asked = [_asked(one, condition) for one in chosen]

        def hinted(one: Asked, question: Question, hints: dict[str, str] = hints) -> Question:
            return replace(question, hint=hints[one.key])

        records = records_of("bbox", asked, hinted, samples, bundle.model, processor)
        found["bbox", condition] = answers_of("bbox", records)
    return found


def _hint(one: Told, condition: str) -> str:
    if condition in (SKETCH, TEXT):
        return ""
    return the(one.other if condition == OTHER else one.word)


def the(word: str) -> str:
    """The words that are added."""
    return f"The {word} one."


def _asked(one: Told, condition: str) -> Asked:
    if condition == WORDS:
        return replace(one.asked, shown=WHITE)
    if condition != TEXT:
        return one.asked
    spoken = {"row": -1, "category": f"{one.word} {one.asked.query.category}"}
    return replace(one.asked, shown=None, query=one.asked.query.model_copy(update=spoken))


def told_apart(samples: Samples, number: int, attribute: Attribute) -> list[Told]:
    """Questions about classes of which one instance has a colour, or place, that no other has, and another one too."""
    asked = [one for one in collect(samples.records, "bbox") if len(one.query.boxes) > 1]
    words_of = colours_of if attribute == "colour" else places_of
    words: dict[int, dict[tuple[float, ...], str]] = {}
    found = []
    for one in asked:
        if one.sample not in words:
            words[one.sample] = words_of(samples, one.sample)
        named = [words[one.sample].get(tuple(box), "") for box in one.query.boxes]
        alone = [place for place, name in enumerate(named) if name and named.count(name) == 1]
        if len(alone) > 1:
            meant, other = alone[one.sample % len(alone)], alone[(one.sample + 1) % len(alone)]
            found.append(Told(replace(one, own=meant), named[meant], named[other]))
    kept = {one.key for one in spread([one.asked for one in found], number)}
    return [one for one in found if one.asked.key in kept]


def places_of(samples: Samples, place: int) -> dict[tuple[float, ...], str]:
    """The ninth of the image in which each object of a sample plainly lies, by its box, as VQA names it; else ""."""
    record = samples.records[place]
    facts = Facts(record.image, ())
    return {
        tuple(thing.box): facts.place(thing.box) if facts.has_clear_place(thing.box) else "" for thing in record.objects
    }


def colours_of(samples: Samples, place: int) -> dict[tuple[float, ...], str]:
    """The colour of each object of a sample, by its box; "" where one word does not tell it."""
    raw = samples.read(place)
    rgb = decode_rgb(raw.jpg, f"{raw.url}, sample {raw.key}")
    found = {}
    for thing in raw.record.objects:
        bits = decode_mask(thing.mask.size, thing.mask.counts).astype(bool)
        rows, columns = np.flatnonzero(bits.any(1)), np.flatnonzero(bits.any(0))
        if len(rows):
            cut = bits[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            found[tuple(thing.box)] = colour_of(rgb, Mask(int(columns[0]), int(rows[0]), cut))
    return found


def plot(results: Results, picture: Any) -> None:
    """How often the instance that is meant is boxed, and any of its class, by what is asked."""
    picture.set_size_inches(10, 8)
    for axes, (attribute, exam) in zip(picture.subplots(2, 1), EXAMS.items(), strict=True):
        conditions = ASKED_WORDS[attribute]
        for series, (arm, colour) in enumerate(zip(KINDS, (GREY, BLUE, GREEN), strict=True)):
            at = {beside(place, series): condition for place, condition in enumerate(conditions)}
            meant, any_of = (
                {place: results.find(arm, exam, "bbox", figure, condition) for place, condition in at.items()}
                for figure in ("own Acc@0.5", "Acc@0.5")
            )
            bars(axes, meant, colour, arm)
            heights = [one.mean if one else np.nan for one in any_of.values()]
            axes.plot(list(any_of), heights, "_", color=colour, markersize=18, markeredgewidth=2)
        axes.plot([], [], "_", color="black", markersize=12, label="any of the class")
        axes.set_xticks(range(len(conditions)), list(conditions.values()))
        axes.set(ylabel="boxed (bars: the one that is meant)", ylim=(0, 1), title=f"told by its {attribute}")
        axes.grid(axis="y", alpha=0.3)
    picture.axes[0].legend(frameon=False)


EMERGENCE = Experiment(
    name="emergence",
    title="“The red one”: words beside a sketch",
    question="The sketch tells the class, a word the attribute: is the right one of several instances boxed, though no "
    "training question ever held an attribute beside a request for a box?",
    setup="Unseen scenes with two or three instances of a class, at least two of which have a colour of their own "
    "(one of the eleven basic terms, by their pixels), or a place (the ninth of the image, as VQA names it). "
    "BBOX is asked with the sketch and “The red one.” or “The upper left one.”; with the sketch alone; with the "
    "sketch and the words for another instance, for which the first is wrong; with a white page and the words; "
    "and in words alone (“the red apple”), as 15 % of stage II asks for classes. `own Acc@0.5`: the box fits "
    "the instance that is meant; `Acc@0.5`: any of the class. All arms are trained on VQA's questions for "
    "places, so that their names are answers to all; they differ in colours. Training asks for boxes and places "
    "only of classes with one instance: requests for one of several are new, as the words beside them are. `its "
    "colour` and `its place` ask VQA for them, as training did where it did: whether there is anything to "
    "compose. The language model begins from nothing: a word that training never holds means nothing to it, "
    "unlike to the paper's, so `colourless` shows what chance reaches with colours, and another's words what it "
    "reaches with either.",
    arms=arms,
    prepare=prepare,
    exams=exams,
    effects=(("answers", "colourless"), ("words", "colourless")),
    contrasts=tuple(
        Contrast(exam, other=other, figure="own Acc@0.5", words=words)
        for exam in EXAMS.values()
        for other, words in (
            (SKETCH, "the sketch alone"),
            (OTHER, "another's words"),
            (WORDS, "a white page and the words"),
            (TEXT, "class and attribute in words"),
        )
    ),
    figures={"bbox": ("own Acc@0.5", "Acc@0.5"), "vqa": ("exact",)},
    plot=plot,
)
