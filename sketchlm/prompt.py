"""Prompts: the Vicuna-1.5 template of LLaVA-1.5, the task prefixes of the paper, and the words of questions.

The shards hold facts; what is asked in which words is drawn here, at training time.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from data_manifests.schema import Query
from sketchlm.frame import Frame, to_frame

IMAGE = "<image>"
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
SHORT = "\nAnswer the question using a single word or phrase."
SHORT_WORDS = 5
"""Words of a phrase: questions whose answers are longer do not ask for one."""
MARK = "{# sketchlm: "
"""Begins the comment of a chat template that says the rest of a `PromptConfig`."""
TURN = " ASSISTANT:"
"""Between question and answer; the answer follows after a space, and ends with the tokenizer's `</s>`."""

PREFIX = {"describe": "", "bbox": "BBOX: ", "count": "COUNT: ", "vqa": "VQA: ", "sbir": "SBIR: "}
"""Task prefixes (paper, figure model.png); stage I has none."""

TEMPLATES: dict[str, tuple[str, ...]] = {
    "describe": (
        "Describe the object that the sketch shows and where it is in the image.",
        "What does the sketch show, and where is it in the image?",
        "Explain what the sketch shows in the image.",
        "Find the object of the sketch in the image and describe it.",
        "Tell what the sketch shows and describe it in the image.",
        "Describe the sketch and the object that matches it in the image.",
        "What is the object in the sketch, and where is it in the image?",
        "Look at the sketch and describe the same object in the image.",
    ),
    "bbox": (
        "Draw a bounding box around object represented by the sketch in the image.",
        "Give the bounding box of the object that the sketch shows.",
        "Where in the image is the object of the sketch? Give its bounding box.",
        "Find the object of the sketch in the image and give its bounding box.",
        "Locate the object that the sketch shows.",
        "Give the box of the object in the image that matches the sketch.",
        "What is the bounding box of the object in the sketch?",
        "Draw a box around the object that matches the sketch.",
    ),
    "count": (
        "Count the number of objects in the image that resemble the sketch.",
        "How many objects in the image match the sketch?",
        "How many objects of the sketch are in the image?",
        "Count the objects that the sketch shows.",
        "What is the number of objects in the image that match the sketch?",
        "Give the number of objects that resemble the sketch.",
        "How many times is the object of the sketch in the image?",
        "Count the objects in the image that match the sketch.",
    ),
    "sbir": (
        "Is the object shown in the sketch visible some where in the image, answer with yes or no.",
        "Does the image show the object of the sketch? Answer with yes or no.",
        "Is the object of the sketch in the image? Answer with yes or no.",
        "Does the sketch match an object in the image? Answer with yes or no.",
        "Answer with yes or no: is the object in the sketch visible in the image?",
        "Is there an object in the image that matches the sketch? Answer with yes or no.",
        "Can the object of the sketch be found in the image? Answer with yes or no.",
        "Answer with yes or no: does the image show what the sketch shows?",
    ),
    "vqa": (
        "{question}",
        "Look at the sketch and the image. {question}",
        "{question} Look at the sketch and the image.",
        "Look at the object of the sketch in the image. {question}",
        "The sketch shows an object in the image. {question}",
        "Answer the question: {question}",
        "Find the object of the sketch in the image. {question}",
        "Answer with the sketch and the image: {question}",
    ),
}
"""Wordings of questions about a sketch (the first of bbox, count and sbir are the paper's); at least eight a task."""
OWN_TEMPLATES = tuple(f"{template} Answer with yes or no." for template in TEMPLATES["vqa"])
"""For retrieval that asks something else than whether the object is there: whether the sketch is of this very photo."""
TEXT_TEMPLATES: dict[str, tuple[str, ...]] = {
    "describe": ("Describe the {category} in the image.", "Where is the {category} in the image? Describe it."),
    "bbox": ("Draw a bounding box around the {category} in the image.", "Locate the {category}."),
    "count": ("Count the number of {category} objects in the image.", "How many {category} objects are in the image?"),
    "sbir": ("Is there a {category} in the image? Answer with yes or no.",),
    "vqa": ("{question}",),
}
"""For questions without a sketch (row -1)."""


@dataclass(frozen=True)
class PromptConfig:
    """How questions and answers are worded."""

    system: str = VICUNA
    """Words before the first turn; `tiny` leaves them out, since each costs time."""
    short: bool = True
    """Ask VQA for a single word or phrase where the answer is one, as LLaVA-1.5 does."""
    frame: Frame = "padded"
    """What the numbers of a box are shares of."""
    decimals: int = 2
    """Decimals of a box's numbers."""


def head_of(config: PromptConfig, num_images: int) -> str:
    """Everything before the question: system, USER, and the images (sketch first)."""
    system = f"{config.system} " if config.system else ""
    return f"{system}USER: " + f"{IMAGE}\n" * num_images


def question_of(query: Query, draw: int, config: PromptConfig) -> str:
    """The worded question, its template picked by `draw` (any integer; templates come up evenly)."""
    templates = (TEXT_TEMPLATES if query.row < 0 else TEMPLATES)[query.task]
    if query.task == "sbir" and query.question and query.row >= 0:
        templates = OWN_TEMPLATES
    text = templates[draw % len(templates)].format(question=query.question.strip(), category=query.category)
    short = query.task == "vqa" and config.short and all(len(a.split()) <= SHORT_WORDS for a in query.answers)
    return PREFIX[query.task] + text + (SHORT if short else "")


def answer_of(query: Query, size: tuple[int, int], config: PromptConfig) -> str:
    """The words that are trained; size: (width, height) of the stored image in pixels."""
    if query.task == "sbir":
        return "yes" if query.match == 1 else "no"
    if query.task == "count":
        return str(query.count)
    boxes = box_text(query.boxes, size, config)
    if query.task == "bbox":
        return boxes
    return " ".join(filter(None, (query.answers[0].strip(), boxes if query.task == "describe" else "")))


def chat_template(config: PromptConfig) -> str:
    """The same prompt as a Jinja template, for other software that runs the model; images come first.

    Turns of `user` and `assistant`; what other roles say is left out. A comment at its end says the rest of the
    config, for `read_template`.
    """
    rest = {name: value for name, value in asdict(config).items() if name != "system"}
    system = f"{config.system} " if config.system else ""
    return (
        "{{ " + json.dumps(system) + " }}{% for message in messages %}"
        "{% set said = message['content'] %}"
        "{% if said is string %}{% set said = [{'type': 'text', 'text': said}] %}{% endif %}"
        "{% if message['role'] == 'user' %}USER: "
        "{% for part in said if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
        "{% for part in said if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
        "{% elif message['role'] == 'assistant' %}"
        "{% for part in said if part['type'] == 'text' %}{{ ' ASSISTANT: ' + part['text'] + '</s>' }}{% endfor %}"
        "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
        f"{MARK}{json.dumps(rest)} #}}"
    )


def read_template(template: str) -> PromptConfig | None:
    """The config that a chat template of ours was made from; None of any other."""
    body, _, rest = template.rpartition(MARK)
    try:
        system, _ = json.JSONDecoder().raw_decode(body, len("{{ "))
        config = PromptConfig(system.removesuffix(" "), **json.loads(rest.removesuffix(" #}")))
    except (ValueError, TypeError, AttributeError):
        return None
    return config if chat_template(config) == template else None


def box_text(boxes: list[list[float]], size: tuple[int, int], config: PromptConfig) -> str:
    """`[x1, y1, x2, y2]`, several joined by a comma; shares of the frame."""
    shown = (to_frame(box, size, config.frame) for box in boxes)
    return ", ".join("[" + ", ".join(f"{value:.{config.decimals}f}" for value in box) + "]" for box in shown)


def words() -> list[str]:
    """Every text that the templates can produce (slots left in), for a tokenizer made from nothing."""
    texts = [*PREFIX.values(), VICUNA, SHORT, "USER: ASSISTANT: yes no"]
    for templates in (*TEMPLATES.values(), *TEXT_TEMPLATES.values()):
        texts += [text.replace("{question}", "").replace("{category}", "") for text in templates]
    return texts
