"""The shard contract: what validates, and what each broken promise is told."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_manifests.schema import Mixture, Source, bank_manifest, load_manifest, source_manifest, validate
from sketchgen.banks import BankName

SOURCES = Path(__file__).parents[2] / "data_manifests" / "sources"


def sample() -> dict[str, Any]:
    """One sample with every kind of query."""
    query = {
        "query_id": "0",
        "row": 0,
        "category": "dog",
        "boxes": [],
        "count": -1,
        "question": "",
        "answers": [""],
        "match": -1,
        "answer_source": "facts",
    }
    box = [12.0, 30.5, 220.0, 400.0]
    return {
        "schema": 1,
        "image": {"source": "coco", "id": "1", "width": 640, "height": 480, "license": "CC0"},
        "objects": [
            {"object_id": "5", "category": "dog", "box": box, "mask": {"size": [480, 640], "counts": "0"},
             "status": "written"},
            {"object_id": "6", "category": "cat", "box": box, "mask": {"size": [0, 0], "counts": ""},
             "status": "rejected"},
        ],
        "sketches": [
            {"row": 0, "sketch_id": "coco/5", "category": "dog", "source": "sketchvcl-coco",
             "style": "pix2pix+edges", "object_id": "5", "generator": "pix2pix-1"},
            {"row": 1, "sketch_id": "quickdraw/77", "category": "cat", "source": "quickdraw",
             "style": "hand", "object_id": "", "generator": ""},
        ],
        "queries": [
            query | {"task": "describe", "answers": ["A dog."], "boxes": [box]},
            query | {"query_id": "1", "task": "bbox", "boxes": [box]},
            query | {"query_id": "2", "task": "count", "row": 1, "count": 0},
            query | {"query_id": "3", "task": "vqa", "row": -1, "question": "Where?", "answers": ["here"]},
            query | {"query_id": "4", "task": "sbir", "match": 0},
        ],
    }  # fmt: skip


def test_every_kind_of_query_validates() -> None:
    checked = validate(sample(), strip_height=512)
    assert [q.task for q in checked.queries] == ["describe", "bbox", "count", "vqa", "sbir"]
    assert validate(checked.model_dump_json(by_alias=True)) == checked


BROKEN = {
    "null": (("image", "license"), None, "license"),
    "missing": (("image", "id"), ..., "id"),
    "unknown field": (("image", "extra"), 1, "extra"),
    "other schema": (("schema",), 2, "schema"),
    "text for a number": (("image", "width"), "640", "width"),
    "box outside": (("objects", 0, "box"), [0.0, 0.0, 700.0, 10.0], "inside the image"),
    "box reversed": (("objects", 0, "box"), [20.0, 0.0, 10.0, 10.0], "inside the image"),
    "box NaN": (("objects", 0, "box"), [float("nan"), 0.0, 10.0, 10.0], "finite"),
    "mask of another size": (("objects", 0, "mask", "size"), [10, 10], "mask"),
    "same object twice": (("objects", 1, "object_id"), "5", "share"),
    "rows with a hole": (("sketches", 1, "row"), 2, "rows"),
    "sketch of no object": (("sketches", 0, "object_id"), "99", "not listed"),
    "row of no sketch": (("queries", 0, "row"), 2, "asks row 2"),
    "unknown task": (("queries", 0, "task"), "guess", "task"),
    "bbox without boxes": (("queries", 1, "boxes"), [], "no answer"),
    "count without a count": (("queries", 2, "count"), -1, "no answer"),
    "vqa without a question": (("queries", 3, "question"), "", "no answer"),
    "sbir without a match": (("queries", 4, "match"), -1, "no answer"),
    "no answers": (("queries", 0, "answers"), [], "answers"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_named(name: str) -> None:
    path, value, word = BROKEN[name]
    broken = copy.deepcopy(sample())
    place: Any = broken
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(ValueError, match=f"shard contract.*{word}"):
        validate(broken)


def test_strip_height_must_hold_all_rows() -> None:
    with pytest.raises(ValueError, match="256 px high, 2 sketches need 512"):
        validate(sample(), strip_height=256)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner)
       | st.dictionaries(st.sampled_from(["schema", "image", "objects", "sketches", "queries"]), inner)))  # fmt: skip
def test_anything_else_is_a_value_error(junk: Any) -> None:
    with pytest.raises(ValueError, match="shard contract"):
        validate({"schema": 1, "objects": junk} if not isinstance(junk, dict) else junk)


def test_mixture_weights_must_sum_to_one(tmp_path: Path) -> None:
    path = tmp_path / "mixture.yaml"
    text = "name: m\nparts:\n- {shards: a, weight: 0.5}\n- {shards: b, weight: %s}\n"
    path.write_text(text % 0.5)
    assert len(load_manifest(path, Mixture).parts) == 2
    path.write_text(text % 0.4)
    with pytest.raises(ValueError, match=r"mixture\.yaml: mixture: weights .* sum to 0\.900000"):
        load_manifest(path, Mixture)
    path.write_text(text.replace("shards: b", "shard: b") % 0.5)
    with pytest.raises(ValueError, match=r"parts\.1\.shards: Field required") as caught:
        load_manifest(path, Mixture)
    assert "pydantic" not in str(caught.value)


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(ValueError, match="not YAML"):
        load_manifest(path, Source)


def test_every_bank_has_a_manifest() -> None:
    names = {path.stem for path in (SOURCES.parent / "banks").glob("*.yaml")}
    assert names == {name for name in get_args(BankName) if name not in ("shapeworld-hand", "blank")}
    manifests = {name: bank_manifest(name) for name in names}
    assert {name: manifest.name for name, manifest in manifests.items()} == {name: name for name in names}
    assert [name for name, manifest in manifests.items() if manifest.evaluation_only] == ["tu_berlin"]


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_checked_in_manifest_loads(path: Path) -> None:
    manifest, found = source_manifest(path.stem)
    assert manifest.name == path.stem
    assert found == path


def test_unknown_source_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"'nowhere'; known are .*sample"):
        source_manifest("nowhere")
