"""The bank of white pages: every class that COCO has, nothing on any."""

from __future__ import annotations

import numpy as np

from data_manifests.vocabulary import vocabulary
from sketchgen.banks import BankConfig, bank_settings, build_bank, check_bank
from tests.datasets.coco import CATEGORY_IDS


def test_it_has_a_white_page_for_every_class_of_coco() -> None:
    check_bank(BankConfig("blank", split="val"))
    bank = build_bank(BankConfig("blank", split="val"))
    matching = vocabulary().match(CATEGORY_IDS, bank.categories, "coco", "blank")
    assert matching.images == () and len(matching.drawn_by) == 80
    page = bank.draw("dog", 3)
    assert page.category == "dog" and page.image.shape == (256, 256)
    assert page.image.dtype == np.uint8 and (page.image == 255).all()
    assert bank.lookalikes("dog") == ()
    assert bank_settings(BankConfig("blank", split="val")) == {"name": "blank", "split": "val"}
