"""Banks under the class names of the images: what is drawn, what is alike, and what nobody may be asked about."""

from __future__ import annotations

import numpy as np
import pytest

from data_manifests.vocabulary import vocabulary
from sketchgen import instructions
from sketchgen.bank import Drawing
from sketchgen.banks.matched import MatchedBank, from_json, to_json
from sketchgen.instructions import InstructionsConfig, match_classes
from sketchgen.source import SourceConfig
from tests.sketchgen.test_instructions import BallBank


class NameBank:
    """Draws nothing, under the names it is given."""

    def __init__(self, *names: str) -> None:
        self.categories = names

    def lookalikes(self, category: str) -> tuple[str, ...]:
        return ()

    def draw(self, category: str, seed: int) -> Drawing:
        return Drawing(f"{category}/{seed}", category, "names", "", "", np.full((256, 256), 255, np.uint8))


def matched(images: list[str], *names: str) -> MatchedBank:
    return MatchedBank(NameBank(*names), vocabulary().match(images, names, "", "quickdraw"))


def test_drawings_carry_the_name_that_the_images_use() -> None:
    bank = matched(["couch", "cell phone", "zebra"], "sofa", "couch", "mobile-phone", "moon")
    assert bank.categories == ("couch", "cell phone")
    drawn = [bank.draw("couch", seed) for seed in range(40)]
    assert {drawing.category for drawing in drawn} == {"couch"}
    assert {drawing.sketch_id.split("/")[0] for drawing in drawn} == {"sofa", "couch"}  # either will do
    for name in ("moon", "zebra"):  # in an image nobody looked for a moon, and no zebra can be drawn
        with pytest.raises(ValueError, match=f"no drawings of '{name}'"):
            bank.draw(name, 0)


def test_what_is_alike_comes_from_the_bank_or_from_the_groups_of_the_vocabulary() -> None:
    bank = matched(["horse", "zebra", "cow", "car", "moon"], "horse", "cow", "car", "moon")
    assert set(bank.lookalikes("horse")) == {"cow"}
    assert set(bank.lookalikes("zebra")) == {"horse", "cow"}  # a class that is not drawn has look-alikes too
    assert bank.lookalikes("moon") == ()
    names = ["ball", "cup", "dog"]
    balls = MatchedBank(BallBank(), vocabulary().match(names, names, "", ""))
    assert balls.lookalikes("ball") == ("dog",)


def test_the_report_comes_back_as_it_was() -> None:
    found = vocabulary().match(["couch", "cat", "mug"], ["sofa", "Cat", "moon"], "", "quickdraw")
    assert from_json(to_json([found, found])) == [found, found]
    assert [match.rule for match in found.matches] == ["alias", "spelling"]


def test_a_source_and_a_bank_without_a_class_in_common_are_an_error(
    coco_folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instructions, "build_bank", lambda config: NameBank("moon", "sun"))
    annotations, images = coco_folder(1)
    source = SourceConfig("coco", annotations=str(annotations), images=str(images))
    with pytest.raises(
        ValueError, match=r"no class of coco \(ball, bat, \.\.\.\) is drawn by shapeworld-hand \(moon, sun"
    ):
        match_classes(InstructionsConfig(source=source))
