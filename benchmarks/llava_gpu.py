"""LLaVA-1.5-7B at random weights on a GPU: our training step against plain Hugging Face `Trainer` on the same rows.

    python -m benchmarks.llava_gpu              writes benchmarks/llava_gpu.md; half an hour on one H100
    python -m benchmarks.llava_gpu --tiny       the same at toy sizes on a CPU, to try the script; writes nothing

Frozen base in bfloat16, LoRA r = 64 on every Linear of the language model, connector in full, two images a row (1,152
image tokens), one question of some 100 tokens. Needs torch, transformers with what its Trainer asks for, and peft;
no weights, no data and nothing else: ours here is the objective of sketchlm in a plain loop (what its loop costs
beside that is in benchmarks/loop.md).

MFU follows the published convention: 4 x parameters x tokens for a frozen base (forward, and backward through the
activations), over the peak of the device in bfloat16; parameters are those of the language model with its embeddings
and head, tokens those that are not padding. What is left out: LoRA, the tower, attention's quadratic part, and what
checkpointing computes again.
"""

from __future__ import annotations

import argparse
import gc
import platform
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipelines.commit import commit
from sketchlm.collator import IGNORE, PADDING, Batch
from sketchlm.estimate import known_config, peak_flops
from sketchlm.loss import LossConfig, Objective, normalise
from sketchlm.model import ModelConfig, adapt, unwrap

TABLE = Path(__file__).parent / "llava_gpu.md"
IMAGE = 32000
VOCABULARY = 31_000
PUBLISHED_MFU = 0.41
"""LoRA of an 8B model on one H100."""
GOALS = (1.2, 0.5)
"""Tokens/s against plain Trainer, and MFU."""
WARM_UP = 3


@dataclass(frozen=True)
class Row:
    """One (sketch, image, question): ids [L] with image tokens, how many of the last are trained, uint8 pixels
    [2, 3, S, S]."""

    ids: Tensor
    trained: int
    pixels: Tensor


@dataclass(frozen=True)
class Result:
    """Speed and memory of one way at one batch size; tokens 0: it does not fit."""

    way: str
    batch: int
    tokens: float = 0.0
    rows: float = 0.0
    mfu: float = 0.0
    gigabytes: float = 0.0
    loss: float = 0.0
    """Mean over all steps: both ways see the same rows, so that these agree."""


def small_config() -> Any:
    """The architecture at toy sizes."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    text = LlamaConfig(
        vocab_size=32064, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=IMAGE,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=4,
    )


def build(config: Any, device: torch.device, checkpointing: bool) -> Any:
    """The adapted model at random weights, frozen parts in bfloat16."""
    from transformers import LlavaForConditionalGeneration

    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            llava = LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(default)
    model = adapt(llava, ModelConfig(base="random", connector="full", language="lora", lora_rank=64))
    if checkpointing:
        unwrap(model).gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


def make_rows(config: Any, count: int) -> list[Row]:
    """Random rows; their questions and answers have 60-140 tokens together, 10-60 of which are trained."""
    generator = torch.Generator().manual_seed(0)
    side, images = config.vision_config.image_size, 2 * config.image_seq_length

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    rows = []
    for _ in range(count):
        words = torch.randint(3, VOCABULARY, (number(60, 140),), generator=generator)
        ids = torch.cat([words[:40], torch.full((images,), IMAGE), words[40:]])
        pixels = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8, generator=generator)
        rows.append(Row(ids, number(10, min(60, len(words) - 45)), pixels))
    return rows


def padded(rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
    """ids, labels and a mask of what is no padding, each [B, L]."""
    shape = (len(rows), max(len(row.ids) for row in rows))
    ids, labels, seen = torch.zeros(shape, dtype=torch.long), torch.full(shape, IGNORE), torch.zeros(shape)
    for number, row in enumerate(rows):
        length = len(row.ids)
        ids[number, :length], seen[number, :length] = row.ids, 1
        labels[number, length - row.trained : length] = row.ids[-row.trained :]
    return ids, labels, seen.long()


def our_batch(rows: Sequence[Row]) -> Batch:
    """The rows as our collator would give them."""
    ids, labels, seen = padded(rows)
    shifted = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], IGNORE)], dim=1)
    trained = shifted != IGNORE
    return Batch(
        pixel_values=torch.cat([row.pixels for row in rows]),
        image_index=torch.arange(2 * len(rows)),
        input_ids=ids,
        position_ids=torch.arange(ids.shape[1]).expand_as(ids) * seen,
        segments=torch.where(seen > 0, 0, PADDING),
        targets=shifted,
        weights=trained.float(),
        tasks=torch.where(trained, 0, -1),
        patches=torch.zeros(0),
        extents=torch.zeros(0),
        shows=torch.zeros(0, dtype=torch.bool),
        patch_index=torch.zeros(0, dtype=torch.long),
        labels=torch.full((2 * len(rows),), -1),
        pairs=torch.zeros(0, 4, dtype=torch.long),
        num_queries=len(rows),
        num_tokens=int(seen.sum()),
    )


def their_batch(rows: Sequence[Row]) -> dict[str, Tensor]:
    """The rows as plain transformers code takes them."""
    ids, labels, seen = padded(rows)
    pixels = normalise(torch.cat([row.pixels for row in rows]), torch.bfloat16)
    return {"input_ids": ids, "attention_mask": seen, "labels": labels, "pixel_values": pixels}


@dataclass
class Clock:
    """Times of the steps after the first few, and the tokens and rows that they took."""

    device: torch.device
    batches: list[list[Row]]
    done: int = 0
    start: float = 0.0
    seconds: float = 0.0

    def tick(self) -> None:
        """A step has ended."""
        self.done += 1
        if self.done in (WARM_UP, len(self.batches)) and self.device.type == "cuda":
            torch.cuda.synchronize()
        if self.done == WARM_UP:
            self.start = time.perf_counter()
        self.seconds = time.perf_counter() - self.start

    def result(self, way: str, config: Any, loss: float) -> Result:
        """The figures, when all steps are done."""
        assert self.done == len(self.batches), f"{self.done} of {len(self.batches)} steps were taken"
        rows = [row for batch in self.batches[WARM_UP:] for row in batch]
        tokens = sum(len(row.ids) for row in rows) / self.seconds
        cuda = self.device.type == "cuda"
        return Result(
            way,
            len(self.batches[0]),
            tokens,
            len(rows) / self.seconds,
            4 * language_size(config) * tokens / (peak_flops(self.device) or float("inf")),
            torch.cuda.max_memory_allocated() / 1e9 if cuda else 0.0,
            loss,
        )


def language_size(config: Any) -> int:
    """Parameters of the language model with embeddings and head."""
    text = config.text_config
    layer = 4 * text.hidden_size**2 + 3 * text.hidden_size * text.intermediate_size + 2 * text.hidden_size
    return int(text.num_hidden_layers * layer + (2 * text.vocab_size + 1) * text.hidden_size)


def ours(config: Any, batches: list[list[Row]], device: torch.device, checkpointing: bool, compiled: bool) -> Result:
    """The objective in a loop of its own: the head at answers only, LoRA's inputs in bfloat16."""
    model = build(config, device, checkpointing)
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False
    if compiled:
        for layer in unwrap(model).model.language_model.layers:
            layer.compile(dynamic=True)
    objective = Objective(model, LossConfig()).to(device).train()
    trained = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-5, weight_decay=0.0, fused=device.type == "cuda")
    clock, losses = Clock(device, batches), []
    for rows in batches:
        batch = our_batch(rows).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            found = objective(batch)
        losses.append(found.total / found.weight)
        losses[-1].backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.tick()
    loss = float(torch.stack([loss.detach() for loss in losses]).mean())
    return clock.result("ours, compiled" if compiled else "ours", config, loss)


def theirs(config: Any, batches: list[list[Row]], device: torch.device, checkpointing: bool) -> Result:
    """Plain Trainer."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    model = build(config, device, checkpointing=False)
    clock = Clock(device, batches)

    class Ticking(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    settings = TrainingArguments(
        output_dir=tempfile.gettempdir(),
        per_device_train_batch_size=len(batches[0]),
        max_steps=len(batches),
        learning_rate=2e-5,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        bf16=True,
        gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
        optim="adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
        remove_unused_columns=False,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
    )
    rows = [row for batch in batches for row in batch]
    data: Any = [{"row": row} for row in rows]
    trainer = Trainer(
        model=model,
        args=settings,
        train_dataset=data,
        data_collator=lambda given: their_batch([one["row"] for one in given]),
        callbacks=[Ticking()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(data)
    return clock.result("Trainer", config, float(trainer.train().training_loss))


def measured(way: str, batch: int, run: Callable[[], Result]) -> Result:
    """Run from an empty device; what does not fit is a result too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        return run()
    except torch.cuda.OutOfMemoryError:
        return Result(way, batch)


def page(results: dict[bool, list[Result]], steps: int, device: torch.device) -> str:
    """The whole page."""
    import peft
    import transformers

    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    what, convention = (__doc__ or "").split("\n\n")[2:4]
    lines = ["# LLaVA-1.5-7B on a GPU", ""]
    lines += [f"`python -m benchmarks.llava_gpu` · {date.today()} · commit {commit()} · {name} · {versions};"]
    lines += [f"{steps} steps after {WARM_UP} others.", "", what, "", convention.rstrip()]
    for checkpointing, found in results.items():
        lines += ["", f"## Activations {'computed again in the backward pass' if checkpointing else 'kept'}", ""]
        lines += table(found)
    return "\n".join([*lines, "", *conclusion([one for found in results.values() for one in found])]) + "\n"


def table(found: Sequence[Result]) -> list[str]:
    """Markdown rows."""
    plain = {result.batch: result.tokens for result in found if result.way == "Trainer"}
    lines = ["| batch | way | tokens/s | rows/s | against Trainer | MFU | peak memory, GB | mean loss |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for one in found:
        if one.tokens:
            ratio = f"{one.tokens / plain[one.batch]:.2f}" if plain.get(one.batch) else "-"
            speed = f"{one.tokens:,.0f} | {one.rows:.2f} | {ratio} | {f'{one.mfu:.1%}' if one.mfu else '-'}"
            lines.append(f"| {one.batch} | {one.way} | {speed} | {one.gigabytes:.1f} | {one.loss:.3f} |")
        else:
            lines.append(f"| {one.batch} | {one.way} | does not fit | | | | | |")
    return lines


def conclusion(found: Sequence[Result]) -> list[str]:
    """The best of each side, against the goals."""
    plain = max((one.tokens for one in found if one.way == "Trainer"), default=0.0)
    best = max((one for one in found if one.way != "Trainer"), key=lambda one: one.tokens, default=None)
    if best is None or not plain or not best.tokens:
        return []
    return [
        f"Best of each: {best.tokens / plain:.2f} times the tokens/s of Trainer (goal {GOALS[0]}), MFU {best.mfu:.1%}",
        f"(published elsewhere {PUBLISHED_MFU:.0%}, goal {GOALS[1]:.0%}).",
    ]


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="toy sizes on a CPU, nothing is written")
    parser.add_argument("--kept", type=int, nargs="*", default=[4, 8, 16], help="batch sizes, activations kept")
    parser.add_argument("--again", type=int, nargs="*", default=[8, 16, 24, 32], help="the same, computed again")
    parser.add_argument("--compiled", type=int, nargs="*", default=[8, 24], help="those that are compiled as well")
    parser.add_argument("--steps", type=int, default=10, help="measured steps of each")
    parser.add_argument("--out", default=str(TABLE), help="the page")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    if not options.tiny and not torch.cuda.is_available():
        parser.error("no GPU is here; --tiny tries the script on a CPU")
    device = torch.device("cpu" if options.tiny else "cuda")
    config: Any = small_config() if options.tiny else known_config("llava-1.5-7b")
    sizes = {False: options.kept, True: options.again}
    out = "" if options.tiny else options.out
    print(measure(config, device, sizes, options.compiled, options.steps, out))


def measure(
    config: Any, device: torch.device, sizes: dict[bool, list[int]], compiled: Sequence[int], steps: int, out: str
) -> str:
    """All ways at all sizes; the page is written anew after each, so that nothing is lost.

    sizes: by whether activations are computed again; compiled: sizes at which ours is compiled as well.
    """
    results: dict[bool, list[Result]] = {}
    text = ""
    for checkpointing in (False, True):
        results[checkpointing] = []
        for size in sizes[checkpointing]:
            source = cycle(make_rows(config, 2 * size))
            batches = [list(islice(source, size)) for _ in range(steps + WARM_UP)]
            ways = [partial(theirs), partial(ours, compiled=False)]
            if device.type == "cuda" and size in compiled:
                ways.append(partial(ours, compiled=True))
            for way in ways:
                name = "Trainer" if way.func is theirs else "ours, compiled" if way.keywords["compiled"] else "ours"
                results[checkpointing].append(
                    measured(name, size, partial(way, config, batches, device, checkpointing))
                )
                print(results[checkpointing][-1], flush=True)
                text = page(results, steps, device)
                if out:
                    Path(out).write_text(text)
    return text


if __name__ == "__main__":
    main()
