"""The task builders: what is drawn, what is asked, and that neither sketch nor image alone answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_manifests.schema import Image, Object, Query, Rle, Sample, Sketch, validate
from sketchgen.colour import COLOURS
from sketchgen.tasks import BUILDERS, build_queries
from sketchgen.tasks.bbox import bbox
from sketchgen.tasks.choice import Choice, add_to_surplus, choose_categories
from sketchgen.tasks.config import TASK_NAMES, TasksConfig, check_tasks
from sketchgen.tasks.count import count, pick_counts
from sketchgen.tasks.describe import describe
from sketchgen.tasks.facts import Facts
from sketchgen.tasks.sbir import sbir
from sketchgen.tasks.vqa import vqa
from sketchgen.tasks.words import tokens, vocabulary

NO_MASK = Rle(size=[0, 0], counts="")
CONFIG = TasksConfig()
WIDE, HIGH = 200, 100


class FakeBank:
    """24 classes; those that are like each other come in groups of 1, 2, 3 and 4."""

    groups = (*[1] * 4, *[2] * 3, *[3] * 2, *[4] * 2)

    def __init__(self) -> None:
        self.like: dict[str, tuple[str, ...]] = {}
        for size in self.groups:
            group = [f"class{len(self.like) + n}" for n in range(size)]
            self.like |= {name: tuple(other for other in group if other != name) for name in group}

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(self.like)

    def lookalikes(self, category: str) -> tuple[str, ...]:
        return self.like.get(category, ())

    def draw(self, category: str, seed: int) -> Any:
        raise AssertionError("choosing draws nothing")


BANK = FakeBank()


def thing(category: str, x: float, y: float, side: float = 20, status: Any = "written", high: float = 0) -> Object:
    """An object of side x high (or side) pixels, its corner at (x, y)."""
    box = [float(x), float(y), float(x + side), float(y + (high or side))]
    return Object(object_id=f"{category}@{x},{y}", category=category, box=box, mask=NO_MASK, status=status)


def facts_of(*objects: Object) -> Facts:
    return Facts(Image(source="s", id="1", width=WIDE, height=HIGH, license=""), objects)


def sketch(row: int, category: str, object_id: str = "") -> Sketch:
    return Sketch(
        row=row, sketch_id=f"b/{category}", category=category, source="b", style="x", object_id=object_id, generator="g"
    )


def sketches_of(*categories: str) -> list[Sketch]:
    return [sketch(row, category) for row, category in enumerate(categories)]


TABLE = facts_of(
    thing("cup", 10, 10),
    thing("dog", 80, 10, 30),
    thing("apple", 150, 70, 10),
    thing("apple", 110, 70, 10),
    thing("apple", 110, 40, 14),
)
DRAWN = sketches_of("cup", "apple", "boat", "dog")


# --- each task


def test_bbox_asks_for_classes_with_one_instance() -> None:
    assert [(q.query_id, q.row, q.category, q.boxes) for q in bbox(TABLE, DRAWN, 0, CONFIG)] == [
        ("bbox-0", 0, "cup", [[10, 10, 30, 30]]),
        ("bbox-3", 3, "dog", [[80, 10, 110, 40]]),
    ]


def test_bbox_needs_two_classes_to_choose_from() -> None:
    alone = facts_of(thing("cup", 10, 10), thing("apple", 50, 50), thing("apple", 90, 50))
    assert bbox(alone, DRAWN, 0, CONFIG) == []
    assert len(bbox(alone, DRAWN, 0, TasksConfig(min_singles=1))) == 1
    assert bbox(TABLE, DRAWN, 0, TasksConfig(min_singles=3)) == []


def test_several_boxes_go_left_to_right_then_top_to_bottom() -> None:
    found = {q.category: q.boxes for q in bbox(TABLE, DRAWN, 0, TasksConfig(max_boxes=3))}
    assert found["apple"] == [[110, 40, 124, 54], [110, 70, 120, 80], [150, 70, 160, 80]]
    assert set(found) == {"cup", "dog", "apple"}


def test_count_asks_one_class_for_each_number() -> None:
    seen = Counter()
    for seed in range(200):
        queries = count(TABLE, DRAWN, seed, TasksConfig(zero_rate=0))
        assert sorted(q.count for q in queries) == [1, 3]
        assert [q.row for q in queries] == sorted(q.row for q in queries)
        seen.update(q.category for q in queries)
    assert seen["apple"] == 200
    assert 70 < seen["cup"] < 130, "the classes of one number are picked alike"


def test_count_asks_for_what_is_not_there_at_a_rate() -> None:
    zeros = [q for seed in range(2000) for q in count(TABLE, DRAWN, seed, CONFIG) if q.category == "boat"]
    assert {q.count for q in zeros} == {0}
    assert 0.12 < len(zeros) / 2000 < 0.18


def test_count_asks_nothing_where_all_numbers_are_the_same() -> None:
    even = facts_of(thing("cup", 10, 10), thing("dog", 80, 10))
    assert count(even, DRAWN, 0, TasksConfig(zero_rate=0)) == []
    assert len(count(even, DRAWN, 0, TasksConfig(zero_rate=0, min_counts=1))) == 1


def test_a_class_with_a_crowd_has_no_number_and_no_box_but_is_there() -> None:
    facts = facts_of(*TABLE.objects, thing("dog", 10, 60, status="crowd"))
    asked = build_queries(facts, DRAWN, 0, TasksConfig(max_boxes=3))
    about = {q.task for q in asked if q.category == "dog"}
    assert about <= {"sbir", "vqa"}
    assert [q.match for q in asked if q.category == "dog" and q.task == "sbir"] == [1]
    kinds = {q.query_id for seed in range(50) for q in vqa(facts, DRAWN, seed, CONFIG) if q.category == "dog"}
    assert kinds == {"vqa-3-category", "vqa-3-presence"}


def test_sbir_matches_what_is_there() -> None:
    assert [q.match for q in sbir(TABLE, DRAWN, 0, CONFIG)] == [1, 1, 0, 1]


def test_describe_in_full() -> None:
    texts = {q.category: (q.answers, q.boxes) for q in describe(TABLE, DRAWN, 0, CONFIG)}
    assert texts == {
        "cup": (
            ["The sketch shows a cup. There is 1 in the image. It is small. "
             "It is in the upper left of the image, left of the dog."],
            [[10, 10, 30, 30]],
        ),
        "apple": (
            ["The sketch shows an apple. There are 3 in the image. The largest is small. "
             "The largest is in the middle of the image, right of the cup."],
            [[110, 40, 124, 54]],
        ),
        "dog": (
            ["This is a dog. There is 1 in the image. It is of medium size. "
             "It is in the upper middle of the image, right of the cup."],
            [[80, 10, 110, 40]],
        ),
    }  # fmt: skip


def test_describe_speaks_of_the_object_that_is_drawn() -> None:
    (query,) = describe(TABLE, [sketch(0, "apple", "apple@150,70")], 0, CONFIG)
    assert query.boxes == [[150, 70, 160, 80]]
    assert "The drawn one is in the lower right of the image" in query.answers[0]


def test_describe_has_all_boxes_where_several_are_wanted() -> None:
    (query,) = describe(TABLE, sketches_of("apple"), 0, TasksConfig(max_boxes=5))
    assert len(query.boxes) == 3


def test_describe_names_no_landmark_that_occurs_twice() -> None:
    facts = facts_of(thing("cup", 10, 10), thing("dog", 80, 10), thing("dog", 150, 10))
    (query,) = describe(facts, sketches_of("cup"), 0, CONFIG)
    assert query.answers[0].endswith("in the upper left of the image.")


def test_vqa_asks_every_kind_and_answers_from_the_facts() -> None:
    answers: dict[tuple[str, str], set[str]] = {}
    for seed in range(400):
        for q in vqa(TABLE, DRAWN, seed, CONFIG):
            kind = q.query_id.split("-")[2]
            answers.setdefault((q.category, kind), set()).add(q.answers[0])
            assert q.question.endswith("?")
            assert "{" not in q.question
    assert answers == {
        ("cup", "category"): {"cup"}, ("cup", "presence"): {"yes"}, ("cup", "place"): {"upper left"},
        ("cup", "number"): {"1"}, ("cup", "comparison"): {"smaller"}, ("cup", "size"): {"small"},
        ("dog", "category"): {"dog"}, ("dog", "presence"): {"yes"}, ("dog", "place"): {"upper middle"},
        ("dog", "number"): {"1"}, ("dog", "neighbour"): {"cup", "apple"}, ("dog", "comparison"): {"larger"},
        ("apple", "category"): {"apple"}, ("apple", "presence"): {"yes"}, ("apple", "number"): {"3"},
        ("boat", "category"): {"boat"}, ("boat", "presence"): {"no"}, ("boat", "number"): {"0"},
    }  # fmt: skip


def test_vqa_asks_for_presence_alike_whether_it_is_there_or_not() -> None:
    shares = Counter()
    for seed in range(3000):
        shares.update(q.category for q in vqa(TABLE, DRAWN, seed, CONFIG) if q.query_id.endswith("presence"))
    assert set(shares) == {"cup", "dog", "apple", "boat"}
    assert all(abs(number / 3000 - 1 / len(CONFIG.questions)) < 0.03 for number in shares.values()), shares


def test_coloured_asks_yes_or_no_and_changes_no_other_question() -> None:
    colours = {thing.object_id: "red" for thing in TABLE.objects}
    table = replace(TABLE, colours=colours)
    asked = replace(CONFIG, questions=(*CONFIG.questions, "coloured"))
    said = Counter()
    for seed in range(400):
        for q in vqa(table, DRAWN, seed, asked):
            if q.query_id.endswith("coloured"):
                named = next(name for name in COLOURS if name in tokens(q.question))
                assert (named == "red") == (q.answers[0] == "yes")
                said[q.category] += 1
        usual = [q.query_id for q in vqa(table, DRAWN, seed, CONFIG)]
        assert not [name for name in usual if name.endswith("coloured")]
    assert set(said) == {"cup", "dog"}  # of one instance each


def test_vqa_asks_for_numbers_as_fairly_as_count() -> None:
    for seed in range(100):
        picked = {found.row for found, _ in pick_counts(TABLE, DRAWN, seed, CONFIG)}
        rows = {q.row for q in vqa(TABLE, DRAWN, seed, CONFIG) if q.query_id.endswith("number")}
        assert rows <= picked


def test_a_neighbour_is_the_only_class_on_its_side() -> None:
    facts = facts_of(thing("cup", 10, 40), thing("dog", 90, 40), thing("bus", 160, 40), thing("car", 160, 50, 10))
    sides = {
        (q.question.split(" the ")[0], q.answers[0])
        for seed in range(300)
        for q in vqa(facts, sketches_of("dog"), seed, CONFIG)
        if q.query_id.endswith("neighbour")
    }
    assert {answer for _, answer in sides} == {"cup"}, "two classes lie on the right"
    assert all("left of" in question for question, _ in sides)
    slanting = facts_of(*facts.objects[:3], thing("key", 40, 80))
    assert slanting.relation(slanting.objects[3].box, slanting.objects[1].box) == ""
    assert not [
        q
        for seed in range(300)
        for q in vqa(slanting, sketches_of("dog"), seed, CONFIG)
        if q.query_id.endswith("neighbour") and "left of" in q.question
    ], "the key, below, is left of it too"


def test_only_the_tasks_that_are_named_are_asked() -> None:
    asked = build_queries(TABLE, DRAWN, 0, TasksConfig(names=("sbir", "bbox")))
    assert [q.task for q in asked] == ["bbox", "bbox", "sbir", "sbir", "sbir", "sbir"]
    assert tuple(BUILDERS) == TASK_NAMES


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"names": ()}, r"tasks\.names is empty"),
        ({"names": ("sbir", "draw")}, "there is no task 'draw'"),
        ({"max_rows": 1}, r"tasks\.max_rows is 1, must be from 2 to 32"),
        ({"zero_rate": 1.5}, r"tasks\.zero_rate is 1\.5"),
        ({"min_singles": 0}, r"tasks\.min_singles is 0, must be at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_named(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_tasks(TasksConfig(**fields))


# --- geometry


@pytest.mark.parametrize(
    ("other", "relation"),
    [
        ((60, 40), "left of"),
        ((0, 40), "right of"),
        ((30, 70), "above"),
        ((30, 5), "below"),
        ((70, 75), ""),  # as far below as to the right
        ((45, 40), ""),  # too near
    ],
)
def test_relation(other: tuple[int, int], relation: str) -> None:
    found = facts_of().relation(thing("a", 30, 40).box, thing("b", *other).box)
    assert found == relation


def test_places_are_the_ninths() -> None:
    facts = facts_of()
    names = [facts.place(thing("a", x, y, 2).box) for y in (5, 49, 90) for x in (5, 99, 190)]
    assert names == [
        "upper left", "upper middle", "upper right", "middle left", "middle", "middle right",
        "lower left", "lower middle", "lower right",
    ]  # fmt: skip
    assert facts.has_clear_place(thing("a", 5, 5, 2).box)
    assert not facts.has_clear_place(thing("a", 66, 5, 2).box)
    assert facts.place([0, 0, WIDE, HIGH]) == "middle"
    assert facts.place([199.9, 99.9, 200, 100]) == "lower right"


# --- any facts at all

BOXES = st.tuples(*[st.integers(0, 150), st.integers(0, 60), st.integers(1, 50), st.integers(1, 40)])
OBJECTS = st.lists(
    st.tuples(
        st.sampled_from([*BANK.categories[:8], "unknown", ""]),
        BOXES,
        st.sampled_from(["written", "written", "written", "rejected", "dropped", "crowd"]),
    ),
    max_size=14,
)


def facts_from(rows: Sequence[tuple[str, tuple[int, int, int, int], Any]]) -> Facts:
    objects = [
        thing(name, x, y, width, status, high).model_copy(update={"object_id": str(number)})
        for number, (name, (x, y, width, high), status) in enumerate(rows)
    ]
    return facts_of(*objects)


@given(rows=OBJECTS, seed=st.integers(0, 2**62), max_boxes=st.integers(1, 3), max_rows=st.integers(2, 32))
def test_any_facts_give_a_sample_of_the_contract(rows: list, seed: int, max_boxes: int, max_rows: int) -> None:
    facts = facts_from(rows)
    config = TasksConfig(max_boxes=max_boxes, max_rows=max_rows)
    chosen = choose_categories(facts, BANK, seed, config)
    sketches = [sketch(row, choice.category) for row, choice in enumerate(chosen)]
    queries = build_queries(facts, sketches, seed, config)
    assert len({q.query_id for q in queries}) == len(queries)
    assert queries == build_queries(facts, sketches, seed, config)
    sample = Sample(schema_=1, image=facts.image, objects=list(facts.objects), sketches=sketches, queries=queries)
    assert validate(sample.model_dump_json(by_alias=True)) == sample
    assert sum(q.match for q in queries if q.task == "sbir") * 2 == len(chosen) <= max_rows
    known = set(vocabulary()) | {token for name in (*BANK.categories, "unknown") for token in tokens(name)}
    for q in queries:
        assert set(tokens(q.question)) | set(tokens(q.answers[0])) <= known
        assert all(len(q.boxes) <= max_boxes for q in queries if q.task == "bbox")


def test_the_vocabulary_is_small_and_closed() -> None:
    known = vocabulary()
    assert known == sorted(set(known))
    assert len(known) < 90
    assert {"upper", "left", "larger", "yes", "7", "?", "The"} <= set(known)
    assert not [word for word in known if "{" in word]


# --- what is drawn


def scene(random: Random, classes: Sequence[str], number: int) -> list[Object]:
    return [thing(name, 10 * n, 10) for n, name in enumerate(random.sample(list(classes), number))]


def test_as_many_absent_as_present_and_half_of_them_look_alike() -> None:
    random = Random(0)
    like = total = 0
    for seed in range(1000):
        objects = scene(random, BANK.categories[4:], random.randint(2, 5))
        shown = {o.category for o in objects}
        chosen = choose_categories(facts_of(*objects), BANK, seed, CONFIG)
        assert {c.category for c in chosen if c.is_present} == shown
        absent = [c.category for c in chosen if not c.is_present]
        assert len(absent) == len(set(absent)) == len(shown)
        assert not set(absent) & shown
        twins = {twin for name in shown for twin in BANK.lookalikes(name)}
        like += sum(name in twins for name in absent)
        total += len(absent)
    assert 0.47 < like / total <= 0.53


def test_rows_say_nothing_about_presence() -> None:
    objects = [thing("class4", 0, 0), thing("class9", 50, 0)]
    first = Counter(choose_categories(facts_of(*objects), BANK, seed, CONFIG)[0].is_present for seed in range(1000))
    assert abs(first[True] - 500) < 60


def test_a_choice_depends_on_its_seed_alone() -> None:
    objects = scene(Random(1), BANK.categories, 5)
    assert choose_categories(facts_of(*objects), BANK, 7, CONFIG) == choose_categories(
        facts_of(*objects), BANK, 7, CONFIG
    )
    assert len({tuple(choose_categories(facts_of(*objects), BANK, seed, CONFIG)) for seed in range(20)}) == 20
    golden = choose_categories(facts_of(thing("class4", 0, 0), thing("class13", 50, 0)), BANK, 7, CONFIG)
    assert golden == [
        Choice("class9", "", False),
        Choice("class4", "", True),
        Choice("class13", "", True),
        Choice("class5", "", False),
    ]


def test_classes_beyond_the_rows_are_left_out_at_random() -> None:
    objects = scene(Random(2), BANK.categories, 10)
    taken = Counter()
    for seed in range(600):
        chosen = choose_categories(facts_of(*objects), BANK, seed, TasksConfig(max_rows=8))
        assert [c.is_present for c in chosen].count(True) == 4 == len(chosen) / 2
        taken.update(c.category for c in chosen if c.is_present)
    assert len(taken) == 10
    assert all(abs(number - 240) < 50 for number in taken.values())


def test_an_image_with_nearly_all_classes_stays_even() -> None:
    chosen = choose_categories(facts_of(*scene(Random(3), BANK.categories, 20)), BANK, 0, CONFIG)
    assert [c.is_present for c in chosen].count(True) == 4 == len(chosen) / 2
    assert choose_categories(facts_of(*scene(Random(3), BANK.categories, 24)), BANK, 0, CONFIG) == []
    assert choose_categories(facts_of(thing("zebra", 0, 0)), BANK, 0, CONFIG) == []


def test_a_crowd_is_neither_drawn_nor_called_absent() -> None:
    objects = [thing("class4", 0, 0), thing("class5", 50, 0, status="crowd")]
    for seed in range(50):
        assert "class5" not in {c.category for c in choose_categories(facts_of(*objects), BANK, seed, CONFIG)}


@pytest.mark.parametrize("skewed", [False, True])
def test_every_class_is_there_as_often_as_it_is_not(skewed: bool) -> None:
    """Who sees only the sketch has even odds, whatever the classes' frequencies and look-alikes."""
    random = Random(4)
    drawn: Counter[str] = Counter()
    surplus: Counter[str] = Counter()
    images = 1500
    for seed in range(images):
        classes = {o.category: o for o in scene(random, BANK.categories, 4)}
        if skewed and random.random() < 0.35:  # like `person` in COCO
            classes["class7"] = thing("class7", 0, 0)
        chosen = choose_categories(facts_of(*classes.values()), BANK, seed, CONFIG, surplus)
        add_to_surplus(surplus, chosen)
        drawn.update(c.category for c in chosen)
    assert len(drawn) == 24
    assert max(abs(surplus[name]) / drawn[name] for name in drawn) < 0.03
    guessed = sum(max(drawn[name] + surplus[name], drawn[name] - surplus[name]) / 2 for name in drawn)
    assert guessed / drawn.total() < 0.505


def test_queries_are_of_the_schema_type() -> None:
    assert all(isinstance(q, Query) and q.answer_source == "template" for q in build_queries(TABLE, DRAWN, 0, CONFIG))
