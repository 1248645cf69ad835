"""`make describe`: recipes of the pass that has models write the descriptions, and their command line."""

from __future__ import annotations

import sys

from rich.console import Console

from pipelines.cards import write_described_card
from pipelines.exits import clean_exit
from pipelines.recipes import choose
from sketchgen.captioner import CaptionerConfig
from sketchgen.description import DescribeConfig
from sketchgen.descriptions import DescriptionsConfig, run_descriptions


def local() -> DescriptionsConfig:
    """A model of yours in the worker: --captioner.model FOLDER, or a hub id (any image-text-to-text model of
    transformers with a chat template); --refiner.model for a language model after it."""
    return DescriptionsConfig(out="out/describe/local")


def deepseek_llama() -> DescriptionsConfig:
    """The paper's models, DeepSeek-VL2 and LLaMA-3-8B-Instruct, each behind a server (`vllm serve MODEL`, ports 8000
    and 8001): transformers has no class for DeepSeek-VL2. --captioner.base-url and --refiner.base-url for others."""
    return DescriptionsConfig(
        shards="out/instructions/coco",
        captioner=CaptionerConfig(backend="server", model="deepseek-ai/deepseek-vl2"),
        refiner=CaptionerConfig(
            backend="server", model="meta-llama/Meta-Llama-3-8B-Instruct", base_url="http://localhost:8001/v1"
        ),
        describe=DescribeConfig(unit="thousandths"),
        out="out/describe/deepseek_llama",
    )


RECIPES = {recipe.__name__: recipe for recipe in (local, deepseek_llama)}


def main() -> None:
    """Parse the recipe's name and its overrides, run it, and exit with 1 if anything failed."""
    with clean_exit("finished shards are kept, run the same command to go on"):
        config = choose(RECIPES, "python -m pipelines.descriptions", "Have models describe what sketches show.")
        console = Console(highlight=False)
        failed = run_descriptions(config, console)
        if not config.dry_run:
            write_described_card(config, console)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
