"""VQAv2: questions and ten answers to each in two files, about photos of COCO under their names of 2014."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests.datasets.coco import coco_name
from tests.datasets.photos import Photo, make_photo, save_photo

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
UNUSUAL = "zebra"
"""A class of COCO that no photo here shows."""

Asked = tuple[str, str, str, list[str]]
"""Question, its type, the type of its answer, and what ten people say."""


def write_vqav2(root: Path, split: str, image_ids: Sequence[int], seed: int = 0) -> None:
    """`v2_OpenEnded_mscoco_SPLIT2014_questions.json`, `v2_mscoco_SPLIT2014_annotations.json` and
    `SPLIT2014/COCO_SPLIT2014_*.jpg`.

    image_ids: of `write_coco`, which draws the same photos for the same seed. Annotations are in another order than
    questions, and people disagree as they do.
    """
    questions, annotations = [], []
    for image_id in image_ids:
        photo = make_photo(image_id, seed)
        save_photo(photo, root / f"{split}2014" / f"COCO_{split}2014_{image_id:012d}.jpg")
        for number, asked in enumerate(_asked(photo, Random(f"vqa/{seed}/{image_id}"))):
            question_id = 1000 * image_id + number
            questions.append({"image_id": image_id, "question": asked[0], "question_id": question_id})
            annotations.append(_annotation(image_id, question_id, asked))
    Random(seed).shuffle(annotations)
    subset = {"data_subtype": f"{split}2014", "data_type": "mscoco", "license": {"url": "", "name": ""}, "info": {}}
    asked_file = {"task_type": "Open-Ended", "questions": questions} | subset
    (root / f"v2_OpenEnded_mscoco_{split}2014_questions.json").write_text(json.dumps(asked_file))
    answered_file = {"annotations": annotations} | subset
    (root / f"v2_mscoco_{split}2014_annotations.json").write_text(json.dumps(answered_file))


def _annotation(image_id: int, question_id: int, asked: Asked) -> dict[str, Any]:
    _, question_type, answer_type, answers = asked
    sure = ("yes", "yes", "maybe", "yes", "no")
    return {
        "question_type": question_type,
        "multiple_choice_answer": Counter(answers).most_common(1)[0][0],
        "answers": [
            {"answer": answer, "answer_confidence": sure[(question_id + n) % len(sure)], "answer_id": n}
            for n, answer in enumerate(answers, 1)
        ],
        "image_id": image_id,
        "answer_type": answer_type,
        "question_id": question_id,
    }


def _asked(photo: Photo, random: Random) -> list[Asked]:
    """A number, a yes, a no and a class; nothing about a photo that shows no class of COCO but the no."""
    counts = Counter(name for thing in photo.things if (name := coco_name(thing)))
    asked: list[Asked] = [(f"Is there a {UNUSUAL}?", "is there a", "yes/no", _ten("no", "yes", random))]
    if not counts:
        return asked
    name, count = counts.most_common(1)[0]
    left = min((thing for thing in photo.things if coco_name(thing)), key=lambda thing: thing.box[0])
    many = f"How many things like a {name} are in this picture?"
    asked += [
        (many, "how many", "number", _ten(str(count), NUMBERS[count], random)),
        (f"Is there a {name} here?", "is there a", "yes/no", _ten("yes", "Yes.", random)),
        ("What is farthest on the left?", "what is", "other", _ten(coco_name(left), f"a {coco_name(left)}", random)),
    ]
    return asked


def _ten(answer: str, other: str, random: Random) -> list[str]:
    """Six to ten say the one, some say it in another way, and one may not know."""
    others = random.randint(0, 3)
    found = [answer] * (10 - others) + [other] * others
    if others == 3:
        found[0] = "i don't know"
    random.shuffle(found)
    return found
