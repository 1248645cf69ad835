"""The GPU benchmark at toy sizes on a CPU: both ways train the same, and the script asks for little."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice

import pytest
import torch
import torch.nn.functional as F

from benchmarks import llava_gpu
from sketchlm.estimate import known_config
from sketchlm.loss import LossConfig, Objective

CPU = torch.device("cpu")


def test_both_ways_see_the_same_rows_and_make_the_same_loss() -> None:
    config = llava_gpu.small_config()
    rows = llava_gpu.make_rows(config, 3)
    model = llava_gpu.build(config, CPU, checkpointing=False)
    batch, given = llava_gpu.our_batch(rows), llava_gpu.their_batch(rows)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = Objective(model, LossConfig())(batch)
        logits = model(**{key: value for key, value in given.items() if key != "labels"}).logits.float()
    plain = F.cross_entropy(logits[:, :-1].flatten(0, 1), given["labels"][:, 1:].flatten())
    assert float(found.total / found.weight) == pytest.approx(float(plain), rel=1e-4)
    assert batch.num_tokens == int(given["attention_mask"].sum())


def test_the_language_model_is_counted_right() -> None:
    assert llava_gpu.language_size(known_config("llava-1.5-7b")) == 7_063_427_072 - 303_507_456 - 20_979_712


@pytest.mark.slow
def test_the_script_runs_and_both_sides_agree() -> None:
    config = llava_gpu.small_config()
    rows = iter(llava_gpu.make_rows(config, 2 * (llava_gpu.WARM_UP + 2)))
    batches = [list(islice(rows, 2)) for _ in range(llava_gpu.WARM_UP + 2)]
    results = [
        llava_gpu.theirs(config, batches, CPU, checkpointing=False),
        llava_gpu.ours(config, batches, CPU, checkpointing=True, compiled=False),
    ]
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-4)
    assert all(result.tokens > 0 and result.batch == 2 for result in results)
    page = llava_gpu.page({False: results}, 2, CPU)
    assert "| 2 | Trainer | " in page
    assert "times the tokens/s of Trainer (goal 1.2)" in page


@pytest.mark.slow
def test_it_imports_what_a_gpu_machine_has() -> None:
    code = (
        "import sys; import benchmarks.llava_gpu\n"
        "print([m for m in ('ray', 'webdataset', 'tyro', 'cv2', 'rich', 'fsspec', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
