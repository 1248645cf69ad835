"""Wording of data cards: what the trainer would ask and teach."""

from __future__ import annotations

from collections import Counter

import pytest

from data_manifests.schema import Image, Query, Sample
from pipelines.wording import worded
from sketchlm.prompt import PREFIX, TEMPLATES


def sample(number: int) -> Sample:
    image = Image(source="shapeworld", id=str(number), width=200, height=100, license="")
    return Sample(schema_=1, image=image, objects=[], sketches=[], queries=[])


def query(task: str, row: int = 0) -> Query:
    return Query(
        query_id=f"{task}-{row}", task=task, row=row, category="dog", boxes=[[0, 0, 100, 100]], count=3,
        question="Where is it?" if task == "vqa" else "", answers=["middle"], match=1, answer_source="template",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("task", "answer"),
    [("bbox", "[0.00, 0.25, 0.50, 0.75]"), ("count", "3"), ("sbir", "yes"), ("vqa", "middle"),
     ("describe", "middle [0.00, 0.25, 0.50, 0.75]")],
)  # fmt: skip
def test_prompt_and_answer_are_those_of_the_trainer(task: str, answer: str) -> None:
    prompt, said = worded(query(task), sample(1))
    assert said == answer
    plain = [PREFIX[task] + text.format(question="Where is it?") for text in TEMPLATES[task]]
    assert any(prompt.startswith(text) for text in plain)
    assert (prompt, said) == worded(query(task), sample(1))


def test_templates_come_up_evenly() -> None:
    prompts = Counter(worded(query("bbox"), sample(number))[0] for number in range(800))
    assert len(prompts) == len(TEMPLATES["bbox"])
    assert min(prompts.values()) > 60


def test_a_question_without_a_sketch_names_the_class() -> None:
    assert "dog" in worded(query("bbox", row=-1), sample(1))[0]
