"""Mixtures that are made: the paper's numbers, what is missing and why, and nothing of evaluation in training."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import data_manifests
from data_manifests.schema import Mixture, Sample, load_manifest, mixture_manifest
from pipelines.instructions import MIXTURES, RECIPES, main
from pipelines.mixtures import MixtureConfig, part_config, run_mixture, shares
from sketchgen.banks.sketchy import photo_of
from sketchgen.engine import EngineConfig
from sketchgen.instructions import settings_of
from sketchlm.mixture import read_mixture
from tests.datasets import write_all
from tests.sketchgen.test_instructions import hashes, ledger, samples

MANIFESTS = sorted((Path(data_manifests.__file__).parent / "mixtures").glob("*.yaml"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("all") / "data"
    for _ in write_all(root):
        pass
    return root


def config(data: Path, out: Path, mixture: str = "finetune_215k", **fields: Any) -> MixtureConfig:
    return MixtureConfig(
        mixture, str(data), banks=("sketchy", "quickdraw"), engine=EngineConfig("local"), out=str(out), **fields
    )


def run(one: MixtureConfig) -> str:
    console = Console(file=io.StringIO(), record=True, width=200)
    assert run_mixture(one, console) == 0
    return console.export_text()


def records(out: Path) -> dict[str, list[Sample]]:
    """By part."""
    return {
        part.name: [record for record, _, _ in samples(part).values()]
        for part in sorted(out.iterdir())
        if part.is_dir()
    }


def targets_of(size: int) -> dict[str, int]:
    """What each part of the paper's second stage is to hold."""
    parts = mixture_manifest("finetune_215k").parts
    return dict(zip((part.shards for part in parts), shares(size, [part.weight for part in parts]), strict=True))


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    run(config(data, out, size=120))
    return out


# --- manifests


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_every_manifest_says_what_its_parts_are_made_of(path: Path) -> None:
    manifest = load_manifest(path, Mixture)
    assert manifest.name == path.stem and manifest.title and manifest.description
    assert path.stem in MIXTURES or path.stem in RECIPES
    for part in manifest.parts:
        one = part_config(part, 10, MixtureConfig(manifest.name, "somewhere", out="out"))
        assert one.tasks.names == tuple(part.tasks)
        assert {bank.split for bank in (one.bank, *one.also)} == {"train"}


def test_the_two_mixtures_have_the_sizes_of_the_paper() -> None:
    pretrain, finetune = mixture_manifest("pretrain_600k"), mixture_manifest("finetune_215k")
    sizes = {part.source: round(part.weight * pretrain.size) for part in pretrain.parts}
    assert sizes == {"objects365": 300_000, "openimages": 300_000}
    assert {part.tasks[0] for part in pretrain.parts} == {"describe"}
    by_task: Counter[str] = Counter()
    for part in finetune.parts:
        by_task[part.tasks[0]] += round(part.weight * finetune.size)
    assert by_task == {"bbox": 110_000, "vqa": 50_000, "count": 30_000, "sbir": 25_000}
    halves = {part.source: round(part.weight * finetune.size) for part in finetune.parts if part.tasks == ["vqa"]}
    assert halves == {"coco": 25_000, "vqav2": 25_000}
    drawn = {bank for part in (*pretrain.parts, *finetune.parts) for bank in part.banks}
    assert drawn == {"sketchy", "quickdraw", "sketchvcl-coco", "sketchvcl-objects365", "sketchvcl-openimages"}


def own(tmp_path: Path, **part: Any) -> str:
    """A manifest of one part."""
    usual = {"shards": "one", "weight": 1.0, "source": "coco", "tasks": ["sbir"], "banks": {"quickdraw": 1.0}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"name": "mine", "size": 20, "parts": [usual | part]}))
    return str(path)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"banks": {"tu_berlin": 1.0}}, "kept for evaluation: no training set may hold its drawings"),
        ({"banks": {"quickdraw": 0.5, "sketchy": 0.4}}, r"banks of 'one' sum to 0\.900000, must be 1"),
        ({"weight": 0.9}, r"weights of mixture 'mine' sum to 0\.900000, must be 1"),
        ({"tasks": []}, "has a source and no tasks"),
        ({"tasks": ["draw"]}, "tasks.0"),
        ({"ask": {"max_bocks": 2}}, "max_bocks"),
        ({"ask": {"lookalikes": 2}}, r"tasks\.lookalikes is 2\.0, must be from 0 to 1"),
        ({"source": "cocoa"}, "no source is called 'cocoa'"),
        ({"source": ""}, "nothing says what one is made of"),
        ({"banks": {"tu_bern": 1.0}}, "no bank is called 'tu_bern'"),
        ({"tasks": ["vqa"], "source": "pixmo_count"}, "knows counts, which do not answer vqa"),
    ],
)
def test_a_manifest_that_cannot_be_made_is_refused_before_anything_is(
    data: Path, tmp_path: Path, part: dict[str, Any], message: str
) -> None:
    one = replace(config(data, tmp_path / "out", own(tmp_path, **part)), banks=())
    with pytest.raises(ValueError, match=message):
        run_mixture(one, Console(file=io.StringIO()))
    assert not (tmp_path / "out").exists()


def test_all_that_is_missing_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKETCH_DATA_DIR", str(tmp_path))
    (tmp_path / "coco").mkdir()
    one = MixtureConfig("finetune_215k", out=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="lacks 5 of the folders") as error:
        run_mixture(one, Console(file=io.StringIO()))
    for name in ("pixmo_count/", "vqav2/", "sketchy/", "quickdraw/", "sketchvcl-coco/"):
        assert f"\n  {name}: " in str(error.value)
    assert "Or do with less: --parts" in str(error.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parts": ("detections",)}, "has no part 'detections', only detection, counting"),
        ({"banks": ("openmoji",)}, "draws with no 'openmoji', only with sketchy, quickdraw, sketchvcl-coco"),
        ({"unseen": "shen"}, "known are shen-25, yelamarthi-21"),
        ({"mixture": "nowhere.yaml"}, r"cannot read the mixture nowhere\.yaml"),
    ],
)
def test_mistakes_on_the_command_line_are_named(
    data: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_mixture(replace(config(data, tmp_path / "out"), **fields), Console(file=io.StringIO()))


# --- what is made


def test_every_part_is_there_as_the_manifest_wants_it(made: Path) -> None:
    parts = records(made)
    assert set(parts) == {"detection", "counting", "questions", "ordinary", "retrieval"}
    tasks = {name: {q.task for record in found for q in record.queries} for name, found in parts.items()}
    assert tasks == {
        "detection": {"bbox"}, "counting": {"count"}, "questions": {"vqa"}, "ordinary": {"vqa"}, "retrieval": {"sbir"}
    }  # fmt: skip
    drawn = {s.source for found in parts.values() for record in found for s in record.sketches}
    assert drawn == {"sketchy", "quickdraw"}
    answers = Counter(q.match for record in parts["retrieval"] for q in record.queries)
    assert answers[0] == answers[1] > 0


def test_no_part_is_larger_than_its_share_and_the_run_says_how_far_it_came(data: Path, made: Path) -> None:
    text = run(config(data, made, size=120))
    assert "Nothing is left to do" in text
    for name, target in targets_of(120).items():
        written = sum(row.status == "written" for row in ledger(made / name))
        assert 0 < written <= target
        [line] = [line for line in text.splitlines() if re.match(rf"{name} +\d", line)]
        assert f"{100 * written // target}% of {target}" in line
        assert written == target or f"{name}: {target - written} queries short of {target}: " in text


def test_training_reads_the_mixture(made: Path) -> None:
    folders, weights = read_mixture(str(made / "mixture.yaml"))
    assert len(folders) == len(weights) == 5
    assert weights == pytest.approx([part.weight for part in mixture_manifest("finetune_215k").parts], abs=1e-6)
    card = json.loads((made / "card.json").read_text())
    assert card["target"] == 120
    assert {part["name"] for part in card["parts"]} == {"detection", "counting", "questions", "ordinary", "retrieval"}
    assert (made / "card.html").stat().st_size < 6e6


def test_parts_one_by_one_are_the_same_bytes(data: Path, made: Path, tmp_path: Path) -> None:
    targets = targets_of(120)
    for name, target in targets.items():
        run(config(data, tmp_path, parts=(name,), size=target))
    assert {name: hashes(tmp_path / name) for name in targets} == {name: hashes(made / name) for name in targets}


@pytest.mark.slow
def test_workers_of_ray_make_the_same_bytes(data: Path, made: Path, tmp_path: Path) -> None:
    targets = targets_of(120)
    one = config(data, tmp_path, parts=("retrieval",), size=targets["retrieval"])
    run(replace(one, engine=EngineConfig("ray", workers=2)))
    assert hashes(tmp_path / "retrieval") == hashes(made / "retrieval")


def test_a_rerun_with_another_size_is_refused(data: Path, made: Path) -> None:
    with pytest.raises(ValueError, match=r"made with other settings:\n +size: "):
        run_mixture(config(data, made, size=60), Console(file=io.StringIO()))


def test_the_embedded_default_is_the_mixture_of_its_name() -> None:
    one = RECIPES["tiny"]()
    assert one.source.world.num_scenes == 1500 and one.images_per_shard == 125
    assert one.out == "out/instructions/tiny"
    assert settings_of(one)["size"] == 0


def test_a_manifest_of_ones_own_is_made_by_its_file_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = own(tmp_path)
    args = [name, "--data", str(data), "--engine.name", "local", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["instructions", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert "mixture.yaml" in capsys.readouterr().out
    assert (tmp_path / "out" / "card.html").exists()


# --- hygiene


def test_nothing_that_is_evaluated_is_trained_on(data: Path, made: Path, tmp_path: Path) -> None:
    """By image and by drawing, over all parts; COCO and VQAv2 share their photos, Sketchy's drawings have photos."""
    manifest = mixture_manifest("finetune_215k").model_dump()
    for part in manifest["parts"]:
        part["split"] = "val"
    (tmp_path / "val.yaml").write_text(yaml.safe_dump(manifest))
    run(config(data, tmp_path / "val", str(tmp_path / "val.yaml"), size=120))
    seen = {split: _all_ids(records(out)) for split, out in (("train", made), ("val", tmp_path / "val"))}
    for kind in seen["train"]:
        assert seen["train"][kind] and seen["val"][kind]
        assert not seen["train"][kind] & seen["val"][kind], kind


def _all_ids(parts: dict[str, list[Sample]]) -> dict[str, set[str]]:
    found = [record for records in parts.values() for record in records]
    photos = {(record.image.source.split("-")[0].replace("vqav2", "coco"), record.image.id) for record in found}
    sketches = {s.sketch_id for record in found for s in record.sketches}
    drawn_of = {("sketchy", photo_of(Path(name))) for name in sketches if name.startswith("sketchy/")}
    return {"images": {"/".join(pair) for pair in photos | drawn_of}, "sketches": sketches}


def test_classes_that_are_kept_unseen_are_nowhere(data: Path, tmp_path: Path) -> None:
    text = run(config(data, tmp_path, size=120, unseen="shen-25"))
    assert "class-unseen" in text
    kept_out = {"horse", "cup", "umbrella", "teddy bear", "airplane", "scissors"}
    for found in records(tmp_path).values():
        for record in found:
            named = {o.category for o in record.objects} | {s.category for s in record.sketches}
            assert not named & kept_out
            said = " ".join(text for q in record.queries for text in (q.question, q.category, *q.answers)).lower()
            assert not [name for name in kept_out if re.search(rf"\b{name}s?\b", said)]


def test_a_part_that_comes_to_nothing_is_told_and_left_out(data: Path, tmp_path: Path) -> None:
    """Of PixMo's val nothing is drawn by the banks that are there."""
    parts = [
        {"shards": "counting", "weight": 0.5, "source": "pixmo_count", "split": "val", "tasks": ["count"]},
        {"shards": "retrieval", "weight": 0.5, "source": "sketchy", "split": "val", "tasks": ["sbir"]},
    ]
    banks = {"banks": {"sketchy": 1.0}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"name": "mine", "parts": [part | banks for part in parts]}))
    one = replace(config(data, tmp_path / "out", str(tmp_path / "mine.yaml")), banks=())
    assert re.search(r"counting +0 ", run(one))
    folders, weights = read_mixture(str(tmp_path / "out" / "mixture.yaml"))
    assert ([Path(folder.url).name for folder in folders], weights) == (["retrieval"], [1.0])
    assert "counting" in (tmp_path / "out" / "card.html").read_text()


@pytest.mark.parametrize(
    ("size", "weights"),
    [(215_000, [0.511628, 0.139535, 0.116279, 0.116279, 0.116279]), (7, [0.5, 0.3, 0.2]), (0, [1.0])],
)
def test_shares_sum_to_the_size(size: int, weights: list[float]) -> None:
    found = shares(size, weights)
    assert sum(found) == size
    assert all(abs(some - size * weight) < 1 for some, weight in zip(found, weights, strict=True))


def test_a_part_made_alone_joins_those_that_are_there(data: Path, tmp_path: Path) -> None:
    run(config(data, tmp_path, parts=("retrieval", "ordinary"), size=20))
    run(config(data, tmp_path, parts=("detection",), size=10))
    folders, weights = read_mixture(str(tmp_path))  # the folder does as well as its manifest
    assert [Path(folder.url).name for folder in folders] == ["detection", "ordinary", "retrieval"]
    assert sum(weights) == pytest.approx(1)
    assert "config_name: ordinary" in (tmp_path / "README.md").read_text()


def test_a_size_too_small_for_a_part_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of 2 queries there are none for questions"):
        run(config(data, tmp_path, size=2))


def test_a_dry_run_says_what_is_done_and_refuses_what_the_run_would(data: Path, made: Path) -> None:
    assert "1 shards, 1 done" in run(config(data, made, size=120, dry_run=True))
    with pytest.raises(ValueError, match="made with other settings"):
        run(config(data, made, size=60, dry_run=True))
