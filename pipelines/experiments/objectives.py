"""Two stages, or all tasks at once with contrastive losses? And what does the latter do for a coarse search?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from pipelines import instructions
from pipelines.experiments.arm import Arm, Setting, begun_with, blind, both_stages, chain
from pipelines.experiments.exam import COARSE, Answers, Exam, Place, answers_of, facts_of
from pipelines.experiments.experiment import Contrast, Experiment
from pipelines.experiments.plots import BLUE, GREEN, GREY, bars, beside, column
from pipelines.experiments.results import Results
from pipelines.experiments.stages import UNSEEN, prepare
from pipelines.experiments.stages import exams as unseen_exams
from sketchlm.bundle import Bundle
from sketchlm.evaluation.asking import EntryPlan, questions_of_plan
from sketchlm.evaluation.questions import Asked, Samples, photo_of, sketch_of
from sketchlm.evaluation.scoring import score_ranking
from sketchlm.processor import Processor
from sketchlm.retrieval.embedding import Embedding, PooledEmbedding, contrastive_embedding, embedded
from sketchlm.retrieval.ranking import best, coarse_scores
from sketchlm.retrieval.scorer import Scorer, yes_matrix

TASKS = ("describe", "bbox", "count", "vqa", "sbir")
EQUAL_TOKENS = 0.8764
"""Steps of all tasks at once that cost what one step of the two stages costs: tokens a step are 6,706 against 5,877
(150 of 6,007 and 250 of 5,799), on the shards of `tiny`."""
WEIGHT = 3.0
"""Of the contrastive losses. With 1 the search learned less in 100 steps (0.64 of its first 20 right, 0.79 with 3)."""
PHOTOS, SKETCHES = 300, 56
KEEP = 30
"""Photos that a coarse search hands on."""
RANKED = ("asked", "search", "reranked", "pooled", "pooled-reranked")
"""By asking the model of every photo; by the search that it was trained with (the untrained one, where there is none);
by this, its first KEEP then asked; by the untrained search, and that likewise."""
RANKED_WORDS = (
    "every photo\nasked",
    "its search",
    "its search,\nthen asked",
    "untrained\nsearch",
    "untrained,\nthen asked",
)


def arms(setting: Setting, seed: int) -> list[Arm]:
    """Two stages; all tasks at once for as many tokens, with and without the contrastive losses."""
    one, two = both_stages(setting, seed)
    steps = round(EQUAL_TOKENS * (one.steps + two.steps))
    joint = replace(begun_with(two, one), processor=replace(two.processor, tasks=TASKS), steps=steps)
    contrastive = replace(joint, loss=replace(joint.loss, contrastive=WEIGHT))
    return [
        chain(setting, "sequential", one, two, about="stage I, then stage II"),
        chain(setting, "joint", contrastive, about="all tasks at once, and the contrastive losses"),
        chain(setting, "joint-plain", joint, about="all tasks at once"),
        blind(setting, seed),
    ]


def exams(setting: Setting) -> list[Exam]:
    """The four tasks, and a gallery."""
    shards = instructions.places()[UNSEEN]
    facts = facts_of(shards, photos=PHOTOS, sketches=SKETCHES, keep=KEEP, ranked=RANKED)
    chance = {COARSE: KEEP / PHOTOS}
    return [*unseen_exams(setting), Exam("gallery", partial(_search, shards=shards), facts, lambda: chance)]


def _search(bundle: Bundle, processor: Processor, shards: str) -> dict[Place, Answers]:
    """A gallery of unseen scenes ranked for sketches as RANKED names it."""
    samples = Samples(shards, PHOTOS)
    asked = questions_of_plan(EntryPlan("", "retrieval", "", "", "asked", SKETCHES), samples)
    scorer = Scorer(bundle.model, processor)
    photos = np.stack([photo_of(samples.read(place), processor).pixels for place in range(len(samples.records))])
    sketches = [_sketch(one, samples, processor) for one in asked]
    features = scorer.features(photos), scorer.features(np.stack(sketches))
    truth = yes_matrix(scorer, sketches, photos)
    pooled = _scores(PooledEmbedding(scorer), *features)
    has_own = any(name.startswith("contrast.") for name in bundle.heads)
    own = _scores(contrastive_embedding(bundle.heads, scorer), *features) if has_own else pooled
    found: dict[Place, Answers] = {
        ("retrieval", how): _ranked(asked, scores, samples)
        for how, scores in zip(RANKED, (truth, own, reranked(own, truth), pooled, reranked(pooled, truth)), strict=True)
    }
    for how, scores in (("search", own), ("pooled", pooled)):
        found[COARSE, how] = Answers(COARSE, kept(scores, truth), [one.image.id for one in asked])
    return found


def _sketch(asked: Asked, samples: Samples, processor: Processor) -> Any:
    assert asked.shown is not None
    return sketch_of(samples.read(asked.shown.sample), asked.shown.row, processor).pixels


def _scores(embedding: Embedding, photos: Any, sketches: Any) -> Any:
    """[Q, G]"""
    gallery = embedded(embedding, photos.cpu().numpy())
    return coarse_scores(gallery, embedding.sketches(sketches).detach().float().cpu().numpy())


def _ranked(asked: Sequence[Asked], scores: Any, samples: Samples) -> Answers:
    names = [record.image.id for record in samples.records]
    there = [{thing.category for thing in record.objects} for record in samples.records]
    return answers_of(
        "retrieval",
        [
            score_ranking(one, row.tolist(), names, [int(one.query.category in classes) for classes in there])
            for one, row in zip(asked, scores, strict=True)
        ],
    )


def reranked(scores: Any, truth: Any) -> Any:
    """[Q, G]: the first KEEP of a coarse search in the order of the model's answers, then the others as they were."""
    found = np.argsort(np.argsort(scores, axis=1), axis=1) / scores.shape[1] - 1.0  # below 0: answers are from 0 to 1
    for row, coarse, fine in zip(found, scores, truth, strict=True):
        first = best(coarse, KEEP)
        row[first] = fine[first]
    return found


def kept(scores: Any, truth: Any) -> list[list[float]]:
    """For each query the share of the ten photos that the model ranks first which are among the first KEEP of a coarse
    search; scores, truth: [Q, G]."""
    return [
        [len(set(best(coarse, KEEP).tolist()) & set(best(fine.astype(np.float32), 10).tolist())) / 10]
        for coarse, fine in zip(scores, truth, strict=True)
    ]


def plot(results: Results, picture: Any) -> None:
    """Left: effects between arms; right: mAP of the gallery by the ways to rank it."""
    picture.set_size_inches(13, 7.5)
    left, right = picture.subplots(1, 2, width_ratios=(1.2, 1))
    column(left, [one for one in results.effects if one.against])
    colours = {"sequential": GREY, "joint-plain": GREEN, "joint": BLUE}
    for series, (arm, colour) in enumerate(colours.items()):
        found = {
            beside(place, series): results.find(arm, "gallery", "retrieval", condition=how)
            for place, how in enumerate(RANKED)
            if arm == "joint" or how not in ("search", "reranked")  # the others have no search of their own
        }
        bars(right, found, colour, arm)
    right.set_xticks(range(len(RANKED)), RANKED_WORDS)
    right.set(title=f"gallery of {PHOTOS}, mAP by way to rank", ylim=(0, 1.1))
    right.legend(frameon=False, ncols=3, fontsize=9)
    right.grid(axis="y", alpha=0.3)


OBJECTIVES = Experiment(
    name="objectives",
    title="Two stages against joint training with contrastive losses",
    question="Is it better to align first and ask later (stages I and II), or to train all tasks at once, with losses "
    "that draw a sketch, the photos that show its class, and the name of the class together? And does what these "
    "losses learn serve as the coarse stage of retrieval?",
    setup=f"Equal numbers of tokens through the language model: joint training takes {EQUAL_TOKENS:.0%} of the steps, "
    "each of which has more of them (counted on the shards of `tiny`); the losses' own heads come on top. The "
    "contrastive losses are sigmoids over pairs of sketch and photo, and of name and photo, on the connector's tokens; "
    f"their weight, {WEIGHT:g}, was chosen on the scenes of this exam by "
    f"what the search alone found. The gallery has {PHOTOS} unseen scenes. `first 10 kept`: of the ten photos that the "
    f"model ranks first when asked of each, the share among the first {KEEP} of the coarse search, which is the "
    "contrastive one where the model has it, else the mean of the connector's tokens (`untrained search`); `constant`: "
    "by chance.",
    arms=arms,
    prepare=prepare,
    exams=exams,
    own_scale=(COARSE,),
    contrasts=(
        Contrast("gallery", condition="search", other="pooled", words="the untrained search"),
        Contrast("gallery", condition="reranked", other="pooled-reranked", words="the untrained search, then asked"),
        Contrast("gallery", condition="reranked", other="asked", words="every photo asked"),
    ),
    effects=(("joint", "sequential"), ("joint-plain", "sequential"), ("joint", "joint-plain")),
    plot=plot,
)
