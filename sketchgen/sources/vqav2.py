"""VQAv2: ordinary questions about photos of COCO, ten people's answers each.

`v2_OpenEnded_mscoco_SPLIT2014_questions.json` has `questions: [{image_id, question, question_id}]`,
`v2_mscoco_SPLIT2014_annotations.json` has `annotations: [{question_id, multiple_choice_answer, answers: [{answer}]}]`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from data_manifests.schema import source_manifest
from sketchgen.source import SourceConfig, SourceImage, SourceQuery, first_of, image_folder, manifest_split
from sketchgen.sources.json_lists import items
from sketchgen.store import open_url

EVALUATED = "image-of-training"
"""Reason of a question of `val` about a photo that COCO 2017 trains on: the 2014 split was another."""
HASHED = 8 * 1024**2


def read(config: SourceConfig) -> Iterator[SourceImage]:
    """The photos in order of their first question, with all their questions.

    Of `val` only photos in the folder of COCO's val2017 are asked about. Raises ValueError for files that are not as
    above, and FileNotFoundError where one is missing.
    """
    questions, answers = _files(config)
    given = {row["question_id"]: _answers(row) for row in _rows(answers, "annotations", ("question_id",))}
    asked: dict[int, list[SourceQuery]] = {}
    kept = _names(config) if config.split == "val" else None
    for row in _rows(questions, "questions", ("image_id", "question_id")):
        text, found = row.get("question"), given.get(row["question_id"], ())
        text = text.strip() if isinstance(text, str) else ""
        reason = "" if found and text else "no-answer"
        if kept is not None and _file(row["image_id"]) not in kept:
            reason = EVALUATED
        query = SourceQuery(str(row["question_id"]), "vqa", question=text, answers=found, reason=reason)
        asked.setdefault(row["image_id"], []).append(query)
    license = source_manifest(config.name)[0].license.strip()
    for image, queries in asked.items():
        yield SourceImage(str(image), _file(image), 0, 0, license, (), asked=tuple(queries))


def fingerprint(config: SourceConfig) -> str:
    """sha256 of both files. Raises as `read`."""
    digest = hashlib.sha256()
    for url in _files(config):
        fs, path = open_url(url, "source.annotations")
        with fs.open(path, "rb") as file:
            while data := file.read(HASHED):
                digest.update(data)
    return digest.hexdigest()


def _files(config: SourceConfig) -> tuple[str, str]:
    """URLs of questions and answers."""
    manifest, split = source_manifest(config.name)[0], manifest_split(config)
    if not config.root:
        raise ValueError(
            f"source.root is empty: name the folder of {config.name} (--source.root DIR). {manifest.obtain.strip()}"
        )
    return first_of(config, split.annotations, "the questions"), first_of(config, split.answers, "the answers")


def _rows(url: str, name: str, ids: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """The entries of one list of a file, each with these ids, which are whole numbers."""
    fs, path = open_url(url, "source.annotations")
    kinds: dict[str, str] = {}
    with fs.open(path, "rb") as file:
        for key, row in items(file, kinds):
            if key != name:
                continue
            if not isinstance(row, dict) or not all(type(row.get(field)) is int for field in ids):
                raise ValueError(f"{url}: {name} must have {' and '.join(ids)} as whole numbers, see {row!r:.200}")
            yield row
    if kinds.get(name) != "list":
        raise ValueError(
            f"{url} is not in the form of VQAv2: no list {name!r} (seen: {kinds.get('') or sorted(kinds)})"
        )


def _answers(row: dict[str, Any]) -> tuple[str, ...]:
    """The consensus, then what the ten people said; () where nobody said anything."""
    rows = row.get("answers")
    found = [answer.get("answer") for answer in rows if isinstance(answer, dict)] if isinstance(rows, list) else []
    said = [answer.strip() for answer in found if isinstance(answer, str) and answer.strip()]
    if not said:
        return ()
    chosen = row.get("multiple_choice_answer")
    return (chosen if isinstance(chosen, str) and chosen.strip() else max(said, key=said.count), *said)


def _names(config: SourceConfig) -> set[str]:
    fs, root = open_url(image_folder(config), "source.images")
    return {entry.rstrip("/").rpartition("/")[2] for entry in fs.ls(root, detail=False)}


def _file(image: int) -> str:
    """As COCO 2017 calls it."""
    return f"{image:012d}.jpg"
