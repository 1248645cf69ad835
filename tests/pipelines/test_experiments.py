"""Experiments: arms that share what they begin with, effects over seeds, exams, pages, and going on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from data_manifests.schema import STRIP_SIDE
from pipelines import finetune, instructions, pretrain
from pipelines.experiments import EXPERIMENTS, arm, crowds, emergence, experiment, objectives, sources
from pipelines.experiments import page as page_module
from pipelines.experiments.__main__ import main
from pipelines.experiments.arm import PAGES, Setting, chain, stage_one, stage_two
from pipelines.experiments.crowds import MANY, OVERLAPS, _lies
from pipelines.experiments.distance import distances, ranks
from pipelines.experiments.drawings import hand, of_bank, whole_bank
from pipelines.experiments.emergence import Attribute, colours_of, places_of, told_apart
from pipelines.experiments.exam import Answers, Drawings, drawn_exam, exam_of
from pipelines.experiments.experiment import all_results, old_results, run
from pipelines.experiments.objectives import KEEP, reranked
from pipelines.experiments.page import EARLIER, UNWRITTEN, command_of, verdict, write_index, write_page
from pipelines.experiments.results import (
    ArmFacts,
    Outcome,
    Results,
    effect_of,
    outcome_of,
    seeds_to_settle,
    spread,
)
from pipelines.experiments.signatures import signatures
from pipelines.experiments.stages import STAGES
from pipelines.experiments.styles import longest
from sketchgen.engine import EngineConfig
from sketchgen.instructions import checked, run_instructions
from sketchgen.run import run as run_sketches
from sketchgen.shapeworld import CLASSES, HELD_OUT_STYLE, TRAINING_STYLES, check_world
from sketchgen.sketcher import SketcherConfig
from sketchlm.evaluation.measures import FIELDS
from sketchlm.evaluation.questions import Asked, Samples, collect
from sketchlm.loading import open_model, processor_of
from sketchlm.training import write_settings
from sketchlm.weights import shipped

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty unseen scenes, with up to three boxes of a class asked for."""
    base = instructions.learn_val()
    world = replace(base.source.world, num_scenes=40)
    out = str(tmp_path_factory.mktemp("unseen") / "shards")
    tasks = replace(base.tasks, max_boxes=3, min_singles=1)
    assert not run_instructions(replace(base, source=replace(base.source, world=world), tasks=tasks, out=out), QUIET)
    return out


# --- arms ------------------------------------------------------------------------------------------------------------


def test_arms_that_begin_alike_share_their_stages() -> None:
    setting = Setting()
    same = [
        ("stages", "both"),
        ("connector", "full"),
        ("styles", "model"),
        ("sources", "hand"),
    ]
    bundles = {
        next(one.bundle for one in EXPERIMENTS[name].arms(setting, 0) if one.name == called) for name, called in same
    }
    assert len(bundles) == 1


def test_whatever_decides_a_stage_decides_its_folder_and_what_comes_after() -> None:
    setting = Setting()
    one, two = stage_one(setting, 0), stage_two(setting, 0)
    places = [
        chain(setting, "x", *stages).stages[-1].out
        for stages in (
            (one, two),
            (stage_one(setting, 1), stage_two(setting, 1)),
            (replace(one, steps=one.steps + 1), two),
            (one, replace(two, loader=replace(two.loader, shards="elsewhere"))),
            (two,),
        )
    ]
    assert len(set(places)) == len(places)
    assert chain(setting, "named otherwise", one, two, about="x").stages[-1].out == places[0]


def test_every_arm_of_every_experiment_begins_with_the_bundle_before() -> None:
    for one in EXPERIMENTS.values():
        for of_seed in (one.arms(Setting(), 0), one.arms(Setting(), 1)):
            assert len({each.name for each in of_seed}) == len(of_seed)
            for each in of_seed:
                for before, after in zip(each.stages, each.stages[1:], strict=False):
                    assert after.model.base == f"{before.out}/bundle"
        names = {each.name for each in one.arms(Setting(), 0)}
        assert {name for pair in one.effects for name in pair} <= names


def test_the_shards_of_every_experiment_can_be_made(tmp_path: Path) -> None:
    setting = Setting(out=str(tmp_path))
    configs = [crowds.training(setting), crowds.unseen(setting), emergence.unseen(setting)]
    configs += [emergence.unseen_words(setting, attribute) for attribute in emergence.EXAMS]
    configs += [emergence.training(setting, name) for name in emergence.KINDS]
    configs += [sources.training(setting, "hand")]
    for config in configs:
        world = checked(config).source.world
        check_world(world)
        assert config.tasks.max_boxes <= world.max_count
    assert max(crowds.NUMBERS) <= crowds.unseen(setting).source.world.max_count


def test_a_tower_from_nothing_is_trained_first() -> None:
    setting = Setting(recipe="learn")
    stages = chain(setting, "x", stage_one(setting, 0), stage_two(setting, 0)).stages
    assert [stage.stage for stage in stages] == ["tower", "pretrain", "finetune"]
    assert stages[1].model.base == f"{stages[0].out}/bundle"
    for name, each in EXPERIMENTS.items():
        for one in each.arms(setting, 0) if name != "crowds" else ():  # these go on from the model of the package
            assert one.stages[0].stage == "tower", f"{one.name} of {name}"


def test_a_model_of_the_package_is_known_by_its_weights_and_not_by_its_place() -> None:
    assert arm.shipped_folder("learn") == shipped("learn") == arm.shipped_folder(str(shipped("learn")))
    assert arm.shipped_folder("tiny") is None and arm.shipped_folder("") is None


def test_a_bundle_of_other_settings_or_other_shards_is_refused(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "settings.json").write_text("{}")
    stage = replace(stage_two(Setting(), 0), out=str(tmp_path / "run"))
    stage = replace(stage, loader=replace(stage.loader, shards=str(shards)))
    assert not arm._is_made(stage)
    _lend([arm.Arm("x", (stage,))], Setting(), QUIET)
    write_settings(stage, tmp_path / "run")
    assert arm._is_made(stage)
    (tmp_path / "run" / arm.SHARDS).write_text(arm._shards_digest(stage))
    assert arm._is_made(stage)
    moved = replace(stage, model=replace(stage.model, tower_weights=str(shipped("learn"))))
    assert stage.model.tower_weights == "learn" and arm._is_made(moved)
    with pytest.raises(ValueError, match="was trained with another optimizer.lr: remove it"):
        arm._is_made(replace(stage, optimizer=replace(stage.optimizer, lr=1.0)))
    (shards / "settings.json").write_text('{"another": 1}')
    with pytest.raises(ValueError, match="was trained on other shards than lie in"):
        arm._is_made(stage)


def test_a_try_replaces_no_page_of_the_project() -> None:
    assert Setting().pages_folder == "docs/experiments" == Setting(seeds=(0, 1, 2, 3)).pages_folder
    assert Setting(number=40).pages_folder == Setting(seeds=(0,)).pages_folder == "out/experiments/pages"
    assert Setting(number=40, pages="mine").pages_folder == "mine"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"seeds": (0, 0)}, r"seeds are \(0, 0\).*none twice"),
        ({"seeds": ()}, "name one"),
        ({"number": 0}, "number is 0"),
    ],
)
def test_settings_that_mean_nothing(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Setting(**fields)


def test_a_recipe_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="recipe is 'huge'; there are tiny, learn"):
        stage_one(Setting(recipe="huge"), 0)


# --- results ---------------------------------------------------------------------------------------------------------


def test_the_interval_holds_seeds_and_images() -> None:
    values, error = [0.50, 0.54, 0.58], 0.01
    one = Outcome(
        exam="e", condition="asked", task="sbir", figure="f", arm="a", values=values, error=error, single=error, n=9
    )
    low, high = stats.t.interval(0.95, 2, loc=0.54, scale=stats.sem(values))
    assert spread(values) == pytest.approx((high - low) / 2)
    assert one.interval.high - one.mean == pytest.approx(np.hypot((high - low) / 2, 1.959964 * error), rel=1e-5)
    assert spread([0.5]) == float("inf")


effects = st.tuples(st.floats(-0.3, 0.3), st.floats(0.001, 0.2), st.floats(0, 0.05))


@given(effects)
def test_so_many_seeds_settle_a_difference_and_no_fewer(drawn: tuple[float, float, float]) -> None:
    mean, deviation, error = drawn
    values = [mean - deviation, mean, mean + deviation]
    one = Outcome(
        exam="e", condition="asked", task="sbir", figure="f", arm="a", values=values, error=error, single=error, n=9
    )

    def reach(number: int) -> float:
        t = float(stats.t.ppf(0.975, number - 1))
        return float(np.hypot(t * deviation / np.sqrt(number), stats.norm.ppf(0.975) * error))

    number = seeds_to_settle(one)
    if number:
        assert reach(number) < abs(one.mean)
        assert number == 2 or reach(number - 1) >= abs(one.mean)
    else:
        assert reach(200) >= abs(one.mean)
    assert not one.is_clear or 0 < number <= 3


def answers(right: list[float], images: list[str] | None = None) -> Answers:
    """Of SBIR: a question an image, every second one a yes."""
    fields = FIELDS["sbir"]
    table = np.zeros((len(right), len(fields)))
    table[:, fields.index("right")] = right
    table[:, fields.index("truth")] = np.arange(len(right)) % 2
    return Answers("sbir", table.tolist(), images or [str(n) for n in range(len(right))])


def test_an_effect_is_the_difference_of_the_figures_seed_by_seed() -> None:
    mine, theirs = [answers([1, 1, 1, 0]), answers([1, 1, 0, 0])], [answers([0, 1, 1, 0]), answers([0, 0, 0, 0])]
    place = {"exam": "e", "condition": "asked", "arm": "a"}
    found = effect_of(mine, theirs, **place, against="b")
    a, b = outcome_of(mine, **place), outcome_of(theirs, **place)
    assert found is not None and a is not None and b is not None
    assert found.values == pytest.approx([x - y for x, y in zip(a.values, b.values, strict=True)])
    assert found.is_effect and not a.is_effect and found.n == 4
    with pytest.raises(ValueError, match="answers to different questions"):
        effect_of(mine, [answers([1, 1, 1, 0], ["other"] * 4)] * 2, **place, against="b")


# --- pages -----------------------------------------------------------------------------------------------------------


def results(values: tuple[float, ...] = (0.1, 0.12, 0.11)) -> Results:
    place: dict[str, Any] = {"exam": "unseen", "condition": "asked", "task": "sbir", "figure": "balanced accuracy"}
    spread_out: dict[str, Any] = {"error": 0.01, "single": 0.012, "n": 500}
    plain = [
        Outcome(**place, arm=name, values=[base + value for value in values], **spread_out)
        for name, base in (("both", 0.6), ("two-alone", 0.5))
    ]
    control = Outcome(**place | {"condition": "shuffled"}, arm="both", values=[0.5, 0.5, 0.5], **spread_out)
    effect = Outcome(**place, arm="both", against="two-alone", values=list(values), **spread_out)
    facts = [ArmFacts(name=name, stages=["pretrain 1 x 2"], parameters=2, minutes=3) for name in ("both", "two-alone")]
    return Results(
        name="stages",
        date="2026-11-26",
        commit="abc",
        recipe="tiny",
        seeds=[0, 1, 2],
        number=500,
        minutes=18,
        arms=facts,
        outcomes=[*plain, control, effect],
        constants={"unseen": {"sbir": 0.5}},
    )


def test_a_page_is_made_of_its_results_and_keeps_what_people_wrote(tmp_path: Path) -> None:
    setting = Setting(pages=str(tmp_path))
    page = write_page(STAGES, results(), setting)
    text = page.read_text()
    assert UNWRITTEN in text
    assert "| unseen | SBIR balanced accuracy | 500 | 0.710 (" in text
    assert "| unseen, another's sketch | SBIR balanced accuracy | 500 | 0.500 (" in text
    assert "+0.110 (" in text and "**clear**: higher" in text
    assert page.with_suffix(".png").stat().st_size > 5_000
    page.write_text(text.replace(UNWRITTEN, "It means much."))
    again = write_page(STAGES, results().model_copy(update={"date": "2026-12-01", "commit": "x"}), setting).read_text()
    assert again.endswith("-->\n\nIt means much.\n")
    for _ in range(2):  # other figures say that the words are older, once
        later = write_page(STAGES, results((0.1, -0.1, 0.02)), setting).read_text()
        assert "within the noise" in later and later.count(EARLIER) == 1
        assert later.endswith("It means much.\n")


def test_the_index_has_a_line_for_every_experiment(tmp_path: Path) -> None:
    setting = Setting(pages=str(tmp_path))
    (tmp_path / "stages.json").write_text(results().model_dump_json())
    larger = results().model_copy(update={"recipe": "learn"})
    (tmp_path / "stages-learn.json").write_text(larger.model_dump_json())
    page = write_page(STAGES, results(), setting)
    page.write_text(page.read_text().replace(UNWRITTEN, "**What it means.** It helps\nby 0.1. Or so.\n\n**Else.** No."))
    text = write_index(EXPERIMENTS, all_results(EXPERIMENTS, str(tmp_path)), setting).read_text()
    title = "Stage I and II against stage II alone"
    assert f"| [stages](stages.md) | {title} | 2026-11-26, 3 seeds | 1 of 1 | It helps by 0.1. |" in text
    assert f"| [stages-learn](stages-learn.md) | {title} | 2026-11-26, 3 seeds, recipe `learn` | 1 of 1 |  |" in text
    assert text.count("none yet") == len(EXPERIMENTS) - 1


def test_the_pages_of_the_project_are_those_of_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "draw", lambda *_: None)
    there = all_results(EXPERIMENTS, PAGES)
    shutil.copytree(PAGES, tmp_path, dirs_exist_ok=True)
    for name, found in there.items():
        setting = Setting(recipe=found.recipe, pages=str(tmp_path))
        again = write_page(EXPERIMENTS[found.name], found, setting).read_text()
        assert again == (Path(PAGES) / f"{name}.md").read_text(), f"run `make experiments` with --page-only: {name}"
        assert EARLIER not in again and UNWRITTEN not in again, f"{name}: write what its figures mean"
    index = write_index(EXPERIMENTS, there, Setting(pages=str(tmp_path))).read_text()
    assert index == (Path(PAGES) / "README.md").read_text()


# --- signatures ------------------------------------------------------------------------------------------------------


def figure(value: float, **place: str) -> Outcome:
    """With an interval of 0.01 or so around it."""
    usual = {"exam": "unseen", "condition": "asked", "task": "sbir", "figure": "balanced accuracy", "arm": "full"}
    near = [value - 0.001, value, value + 0.001]
    return Outcome(**(usual | place), values=near, error=0.004, single=0.004, n=500)


def of(name: str, *outcomes: Outcome) -> Results:
    return results().model_copy(update={"name": name, "outcomes": list(outcomes)})


def test_the_papers_failure_signatures_are_seen_where_they_are() -> None:
    bad = [
        of("connector", figure(0.99), figure(0.6, arm="frozen")),
        of("styles", figure(-0.2, exam=HELD_OUT_STYLE, baseline="training styles", arm="model")),
        of(
            "stages",
            figure(0.9, task="vqa", figure="exact"),
            figure(0.1, task="bbox", figure="Acc@0.5"),
        ),
        of("crowds", figure(0.3, exam=MANY, task="boxes", figure="hallucinated")),
    ]
    assert [one.verdict for one in signatures(bad)] == ["seen"] * 4
    assert "`full` of stages, seen: VQA 0.900 (" in signatures(bad)[2].told
    good = [
        of("connector", figure(0.6), figure(0.9, arm="frozen")),
        of(
            "styles",
            figure(-0.01, exam=HELD_OUT_STYLE, baseline="training styles", arm="model"),
            figure(0.1, exam="brush"),
        ),
        of(
            "stages",
            figure(0.9, task="vqa", figure="exact"),
            figure(0.8, task="bbox", figure="Acc@0.5"),
            figure(0.1, task="vqa", figure="exact", arm="blind"),
            figure(0.1, task="bbox", figure="Acc@0.5", arm="blind"),
        ),
        of(
            "crowds",
            figure(0.05, exam=MANY, task="boxes", figure="hallucinated"),
            figure(0.3, exam="1 instance", task="boxes", figure="hallucinated"),
        ),
    ]
    assert [one.verdict for one in signatures(good)] == ["not seen"] * 4
    assert "0.800 (" in signatures(good)[2].told and "`full` of stages, " not in signatures(good)[2].told
    open_ = [of("connector", figure(0.751, arm="frozen"))]
    assert [one.verdict for one in signatures(open_)] == ["cannot be told"] * 4


# --- distances -------------------------------------------------------------------------------------------------------


def drawings(styles: tuple[str, ...], first: int, number: int = 60) -> Drawings:
    bank = hand(styles)
    names = sorted(CLASSES[place % 6] for place in range(number))
    return Drawings([bank.draw(name, first + place).image for place, name in enumerate(names)], names)


@pytest.mark.slow
def test_what_is_drawn_alike_is_near_and_what_is_not_is_far() -> None:
    own = drawings(TRAINING_STYLES, 0)
    noise = Drawings([255 - one for one in drawings(TRAINING_STYLES, 3000).images], own.categories)
    some = drawings(TRAINING_STYLES, 5000)
    half, few = (Drawings(some.images[:number], some.categories[:number]) for number in (30, 12))
    near, far, small, least = distances(own, [drawings(TRAINING_STYLES, 1000), noise, half, few])
    assert least == {"shape": None, "tower": None}
    assert near["tower"] and far["tower"] and near["shape"] and far["shape"] and small["tower"]
    assert abs(near["tower"]) < 0.2 < far["tower"] and near["shape"] < 0.5 < far["shape"]
    assert abs(small["tower"]) < far["tower"]


def test_ranks_need_four_pairs_and_tell_the_order() -> None:
    rows: list[dict[str, Any]] = [{"tower": -n, "sbir": [0.1 * n, 0.1 * n + 0.01], "bbox": []} for n in range(4)]
    found = ranks(rows)
    assert list(found) == ["sbir"] and found["sbir"][0] == pytest.approx(-1) and found["sbir"][2] == 4
    assert not ranks(rows[:3]) and not ranks([row | {"sbir": [0.1]} for row in rows])


def test_of_a_search_that_is_asked_again_the_first_are_in_the_order_of_the_answers() -> None:
    rng = np.random.default_rng(0)
    scores, truth = rng.normal(size=(2, 40)), rng.random((2, 40))
    for coarse, fine, found in zip(scores, truth, reranked(scores, truth), strict=True):
        order, search = np.argsort(-found).tolist(), np.argsort(-coarse).tolist()
        assert order[:KEEP] == sorted(search[:KEEP], key=lambda place: -fine[place])
        assert order[KEEP:] == search[KEEP:]


def test_the_page_names_the_command_that_makes_it() -> None:
    assert command_of(results()) == "make experiments NAME=stages"
    other = results().model_copy(update={"recipe": "learn", "seeds": [3], "number": 9})
    assert command_of(other) == 'make experiments NAME=stages ARGS="--recipe learn --seeds 3 --number 9"'


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.1, 0.12, 0.11], "**clear**: higher"),
        ([-0.1, -0.12, -0.11], "**clear**: lower"),
        ([0.05, 0.0, 0.04], r"within the noise: some 6 seeds"),
        ([0.001, -0.001, 0.0], "within the noise: too small, or too few images"),
    ],
)
def test_what_a_difference_lets_one_say(values: list[float], said: str) -> None:
    one = Outcome(
        exam="e", condition="asked", task="sbir", figure="f", arm="a", against="b", values=values, error=0.005,
        single=0.005, n=9,
    )  # fmt: skip
    assert verdict(one) == said


# --- exams -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_drawn_with_the_sketches_of_the_shards_an_exam_is_that_of_the_shards(shards: str) -> None:
    loaded = open_model("learn", "cpu")
    processor = processor_of(loaded, ("bbox", "sbir"))
    samples = Samples(shards)

    def sketch_of(asked: Asked) -> Any:
        assert asked.shown is not None
        raw = samples.read(asked.shown.sample)
        strip = cv2.imdecode(np.frombuffer(raw.strip, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert strip is not None
        return strip[STRIP_SIDE * asked.shown.row : STRIP_SIDE * (asked.shown.row + 1)]

    drawn = drawn_exam("drawn", shards, sketch_of, ("bbox", "sbir"), 8).answers(loaded, processor)
    plain = exam_of("plain", shards, ("bbox", "sbir"), 8, ("asked",)).answers(loaded, processor)
    assert drawn == plain
    again = drawn_exam("again", shards, sketch_of, ("bbox", "sbir"), 8, by_class=True)
    assert set(again.answers(loaded, processor)["bbox", "asked"].images) <= set(CLASSES)
    there = again.shown()
    assert there.categories == sorted(there.categories)
    assert len({one.tobytes() for one in there.images}) == len(there.images)
    few = exam_of("few", shards, ("bbox",), 3, ("asked",), keep=partial(crowds._has, least=2, most=2))
    found = few.answers(loaded, processor)["bbox", "asked"]
    assert len(found.rows) == 3  # chosen among those that are kept, not the other way round
    assert 0 < exam_of("c", shards, ("bbox", "sbir"), 8).constant()["sbir"] <= 0.5


@pytest.mark.parametrize("attribute", ["colour", "place"])
def test_the_instance_that_is_meant_has_a_colour_or_place_of_its_own(attribute: Attribute, shards: str) -> None:
    samples = Samples(shards)
    found = told_apart(samples, 0, attribute)
    assert len(found) > 3
    for one in found:
        words = (colours_of if attribute == "colour" else places_of)(samples, one.asked.sample)
        of_class = [words[tuple(box)] for box in one.asked.query.boxes]
        assert of_class[one.asked.own] == one.word and of_class.count(one.word) == 1
        assert one.other != one.word and of_class.count(one.other) == 1


def test_every_question_gets_a_drawing_of_its_own_from_a_bank_of_people(shards: str, tmp_path: Path) -> None:
    for name in ("bird", "key"):
        lines = [
            json.dumps({"word": name, "key_id": f"{n}", "recognized": True, "drawing": [[[0, n + 1], [0, 90]]]})
            for n in range(120)
        ]
        (tmp_path / f"{name}.ndjson").write_text("\n".join(lines) + "\n")
    bank, facts = whole_bank("quickdraw", tmp_path)
    assert bank.categories == ("bird", "key") and [one["split"] for one in facts] == ["train", "val"]
    asked = [one for one in collect(Samples(shards).records, "sbir", bank.categories) if one.query.category == "bird"]
    drawn = {of_bank(one, bank).tobytes() for one in asked}
    assert len(asked) > 5 and len(drawn) > 0.7 * len(asked)


def test_overlap_of_a_class_is_of_one_kind_alone(shards: str) -> None:
    asked = [one for one in collect(Samples(shards).records, "bbox")]
    for one in asked:
        kinds = [name for name, (low, high) in OVERLAPS.items() if _lies(one, low, high)]
        assert len(kinds) == (len(one.query.boxes) > 1)


@given(st.lists(st.integers(2, 9), min_size=1, max_size=9), st.floats(0.01, 1))
@settings(max_examples=50)
def test_the_longest_lines_are_left_in_their_order(counts: list[int], share: float) -> None:
    lines = [np.stack([np.arange(n), np.zeros(n)], 1).astype(np.float32) for n in counts]
    left = longest(lines, share)
    places = [next(n for n, line in enumerate(lines) if line is one) for one in left]
    assert left and places == sorted(places)
    length = sum(len(line) - 1 for line in left)
    assert length >= share * sum(n - 1 for n in counts) - 1e-4
    assert all(len(line) <= min(len(one) for one in left) for n, line in enumerate(lines) if n not in places)


# --- the whole -------------------------------------------------------------------------------------------------------


def test_without_a_name_they_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["experiments"])
    main()
    shown = capsys.readouterr().out
    assert all(name in shown for name in EXPERIMENTS)


def test_a_plan_trains_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["experiments", "stages", "--dry-run", "--out", str(tmp_path / "out")])
    main()
    assert "3 seeds: 21 stages in all, 21 to train" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_experiment_goes_on_where_it_was_and_trains_nothing_twice(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = Setting(seeds=(0, 1), number=6, workers=1, out=str(tmp_path / "out"), pages=str(tmp_path / "pages"))
    monkeypatch.setattr(pretrain, "RECIPES", {"tiny": partial(_short, pretrain.tiny(), shards)})
    monkeypatch.setattr(finetune, "RECIPES", {"tiny": partial(_short, finetune.tiny(), shards)})
    trained: list[str] = []
    monkeypatch.setattr(arm, "_train", partial(_noted, trained, arm._train))
    for module in (arm, experiment):  # a process of its own knows no patch
        monkeypatch.setattr(module, "side_by_side", _in_turn)
    short = replace(STAGES, prepare=lambda setting, console: None, exams=partial(_exams, shards))
    monkeypatch.setitem(EXPERIMENTS, "stages", short)
    found = run(short, setting, QUIET)
    assert len(trained) == 14  # two seeds of: two stages, one stage, another second, one stage, two blind stages
    assert {one.arm for one in found.outcomes} == {"both", "two-alone", "aligned", "unaligned", "blind"}
    assert old_results(setting, "stages") == found
    run(short, setting, QUIET)
    assert len(trained) == 14
    assert "both above two-alone" in write_page(short, found, setting).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["styles", "objectives", "sources", "emergence", "crowds"])
def test_every_experiment_asks_its_exams_and_writes_its_page(
    name: str, shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the model that comes with the package in the place of every arm's, and few scenes and questions."""
    data = tmp_path / "data"
    (data / "quickdraw").mkdir(parents=True)
    for thing in ("bird", "key"):
        lines = [
            json.dumps({"word": thing, "key_id": f"{n}", "recognized": True, "drawing": [[[0, 2 * n], [0, 90]]]})
            for n in range(60)
        ]
        (data / "quickdraw" / f"{thing}.ndjson").write_text("\n".join(lines) + "\n")
    setting = Setting(
        seeds=(0, 1), number=4, workers=1, data=str(data), out=str(tmp_path / "out"), pages=str(tmp_path / "pages")
    )
    tiny = replace(instructions.tiny(), out=str(tmp_path / "tiny"))
    monkeypatch.setitem(instructions.RECIPES, "tiny", lambda: tiny)
    monkeypatch.setitem(instructions.RECIPES, "learn_val", lambda: replace(instructions.learn_val(), out=shards))
    monkeypatch.setattr(instructions, "ensure", lambda recipe, console: shards)
    monkeypatch.setattr(instructions, "ensure_run", partial(_few_scenes, instructions.ensure_run))
    monkeypatch.setattr(sources, "SCENES", 90)
    monkeypatch.setattr(sources, "UNSEEN_SCENES", 30)
    monkeypatch.setattr(sources, "run_sketches", _without_ray)
    monkeypatch.setattr(objectives, "PHOTOS", 12)
    monkeypatch.setattr(objectives, "SKETCHES", 3)
    monkeypatch.setattr(experiment, "train_all", _lend)
    monkeypatch.setattr(experiment, "side_by_side", _in_turn)
    found = run(EXPERIMENTS[name], setting, QUIET)
    page = write_page(EXPERIMENTS[name], found, setting)
    assert page.with_suffix(".png").stat().st_size > 10_000
    text = page.read_text()
    assert old_results(setting, name) == found
    assert all(one.title in text and one.question in text for one in [EXPERIMENTS[name]])
    if name in ("styles", "sources"):
        assert "`quickdraw`: read from the folder `quickdraw`, " in text
        assert "`openmoji`: not asked, no folder of this name lay among the data." in text
        assert "Rank correlation (Spearman)" in text
    write_index(EXPERIMENTS, all_results(EXPERIMENTS, setting.pages), setting)


def _without_ray(config: Any, console: Console) -> int:
    edges = replace(config, engine=EngineConfig("local"), sketcher=SketcherConfig("none"))
    return run_sketches(edges, console)


def _in_turn(work: Any, jobs: Any, workers: int, after: Any = None) -> Any:
    return ((job, work(job)) for job in jobs)


def _few_scenes(ensure_run: Any, config: Any, name: str, console: Console) -> str:
    world = replace(config.source.world, num_scenes=24)
    engine = EngineConfig("local")
    return str(ensure_run(replace(config, source=replace(config.source, world=world), engine=engine), name, console))


def _lend(arms: list[arm.Arm], setting: Setting, console: Console) -> None:
    lent = shipped("learn")
    assert lent
    for one in arms:
        Path(one.bundle).parent.mkdir(parents=True, exist_ok=True)
        if not Path(one.bundle).exists():
            Path(one.bundle).symlink_to(lent)


def _short(config: Any, shards: str) -> Any:
    return replace(config, steps=2, loader=replace(config.loader, shards=shards, batch_size=2))


def _exams(shards: str, setting: Setting) -> list[Any]:
    return [exam_of("unseen", shards, ("sbir",), setting.number)]


def _noted(trained: list[str], train: Any, config: Any) -> float:
    trained.append(config.out)
    return float(train(config))
