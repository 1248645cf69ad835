"""Questions, controls and scores: an oracle reaches everything, and what does not look at the sketch is told apart."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_manifests.schema import Condition, Image, Measured, Query
from sketchlm.answer import Answer, Question
from sketchlm.bundle import Bundle, BundleInfo
from sketchlm.evaluation import asking
from sketchlm.evaluation.asking import EntryPlan, ask, evaluate_entry, questions_of_plan, read_answers, write_answers
from sketchlm.evaluation.examples import PICKS, picks
from sketchlm.evaluation.measures import FIELDS, MEASURES
from sketchlm.evaluation.model import facts_of, short_name
from sketchlm.evaluation.questions import WHITE, Asked, Samples, Shown, collect, shown, spread, under
from sketchlm.evaluation.record import Entry, answers_file
from sketchlm.evaluation.scoring import Said, by_chance, constants, figures_of, score, score_ranking
from sketchlm.loading import open_model
from sketchlm.metrics import RETRIEVAL, retrieval_row
from sketchlm.processor import Processor, ProcessorConfig
from sketchlm.prompt import PREFIX, TEXT_TEMPLATES, PromptConfig, box_text, question_of
from sketchlm.tokenizer import build_tokenizer
from sketchlm.weights import shipped
from tests.sketchlm.llava import save_published, tiny_llava, tiny_processor
from tests.sketchlm.runs import SIDE, TEXTS, write_training_shards

QUERIED: tuple[Measured, ...] = ("bbox", "boxes", "count", "vqa", "sbir", "describe")
TASKS: tuple[Measured, ...] = (*QUERIED, "retrieval")
CONDITIONS: tuple[Condition, ...] = ("asked", "shuffled", "blank", "text")
SAMPLES = 24


@pytest.fixture(scope="module")
def processor() -> Processor:
    return Processor(build_tokenizer(TEXTS), 32, 4, ProcessorConfig(prompt=PromptConfig(system="")))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return Samples(str(write_training_shards(tmp_path_factory.mktemp("shards"), (SAMPLES // 2, SAMPLES // 2))))


def plan_of(task: Measured, condition: Condition = "asked", **fields: Any) -> EntryPlan:
    return EntryPlan("tests", task, "ink", "seen", condition, **fields)


def truth(query: Query) -> Answer:
    """What someone who knows the facts says."""
    boxes = box_text(query.boxes, (SIDE, SIDE), PromptConfig(decimals=4))
    text = {
        "bbox": boxes,
        "count": str(query.count),
        "vqa": f"The {query.answers[0].capitalize()}.",
        "sbir": "",
        "describe": f"The sketch shows a {query.category}. It is at {boxes}.",
    }[query.task]
    return Answer(text, float(query.match == 1))


def answers_by(monkeypatch: pytest.MonkeyPatch, say: Callable[[Question], Answer]) -> list[Question]:
    """Answers come from `say`; returns the list of what was asked."""
    heard: list[Question] = []

    def answer(_model: Any, _processor: Any, group: Sequence[Question], _batch: int = 0) -> list[Answer]:
        heard.extend(group)
        return [say(question) for question in group]

    monkeypatch.setattr(asking, "answer", answer)
    return heard


def ranks_by(monkeypatch: pytest.MonkeyPatch, say: Callable[..., Any]) -> None:
    """p(yes) of galleries comes from `say`: scorer, probes, photos, told -> [Q, G]."""
    monkeypatch.setattr(asking, "Scorer", lambda _model, _processor: None)
    monkeypatch.setattr(asking, "yes_matrix", say)


def evaluated(folder: Path, one: EntryPlan, samples: Samples, processor: Processor) -> Entry:
    return evaluate_entry(folder, one, questions_of_plan(one, samples), samples, None, processor)


# --- scores


@pytest.mark.parametrize("task", QUERIED)
def test_an_oracle_reaches_all(
    task: Measured, samples: Samples, processor: Processor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers_by(monkeypatch, lambda question: truth(question.query))
    entry = evaluated(tmp_path, plan_of(task), samples, processor)
    best = {"bbox": "Acc", "boxes": "F1", "count": "exact", "vqa": "exact", "sbir": "balanced accuracy"}
    assert entry.figures[best.get(task, "class named")].value == 1
    assert entry.questions == len(collect(samples.records, task)) > SAMPLES
    assert entry.images == SAMPLES
    for name in ("unreadable", "duplicates", "hallucinated", "MAE", "no box"):
        assert name not in entry.figures or entry.figures[name].value == 0
    for name, value in entry.constant.items():
        assert 0 <= value < 1 or name in ("MAE", "within 1"), name


@pytest.mark.parametrize(("task", "said", "figure"), [
    ("count", "1", "exact"),
    ("count", "1", "within 1"),
    ("sbir", "", "balanced accuracy"),
    ("vqa", "red", "exact"),
])  # fmt: skip
def test_who_says_always_the_same_reaches_at_most_the_constant(
    task: Measured, said: str, figure: str, samples: Samples, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_by(monkeypatch, lambda question: Answer(said, 1.0))
    asked = collect(samples.records, task)
    found = figures_of(task, ask(plan_of(task), asked, samples, None, processor))
    assert found[figure].value <= constants(task, asked, "padded")[figure] + 1e-12


def test_the_constants_are_those_of_the_best_number_and_text(samples: Samples) -> None:
    counts = collect(samples.records, "count")
    numbers = Counter(one.query.count for one in counts)
    assert constants("count", counts, "padded")["exact"] == pytest.approx(max(numbers.values()) / len(counts))
    texts = Counter(one.query.answers[0] for one in collect(samples.records, "vqa"))
    vqa = constants("vqa", collect(samples.records, "vqa"), "padded")
    assert vqa == {"exact": pytest.approx(max(texts.values()) / sum(texts.values()))}
    assert constants("sbir", collect(samples.records, "sbir"), "padded")["balanced accuracy"] == 0.5
    assert set(constants("bbox", collect(samples.records, "bbox"), "padded")) >= {"Acc", "Acc@0.5", "mean IoU"}
    assert constants("bbox", [], "padded") == {}


def test_what_cannot_be_read_is_wrong_and_says_why(samples: Samples) -> None:
    for task in QUERIED:
        one = collect(samples.records, task)[0]
        record = score(task, one, Said("what?"))
        assert tuple(record.row) == FIELDS[task]
        reasons = {"bbox": "no box", "boxes": "no box", "count": "no number", "describe": "no box"}
        assert record.reason == reasons.get(task, "")
        if task in reasons:
            assert record.found is None


def asked_box(boxes: list[list[float]], own: int, size: tuple[int, int] = (200, 100)) -> Asked:
    query = Query(query_id="bbox-0", task="bbox", row=0, category="dog", boxes=boxes, count=-1, question="",
                  answers=[""], match=-1, answer_source="tests")  # fmt: skip
    image = Image(source="tests", id="a", width=size[0], height=size[1], license="")
    return Asked("a/bbox-0/s", 0, query, image, Shown(0, 0), own, 1, own >= 0)


def test_one_box_is_right_on_any_instance_and_separately_on_the_sketchs_own() -> None:
    """The image is 200 x 100: in its padded square, y = 0.25 is its upper rim."""
    one = asked_box([[0.0, 0.0, 50.0, 50.0], [100.0, 50.0, 200.0, 100.0]], own=0)
    other = score("bbox", one, asking.placed(Answer("[0.5, 0.5, 1.0, 0.75]", 0.5), "bbox", one, "padded")).row
    assert (other["iou"], other["half"], other["own_iou"], other["own_half"], other["own"]) == (1, 1, 0, 0, 1)
    own = score("bbox", one, asking.placed(Answer("[0.0, 0.25, 0.25, 0.5]", 0.5), "bbox", one, "padded"))
    assert (own.row["iou"], own.row["own_iou"]) == (1, 1)
    assert own.found == [[0, 0, 50, 50, 1]]
    assert own.size == "M"
    said = asking.placed(Answer("[0.5, 0.5, 1.0, 0.75]", 0.5), "bbox", one, "padded")
    drawn = score("bbox", replace(one, own=-1), said)
    assert (drawn.row["iou"], drawn.row["own"]) == (1, 0)
    assert "own Acc" not in figures_of("bbox", [drawn])
    beside = score(  # all of it in the padding
        "bbox", one, asking.placed(Answer("[0.1, 0.0, 0.3, 0.2]", 0.5), "bbox", one, "padded")
    )
    assert beside.reason == "no box" and beside.row["unread"] == 1


def test_own_is_the_object_that_the_sketch_was_made_of(samples: Samples) -> None:
    for task in ("bbox", "describe"):
        for one in collect(samples.records, task):
            record = samples.records[one.sample]
            made_of = record.sketches[one.query.row].object_id
            box = next(thing.box for thing in record.objects if thing.object_id == made_of)
            assert one.query.boxes[one.own] == box


def test_several_boxes_count_duplicates(monkeypatch: pytest.MonkeyPatch, processor: Processor) -> None:
    one = asked_box([[0.0, 0.0, 50.0, 50.0], [100.0, 50.0, 200.0, 100.0]], own=-1)
    text = "[0.0, 0.25, 0.25, 0.5], [0.0, 0.25, 0.25, 0.51], [0.8, 0.3, 0.9, 0.4]"
    said = asking.placed(Answer(text, 0.5), "boxes", one, "padded")
    assert list(said.scores) == sorted(said.scores, reverse=True) and len(said.boxes) == 3
    row = score("boxes", one, said).row
    assert (row["true"], row["found"], row["hits"], row["duplicates"], row["hallucinated"]) == (2, 3, 1, 1, 1)
    assert (row["kept"], row["kept_hits"], row["kept_duplicates"]) == (2, 1, 0)


@given(st.lists(st.tuples(*[st.floats(-0.2, 1.2)] * 4), max_size=4), st.sampled_from(["padded", "image"]))
def test_boxes_of_a_description_are_those_of_detection(corners: list[tuple[float, ...]], frame: Any) -> None:
    one = asked_box([[0.0, 0.0, 50.0, 50.0]], own=-1)
    text = "It shows a dog at " + " and ".join(f"[{', '.join(f'{v:.3f}' for v in box)}]" for box in corners)
    said = asking.placed(Answer(text, 0.5), "describe", one, frame)
    assert said == asking.placed(Answer(text, 0.5), "boxes", one, frame)
    row = score("describe", one, said).row
    assert row["named"] == 1 and row["unread"] == (not said.boxes)
    if said.boxes:
        alone = score("bbox", one, Said(text, boxes=said.boxes[:1], scores=said.scores[:1])).row
        assert (row["iou"], row["half"]) == (alone["iou"], alone["half"])


# --- retrieval


def test_a_ranking_is_scored_for_the_class_and_for_the_very_image() -> None:
    one = asked_box([[0.0, 0.0, 50.0, 50.0]], own=0)
    grades, yes = [1, 0, 2, 0], [0.9, 0.1, 0.5, 0.6]
    record = score_ranking(one, yes, ["a", "b", "c", "d"], grades)
    for prefix, least in (("", 1), ("own_", 2)):
        row = retrieval_row(yes, grades, least)
        assert {name: record.row[prefix + name] for name in row._fields} == row._asdict()
    assert record.found == [["a", 0.9, 1], ["d", 0.6, 0], ["c", 0.5, 2], ["b", 0.1, 0]]
    assert record.truth == 2
    figures = figures_of("retrieval", [record])
    assert figures["hit@1"].value == 1 and figures["own hit@1"].value == 0
    assert set(MEASURES["retrieval"]) == set(RETRIEVAL) | {f"own {name}" for name in RETRIEVAL}


@pytest.mark.parametrize("condition", ["asked", "text"])
def test_who_knows_what_is_in_the_images_ranks_without_fault(
    condition: Condition, samples: Samples, processor: Processor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = plan_of("retrieval", condition, number=5, gallery=10)
    asked = questions_of_plan(one, samples)
    drawn = {
        asking._probe(one, samples, processor).tobytes(): one.query.category for one in asked if condition == "asked"
    }
    assert len(asked) == 5 and bool(drawn) == (condition == "asked")
    by_picture = {
        asking.photo_of(samples.read(n), processor).pixels.tobytes(): {thing.category for thing in record.objects}
        for n, record in enumerate(samples.records)
    }
    heard: list[Any] = []

    def knows(_scorer: Any, probes: Any, photos: Any, _told: Any) -> Any:
        heard.extend(probes)
        names = [probe if isinstance(probe, str) else drawn[probe.tobytes()] for probe in probes]
        return np.array([[float(name in by_picture[photo.tobytes()]) for photo in photos] for name in names])

    ranks_by(monkeypatch, knows)
    entry = evaluate_entry(tmp_path, one, asked, samples, None, processor)
    assert len(heard) == 5
    assert {isinstance(probe, str) for probe in heard} == {condition == "text"}
    assert (entry.images, entry.questions) == (10, 5)
    assert entry.figures["hit@1"].value == entry.figures["mAP"].value == 1
    assert entry.constant["precision@1"] < 1


def test_rankings_by_chance_are_what_drawn_orders_reach() -> None:
    grades = [[1] * 3 + [0] * 9, [2] + [0] * 11, [0] * 12]
    draw = random.Random(0)
    rows = []
    for _ in range(4000):
        for row in grades[:2]:
            rows.append(retrieval_row([draw.random() for _ in row], row))
    found = by_chance(grades)
    for name in ("precision@1", "precision@5", "precision@10", "hit@1", "hit@5", "mAP"):
        drawn = RETRIEVAL[name](np.asarray(rows))
        assert found[name] == pytest.approx(drawn, abs=0.015), name
    assert found["own precision@1"] == pytest.approx(1 / 12)
    assert by_chance([[0, 0]]) == {}


# --- which questions


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), max_size=40), st.integers(0, 45), st.integers())
def test_questions_are_spread_over_classes_and_images(pairs: list[tuple[str, int]], number: int, seed: int) -> None:
    base = asked_box([[0.0, 0.0, 50.0, 50.0]], own=0)
    asked = [
        replace(base, key=str(n), sample=sample, query=base.query.model_copy(update={"category": name}))
        for n, (name, sample) in enumerate(pairs)
    ]
    taken = spread(asked, number, seed)
    assert taken == spread(asked, number, seed)
    keys = [one.key for one in taken]
    assert keys == sorted(keys, key=int) and len(set(keys)) == len(keys)
    assert len(taken) == (min(number, len(asked)) if number else len(asked))
    there = Counter(name for name, _ in pairs)
    given_ = Counter(one.query.category for one in taken)
    if taken:
        most = max(given_.values())
        assert all(given_[name] >= min(there[name], most - 1) for name in there)


def test_no_image_is_asked_twice_while_another_is_not(samples: Samples) -> None:
    asked = [one for one in collect(samples.records, "count") if one.query.category == "dog"]
    images = {one.sample for one in asked}
    assert len(images) < len(asked)
    taken = spread(asked, len(images))
    assert len({one.sample for one in taken}) == len(images)


def test_only_some_classes_are_asked_and_shown(samples: Samples) -> None:
    for task in TASKS:
        asked = questions_of_plan(plan_of(task, classes=frozenset({"cup"})), samples)
        assert {one.query.category for one in asked} == {"cup"}
    gallery = asking._gallery(plan_of("retrieval", classes=frozenset({"cup"})), samples)
    assert 0 < len(gallery) < SAMPLES
    assert all("cup" in there for _, _, there in gallery)


def test_keys_are_unique_and_the_same_under_every_condition(samples: Samples) -> None:
    for task in TASKS:
        keys = [[one.key for one in questions_of_plan(plan_of(task, c, number=20), samples)] for c in CONDITIONS]
        assert keys[0] == keys[1] == keys[2] == keys[3]
        assert len(set(keys[0])) == len(keys[0]) == 20


# --- controls


def test_shuffling_gives_each_question_a_sketch_of_another_class(samples: Samples, processor: Processor) -> None:
    asked = collect(samples.records, "count")
    moved = under(asked, "shuffled", 1)
    assert [one.query for one in moved] == [one.query for one in asked]
    drawn = {one.shown: one.query.category for one in asked}
    assert all(drawn[one.shown] != one.query.category for one in moved)
    assert len({one.shown for one in moved}) > len(asked) / 2
    pictures = [shown(them[:6], samples, processor) for them in (asked, moved)]
    for one, other in zip(*pictures, strict=True):
        assert np.array_equal(one.pictures[1].pixels, other.pictures[1].pixels)
        assert one.query == other.query
    one_class = [one for one in asked if one.query.category == asked[0].query.category]
    assert under(one_class, "shuffled") == []  # no control where there is nothing to mix up


def test_a_blank_page_is_white_and_stands_where_the_sketch_stood(samples: Samples, processor: Processor) -> None:
    asked = collect(samples.records, "sbir")[:6]
    pairs = (shown(them, samples, processor) for them in (asked, under(asked, "blank")))
    for one, other in zip(*pairs, strict=True):
        assert (other.pictures[0].pixels == 255).all() and not (one.pictures[0].pixels == 255).all()
        assert np.array_equal(one.pictures[1].pixels, other.pictures[1].pixels)
        assert other.query.row >= 0
    assert all(one.shown == WHITE for one in under(asked, "blank"))


@pytest.mark.parametrize("task", TASKS)
def test_in_words_alone_there_is_one_picture_and_the_class_is_named(
    task: Measured, samples: Samples, processor: Processor
) -> None:
    asked = under(collect(samples.records, task)[:6], "text")
    for question in shown(asked, samples, processor):
        assert question.query.row == -1 and len(question.pictures) == 1
        head, _ = processor.question(question.query, question.draw)
        assert sum(token == processor._image_id for token in head) == processor.num_image_tokens
        words = question_of(question.query, question.draw, processor.config.prompt)
        templates = TEXT_TEMPLATES[question.query.task]
        text = templates[question.draw % len(templates)]
        filled = text.format(category=question.query.category, question=question.query.question)
        assert words.startswith(PREFIX[question.query.task] + filled)
        assert question.query.category in words


@pytest.mark.parametrize("task", ["count", "retrieval"])
def test_a_model_that_is_shown_no_sketch_answers_as_if_there_were_none(task: Measured, samples: Samples) -> None:
    """Of a real model: a blank page says the same whatever the sketch was, and other than the sketch."""
    model, processor = tiny_llava(seed=1), tiny_processor()
    found = {}
    for condition in ("asked", "blank"):
        one = plan_of(task, condition, number=8, gallery=4)
        asked = questions_of_plan(one, samples)
        records = ask(one, asked, samples, model, processor)
        others = [replace(a, shown=a.shown and WHITE) for a in asked]
        hidden = ask(one, others, samples, model, processor)
        found[condition] = ([r.found for r in records] + [r.said for r in records], [r.found for r in hidden] +
                            [r.said for r in hidden])  # fmt: skip
    assert found["blank"][0] == found["blank"][1] == found["asked"][1]
    assert found["asked"][0] != found["blank"][0]


# --- entries on disk


def test_answers_on_disk_are_not_asked_again(
    samples: Samples, processor: Processor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard = answers_by(monkeypatch, lambda question: truth(question.query))
    one = plan_of("count", number=10)
    entry = evaluated(tmp_path, one, samples, processor)
    assert len(heard) == 10 and entry.seconds >= 0
    again = evaluated(tmp_path, one, samples, processor)
    assert len(heard) == 10
    assert again == entry.model_copy(update={"seconds": 0.0})  # of a run that was killed before its record: not known
    evaluated(tmp_path, plan_of("count", number=11), samples, processor)
    assert len(heard) == 21


def test_an_entry_of_which_nothing_was_lost_stands(
    samples: Samples, processor: Processor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard = answers_by(monkeypatch, lambda question: truth(question.query))
    one = plan_of("count", number=10)
    asked = questions_of_plan(one, samples)
    entry = evaluated(tmp_path, one, samples, processor)
    reads = 0

    def counting(*which: Any) -> Any:
        nonlocal reads
        reads += 1
        return read_answers(*which)

    def again() -> Entry:
        return evaluate_entry(tmp_path, one, asked, samples, None, processor, before=entry)

    monkeypatch.setattr(asking, "read_answers", counting)
    assert again() is entry and reads == 1
    (tmp_path / entry.examples[0].sketch).unlink()
    drawn = again()
    assert drawn == entry and drawn is not entry and len(heard) == 10  # with the seconds that its answers took
    assert (tmp_path / entry.examples[0].sketch).is_file()
    answers_file(tmp_path, entry).unlink()
    assert again().figures == entry.figures and len(heard) == 20


@pytest.mark.parametrize("harm", ["cut", "text", "gone", "field", "binary", "swapped", "twice"])
def test_answers_that_are_not_whole_are_asked_again(
    harm: str, samples: Samples, processor: Processor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard = answers_by(monkeypatch, lambda question: truth(question.query))
    one = plan_of("bbox", number=6, examples=False)
    entry = evaluated(tmp_path, one, samples, processor)
    path = answers_file(tmp_path, entry)
    lines = path.read_text().splitlines()
    whole = path.read_bytes()
    record = json.loads(lines[2])
    record["row"].pop("iou")
    harmed = {
        "cut": whole[: len(whole) // 2],
        "text": whole + b"and more\n",
        "field": "\n".join([*lines[:2], json.dumps(record), *lines[3:]]).encode(),
        "binary": b"\xff\x00\x9f",
        "swapped": "\n".join([lines[1], lines[0], *lines[2:]]).encode(),
        "twice": whole + lines[0].encode(),
    }
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(harmed[harm])
    assert read_answers(path, "bbox", [json.loads(line)["key"] for line in lines]) is None
    assert evaluated(tmp_path, one, samples, processor).figures == entry.figures
    assert len(heard) == 12 and path.read_bytes() == whole
    write_answers(path, [])
    assert read_answers(path, "bbox", []) == []


@pytest.mark.parametrize("task", TASKS)
def test_examples_have_pictures_that_are_small(
    task: Measured, samples: Samples, processor: Processor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers_by(monkeypatch, lambda q: Answer(f"{q.query.count} [0.1, 0.1, 0.6, 0.6]", 0.3 + len(q.query.category) / 10))
    ranks_by(monkeypatch, lambda _, probes, photos, __: np.random.default_rng(0).random((len(probes), len(photos))))
    entry = evaluated(tmp_path, plan_of(task, number=15, gallery=8), samples, processor)
    keys = [json.loads(line)["key"] for line in answers_file(tmp_path, entry).read_text().splitlines()]
    assert Counter(one.kind for one in entry.examples) == dict.fromkeys(("best", "worst", "random"), PICKS)
    for one in entry.examples:
        assert 0 <= one.score <= 1 and one.question and one.key in keys
        places = [place for place in (one.sketch, one.image, *(found[0] for found in one.gallery)) if place]
        assert len(places) == (9 if task == "retrieval" else 2)
        for place in places:
            assert place.startswith(f"examples/{entry.name}/")
            assert max(cv2.imread(str(tmp_path / place)).shape) <= 256
        for box in (*one.boxes, *one.true_boxes):
            assert all(0 <= value <= 1 for value in box)
        assert all(len(box) == 5 for box in one.boxes)
    best, worst = ([one.score for one in entry.examples if one.kind == kind] for kind in ("best", "worst"))
    assert min(best) >= max(worst)
    shutil.rmtree(tmp_path / "examples")
    assert evaluated(tmp_path, plan_of(task, number=15, gallery=8), samples, processor).examples == entry.examples


@given(st.lists(st.floats(0, 1), max_size=20), st.integers())
def test_no_example_is_picked_twice(scores: list[float], seed: int) -> None:
    found = picks(scores, ["a", "b"] * 10, seed)
    places = [place for _, place in found]
    assert len(set(places)) == len(places) == min(len(scores), 3 * PICKS)
    assert found == picks(scores, ["a", "b"] * 10, seed)
    best = [scores[place] for kind, place in found if kind == "best"]
    rest = [scores[place] for kind, place in found if kind == "worst"]
    assert not rest or min(best) >= min(rest)


def test_figures_without_a_question_are_left_out(samples: Samples, processor: Processor) -> None:
    asked = [one for one in collect(samples.records, "count") if one.query.count == 1]
    none = [score("count", one, Said("nothing")) for one in asked]
    found = figures_of("count", none)
    assert "MAE" not in found and found["unreadable"].value == 1
    assert all(not math.isnan(value) for figure in found.values() for value in (figure.value, figure.low, figure.high))


# --- the model


def test_a_model_is_named_by_what_tells_it_from_others() -> None:
    assert short_name("learn") == "learn"
    assert short_name("llava-hf/llava-1.5-7b-hf") == "llava-1.5-7b-hf"
    assert short_name("out/finetune/tiny/bundle") == "finetune-tiny"
    assert short_name("/runs/llava/") == "llava"


def test_the_fingerprint_tells_weights_and_prompts_apart() -> None:
    def mark(seed: int, frame: Any = "padded") -> str:
        info = BundleInfo("finetune", prompt=PromptConfig(frame=frame), trained={"recipe": "x", "steps": 3})
        facts = facts_of("x", Bundle(tiny_llava(seed), None, info))
        assert facts.facts["steps"] == 3 and facts.facts["recipe"] == "x"
        return facts.fingerprint

    assert mark(1) == mark(1)
    assert len({mark(1), mark(2), mark(1, "image")}) == 3


def test_any_model_can_be_opened(tmp_path: Path) -> None:
    save_published(tmp_path)
    plain = open_model(tmp_path, "cpu", "bfloat16")
    assert plain.info.stage == "plain" and plain.info.prompt == PromptConfig()
    assert {parameter.dtype for parameter in plain.model.parameters()} == {torch.bfloat16}
    ours = open_model("learn", "cpu")
    assert ours.info.stage == "finetune" and ours.info.prompt.system == ""
    again = open_model(shipped("learn"), "cpu")
    assert facts_of("", again).fingerprint == facts_of("", ours).fingerprint != facts_of("", plain).fingerprint
    with pytest.raises(ValueError, match="no model lern: there is no folder lern, and it is no hub id"):
        open_model("lern")
