"""How queries read as prompt and answer: the words of the trainer, for the pages that sketchgen writes."""

from __future__ import annotations

from data_manifests.schema import Query, Sample
from sketchgen.seed import seed_of
from sketchlm.prompt import PromptConfig, answer_of, question_of


def worded(query: Query, sample: Sample) -> tuple[str, str]:
    """(prompt, answer) of a query: always the same words for one query, while templates come up evenly over many.

    What the trainer puts around every prompt (system text, images, turns) is left out.
    """
    config = PromptConfig()
    draw = seed_of("wording", sample.image.source, sample.image.id, query.query_id)
    size = sample.image.width, sample.image.height
    return question_of(query, draw, config), answer_of(query, size, config)
