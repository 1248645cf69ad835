"""Parameter groups, rates and the schedule."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchlm.loss import LossConfig, Objective
from sketchlm.model import adapt, build_tiny
from sketchlm.optimizer import OptimizerConfig, build_optimizers, groups_of, rate_factor, set_rates
from sketchlm.parallel import check_parallel
from sketchlm.tokenizer import build_tokenizer, number_tokens
from tests.sketchlm.runs import TEXTS, small


def objective_of(**model: str) -> Objective:
    config = small("unused", "unused")
    tokenizer = build_tokenizer(TEXTS)
    llava = adapt(build_tiny(config.model.tiny, tokenizer), replace(config.model, **model))  # type: ignore[arg-type]
    return Objective(llava, LossConfig(tower=0.5), number_tokens(tokenizer), 3)


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize(
    "model",
    [
        {"tower": "full", "connector": "full", "language": "full"},
        {"tower": "full", "connector": "frozen", "language": "frozen"},
        {"tower": "frozen", "connector": "full", "language": "lora"},
        {"tower": "frozen", "connector": "lora", "language": "lora"},
    ],
)
def test_every_trained_parameter_is_in_one_group_and_one_optimizer(name: str, model: dict[str, str]) -> None:
    config = OptimizerConfig(name=name, weight_decay=0.1)  # type: ignore[arg-type]
    objective = objective_of(**model)
    groups = groups_of(objective, config)
    trained = [id(p) for p in objective.parameters() if p.requires_grad]
    assert Counter(id(p) for group in groups for p in group.parameters) == Counter(trained)
    optimized = [
        id(p) for optimizer in build_optimizers(groups, config) for g in optimizer.param_groups for p in g["params"]
    ]
    assert Counter(optimized) == Counter(trained)
    assert sum(group.size for group in groups) == sum(p.numel() for p in objective.parameters() if p.requires_grad)


def test_each_part_has_its_own_rate() -> None:
    objective = objective_of(tower="full", connector="full", language="full")
    config = OptimizerConfig(lr=1e-3, connector_lr=2e-3, tower_lr=0.0, weight_decay=0.1)
    rates = {group.name: group.lr for group in groups_of(objective, config)}
    assert rates == {"language": 1e-3, "connector": 2e-3, "tower": 0.0}
    names = {id(p): name for name, p in objective.named_parameters()}
    decays = {names[id(p)]: g.weight_decay for g in groups_of(objective, config) for p in g.parameters}
    assert decays["model.lm_head.weight"] == decays["model.model.language_model.layers.0.mlp.up_proj.weight"] == 0.1
    language = "model.model.language_model"
    assert decays[f"{language}.norm.weight"] == decays[f"{language}.embed_tokens.weight"] == 0


def test_muon_takes_the_matrices_inside_layers_and_nothing_else() -> None:
    objective = objective_of(tower="full", connector="full", language="full")
    names = {id(p): name for name, p in objective.named_parameters()}
    muon = {
        names[id(p)]
        for group in groups_of(objective, OptimizerConfig(name="muon"))
        if group.optimizer == "muon"
        for p in group.parameters
    }
    assert muon == {n for n, p in objective.named_parameters() if ".layers." in n and p.ndim == 2}
    assert len(muon) == 2 * 6 + 2 * 7  # of the tower and of the language model
    lora = objective_of(tower="frozen", connector="full", language="lora")
    assert {group.optimizer for group in groups_of(lora, OptimizerConfig(name="muon"))} == {"adamw"}


def test_the_schedule_has_known_values() -> None:
    config = OptimizerConfig(warmup=0.1, final=0.2)
    factors = [rate_factor(step, 20, config) for step in range(20)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[11] == pytest.approx(0.6)  # half of the way down
    assert factors[19] == pytest.approx(0.2 + 0.8 * 0.0076, abs=1e-4)
    assert [rate_factor(step, 3, OptimizerConfig(warmup=0.0)) for step in range(3)] == pytest.approx([1.0, 0.75, 0.25])


@given(
    steps=st.integers(1, 3000),
    warmup=st.floats(0.0, 0.99),
    final=st.floats(0.0, 1.0),
)
@settings(max_examples=50, deadline=None)
def test_the_schedule_rises_and_falls_within_bounds(steps: int, warmup: float, final: float) -> None:
    config = OptimizerConfig(warmup=warmup, final=final)
    factors = [rate_factor(step, steps, config) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors) or final == 0
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_rates_reach_every_group() -> None:
    config = OptimizerConfig(name="muon", lr=1e-3, muon_lr=0.02, connector_lr=4e-3, warmup=0.5)
    objective = objective_of(tower="full", connector="full", language="full")
    optimizers = build_optimizers(groups_of(objective, config), config)
    assert set_rates(optimizers, 0, 8, config) == 0.25
    assert {g["lr"] for o in optimizers for g in o.param_groups} == {0.25e-3, 1e-3, 0.005}
    assert {g["initial_lr"] for o in optimizers for g in o.param_groups} == {1e-3, 4e-3, 0.02}


@pytest.mark.parametrize("sharding", ["fsdp", "zero2"])
def test_muon_needs_whole_matrices(tmp_path: Path, sharding: str) -> None:
    config = small("unused", tmp_path, sharding=sharding, optimizer=OptimizerConfig(name="muon"))
    with pytest.raises(ValueError, match=rf"sharding {sharding} cannot go with optimizer muon.*--optimizer.name adamw"):
        check_parallel(config)
