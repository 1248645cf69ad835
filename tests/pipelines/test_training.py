"""Recipes of training, and what starts them: the command line, torchrun, Ray Train."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines import finetune, pretrain, ray_train, stages
from pipelines.recipes import choose
from sketchlm.estimate import planned_objective
from sketchlm.training import TrainConfig
from tests.sketchlm.runs import losses, small, write_training_shards

STAGES: dict[str, Any] = {"pretrain": pretrain, "finetune": finetune}
ALL = [(stage, name) for stage, module in STAGES.items() for name in module.RECIPES]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_shards(tmp_path_factory.mktemp("shards"), (9, 4))


def config_of(stage: str, name: str, **changes: Any) -> TrainConfig:
    """A recipe as its command line would run it dry."""
    config = replace(STAGES[stage].RECIPES[name](), dry_run=True, **changes)
    return stages.after(config, pretrain.RECIPES if stage == "finetune" else {})


@pytest.mark.parametrize(("stage", "name"), ALL)
def test_every_recipe_is_planned_without_weights_shards_or_files(
    stage: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = io.StringIO()
    stages.run(config_of(stage, name), Console(file=said, width=200))
    for words in (f"{stage} {name}: ", " steps of ", " tokens a step", "memory: about ", "time: about ", " at "):
        assert words in said.getvalue()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["o3slm_7b", "o3slm_13b", "o3slm_7b_24gb"])
def test_the_paper_is_followed(name: str) -> None:
    """600K descriptions and 215K queries, batch 24, one epoch, 2e-5, cosine with 3 % warm-up; LoRA r = 64."""
    for stage, samples in (("pretrain", 600_000), ("finetune", 215_040)):
        config = config_of(stage, name)
        batch = config.loader.batch_size * config.accumulation * config.processes
        assert batch == 24
        assert config.steps * batch == samples
        assert (config.optimizer.lr, config.optimizer.warmup, config.optimizer.final) == (2e-5, 0.03, 0.0)
        assert (config.model.lora_rank, config.model.tower, config.precision) == (64, "frozen", "bf16")
        objective = planned_objective(config, (), ())
        lora = [n for n, p in objective.named_parameters() if p.requires_grad and "lora_A" in n]
        assert len(lora) == 7 * (40 if "13b" in name else 32)


def test_stage_two_says_what_comes_first() -> None:
    config = replace(finetune.tiny(), model=replace(finetune.tiny().model, base="nowhere/bundle"))
    with pytest.raises(ValueError, match=r"no bundle at nowhere/bundle; run `make pretrain RECIPE=tiny` first"):
        stages.after(config, pretrain.RECIPES)


def test_a_mistake_ends_with_one_line_and_code_2(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["pretrain", "tiny", "--dry-run", "--steps", "0"])
    with pytest.raises(SystemExit) as ended:
        pretrain.main()
    assert ended.value.code == 2
    assert "error: steps is 0; it must be at least 1" in capfd.readouterr().err


def test_a_recipe_that_there_is_not_is_told_from_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"called o3slm-7b; did you mean o3slm_7b\? There are tiny, learn,"):
        choose(pretrain.RECIPES, "", "", ["o3slm-7b", "--dry-run"])


def test_a_plan_says_what_lies_in_the_shards(shards: Path) -> None:
    said = io.StringIO()
    for where in (str(shards), "nowhere"):
        config = config_of("pretrain", "tiny")
        stages.run(replace(config, loader=replace(config.loader, shards=where)), Console(file=said, width=300))
    assert f"from {shards} (13 samples)" in said.getvalue()
    assert "from nowhere (no shards there yet, their length assumed)" in said.getvalue()
    with pytest.raises(ValueError, match="holds no finished shard"):
        stages.run(replace(config, loader=replace(config.loader, shards=str(Path(__file__).parent))), Console())


def overrides(config: TrainConfig) -> list[str]:
    """A command line that makes `tiny` as small as `small`."""
    sizes = ["--model.tiny.side", "32", "--model.tiny.tower-width", "32", "--model.tiny.width", "32"]
    sizes += ["--model.tiny.layers", "2", "--model.tiny.heads", "2", "--loader.batch-size", "2", "--warm.steps", "2"]
    sizes += ["--model.tower-weights", "", "--warm.batch-size", "2"]
    where = ["--loader.shards", config.loader.shards, "--out", config.out, "--device", "cpu", "--threads", "1"]
    return [*sizes, *where, "--steps", str(config.steps), "--trackers", "--checkpoint-every", "2"]


@pytest.mark.slow
def test_torchrun_starts_two_processes_and_a_signal_ends_them(shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path / "out", steps=100_000)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    log = tmp_path / "out" / "log.jsonl"
    said = tmp_path / "said.txt"
    with said.open("w") as file:
        process = subprocess.Popen(
            [*launcher, "-m", "pipelines.pretrain", "tiny", *overrides(config)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        end = time.monotonic() + 200
        while process.poll() is None and time.monotonic() < end and not (log.is_file() and log.stat().st_size > 1000):
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert "on 2 processes" in said.read_text()
    assert "stopped after step" in said.read_text()
    states = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("step-*/state.json")]
    newest = max(state["step"] for state in states)
    assert len(losses(config.out)) == newest
    assert all(len(state["loader"]) == 2 for state in states)


@pytest.mark.slow
def test_ray_trains_on_two_workers(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = choose(pretrain.RECIPES, "", "", ["tiny", *overrides(small(shards, tmp_path / "out", steps=4))])
    options, said = ray_train.Launch("pretrain", workers=2), io.StringIO()
    try:
        ray_train.launch(config, options, Console(file=said, width=200))
        assert "tower tiny: what patches and sketches show from" in said.getvalue()
        assert "on 2 processes" in said.getvalue()
        assert "bundle: " in said.getvalue()
        assert len(losses(config.out)) == 4
        assert (tmp_path / "out" / "bundle" / "bundle.json").is_file()
        with pytest.raises(ValueError, match="(?s)was made with other settings.*optimizer.lr: 0.001 there, 0.002 now"):
            other = replace(config, optimizer=replace(config.optimizer, lr=2e-3))
            ray_train.launch(other, options, Console(file=io.StringIO()))
    finally:
        ray.shutdown()


def test_ray_is_not_needed_to_plan(tmp_path: Path) -> None:
    said = io.StringIO()
    config = config_of("pretrain", "o3slm_7b")
    ray_train.launch(config, ray_train.Launch("pretrain", workers=8), Console(file=said, width=200))
    assert "on 8 processes" in said.getvalue()
    assert "25,000 steps of 96 sketches" in said.getvalue()


def test_a_stage_ends_with_figures_on_shards_that_training_never_saw(shards: Path, tmp_path: Path) -> None:
    config = small(shards, tmp_path / "out", steps=2, stage="finetune", unseen=str(shards), unseen_limit=5)
    config = replace(config, processor=replace(config.processor, tasks=finetune.TASKS))
    said = io.StringIO()
    stages.run(config, Console(file=said, width=120))
    for words in (f"5 unseen samples of {shards}", "SBIR balanced accuracy", "shuffled", "VQA exact"):
        assert words in said.getvalue()
    figures = json.loads((tmp_path / "out" / "unseen.json").read_text())
    sbir = figures["SBIR balanced accuracy"]
    assert sbir["constant"] == 0.5
    for who in ("trained", "shuffled"):
        assert sbir[who]["low"] <= sbir[who]["value"] <= sbir[who]["high"]
        assert sbir[who]["n"] > 0
