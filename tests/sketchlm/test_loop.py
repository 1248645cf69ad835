"""The loop: exact resume, one mean over a step however it is cut, ends that lose nothing, and what a person sees."""

from __future__ import annotations

import io
import json
import math
import os
import random
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from sketchlm import checkpoint
from sketchlm.bundle import load_bundle
from sketchlm.loader import LoaderConfig
from sketchlm.loop import Course, Stopped, claimed, seed_of, train
from sketchlm.loss import LossConfig
from sketchlm.model import ModelConfig, without_wrappers
from sketchlm.optimizer import OptimizerConfig
from sketchlm.processor import ProcessorConfig
from sketchlm.progress import cut_log
from sketchlm.training import TrainConfig, WarmStartConfig, build_parts, settings_of
from tests.sketchlm.llava import save_published
from tests.sketchlm.runs import (
    CLASSES,
    TEXTS,
    losses,
    run,
    run_apart,
    small,
    spawn,
    stopping_after,
    tower_stage,
    with_fusion,
    with_lora,
    write_training_shards,
)

MUON = OptimizerConfig(name="muon", lr=1e-3, warmup=0.1)
KINDS: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    "adamw": lambda config: config,
    "muon": lambda config: replace(config, optimizer=MUON),
    "tower": lambda config: replace(tower_stage(config), optimizer=MUON),
    "lora with dropout": lambda config: with_lora(config, lora_dropout=0.1),
    "fusion": lambda config: with_fusion(replace(config, optimizer=MUON)),
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_shards(tmp_path_factory.mktemp("shards"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_cut_off_goes_on_exactly(shards: Path, tmp_path: Path, kind: str) -> None:
    config = KINDS[kind](small(shards, tmp_path / "whole", steps=7))
    run(config)
    cut = replace(config, out=str(tmp_path / "cut"))
    for steps in (3, 1, 2):  # dies after steps 3, 3 and 4; checkpoints are of steps 2 and 4
        with stopping_after(steps), pytest.raises(InterruptedError):
            run(cut)
    run(cut)
    assert losses(cut.out) == losses(config.out)
    weights = [checkpoint.newest(Path(c.out)) / "weights.safetensors" for c in (config, cut)]  # type: ignore[operator]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adamw", "muon", "tower"])
def test_killed_five_times_it_goes_on_exactly(shards: Path, tmp_path: Path, kind: str) -> None:
    config = KINDS[kind](small(shards, tmp_path / "whole", steps=40, checkpoint_every=3))
    run(config)
    killed = replace(config, out=str(tmp_path / "killed"))
    log, rng = Path(killed.out) / "log.jsonl", random.Random(kind)
    targets = sorted(rng.sample(range(1, 39), 5))
    for target in targets:
        process = spawn(run_apart, killed)
        while process.is_alive() and (not log.is_file() or len(log.read_text().splitlines()) < target):
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"it ended before step {target}"
    process = spawn(run_apart, killed)
    process.join()
    assert process.exitcode == 0
    assert losses(killed.out) == losses(config.out)


def dies_while_saving(config: TrainConfig, step: int) -> None:
    """SIGKILL between the weights and the moments of the checkpoint after `step` steps."""
    write = checkpoint.save_file

    def dying(tensors: Any, path: Path) -> None:
        write(tensors, path)
        if f"{step:06d}" in str(path):
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.save_file = dying
    run_apart(config)


@pytest.mark.slow
def test_a_half_written_checkpoint_is_never_picked_up(shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path / "out")
    process = spawn(dies_while_saving, config, 4)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert {path.name for path in (tmp_path / "out").glob("*step*")} == {"step-000002", ".tmp-step-000004"}
    run(config)
    assert not list((tmp_path / "out").glob(".tmp-*"))
    uninterrupted = small(shards, tmp_path / "other")
    run(uninterrupted)
    assert losses(config.out) == losses(uninterrupted.out)


def test_accumulation_makes_the_same_step(shards: Path, tmp_path: Path) -> None:
    """Up to the order of sums. The tower's own loss is a mean of its batches' means, and so depends on the cut."""
    once = small(shards, tmp_path / "once", loss=LossConfig())
    run(once)
    twice = replace(once, out=str(tmp_path / "twice"), accumulation=2, loader=replace(once.loader, batch_size=2))
    run(twice)
    for name in ("loss", "norm"):
        assert losses(twice.out, name) == pytest.approx(losses(once.out, name), rel=5e-6)
    assert losses(twice.out, "queries") == losses(once.out, "queries")


def test_checkpointing_of_activations_changes_nothing(shards: Path, tmp_path: Path) -> None:
    config = with_lora(small(shards, tmp_path / "plain"), lora_dropout=0.1)
    run(config)
    saving = replace(config, out=str(tmp_path / "saving"), model=replace(config.model, checkpointing=True))
    run(saving)
    assert losses(saving.out) == losses(config.out)


def test_the_tail_of_the_schedule_and_the_weights_of_tasks_count(shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path / "out", task_weights=(("bbox", 0.0), ("vqa", 2.0)))
    run(config)
    line = json.loads((tmp_path / "out" / "log.jsonl").read_text().splitlines()[0])
    tasks = {name: value for name, value in line.items() if name.startswith("loss_")}
    assert set(tasks) == {f"loss_{task}" for task in ("describe", "bbox", "count", "vqa", "sbir")}
    assert line["rate"] == 1.0
    assert line["queries"] == 20


def test_bfloat16_holds_the_base_and_trains_in_full_precision(shards: Path, tmp_path: Path) -> None:
    """Measured worst case 6e-4 of the loss over these steps."""
    save_published(tmp_path / "base")
    model = ModelConfig(base=str(tmp_path / "base"), lora_rank=4)
    processor = ProcessorConfig(tasks=("describe", "bbox", "count", "sbir"))
    config = small(shards, tmp_path / "full", model=model, processor=processor, steps=4)
    config = replace(config, loss=LossConfig())
    run(config)
    half = replace(config, precision="bf16", out=str(tmp_path / "half"))
    run(half)
    assert losses(half.out) == pytest.approx(losses(config.out), rel=2e-3)
    assert losses(half.out) != losses(config.out)
    bundle = tmp_path / "half" / "bundle"
    for start in (model, replace(model, base=str(bundle))):
        parameters = build_parts(replace(half, model=start), TEXTS, CLASSES).objective.named_parameters()
        kinds = {(p.requires_grad, p.dtype) for name, p in parameters if "original_module" not in name}
        assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    trained = load_bundle(bundle, trainable=True, dtype="auto").model.state_dict()
    for name, tensor in checkpoint.load_file(tmp_path / "half" / "step-000004" / "weights.safetensors").items():
        kept = [t for n, t in trained.items() if without_wrappers(f"model.{n}") == name]
        assert torch.equal(kept[0], tensor), name  # not rounded on its way through the bundle


def test_lora_takes_its_inputs_as_they_come(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_lora(small(shards, tmp_path / "spared", precision="bf16", steps=3))
    run(config)
    monkeypatch.setattr("sketchlm.loop.spare_casts", lambda _: None)
    cast = replace(config, out=str(tmp_path / "cast"))
    run(cast)
    assert losses(cast.out) == losses(config.out)


@pytest.mark.slow
def test_compiled_layers_train_the_same(shards: Path, tmp_path: Path) -> None:
    """Equal to the bit where it was measured; a compiler may add up in another order."""
    config = with_lora(small(shards, tmp_path / "plain", steps=4, checkpoint_every=2))
    run(config)
    compiled = replace(config, out=str(tmp_path / "compiled"), compile=True)
    run(compiled)
    assert losses(compiled.out) == pytest.approx(losses(config.out), rel=1e-5)
    names = [
        checkpoint.load_file(tmp_path / out / "step-000004" / "weights.safetensors").keys()
        for out in ("plain", "compiled")
    ]
    assert set(names[0]) == set(names[1])


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_that_is_no_number_ends_the_run_and_saves_nothing(
    shards: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Course._backward

    def broken(self: Course, *args: Any) -> torch.Tensor:
        figures = original(self, *args)
        if self._loader.state_dict()["sample"] >= 8:  # in the fourth step
            if where == "loss":
                figures[0] = math.nan
            else:
                next(p for p in self._parameters if p.grad is not None).grad.fill_(math.inf)  # type: ignore[union-attr]
        return figures

    monkeypatch.setattr(Course, "_backward", broken)
    config = small(shards, tmp_path / "out", checkpoint_every=1)
    with pytest.raises(
        FloatingPointError, match=r"pretrain small, step \d: the loss is .* lower --optimizer.lr .now 0.00"
    ):
        run(config)
    newest = checkpoint.newest(tmp_path / "out")
    assert newest is not None
    assert int(newest.name[5:]) == len(losses(config.out)) < config.steps
    weights = checkpoint.load_file(newest / "weights.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_ends_with_its_code(shards: Path, tmp_path: Path, number: int, code: int) -> None:
    config = small(shards, tmp_path / "out", steps=100_000, checkpoint_every=0, loader=small(shards, "").loader)
    process = spawn(run_apart, config)
    log = tmp_path / "out" / "log.jsonl"
    while process.is_alive() and not (log.is_file() and log.stat().st_size > 2000):
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == code
    newest = checkpoint.newest(tmp_path / "out")
    assert newest is not None
    assert int(newest.name[5:]) == len(losses(config.out))
    with stopping_after(2), pytest.raises(InterruptedError):
        run(config)
    assert len(losses(config.out)) == int(newest.name[5:]) + 2


def test_a_signal_in_the_last_step_lets_the_run_end(shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path / "out", steps=1)
    original = Course._step

    def asked(self: Course, step: int, batches: Any, _: bool) -> Any:
        return original(self, step, batches, True)

    Course._step = asked  # type: ignore[method-assign]
    try:
        assert run(config).is_dir()
        with pytest.raises(Stopped, match="stopped after step 1; run the same command again to go on") as caught:
            run(replace(config, steps=2, out=str(tmp_path / "two")))
    finally:
        Course._step = original  # type: ignore[method-assign]
    assert caught.value.code == 143


def test_a_checkpoint_of_another_recipe_is_refused_field_by_field(shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path / "out", steps=2)
    run(config)
    other = replace(config, recipe="other", optimizer=replace(config.optimizer, lr=2e-3), accumulation=2)
    with pytest.raises(ValueError, match="out/step-000002 was made with other settings:\n") as caught:
        run(other)
    message = str(caught.value)
    assert "  recipe: 'small' there, 'other' now\n" in message
    assert "  optimizer.lr: 0.001 there, 0.002 now\n" in message
    assert "  accumulation: 1 there, 2 now\n" in message
    assert "delete" in message and "another --out" in message
    free = replace(config, keep=5, log_every=1, checkpoint_every=9, loader=replace(config.loader, workers=1))
    assert settings_of(free) == settings_of(config)
    run(free)


def test_other_shards_are_refused(shards: Path, tmp_path: Path) -> None:
    config = small(tmp_path / "shards", tmp_path / "out", steps=2)
    write_training_shards(tmp_path / "shards", (6,))
    run(config)
    write_training_shards(tmp_path / "shards", (5,))
    with pytest.raises(ValueError, match=r"(?s)saved position is one in another order.*samples: 6 there, 5 here"):
        run(config)


def test_two_runs_do_not_share_a_folder(shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path / "out", steps=1)
    (tmp_path / "out").mkdir()
    with claimed(tmp_path / "out"), pytest.raises(ValueError, match="another run writes to .*out: wait for its end"):
        run(config)
    run(config)


def test_a_finished_run_is_only_bundled_again(shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path / "out", steps=2)
    bundle = run(config)
    before = losses(config.out)
    (bundle / "bundle.json").unlink()
    run(config)
    assert losses(config.out) == before
    assert load_bundle(bundle).info.trained["steps"] == 2


def test_stages_follow_each_other_in_one_process(shards: Path, tmp_path: Path) -> None:
    first = tower_stage(small(shards, tmp_path / "tower", steps=2))
    bundle = run(first)
    second = small(shards, tmp_path / "second", steps=2)
    again = replace(second, model=replace(second.model, base=str(bundle)))
    loaded = build_parts(again, TEXTS, CLASSES).objective
    trained = checkpoint.load_file(tmp_path / "tower" / "step-000002" / "weights.safetensors")
    mine = checkpoint.trained_of(loaded)
    assert all(torch.equal(mine[name], tensor) for name, tensor in trained.items())
    run(again)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"keep": 0}, "keep is 0"),
        ({"log_every": 0}, "log_every is 0"),
        ({"checkpoint_every": -1}, "checkpoint_every is -1; it must be at least 0"),
        ({"optimizer": OptimizerConfig(lr=-1e-3)}, "optimizer.lr is -0.001; it must be above 0"),
        ({"optimizer": OptimizerConfig(final=2.0)}, "optimizer.final is 2.0; it must be at least 0 and at most 1"),
        ({"warm": WarmStartConfig(steps=-3)}, "warm.steps is -3"),
        ({"loader": LoaderConfig("x", batch_size=0)}, "loader.batch_size is 0, must be at least 1"),
        ({"model": ModelConfig(lora_rank=0)}, "model.lora_rank is 0"),
        ({"model": ModelConfig(base="/no/llava-1.5-7b")}, "there is no folder /no/llava-1.5-7b, and it is no hub id"),
        ({"model": ModelConfig(base=str(Path(__file__).parent))}, "holds no model: it has no config.json"),
        ({"task_weights": (("boxes", 2.0),)}, "task_weights: 'boxes' is 2.0; tasks are describe"),
        ({"optimizer": OptimizerConfig(warmup=1.0)}, "optimizer.warmup is 1.0"),
        ({"trackers": ("tensorbord",)}, "trackers: 'tensorbord' is none; known are .*tensorboard"),
        ({"trackers": ("wandb",)}, "trackers: wandb is not installed here .pip install wandb."),
        ({"device": "tpu"}, "device is 'tpu'; take cpu, cuda"),
        ({"sharding": "zero2"}, "sharding zero2 needs a GPU"),
        ({"sharding": "fsdp"}, "sharding fsdp needs several processes"),
        ({"model": ModelConfig(base="some/folder", four_bit=True)}, "model.four_bit needs a GPU and bitsandbytes: pip"),
        ({"model": ModelConfig(four_bit=True)}, "model.four_bit is for a LLaVA that was trained"),
        ({"stage": "tower", "loss": LossConfig()}, "stage tower trains by loss.tower"),
    ],
)
def test_settings_that_cannot_be_are_named_before_anything_is_written(
    shards: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    if torch.cuda.is_available() and "GPU" in message:
        pytest.skip("there is a GPU here")
    with pytest.raises(ValueError, match=message):
        run(small(shards, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_trackers_write_beside_the_run(shards: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = small(shards, tmp_path / "out", trackers=("tensorboard",), log_every=2)
    with stopping_after(3), pytest.raises(InterruptedError):
        run(config)
    run(config)
    curves = EventAccumulator(str(tmp_path / "out" / "tracker")).Reload()
    assert {"loss", "loss_bbox", "norm", "rate", "tokens_s"} <= set(curves.Tags()["scalars"])
    points = curves.Scalars("loss")
    assert [point.step for point in points] == [0, 2, 4]  # each step once, also after a resume
    assert [point.value for point in points] == pytest.approx(losses(config.out)[::2])


def test_the_log_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    cut_log(log, 3)
    assert not log.exists()
    log.write_text('{"step": 0}\n{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    cut_log(log, 3)
    assert log.read_text() == '{"step": 0}\n{"step": 1}\n{"step": 2}\n'
    cut_log(log, 0)
    assert log.read_text() == ""


def shown(config: TrainConfig, **terminal: Any) -> str:
    """What a run prints."""
    said = io.StringIO()
    train(config, TEXTS, CLASSES, Console(file=said, width=160, **terminal))
    return said.getvalue()


def test_a_normal_run_says_what_it_does_and_nothing_else(
    shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sketchlm.progress.LINE_SECONDS", 0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        said = shown(with_lora(small(shards, tmp_path / "out", trackers=("tensorboard",))))
    assert [str(w.message) for w in caught if "unclosed" not in str(w.message)] == []
    assert capfd.readouterr() == ("", "")
    for words in (
        "pretrain small: describe, bbox, count, vqa, sbir from",
        "language   adamw      5,888             0.001  0",
        "all                   8,000 of 110,240",
        "6 steps of 4 sketches (24 in all)",
        "memory: about",
        "time: about",
        "pretrain 1 of 6 steps · loss ",
        " queries/s · ",
        "pretrain done: 6 steps in ",
    ):
        assert words in said, said
    assert "goes on" not in said
    with_bar = shown(with_lora(small(shards, tmp_path / "bar")), force_terminal=True)
    assert "tokens/s · left" in with_bar
    assert "pretrain 1 of 6 steps" not in with_bar


def test_a_dry_run_needs_no_shards_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = shown(replace(small("nowhere", "out"), dry_run=True, processes=2))
    assert "on 2 processes" in said
    assert "6 steps of 8 sketches (48 in all)" in said
    assert list(tmp_path.iterdir()) == []
    model = ModelConfig(base="llava-hf/llava-1.5-7b-hf")
    said = shown(replace(small("nowhere", "out"), model=model, loss=LossConfig(), precision="bf16", dry_run=True))
    assert "180,887,552 of 7,063,427,072" in said
    assert "41% of the peak of one H100 a process" in said
    assert list(tmp_path.iterdir()) == []


def test_chance_is_drawn_from_seed_step_and_rank() -> None:
    assert seed_of(0, 0, 0) == 52677092394086730
    assert len({seed_of(seed, step, rank) for seed in range(5) for step in range(5) for rank in range(5)}) == 125


def test_settings_are_what_a_file_gives_back() -> None:
    """A resumed run compares them with those that were written."""
    config = TrainConfig(task_weights=(("bbox", 2.0),))
    assert settings_of(config) == json.loads(json.dumps(settings_of(config)))
